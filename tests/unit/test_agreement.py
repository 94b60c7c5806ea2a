"""Agreements: what is wrong with them is said, all at once; every form leads back to the same agreement."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mpcpriv.agreement.model import Agreement, Rule
from mpcpriv.agreement.odrl import decode_odrl, encode_odrl, from_odrl, to_odrl
from mpcpriv.agreement.schema import json_schema
from mpcpriv.agreement.signed import SignedAgreement, read_signed, signed_path
from mpcpriv.agreement.template import Candidate, template
from mpcpriv.agreement.toml import parse_agreement, read_agreement, write_agreement
from mpcpriv.cli.agreement_text import promises
from mpcpriv.documents import problems, public_key
from mpcpriv.errors import UsageError
from tests.unit import agreements as example
from tests.unit.agreements import MEMBERS, certificate, key

Change = Callable[[dict[str, Any]], object]


def found(change: Change) -> list[str]:
    content = example.content()
    change(content)
    with pytest.raises(ValidationError) as error:
        Agreement.model_validate(content)
    return problems(error.value)


def column(**fields: Any) -> Change:
    return lambda content: content["datasets"][0]["columns"].append({"name": "x", **fields})


def member(index: int, **fields: Any) -> Change:
    return lambda content: content["members"][index].update(fields)


def analysis(**fields: Any) -> Change:
    return lambda content: content["analyses"][1].update(fields)


def both(*changes: Change) -> Change:
    return lambda content: [change(content) for change in changes]


BROKEN: dict[str, tuple[Change, str]] = {
    "validity": (
        lambda c: c.update(valid_until=c["valid_from"]),
        "valid_from 2027-01-01T00:00:00Z: must be before valid_until 2027-01-01T00:00:00Z",
    ),
    "local time": (
        lambda c: c.update(valid_from=datetime(2027, 1, 1)),
        (
            "valid_from: datetime.datetime(2027, 1, 1, 0, 0): write it in UTC and whole seconds, "
            "as 2027-01-31T12:00:00Z"
        ),
    ),
    "purpose twice": (
        lambda c: c["purposes"].append(c["purposes"][0]),
        "purposes: purpose 'research' stands there 2 times; each may stand there once",
    ),
    "member twice": (
        lambda c: c["members"].append({**c["members"][0], "endpoint": "x:1"}),
        "members: name 'alice' stands there 2 times; each may stand there once",
    ),
    "no dealer": (
        member(3, roles=["submitter"]),
        "members: the dealers are none; exactly one member has the role dealer",
    ),
    "two dealers": (
        lambda c: c["members"].append(example.member("eve", "dealer")),
        "members: the dealers are dealer, eve; exactly one member has the role dealer",
    ),
    "one computes": (
        both(member(1, roles=["submitter"]), member(2, roles=["submitter"])),
        (
            "members: computing are alice; nothing is secret from oneself, so two members or more have the "
            "role compute"
        ),
    ),
    "dealer holds data": (
        member(3, roles=["dealer", "data-owner"]),
        (
            "members[3]: roles of dealer: a dealer that computes, holds data or gets results could read the "
            "others' data; give these roles to another member"
        ),
    ),
    "owner does not compute": (
        member(0, roles=["data-owner", "submitter"]),
        "members[0]: roles of alice: a data-owner shares its rows in the computation; add the role compute",
    ),
    "role twice": (
        member(3, roles=["dealer", "dealer"]),
        "members[3]: roles: role 'dealer' stands there 2 times; each may stand there once",
    ),
    "endpoint": (
        member(0, endpoint="alice.example"),
        "members[0]: endpoint 'alice.example': write host:port, as alice.example:9300",
    ),
    "port": (
        member(0, endpoint="alice:65536"),
        "members[0]: endpoint 'alice:65536': write host:port, as alice.example:9300",
    ),
    "endpoint twice": (
        member(0, endpoint="bob.example:9300"),
        "members: endpoint 'bob.example:9300' stands there 2 times; each may stand there once",
    ),
    "signing key": (
        member(0, signing_key="A" * 42 + "B="),
        (
            "members[0]: signing_key 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=': an Ed25519 public key "
            "in base64 is needed, as `mpcpriv init` prints it"
        ),
    ),
    "signing key twice": (
        member(0, signing_key=public_key(key("bob"))),
        f"members: signing_key '{public_key(key('bob'))}' stands there 2 times; each may stand there once",
    ),
    "no certificate": (
        member(0, certificate="-----BEGIN"),
        "members[0]: certificate of alice: one certificate in PEM is needed, as in the member's tls.crt",
    ),
    "two certificates": (
        member(0, certificate=certificate("alice") * 2),
        "members[0]: certificate of alice: one certificate in PEM is needed, as in the member's tls.crt",
    ),
    "another's certificate": (
        member(0, certificate=certificate("eve")),
        (
            "members[0]: certificate of alice: it carries spiffe://mpcpriv/eve, and must carry "
            "spiffe://mpcpriv/alice alone"
        ),
    ),
    "owner": (
        lambda c: c["datasets"][0].update(owner="zoe"),
        "data set alice-patients, owner: zoe is no member; the members are alice, bob, carol, dealer",
    ),
    "owner's role": (
        lambda c: c["datasets"][0].update(owner="dealer"),
        "data set alice-patients, owner: dealer has not the role data-owner; add it to the member's roles",
    ),
    "column twice": (
        column(name="age", type="boolean"),
        "data set alice-patients, columns: column 'age' stands there 2 times; each may stand there once",
    ),
    "no bounds": (
        column(type="number", low=1.0),
        "datasets[0].columns[4]: column 'x': a column of type number needs public bounds; write low and high",
    ),
    "bounds": (
        column(type="number", low=1.0, high=1.0),
        "datasets[0].columns[4]: column 'x': low = 1 must be less than high = 1",
    ),
    "integer bounds": (
        column(type="integer", low=0.0, high=1.5),
        "datasets[0].columns[4]: column 'x': high = 1.5 of a column of integers must be whole",
    ),
    "bounds of a boolean": (
        column(type="boolean", low=0.0),
        "datasets[0].columns[4]: column 'x': a column of type boolean has no bounds; remove low and high",
    ),
    "no categories": (
        column(type="category"),
        "datasets[0].columns[4]: column 'x': a column of type category needs its categories; list them",
    ),
    "category twice": (
        column(type="category", categories=["a", "a"]),
        (
            "datasets[0].columns[4]: column 'x', categories: category 'a' stands there 2 times; "
            "each may stand there once"
        ),
    ),
    "categories of a number": (
        column(type="number", low=0.0, high=1.0, categories=["a"]),
        "datasets[0].columns[4]: column 'x': only a column of type category has categories; remove them",
    ),
    "data set twice": (
        lambda c: c["datasets"].append(c["datasets"][0]),
        "datasets: data set 'alice-patients' stands there 2 times; each may stand there once",
    ),
    "analysis twice": (
        lambda c: c["analyses"].append(c["analyses"][0]),
        "analyses: analysis 'logistic-regression' stands there 2 times; each may stand there once",
    ),
    "purpose": (
        analysis(purposes=["profit"]),
        "analysis mean, purposes: profit is none of the agreement's (research, quality)",
    ),
    "data set": (
        analysis(inputs={"zed": ["age"]}),
        "analysis mean, inputs: there is no data set zed; add it to the datasets",
    ),
    "column": (
        analysis(inputs={"alice-patients": ["name"]}),
        (
            "analysis mean, inputs: data set alice-patients has no column 'name'; it has "
            "['age', 'radius', 'stage', 'malignant']"
        ),
    ),
    "recipient": (
        analysis(recipients=["dealer"]),
        "analysis mean, recipients: dealer has not the role recipient; add it to the member's roles",
    ),
    "submitter": (
        analysis(submitters=["zoe"]),
        "analysis mean, submitters: zoe is no member; the members are alice, bob, carol, dealer",
    ),
    "limit": (
        analysis(parameters={"x": {}}),
        (
            "analyses[1].parameters.x: a parameter is limited by low and high, or by choices; "
            "write one of the two"
        ),
    ),
    "limit's bounds": (
        analysis(parameters={"x": {"low": 2.0, "high": 1.0}}),
        "analyses[1].parameters.x: low = 2 must not exceed high = 1",
    ),
    "nothing can be released": (
        lambda c: c["privacy"].update(unnoised=False),
        (
            'privacy: mechanism = "none" and unnoised = false, so nothing can ever be released; '
            "set one of the two"
        ),
    ),
    "collusion": (
        lambda c: c["privacy"].update(collusion=3),
        "privacy: collusion = 3: of 3 computing members at most 2 can collude against another",
    ),
    "rounding of nothing": (
        lambda c: c["privacy"].update(unnoised=False, mechanism="discrete-laplace", rounding=5),
        (
            "privacy: rounding = 5 is for what is released without noise, and unnoised = false; "
            "remove one of the two"
        ),
    ),
    "rounding to all": (
        lambda c: c["privacy"].update(rounding=1),
        "privacy.rounding: 1: input should be greater than or equal to 2",
    ),
    "budget without mechanism": (
        lambda c: c["datasets"][0].update(budget={"epsilon": 1.0, "delta": 0.0, "period_days": 1}),
        "data set alice-patients: a budget without a mechanism; set privacy.mechanism or remove it",
    ),
    "unknown field": (
        lambda c: c.update(colour="red"),
        "colour: no such field; check its spelling or remove it",
    ),
    "missing field": (lambda c: c.pop("title"), "title: missing; write it into the file"),
    "name": (
        lambda c: c.update(id="Study"),
        "id: 'Study': write a lower-case letter, then letters, digits, - or _, up to 63",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_in_words(case: str) -> None:
    change, sentence = BROKEN[case]
    assert sentence in found(change)


def test_a_mechanism_without_budgets() -> None:
    content = example.content() | {"privacy": {"mechanism": "discrete-laplace"}}
    with pytest.raises(ValidationError) as error:
        Agreement.model_validate(content)
    assert problems(error.value) == [
        f"data set {owner}-patients: nothing can be released from it without a budget; write one"
        for owner in example.OWNERS
    ]


def test_all_that_is_wrong_is_listed_at_once_also_when_a_field_is_malformed() -> None:
    text = example.agreement().to_toml()
    text = text.replace("version = 3", "version = 0").replace("2028-01-01", "2026-01-01")
    text = text.replace('name = "quality"', 'name = "profit"').replace(
        "minimum_cohort = 50", "minimum_cohort = 0"
    )
    with pytest.raises(UsageError) as error:
        parse_agreement(text.encode())
    lines = str(error.value).splitlines()
    assert lines == [
        "agreement: 4 problems",
        "  - version: 0: input should be greater than or equal to 1",
        "  - privacy.minimum_cohort: 0: input should be greater than or equal to 1",
        "  - valid_from 2027-01-01T00:00:00Z: must be before valid_until 2026-01-01T00:00:00Z",
        "  - analysis mean, purposes: quality is none of the agreement's (research, profit)",
    ]


@pytest.mark.parametrize(
    ("rounding", "said"), [(None, "Such results are exact"), (5, "multiples of 5 before")]
)
def test_what_leaves_without_noise_is_said_in_words(rounding: int | None, said: str) -> None:
    privacy = {**example.content()["privacy"], "rounding": rounding}
    sentences = [one for one in promises(example.agreement(privacy=privacy)) if "without noise" in one]
    assert len(sentences) == 1
    assert said in sentences[0]
    assert ("exact" in sentences[0]) == (rounding is None)


def test_roles_by_rank() -> None:
    agreement = example.agreement()
    assert (agreement.parties(), agreement.dealer()) == (("alice", "bob", "carol"), "dealer")
    assert agreement.member("zoe") is agreement.dataset("zoe") is agreement.terms("zoe") is None


# ---- Forms


def test_files(tmp_path: Path) -> None:
    agreement = example.agreement()
    path = tmp_path / "study.toml"
    write_agreement(agreement, path)
    assert read_agreement(path) == agreement
    with pytest.raises(UsageError, match=r"study\.toml: is there already"):
        write_agreement(agreement, path)
    with pytest.raises(UsageError, match=r"there is no such file; name the file of the agreement"):
        read_agreement(tmp_path / "other.toml")
    assert signed_path(path) == tmp_path / "study.agreement.json"
    assert signed_path(signed_path(path)) == signed_path(path)
    signed = example.sign_all(agreement)
    signed_path(path).write_bytes(signed.to_bytes())
    assert read_signed(signed_path(path)) == signed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "agreement: not UTF-8, so not TOML"),
        (b"a = ", "agreement: not TOML: "),
        (b"a = " + b"[" * 5000, "agreement: not TOML that is read here: brackets are nested too deeply"),
        (b"version = " + b"9" * 5000, "agreement: not TOML: "),
        (b"version = 0x" + b"f" * 5000, "version: a number of more than 18 digits: "),
        (b"#" * (5 << 20), "agreement: longer than 4 MiB, which no document is"),
    ],
)
def test_what_is_not_toml_is_refused_in_one_way(data: bytes, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_agreement(data)
    assert message in str(error.value)


@pytest.mark.parametrize("members", [(), ("alice", "bob", "dealer"), ("ann", "ben", "cem", "dealer")])
def test_the_template_is_valid_once_its_members_are_there(members: tuple[str, ...]) -> None:
    candidates = [
        Candidate(name, certificate(name), public_key(key(dict(zip(members, MEMBERS, strict=False))[name])))
        for name in members
    ]
    text = template("study", now=datetime(2027, 5, 6, 7, 8, 9, tzinfo=UTC), members=candidates)
    if not members:
        with pytest.raises(UsageError, match=r"agreement: 6 problems"):
            parse_agreement(text.encode())
        return
    agreement = parse_agreement(text.encode())
    assert (*agreement.parties(), agreement.dealer()) == members
    assert f"{agreement.valid_from:%Y-%m-%d %H:%M}" == "2027-05-06 00:00"


# ---- Signatures


def test_all_members_sign() -> None:
    signed = SignedAgreement.unsigned(example.agreement())
    for index, name in enumerate(MEMBERS):
        assert signed.missing() == list(MEMBERS[index:])
        assert len(signed.problems()) == len(MEMBERS) - index
        signed = signed.signed_by(name, key(name))
    assert not signed.missing()
    assert not signed.problems()
    assert SignedAgreement.from_bytes(signed.to_bytes()) == signed


def test_only_members_sign_and_with_the_key_that_was_agreed() -> None:
    signed = SignedAgreement.unsigned(example.agreement())
    with pytest.raises(
        UsageError, match=r"eve is no member of agreement breast-cancer; its members are alice"
    ):
        signed.signed_by("eve", key("eve"))
    with pytest.raises(UsageError, match=r"the signing key of alice is .* but the agreement gives it"):
        signed.signed_by("alice", key("bob"))
    extra = SignedAgreement(agreement=signed.agreement, signatures={"eve": "A" * 86 + "=="})
    assert "eve signed but is no member" in extra.problems()


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("changes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_each_byte_of_a_signed_agreement_matters(changes: int) -> None:
    """Every byte, with a bit flipped, or replaced by a space, of which JSON would think nothing."""
    data = example.sign_all(example.agreement(text="")).to_bytes()
    survived = []
    for place in range(len(data)):
        other = [data[place] ^ 1, data[place] ^ 32, ord(" ")]
        for byte in {(other * 2)[place % 3 + i] for i in range(changes)} - {data[place]}:
            changed = data[:place] + bytes([byte]) + data[place + 1 :]
            try:
                reasons = SignedAgreement.from_bytes(changed).problems()
            except UsageError as error:
                reasons = [str(error)]
            if not reasons or not all(reasons):
                survived.append((place, byte))
    assert not survived


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_shortened_or_lengthened_one_is_refused(cut: int) -> None:
    data = example.sign_all(example.agreement()).to_bytes()
    for changed in (data[:-cut], data + b" " * cut, b" " + data, data[cut:]):
        with pytest.raises(UsageError, match=r"signed agreement: "):
            SignedAgreement.from_bytes(changed)


# ---- ODRL and JSON Schema

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
floats = st.floats(allow_nan=False, allow_infinity=False)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
times = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
limits = st.one_of(
    st.tuples(floats, floats).map(sorted).map(lambda pair: {"low": pair[0], "high": pair[1]}),
    floats.map(lambda low: {"low": low}),
    st.fixed_dictionaries(
        {
            "choices": st.lists(
                st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-9e15, 9e15) | texts,
                min_size=1,
            )
        }
    ),
)


@st.composite
def valid_agreements(draw: st.DrawFn) -> Agreement:
    owners = draw(st.sampled_from([("alice", "bob"), ("carol", "alice"), ("bob", "carol", "alice")]))
    purposes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    columns = draw(
        st.lists(texts.filter(lambda x: x and min(x) > "\x1f"), min_size=1, max_size=4, unique=True)
    )
    kinds: list[dict[str, Any]] = [
        {"type": "boolean"},
        {"type": "integer", "low": -3.0, "high": 4.0},
        {"type": "number", "low": draw(st.floats(-1e300, 0, exclude_max=True)), "high": 0.0},
        {"type": "category", "categories": draw(st.lists(texts.filter(bool), min_size=1, unique=True))},
    ]
    mechanism = draw(st.sampled_from(["none", "discrete-gaussian", "discrete-laplace"]))
    budget = {"epsilon": draw(st.floats(1e-9, 1e300)), "delta": draw(st.floats(0, 0.9)), "period_days": 30}
    datasets = [
        {
            "name": name,
            "owner": draw(st.sampled_from(owners)),
            "privacy_unit": draw(names),
            "minimum_rows": draw(st.integers(1, 2**31)),
            "columns": [
                *({"name": one, **draw(st.sampled_from(kinds))} for one in columns),
                {"name": "\x7f who", "type": "identifier"},
            ],
            **({} if mechanism == "none" else {"budget": budget}),
        }
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    used = st.lists(st.sampled_from(columns), min_size=1, unique=True)
    some_owners = st.lists(st.sampled_from(owners), min_size=1, unique=True)
    analyses = [
        {
            "name": name,
            "code": draw(st.sampled_from(["0" * 64, "9f" * 32])),
            "purposes": draw(st.lists(st.sampled_from(purposes), min_size=1, unique=True)),
            "inputs": draw(
                st.dictionaries(st.sampled_from([one["name"] for one in datasets]), used, min_size=1)
            ),
            "parameters": draw(st.dictionaries(names, limits, max_size=3)),
            "recipients": draw(some_owners),
            "submitters": draw(some_owners),
        }
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    rules = st.lists(st.sampled_from(get_args(Rule)), max_size=3)
    owned = {str(one["owner"]): str(one["name"]) for one in datasets}
    for one in datasets:
        one["privacy_unit"] = datasets[0]["privacy_unit"]
    alignments = [
        {
            "name": f"z{draw(names)}-{'z' * 20}",
            "keys": {name: [{"column": "\x7f who", "rules": draw(rules)}] for name in owned.values()},
            "mode": draw(st.sampled_from(["all", "secret"])) if len(owned) == 2 else "all",
            "minimum_rows": draw(st.integers(1, 2**31)),
        }
    ]
    unnoised = mechanism == "none" or draw(st.booleans())
    start, end = sorted(draw(st.lists(times, min_size=2, max_size=2, unique=True)))
    return Agreement.model_validate(
        {
            "id": draw(names),
            "version": draw(st.integers(1, 2**31)),
            "title": draw(texts.filter(bool)),
            "text": draw(texts),
            "purposes": [
                {"name": name, "legal_basis": draw(texts.filter(bool)), "text": draw(texts)}
                for name in purposes
            ],
            "valid_from": start,
            "valid_until": end,
            "members": [*map(example.member, owners), example.member("dealer", "dealer")],
            "datasets": datasets,
            "analyses": analyses,
            "alignments": alignments if len(owned) > 1 and draw(st.booleans()) else None,
            "privacy": {
                "mechanism": mechanism,
                "unnoised": unnoised,
                "collusion": draw(st.none() | st.just(1)),
                "releases": draw(st.none() | st.integers(1, 2**31)),
                **({"rounding": draw(st.integers(2, 10_000))} if unnoised and draw(st.booleans()) else {}),
            },
            "approval": draw(st.sampled_from(["automatic", "steward"])),
            "retention_days": draw(st.integers(1, 36525)),
        }
    )


@settings(max_examples=50)
@given(valid_agreements())
def test_every_form_leads_back_to_the_agreement(agreement: Agreement) -> None:
    for again in (
        decode_odrl(encode_odrl(agreement)),
        from_odrl(to_odrl(agreement)),
        parse_agreement(agreement.to_toml().encode()),
        Agreement.from_canonical(agreement.canonical()),
    ):
        assert again == agreement
        assert again.canonical() == agreement.canonical()
    jsonschema.validate(json.loads(agreement.canonical()), json_schema())


def test_the_schema_refuses_what_is_no_agreement() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    for change in (lambda c: c.pop("title"), lambda c: c.update(colour=1), lambda c: c.update(version=0)):
        content = json.loads(example.agreement().canonical())
        change(content)
        assert not validator.is_valid(content)


def test_a_policy_says_in_odrl_what_odrl_has_words_for() -> None:
    policy = to_odrl(example.agreement(approval="steward"))
    assert (policy["@type"], policy["profile"]) == ("Agreement", "urn:mpcpriv:odrl:1")
    first = policy["permission"][0]
    assert first["assigner"] == "spiffe://mpcpriv/alice"
    assert first["assignee"] == ["spiffe://mpcpriv/alice"]
    assert [one["leftOperand"] for one in first["constraint"]] == [
        *("purpose", "dateTime", "dateTime", "recipient", "count"),
    ]
    assert first["duty"] == [{"action": "obtainConsent", "consentingParty": "spiffe://mpcpriv/alice"}]
    assert {duty["action"] for duty in policy["obligation"]} == {"delete"}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(leaf for name, child in children for leaf in leaves(child, (*path, name)))]


def test_a_policy_in_which_anything_is_changed_is_another_agreement_or_refused() -> None:
    agreement = example.agreement(approval="steward")
    text = encode_odrl(agreement).decode()
    policy = json.loads(text)
    for path in leaves(policy)[1:]:
        for value in (None, "x", 7, [], {}, True):
            changed = json.loads(text)
            inside = changed
            for step in path[:-1]:
                inside = inside[step]
            if inside[path[-1]] == value:
                continue
            inside[path[-1]] = value
            try:
                other = from_odrl(changed)
            except UsageError:
                continue
            assert other != agreement
            assert to_odrl(other) == changed
