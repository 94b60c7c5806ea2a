"""Whole jobs between real parties: what they release and to whom, and what a plan said of them."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.data.held import Whole
from mpcpriv.errors import Desynchronised, Unsupported, UsageError
from mpcpriv.party import launch
from mpcpriv.party.jobs import RunReport, input_digest
from mpcpriv.party.planning import plan_job
from mpcpriv.party.program import Dealer
from mpcpriv.release import Result, check, read_result
from mpcpriv.release.share import SALT_BYTES
from mpcpriv.types import PartyId
from tests.protocol.job_cases import OWNERS, Case, Tables, case, column
from tests.protocol.parties import outcomes

_cancer: Any = load_breast_cancer()
FEATURES = dict(zip(map(str, _cancer.feature_names), _cancer.data.T, strict=True))
BENIGN = _cancer.target
ROWS = dict(zip(OWNERS, np.split(np.arange(len(BENIGN)), [200, 400]), strict=True))
COUNTS = {f"{owner}-rows": len(rows) for owner, rows in ROWS.items()}
TERMS = [*(column(name, values) for name, values in FEATURES.items()), column("benign", BENIGN, "boolean")]
BY_ROWS: Tables = {
    owner: {name: values[rows] for name, values in {**FEATURES, "benign": BENIGN}.items()}
    for owner, rows in ROWS.items()
}


def run(one: Case, parties: tuple[str, ...] = OWNERS, **changes: Any) -> list[RunReport]:
    programs = [one.program(name, **changes) for name in parties]
    results, failed = outcomes([*(program.run for program in programs), mpcpriv.engine.deal])
    if failed:
        raise results[failed[0]]
    return results[:-1]


def result(one: Case, reports: list[RunReport]) -> Result:
    shares = [report.share for report in reports]
    analysis = analyses.find(one.job.job.analysis)
    return read_result(one.admitted(), analysis, reports[0].rows, reports[0].layout, shares)


def values(one: Case, reports: list[RunReport]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result(one, reports).canonical())["result"]
    return found


def reference(penalty: float = 1.0) -> tuple[np.ndarray, float, np.ndarray]:
    """scikit-learn's coefficients and intercept in the units of the data, and the spreads."""
    x = np.column_stack(list(FEATURES.values()))
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(scaler.transform(x), BENIGN)
    coefficients = model.coef_[0] / scaler.scale_
    return coefficients, float(model.intercept_[0] - coefficients @ scaler.mean_), scaler.scale_


def agrees(found: Mapping[str, Any], penalty: float = 1.0) -> None:
    coefficients, intercept, spreads = reference(penalty)
    by_name = dict(zip(found["features"], found["coefficients"], strict=True))
    difference = np.array([by_name[name] for name in FEATURES]) - coefficients
    # Where 30 features are nearly collinear a small coefficient is a difference of large ones.
    assert np.abs(difference * spreads).max() < 1e-3 * np.abs(coefficients * spreads).max()
    assert found["intercept"] == pytest.approx(intercept, rel=1e-3)
    assert (found["rows"], found["converged"]) == (len(BENIGN), 1)


def regression(folder: Path, recipients: tuple[str, ...] = ("alice", "carol"), **options: Any) -> Case:
    parameters = {
        "target": "benign",
        "steps": options.pop("steps", 10),
        "penalty": options.pop("penalty", 1.0),
    }
    terms = dict.fromkeys(OWNERS, TERMS)
    return case(folder, BY_ROWS, terms, "logistic-regression", parameters, recipients, **options)


def summary(folder: Path, **options: Any) -> Case:
    some = {o: {name: t[name] for name in ("mean radius", "benign")} for o, t in BY_ROWS.items()}
    terms = [one for one in TERMS if one["name"] in ("mean radius", "benign")]
    return case(folder, some, dict.fromkeys(OWNERS, terms), "count-and-mean", **options)


@pytest.mark.parametrize(("steps", "penalty"), [(10, 1.0), (6, 20.0)])
def test_a_regression_is_scikit_learns_and_costs_what_was_planned(
    tmp_path: Path, steps: int, penalty: float
) -> None:
    one = regression(tmp_path, steps=steps, penalty=penalty)
    planned = plan_job(one.admitted(), COUNTS)
    plan = planned.cost
    reports = run(one)
    agrees(values(one, reports), penalty)
    assert len({report.transcript for report in reports}) == 1
    assert len({report.layout for report in reports}) == 1
    assert {len(report.share) for report in reports} == {planned.result}
    assert [report.rounds for report in reports] == [plan.rounds] * 3
    assert [report.sent for report in reports] == [sum(row) for row in plan.sent]
    assert sum(report.dealt for report in reports) == pytest.approx(sum(plan.dealt_to), rel=0.05)
    assert plan.parties == OWNERS


def test_too_few_steps_are_not_said_to_have_converged(tmp_path: Path) -> None:
    one = regression(tmp_path, steps=2)
    assert values(one, run(one))["converged"] == 0


def test_columns_may_be_split(tmp_path: Path) -> None:
    names = list(FEATURES)
    parts = dict(zip(OWNERS, [names[:12], names[12:], []], strict=True))
    tables: Tables = {o: {name: FEATURES[name] for name in part} for o, part in parts.items() if part}
    tables = {**tables, "carol": {"benign": BENIGN}}
    known = {one["name"]: one for one in TERMS}
    columns = {owner: [known[name] for name in table] for owner, table in tables.items()}
    one = case(tmp_path, tables, columns, "logistic-regression", {"target": "benign"})
    agrees(values(one, run(one)))


def test_means_and_variances(tmp_path: Path) -> None:
    whole = np.random.default_rng(3).integers(-400, 100_000, 300)
    tables = {
        o: {"count": part, "x": np.sqrt(part + 400), "yes": part % 2}
        for o, part in zip(("alice", "bob"), np.split(whole, [100]), strict=True)
    }
    pooled = np.column_stack([np.concatenate([t[n] for t in tables.values()]) for n in ("count", "x", "yes")])
    terms = [
        column("count", whole, "integer", low=-500.0, high=200_000.0),
        column("x", whole, low=0.0, high=320.0),
        column("yes", whole, "boolean"),
    ]
    one = case(tmp_path, tables, dict.fromkeys(tables, terms), "count-and-mean", parties=("alice", "bob"))
    reports = run(one, ("alice", "bob"))
    found = values(one, reports)
    assert (found["rows"], found["columns"]) == (300, ["count", "x", "yes"])
    np.testing.assert_allclose([found["mean"][0], found["mean"][2]], pooled.mean(0)[[0, 2]], rtol=1e-14)
    np.testing.assert_allclose(found["mean"][1], pooled.mean(0)[1], atol=320 / 2**19)
    np.testing.assert_allclose(found["variance"], pooled.var(0, ddof=1), rtol=1e-5)
    assert reports[0].rounds == plan_job(one.admitted(), {"alice-rows": 100, "bob-rows": 200}).cost.rounds


def test_digests_tell_nothing_to_others_and_all_to_their_owners(tmp_path: Path) -> None:
    one = summary(tmp_path)
    first, second = run(one), run(one)
    results = [result(one, reports) for reports in (first, second)]
    assert hashlib.sha256(results[0].canonical()).hexdigest() == results[0].digest()
    # The same tables and the same results, and yet nobody can tell from the digests.
    assert results[0].answer["mean"] == results[1].answer["mean"]
    assert not {r.input_digest for r in first} & {r.input_digest for r in second}
    assert results[0].salt != results[1].salt
    assert not {r.share for r in first} & {r.share for r in second}
    own = {"alice-rows": Whole({name: BY_ROWS["alice"][name] for name in ("mean radius", "benign")})}
    assert input_digest(own, bytes.fromhex(first[0].input_salt)) == first[0].input_digest
    assert first[0].input_salt not in repr(first[0])
    assert repr(first[0].share) not in repr(first[0])


def test_shares_are_uniform_but_for_their_sum(tmp_path: Path) -> None:
    """A recipient sees all shares, and learns the sum: of one party's part the masks leave nothing."""
    one = summary(tmp_path)
    found = [np.frombuffer(r.share, dtype="<i8", offset=SALT_BYTES) for _ in range(4) for r in run(one)]
    high = np.unpackbits(np.concatenate(found).view(np.uint8))
    assert abs(high.mean() - 0.5) < 5 / np.sqrt(high.size)


def test_the_release_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    few = summary(tmp_path, privacy={"unnoised": True, "minimum_cohort": 570})
    with pytest.raises(UsageError, match=r"569 rows.*570"):
        run(few)
    with pytest.raises(UsageError, match=r"569 rows.*570"):
        plan_job(few.admitted(), COUNTS)
    exactly = summary(tmp_path, privacy={"unnoised": True, "minimum_cohort": 569})
    assert values(exactly, run(exactly))["rows"] == 569
    admitted, analysis = exactly.admitted(), analyses.find("count-and-mean")
    object.__setattr__(admitted, "agreement", _with(admitted.agreement, unnoised=False))
    with pytest.raises(UsageError, match="nothing without noise"):
        check(admitted, analysis, 569, COUNTS)
    asked = admitted.job.model_copy(
        update={"release": admitted.job.release.model_copy(update={"epsilon": 1.0})}
    )
    object.__setattr__(admitted, "job", asked)
    check(admitted, analysis, 569, COUNTS)
    with pytest.raises(Unsupported, match="logistic-regression: how much one row"):
        check(admitted, analyses.find("logistic-regression"), 569, COUNTS)


def _with(agreement: Any, **changes: Any) -> Any:
    return agreement.model_copy(update={"privacy": agreement.privacy.model_copy(update=changes)})


def test_a_worker_admits_for_itself(tmp_path: Path) -> None:
    one = summary(tmp_path)
    with pytest.raises(UsageError, match="superseded by 2"):
        one.program("alice", newest=2).load()
    forged = replace(
        one, job=one.job.model_copy(update={"job": one.job.job.model_copy(update={"purpose": "x"})})
    )
    with pytest.raises(UsageError, match=r"signature.*purpose|purpose.*signature"):
        forged.program("alice").load()


def test_who_runs_another_job_is_noticed(tmp_path: Path) -> None:
    one, other = summary(tmp_path), summary(tmp_path)
    programs = [one.program("alice").run, one.program("bob").run, other.program("carol").run]
    results, failed = outcomes([*programs, mpcpriv.engine.deal])
    assert isinstance(results[failed[0]], Desynchronised)


def test_too_few_rows_at_one_owner(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="data set carol-rows of carol: 169 rows, and the agreement asks for 170"
    ):
        run(summary(tmp_path, minimum_rows=170))


def test_an_analysis_cannot_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpcpriv.analyses.count_and_mean import CountAndMean

    def curious(self: Any, ctx: Any, inputs: Any, parameters: Any) -> Any:
        return {"leak": next(iter(inputs.values())).columns["benign"].shared.get_plain_text().tolist()}

    monkeypatch.delattr(CountAndMean, "query")  # or rows would be summed by their owners
    monkeypatch.setattr(CountAndMean, "run", curious)
    with pytest.raises(UsageError, match="opens nothing"):
        run(summary(tmp_path))


def test_a_plan_says_who_could_learn_what(tmp_path: Path) -> None:
    plan = plan_job(summary(tmp_path).admitted(), COUNTS)
    assert f"opened: the result, to alice: {plan.result} bytes from each party to each" in str(plan)
    told = dict(plan.learns)
    assert "the sample variance of each column" in told["alice"]
    assert "knows all rows of alice-rows" in told["alice alone"]
    assert "nothing" in told["bob and carol"]
    assert "nothing" in told["bob and carol"]
    assert "about carol alone" in told["alice and bob"]
    assert "everything" in told["all of alice, bob and carol"]
    assert "colludes" in told["dealer"]


@pytest.mark.usefixtures("warm_workers")
def test_between_processes(tmp_path: Path) -> None:
    one = summary(tmp_path, recipients=["bob"])
    programs = [one.program(name) for name in OWNERS]
    with launch.start(tuple(map(PartyId, (*OWNERS, "dealer"))), [*programs, Dealer()], None) as group:
        group.wait()
        reports = [pickle.loads(member.value or b"") for member in group.members[:-1]]
    pooled = np.column_stack([FEATURES["mean radius"], BENIGN])
    np.testing.assert_allclose(values(one, reports)["mean"], pooled.mean(0), rtol=1e-6)
