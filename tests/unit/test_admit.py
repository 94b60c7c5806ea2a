"""Admission: each term broken has its sentence, all are listed, and nothing makes it raise."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.agreement.admit import AdmittedJob, LedgerView, Refusal, admit
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from tests.unit import agreements as example
from tests.unit.agreements import INSTALLED, MEMBERS, NOW, key

SIGNED = example.sign_all(example.agreement())


def asked(
    job: SignedJob | None = None,
    agreement: SignedAgreement = SIGNED,
    *,
    now: datetime = NOW,
    me: str = "bob",
    releases: dict[str, int] | None = None,
    newest: int = 3,
    analyses: dict[str, str] = INSTALLED,
    received: datetime | None = None,
) -> AdmittedJob | Refusal:
    return admit(
        agreement,
        job or example.signed_job(),
        now=now,
        me=me,
        ledger=LedgerView(releases or {}),
        newest=newest,
        analyses=analyses,
        received=received,
    )


def reasons(*arguments: Any, **named: Any) -> tuple[str, ...]:
    verdict = asked(*arguments, **named)
    assert isinstance(verdict, Refusal)
    return verdict.reasons


def under(**changes: Any) -> SignedAgreement:
    return example.sign_all(example.agreement(**changes))


@pytest.mark.parametrize("me", MEMBERS)
def test_a_job_within_the_agreement_is_admitted_by_each_member(me: str) -> None:
    job = example.signed_job()
    admitted = asked(job, me=me, releases={"alice-patients": 4, "other": 99})
    assert isinstance(admitted, AdmittedJob)
    assert admitted.job == job.job
    assert admitted.agreement == SIGNED.agreement
    assert admitted.terms.name == "logistic-regression"
    assert admitted.parties == ("alice", "bob", "carol")
    assert admitted.dealer == "dealer"
    assert admitted.recipients == ("alice",)


def test_only_admit_makes_an_admitted_job() -> None:
    job = example.job()
    terms = SIGNED.agreement.terms("mean")
    assert terms is not None
    with pytest.raises(TypeError, match=r"comes from mpcpriv\.agreement\.admit\.admit only"):
        AdmittedJob(SIGNED.agreement, job, terms, proof=None)


def release(**fields: Any) -> dict[str, Any]:
    return {"release": {"recipients": ["alice"], **fields}}


def inputs(*parts: tuple[str, list[str]]) -> dict[str, Any]:
    return {"inputs": [{"dataset": dataset, "columns": columns} for dataset, columns in parts]}


A, B = "alice-patients", "bob-patients"

BROKEN_BY_THE_JOB: dict[str, tuple[dict[str, Any], str]] = {
    "agreement": ({"agreement": "other"}, "agreement: the job names other, and this is breast-cancer"),
    "older version": ({"version": 2}, "version: the job names version 2, and this is version 3"),
    "newer version": ({"version": 4}, "version: the job names version 4, and this is version 3"),
    "submitter not allowed": (
        {"submitter": "bob"},
        "submitter: bob may not ask for logistic-regression; alice may",
    ),
    "purpose": (
        {"purpose": "quality"},
        "purpose: quality is not allowed for logistic-regression; research is",
    ),
    "unknown purpose": (
        {"purpose": "profit"},
        "purpose: profit is not allowed for logistic-regression; research is",
    ),
    "data set unknown": (
        inputs((A, ["age"]), ("zed", ["age"])),
        "inputs: data set zed is not in the agreement",
    ),
    "column": (
        inputs((A, ["age", "stage"])),
        (
            "inputs: column 'stage' of alice-patients is not permitted for logistic-regression; "
            "'age', 'radius', 'malignant' is"
        ),
    ),
    "unknown column": (
        inputs((A, ["name"])),
        (
            "inputs: column 'name' of alice-patients is not permitted for logistic-regression; "
            "'age', 'radius', 'malignant' is"
        ),
    ),
    "data set twice": (
        inputs((A, ["age"]), (A, ["radius"])),
        "inputs: data set alice-patients is named 2 times; name it once",
    ),
    "column twice": (
        inputs((A, ["age", "age"])),
        "inputs: column 'age' of alice-patients is named more than once",
    ),
    "parameter unknown": (
        {"parameters": {"seed": 1}},
        (
            "parameters: seed is no parameter that logistic-regression may be given; "
            "flag, penalty, solver, steps may be given"
        ),
    ),
    "parameter too high": (
        {"parameters": {"steps": 201}},
        "parameters: steps = 201: must be at least 1 and at most 200",
    ),
    "parameter too low": (
        {"parameters": {"steps": 0}},
        "parameters: steps = 0: must be at least 1 and at most 200",
    ),
    "one of a list": (
        {"parameters": {"steps": [100, 300]}},
        "parameters: steps = [100, 300]: must be at least 1 and at most 200",
    ),
    "one bound": ({"parameters": {"penalty": -0.5}}, "parameters: penalty = -0.5: must be at least 0"),
    "parameter of another type": (
        {"parameters": {"steps": "many"}},
        "parameters: steps = 'many': must be a number, at least 1 and at most 200",
    ),
    "a truth value is no number": (
        {"parameters": {"steps": True}},
        "parameters: steps = true: must be a number, at least 1 and at most 200",
    ),
    "choice": (
        {"parameters": {"solver": "lbfgs"}},
        "parameters: solver = 'lbfgs': must be one of 'adam', 'sgd'",
    ),
    "a number is no truth value": ({"parameters": {"flag": 1}}, "parameters: flag = 1: must be one of true"),
    "recipients": (
        {"release": {"recipients": ["alice", "carol"]}},
        "recipients: carol may not get results of logistic-regression; alice, bob may",
    ),
    "recipient no member": (
        {"release": {"recipients": ["zoe"]}},
        "recipients: zoe may not get results of logistic-regression; alice, bob may",
    ),
    "recipient twice": (
        {"release": {"recipients": ["alice", "alice"]}},
        "recipients: alice is named more than once",
    ),
    "epsilon without mechanism": (
        release(epsilon=1.5),
        (
            "epsilon: 1.5 is asked, and the agreement has no mechanism of differential privacy; "
            "leave epsilon and delta out"
        ),
    ),
    "delta alone": (release(delta=1e-6), "delta: 1e-06 is given without epsilon; give both or none"),
    "created in the future": (
        {"created": NOW + timedelta(seconds=61)},
        (
            "created: 2027-03-01T12:01:01Z is in the future; the job came on 2027-03-01T12:00:00Z by the "
            "clock here, and the two may differ by 60 s; set the clock that is wrong, or submit the job anew"
        ),
    ),
    "created in the past": (
        {"created": NOW - timedelta(seconds=61)},
        (
            "created: 2027-03-01T11:58:59Z is in the past; the job came on 2027-03-01T12:00:00Z by the clock "
            "here, and the two may differ by 60 s; set the clock that is wrong, or submit the job anew"
        ),
    ),
    "expired": (
        {"created": NOW - timedelta(seconds=50), "expires": NOW - timedelta(seconds=1)},
        (
            "expires: the job expired on 2027-03-01T11:59:59Z, and it is 2027-03-01T12:00:00Z here; "
            "submit it anew"
        ),
    ),
    "expires in more than a week": (
        {"created": NOW, "expires": NOW + timedelta(days=7, seconds=1)},
        (
            "expires: 2027-03-08T12:00:01Z is more than 7 days after created, 2027-03-01T12:00:00Z; have it "
            "expire earlier, and submit it anew if it was not decided by then"
        ),
    ),
    "expires before created": (
        {"created": NOW + timedelta(seconds=50), "expires": NOW + timedelta(seconds=50)},
        "expires: 2027-03-01T12:00:50Z must be after created, 2027-03-01T12:00:50Z",
    ),
}


@pytest.mark.parametrize("me", MEMBERS)
@pytest.mark.parametrize("case", BROKEN_BY_THE_JOB)
def test_a_job_that_breaks_one_term_is_refused_with_its_sentence_and_no_other(case: str, me: str) -> None:
    changes, sentence = BROKEN_BY_THE_JOB[case]
    assert reasons(example.signed_job(**changes), me=me) == (sentence,)


def test_an_analysis_that_is_not_permitted() -> None:
    assert reasons(example.signed_job(analysis="median")) == (
        "analysis: median is not permitted; logistic-regression, mean is",
    )


def test_a_data_set_of_the_agreement_that_the_analysis_may_not_use() -> None:
    fields = {"submitter": "bob", "parameters": {}, "release": {"recipients": ["carol"]}}
    assert reasons(example.signed_job(analysis="mean", **fields, **inputs((B, ["age"])))) == (
        "inputs: data set bob-patients is not permitted for mean; alice-patients is",
    )


def test_an_analysis_without_parameters_takes_none() -> None:
    fields = {"submitter": "bob", "parameters": {"steps": 1}, "release": {"recipients": ["carol"]}}
    assert reasons(example.signed_job(analysis="mean", **fields, **inputs((A, ["age"])))) == (
        "parameters: steps is no parameter that mean may be given; it takes none",
    )


def test_a_submitter_who_is_no_member() -> None:
    assert reasons(example.signed_job(submitter="eve")) == (
        "submitter: eve is no member of the agreement, so its signature proves nothing",
        "submitter: eve may not ask for logistic-regression; alice may",
    )


@pytest.mark.parametrize("signer", ["bob", "eve"])
def test_a_job_that_another_signed(signer: str) -> None:
    job = SignedJob.sign(example.job(), key(signer))
    assert reasons(job) == (
        (
            "signature: it is not that of alice over this job; the job was changed after signing, "
            "or another signed it"
        ),
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_each_signature_of_the_agreement_is_needed_and_verified(name: str) -> None:
    others = {one: mark for one, mark in SIGNED.signatures.items() if one != name}
    unsigned = SignedAgreement(agreement=SIGNED.agreement, signatures=others)
    missing = (f"the signature of {name} is missing; all members sign an agreement",)
    assert reasons(agreement=unsigned) == missing
    another = SIGNED.signatures["alice" if name != "alice" else "bob"]
    forged = SignedAgreement(agreement=SIGNED.agreement, signatures={**others, name: another})
    assert reasons(agreement=forged) == (
        f"the signature of {name} is not for this text; either was changed after signing, or it is another's",
    )


def test_terms_that_were_changed_after_signing() -> None:
    looser = example.agreement(retention_days=9999)
    found = reasons(agreement=SignedAgreement(agreement=looser, signatures=SIGNED.signatures))
    assert len(found) == len(MEMBERS)


def test_a_superseded_version() -> None:
    assert reasons(newest=4) == ("version: 3 was superseded by 4; submit the job under the newest version",)


def test_a_member_of_nothing() -> None:
    assert reasons(me="eve") == ("members: eve, who is asked here, is no member of the agreement",)


def test_code_that_is_absent_or_another() -> None:
    assert reasons(analyses={}) == (
        "code: logistic-regression is not installed at bob; install the version that was agreed",
    )
    assert reasons(analyses={**INSTALLED, "logistic-regression": "c" * 64}) == (
        (
            f"code: logistic-regression as installed at bob has the digest {'c' * 64}, and the agreement "
            f"allows {'a' * 64}; install the version that was agreed"
        ),
    )


def test_releases_that_are_used_up() -> None:
    assert reasons(releases={B: 5, "carol-patients": 6}) == (
        (
            "releases: 5 results were released from bob-patients, and the agreement allows 5; "
            "agree on a new version for more"
        ),
        (
            "releases: 6 results were released from carol-patients, and the agreement allows 5; "
            "agree on a new version for more"
        ),
    )


def at(now: datetime) -> dict[str, Any]:
    return {"job": example.signed_job(created=now, expires=now + timedelta(days=1)), "now": now}


def test_an_agreement_is_in_force_from_its_first_second_to_before_its_last() -> None:
    start, end = SIGNED.agreement.valid_from, SIGNED.agreement.valid_until
    second = timedelta(seconds=1)
    assert isinstance(asked(**at(start)), AdmittedJob)
    assert isinstance(asked(**at(end - second)), AdmittedJob)
    (early,), (late,) = reasons(**at(start - second)), reasons(**at(end))
    assert early == (
        "valid_from: the agreement is valid from 2027-01-01T00:00:00Z; the job was created on "
        "2026-12-31T23:59:59Z, and it is 2026-12-31T23:59:59Z here"
    )
    assert late == (
        "valid_until: the agreement ended on 2028-01-01T00:00:00Z; the job was created on "
        "2028-01-01T00:00:00Z, and it is 2028-01-01T00:00:00Z here"
    )


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_a_day_off(hours: int) -> None:
    found = reasons(now=NOW + timedelta(hours=hours))
    assert found[0].startswith(
        f"created: 2027-03-01T11:59:30Z is in the {'past' if hours > 0 else 'future'};"
    )


def test_a_clock_that_went_back_behind_the_agreement() -> None:
    start = SIGNED.agreement.valid_from
    job = example.signed_job(created=start, expires=start + timedelta(days=1))
    assert isinstance(asked(job, now=start - timedelta(seconds=60)), AdmittedJob)
    (early,) = reasons(job, now=start - timedelta(seconds=61), received=start)
    assert early.startswith("valid_from: the agreement is valid from 2027-01-01T00:00:00Z;")


@pytest.mark.parametrize("steps", [1, 200, [1, 200], 1.5])
def test_a_parameter_may_be_its_bounds_and_all_between(steps: object) -> None:
    assert isinstance(asked(example.signed_job(parameters={"steps": steps})), AdmittedJob)


def test_clocks_a_minute_apart_are_one() -> None:
    for seconds in (-90, 30):
        assert isinstance(asked(now=NOW + timedelta(seconds=seconds)), AdmittedJob)


def test_a_job_may_wait_for_its_approvals_but_not_beyond_its_end_or_the_agreements() -> None:
    week = timedelta(days=7)
    job = example.signed_job(created=NOW, expires=NOW + week)
    assert isinstance(asked(job, now=NOW + week, received=NOW), AdmittedJob)
    created = SIGNED.agreement.valid_until - timedelta(days=1)
    job = example.signed_job(created=created, expires=created + week)
    (late,) = reasons(job, now=datetime(2028, 1, 1, 0, 1, tzinfo=UTC), received=created)
    assert late.startswith("valid_until: the agreement ended on 2028-01-01T00:00:00Z;")
    (late,) = reasons(example.signed_job(), now=NOW + timedelta(days=2), received=NOW)
    assert late.startswith("expires: the job expired on 2027-03-02T12:00:00Z")


def noisy(mechanism: str, *, unnoised: bool = False, budget: bool = True) -> SignedAgreement:
    content = example.content()
    for dataset in content["datasets"][: None if budget else 2]:
        dataset["budget"] = {"epsilon": 2.0, "delta": 1e-6, "period_days": 30}
    content["privacy"] = {"mechanism": mechanism, "unnoised": unnoised}
    return example.sign_all(Agreement.model_validate(content))


NOISE: dict[str, tuple[SignedAgreement, dict[str, Any], tuple[str, ...]]] = {
    "none given": (
        noisy("discrete-gaussian"),
        {},
        ("epsilon: none is given, and the agreement permits no release without noise; give one",),
    ),
    "no delta": (
        noisy("discrete-gaussian"),
        {"epsilon": 1.0},
        ("delta: the discrete Gaussian mechanism needs one above 0; give it",),
    ),
    "delta zero": (
        noisy("discrete-gaussian"),
        {"epsilon": 1.0, "delta": 0.0},
        ("delta: the discrete Gaussian mechanism needs one above 0; give it",),
    ),
    "delta of Laplace": (
        noisy("discrete-laplace"),
        {"epsilon": 1.0, "delta": 1e-7},
        ("delta: 1e-07 is asked, and the discrete Laplace mechanism has none; leave it out",),
    ),
    "beyond the budget": (
        noisy("discrete-gaussian"),
        {"epsilon": 2.5, "delta": 1e-5},
        tuple(
            sentence
            for owner in example.OWNERS
            for sentence in (
                f"epsilon: 2.5 is asked, and the budget of {owner}-patients is 2",
                f"delta: 1e-05 is asked, and the budget of {owner}-patients is 1e-06",
            )
        ),
    ),
    "no budget": (
        noisy("discrete-laplace", unnoised=True, budget=False),
        {"epsilon": 1.0},
        ("epsilon: 1 is asked, and data set carol-patients has no budget",),
    ),
}


@pytest.mark.parametrize("case", NOISE)
def test_noise_that_the_agreement_does_not_offer(case: str) -> None:
    agreement, fields, sentences = NOISE[case]
    assert reasons(example.signed_job(**release(**fields)), agreement) == sentences


def test_noise_that_the_agreement_offers() -> None:
    for mechanism, fields in (
        ("discrete-gaussian", {"epsilon": 2.0, "delta": 1e-6}),
        ("discrete-laplace", {"epsilon": 0.1}),
        ("discrete-laplace", {"epsilon": 0.1, "delta": 0.0}),
    ):
        job = example.signed_job(**release(**fields))
        assert isinstance(asked(job, noisy(mechanism)), AdmittedJob)
    assert isinstance(asked(agreement=noisy("discrete-gaussian", unnoised=True)), AdmittedJob)


def test_every_broken_term_is_listed() -> None:
    changes: dict[str, Any] = {}
    for case in ("agreement", "newer version", "purpose", "choice", "recipients", "created in the future"):
        changes |= copy.deepcopy(BROKEN_BY_THE_JOB[case][0])
    job = SignedJob.sign(example.job(**changes, **inputs((A, ["stage"]))), key("bob"))
    found = reasons(job, me="eve", newest=9, analyses={}, releases={A: 7})
    terms = [reason.split(":")[0] for reason in found]
    assert terms == [
        *("agreement", "version", "version", "members", "signature", "created", "code", "purpose"),
        *("inputs", "parameters", "recipients", "releases"),
    ]


names = st.sampled_from(
    [*MEMBERS, "eve", "breast-cancer", "logistic-regression", "mean", "research", "quality"]
)
moments = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.just(datetime.min.replace(tzinfo=UTC)),
    st.just(datetime.max.replace(tzinfo=UTC)),
    st.integers(-100, 100).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
whole = moments.map(lambda moment: moment.replace(microsecond=0))
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-9e15, 9e15)
values = st.one_of(
    st.booleans(),
    numbers,
    st.text(max_size=9),
    st.lists(st.booleans()),
    st.lists(st.integers(-9, 300)),
    st.lists(st.floats(-9e15, 9e15)),
    st.lists(st.sampled_from(["adam", "x"])),
)
datasets = st.sampled_from([A, B, "carol-patients", "zed"])
columns = st.sampled_from(["age", "radius", "stage", "malignant", "é"])
jobs = st.builds(
    example.job,
    agreement=names,
    version=st.integers(1, 5),
    analysis=names,
    purpose=names,
    inputs=st.lists(
        st.fixed_dictionaries({"dataset": datasets, "columns": st.lists(columns, min_size=1, max_size=4)}),
        min_size=1,
        max_size=4,
    ),
    parameters=st.dictionaries(st.sampled_from(["steps", "penalty", "solver", "flag", "x"]), values),
    release=st.fixed_dictionaries(
        {"recipients": st.lists(st.sampled_from([*MEMBERS, "eve"]), min_size=1, max_size=3)},
        optional={
            "epsilon": st.floats(0, exclude_min=True, allow_infinity=False),
            "delta": st.floats(0, 1, exclude_max=True),
        },
    ),
    submitter=st.sampled_from([*MEMBERS, "eve"]),
    created=whole,
    expires=whole,
)
AGREEMENTS = [SIGNED, SignedAgreement.unsigned(SIGNED.agreement), *(case[0] for case in NOISE.values())]


@given(
    agreement=st.sampled_from(AGREEMENTS),
    job=jobs,
    signer=st.sampled_from([*MEMBERS, "eve"]),
    now=moments,
    me=st.sampled_from([*MEMBERS, "eve", ""]),
    releases=st.dictionaries(datasets, st.integers(0, 9)),
    newest=st.integers(0, 5),
    analyses=st.dictionaries(
        st.sampled_from(["logistic-regression", "mean"]), st.sampled_from(["a" * 64, ""])
    ),
    received=st.none() | moments,
)
def test_it_never_raises_and_says_the_same_each_time(
    agreement: SignedAgreement, job: Job, signer: str, **rest: Any
) -> None:
    signed = SignedJob.sign(job, key(signer))
    first, second = asked(signed, agreement, **rest), asked(signed, agreement, **rest)
    assert first == second
    if isinstance(first, Refusal):
        assert first.reasons
        assert all(first.reasons)
    # Read back from its bytes it is the same job, and so is the verdict.
    assert asked(SignedJob.from_bytes(signed.to_bytes()), agreement, **rest) == first
