"""Alignments in agreements and jobs: what is wrong is said, every form keeps them, jobs are held to them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from rich.console import Console

from mpcpriv.agreement.admit import AdmittedJob, LedgerView, Refusal, admit
from mpcpriv.agreement.model import Agreement, ColumnTerms, Rule
from mpcpriv.agreement.odrl import decode_odrl, encode_odrl
from mpcpriv.agreement.template import Candidate, template
from mpcpriv.agreement.toml import parse_agreement
from mpcpriv.alignment import RULES
from mpcpriv.cli.agreement_text import promises, show
from mpcpriv.data.scale import Scale
from mpcpriv.documents import problems, public_key
from mpcpriv.errors import UsageError
from tests.unit import agreements as example
from tests.unit.agreements import INSTALLED, NOW, OWNERS, certificate, key

NAME = [{"column": "name", "rules": ["nfkc", "casefold"]}, {"column": "born", "rules": ["date-dmy"]}]
TWO = {"alice-patients": NAME, "bob-patients": [{"column": "who", "rules": ["trim"]}, {"column": "day"}]}


def content() -> dict[str, Any]:
    """The example, with identifiers at all owners and an alignment of two of them."""
    found = example.content()
    keys = (("name", "born"), ("who", "day"), ("name", "born"))
    for dataset, columns in zip(found["datasets"], keys, strict=True):
        dataset["columns"] += [{"name": name, "type": "identifier"} for name in columns]
    found["analyses"][0]["inputs"] = {
        "alice-patients": ["age", "malignant"],
        "bob-patients": ["radius", "age"],
        "carol-patients": ["stage", "radius"],
    }
    found["alignments"] = [{"name": "people", "keys": TWO, "mode": "all", "minimum_rows": 50}]
    return found


AGREEMENT = Agreement.model_validate(content())
SIGNED = example.sign_all(AGREEMENT)


def changed(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda c: c["alignments"][0].update(fields)


def keys(**changes: Any) -> Callable[[dict[str, Any]], object]:
    chosen = {f"{name}-patients": key for name, key in changes.items()}
    return changed(keys={name: key for name, key in {**TWO, **chosen}.items() if key})


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "twice": (
        lambda c: c["alignments"].append(c["alignments"][0]),
        "alignments: alignment 'people' stands there 2 times; each may stand there once",
    ),
    "a data set's name": (
        changed(name="bob-patients"),
        "alignment bob-patients: a data set has this name; give it another",
    ),
    "no such data set": (
        keys(bob=None, zed=NAME),
        "alignment people, keys, zed-patients: there is no such data set; add it to the datasets",
    ),
    "one owner's": (
        lambda c: c["datasets"][1].update(owner="alice"),
        "alignment people, keys: owner 'alice' stands there 2 times; each may stand there once",
    ),
    "other units": (
        lambda c: c["datasets"][1].update(privacy_unit="visit"),
        (
            "alignment people, keys: rows are about a patient, about a visit; in all data sets of an "
            "alignment they are about the same"
        ),
    ),
    "other widths": (
        keys(bob=TWO["bob-patients"][:1]),
        ("alignment people, keys: they have different numbers of columns (alice-patients 2, bob-patients 1)"),
    ),
    "no such column": (
        keys(alice=[NAME[0], {"column": "dob"}]),
        (
            "alignment people, keys, alice-patients: the data set has no column 'dob'; it has "
            "['age', 'radius', 'stage', 'malignant', 'name', 'born']"
        ),
    ),
    "a column twice": (
        keys(alice=[NAME[0], NAME[0]]),
        "alignment people, keys, alice-patients: column 'name' stands there 2 times",
    ),
    "a value": (
        keys(alice=[NAME[0], {"column": "age"}]),
        "alignment people, keys, alice-patients: column 'age' is a integer; a key has identifiers only",
    ),
    "one data set": (
        keys(bob=None),
        "alignments[0].keys: value should have at least 2 items",
    ),
    "an unknown rule": (
        keys(alice=[{"column": "name", "rules": ["soundex"]}, NAME[1]]),
        "'soundex': input should",
    ),
    "an unknown mode": (
        changed(mode="some"),
        "alignments[0].mode: 'some': input should be 'all' or 'secret'",
    ),
    "three that nobody knows": (
        changed(mode="secret", keys={**TWO, "carol-patients": NAME}),
        'alignment people: mode = "secret" is of two data sets; there are 3 keys',
    ),
    "without a mode": (lambda c: c["alignments"][0].pop("mode"), "alignments[0].mode: missing"),
    "an identifier in an analysis": (
        lambda c: c["analyses"][0]["inputs"]["alice-patients"].append("name"),
        (
            "analysis logistic-regression, inputs: column 'name' of alice-patients is an identifier; no "
            "analysis may use it, remove it"
        ),
    ),
    "an identifier with bounds": (
        lambda c: c["datasets"][0]["columns"][4].update(low=0.0, high=1.0),
        "datasets[0].columns[4]: column 'name': a column of type identifier has no bounds",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_an_alignment_is_said(case: str) -> None:
    change, said = BROKEN[case]
    broken = json.loads(json.dumps(content(), default=str))
    broken.update(valid_from=content()["valid_from"], valid_until=content()["valid_until"])
    change(broken)
    with pytest.raises(ValidationError) as error:
        Agreement.model_validate(broken)
    (found,) = problems(error.value)
    assert said in found


def test_every_form_keeps_alignments() -> None:
    for again in (
        decode_odrl(encode_odrl(AGREEMENT)),
        parse_agreement(AGREEMENT.to_toml().encode()),
        Agreement.from_canonical(AGREEMENT.canonical()),
    ):
        assert again == AGREEMENT
        assert again.canonical() == AGREEMENT.canonical()
    terms = AGREEMENT.alignment("people")
    assert terms is not None
    assert terms.keys["bob-patients"][1].rules == []
    assert AGREEMENT.alignment(None) is None


def test_what_was_signed_without_alignments_keeps_its_bytes() -> None:
    plain = example.agreement()
    assert "alignments" not in json.loads(plain.canonical())
    assert (
        Agreement.from_canonical(plain.canonical()).digest() == hashlib.sha256(plain.canonical()).hexdigest()
    )
    assert "alignment" not in json.loads(example.job().canonical())


def test_an_agreement_names_the_rules_that_there_are() -> None:
    assert get_args(Rule) == tuple(RULES)


def test_the_template_has_one_to_be_filled_in() -> None:
    candidates = [
        Candidate(name, certificate(name), public_key(key(name))) for name in ("alice", "bob", "dealer")
    ]
    text = template("study", now=NOW, members=candidates)
    lines = text.splitlines()
    first = lines.index("# [[alignments]]")
    last = lines.index("# ]", lines.index("# bob-patients = ["))
    filled = [line.removeprefix("# ") for line in lines[first : last + 1]]
    identifiers = "".join(f'    {{ name = "{name}", type = "identifier" }},\n' for name in ("name", "born"))
    with_one = "\n".join([*lines[:first], *filled, *lines[last + 1 :]])
    with_one = with_one.replace("]\n# budget", f"{identifiers}]\n# budget")
    terms = parse_agreement(with_one.encode()).alignment("people")
    assert terms is not None
    assert [*terms.keys] == ["alice-patients", "bob-patients"]
    assert terms.minimum_rows == 50


def test_show_says_whose_rows_are_put_together_and_who_learns_it() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    show(AGREEMENT, console)
    text = console.export_text()
    assert "alice-patients: name (nfkc, casefold), born (date-dmy)" in text
    assert "bob-patients: who (trim), day" in text
    assert "name: an identifier, which stays at its owner" in text
    (said,) = [one for one in promises(AGREEMENT) if "alignment people" in one]
    assert "each of alice, bob learns which of its own rows" in said
    assert "With less than 50 rows in common nothing" in said
    secret = Agreement.model_validate(
        {**content(), "alignments": [{**content()["alignments"][0], "mode": "secret"}]}
    )
    (said,) = [one for one in promises(secret) if "alignment people" in one]
    assert "nobody learns whose rows alice and bob have in common" in said
    assert "recipients of a result of how many rows it is" in said
    assert "With less than 50 rows in common nothing is opened" in said


def test_an_identifier_has_no_place_in_the_ring() -> None:
    with pytest.raises(UsageError, match="column 'name': an identifier stays at its owner"):
        Scale.of(ColumnTerms(name="name", type="identifier"))


# ---- Admission

A, B, C = (f"{owner}-patients" for owner in OWNERS)


def verdict(me: str = "bob", aligns: bool = True, **changes: Any) -> AdmittedJob | Refusal:
    inputs = changes.pop("inputs", {A: ["age", "malignant"], B: ["radius"]})
    job = example.signed_job(
        inputs=[{"dataset": name, "columns": columns} for name, columns in inputs.items()],
        **{"alignment": "people", **changes},
    )
    return admit(
        SIGNED, job, now=NOW, me=me, ledger=LedgerView(), newest=3, analyses=INSTALLED, aligns=aligns
    )


def test_an_aligned_job_is_admitted_by_each_member() -> None:
    for me in (*OWNERS, "dealer"):
        admitted = verdict(me)
        assert isinstance(admitted, AdmittedJob)
        assert admitted.alignment == AGREEMENT.alignment("people")
    for me in ("carol", "dealer"):  # who have no rows in it
        assert isinstance(verdict(me, aligns=False), AdmittedJob)


def test_jobs_on_one_table_or_on_the_same_columns_need_none() -> None:
    for inputs in ({A: ["age", "malignant"]}, {A: ["age"], B: ["age"]}, {A: ["age"], C: ["radius"]}):
        admitted = verdict(alignment=None, inputs=inputs)
        assert isinstance(admitted, AdmittedJob)
        assert admitted.alignment is None


BROKEN_BY_THE_JOB: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"alignment": "folk"}, "alignment: folk is not agreed; people is"),
    "none": (
        {"alignment": None},
        (
            "alignment: none is named, and people is how alice-patients, bob-patients are put together; "
            'write alignment = "people"'
        ),
    ),
    "none, and a data set more": (
        {"alignment": None, "inputs": {A: ["age"], B: ["radius"], C: ["stage"]}},
        (
            "alignment: none is named, and people is how alice-patients, bob-patients are put together; "
            'write alignment = "people"'
        ),
    ),
    "a data set is missing": (
        {"inputs": {A: ["age", "malignant"]}},
        (
            "alignment: people is of alice-patients, bob-patients, and the inputs are of alice-patients; "
            "name all of its data sets and no other"
        ),
    ),
    "a data set too many": (
        {"inputs": {A: ["age"], B: ["radius"], C: ["stage"]}},
        (
            "alignment: people is of alice-patients, bob-patients, and the inputs are of alice-patients, "
            "bob-patients, carol-patients; name all of its data sets and no other"
        ),
    ),
    "a column of both": (
        {"inputs": {A: ["age", "malignant"], B: ["age"]}},
        "alignment: 'age' is asked of several data sets; aligned tables have each column once",
    ),
    "an identifier": (
        {"inputs": {A: ["age", "name"], B: ["radius"]}},
        (
            "inputs: column 'name' of alice-patients is not permitted for logistic-regression; "
            "'age', 'malignant' is"
        ),
    ),
    "not installed": (
        {"aligns": False},
        "alignment: it needs PyNaCl, which is not installed at bob; pip install 'mpcpriv[alignment]'",
    ),
}


@pytest.mark.parametrize("case", BROKEN_BY_THE_JOB)
def test_a_job_that_breaks_one_term_is_refused_with_its_sentence_and_no_other(case: str) -> None:
    changes, said = BROKEN_BY_THE_JOB[case]
    refused = verdict(**changes)
    assert isinstance(refused, Refusal)
    assert refused.reasons == (said,)


def test_an_agreement_without_alignments_has_none() -> None:
    job = example.signed_job(alignment="people")
    refused = admit(
        example.sign_all(example.agreement()),
        job,
        now=NOW,
        me="bob",
        ledger=LedgerView(),
        newest=3,
        analyses=INSTALLED,
    )
    assert isinstance(refused, Refusal)
    assert refused.reasons[0] == "alignment: people is not agreed; none is"
