"""Jobs over rows in common that nobody knows: the join's results, what each learns, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from mpcpriv.release import Cohort, Result, Unseen, read_result, unseen
from tests.protocol.job_cases import Case, case
from tests.protocol.parties import Sight, outcomes

_LOADED: Any = load_diabetes(as_frame=True, scaled=False)
PEOPLE = _LOADED.frame.assign(
    name=[f"Person Nr. {i}" for i in range(442)],
    high=lambda table: (table["target"] > 140).astype(int),
    sex=lambda table: (table["sex"] > 1.5).astype(int),
    stage=lambda table: np.array(["I", "II", "III"])[np.digitize(table["bmi"], [24, 28])],
)
KINDS = {
    "high": {"name": "high", "type": "boolean"},
    "sex": {"name": "sex", "type": "boolean"},
    "stage": {"name": "stage", "type": "category", "categories": ["I", "II", "III"]},
}
LEFT, RIGHT = ["age", "bmi", "s1"], ["bp", "s5", "target"]
BOTH = ("alice", "bob")
ROWS = {
    "alice": np.random.default_rng(1).permutation(442)[:300],
    "bob": np.random.default_rng(2).permutation(442)[:350],
}
COMMON = sorted(set(ROWS["alice"]) & set(ROWS["bob"]))


def study(
    folder: Path,
    analysis: str = "linear-regression",
    parameters: dict[str, Any] | None = None,
    rows: dict[str, np.ndarray] = ROWS,
    *,
    mode: str = "secret",
    minimum: int = 1,
    names: dict[str, Sequence[str]] | None = None,
    **options: Any,
) -> Case:
    """A job over people of whom alice has some columns and bob others."""
    names = names or {"alice": LEFT, "bob": RIGHT}
    tables, columns = {}, {}
    for owner in BOTH:
        frame = PEOPLE.iloc[rows[owner]]
        people = frame["name"].str.upper() if owner == "bob" else frame["name"]
        tables[owner] = {
            name: frame[name].to_numpy(str if name == "stage" else None) for name in names[owner]
        }
        tables[owner]["name"] = people.to_numpy(str)
        columns[owner] = [
            KINDS.get(name)
            or {
                "name": name,
                "type": "number",
                "low": float(PEOPLE[name].min()) - 0.1,
                "high": float(PEOPLE[name].max()) + 0.1,
            }
            for name in names[owner]
        ] + [{"name": "name", "type": "identifier"}]
    keys = {f"{owner}-rows": [{"column": "name", "rules": ["casefold"]}] for owner in BOTH}
    alignment = {"name": "people", "keys": keys, "mode": mode, "minimum_rows": minimum}
    given = {"target": "target"} if parameters is None else parameters
    return case(
        folder, tables, columns, analysis, given, **({"parties": BOTH} | options), alignment=alignment
    )


def attempt(
    one: Case, parties: Sequence[str] = BOTH, sight: Sight | None = None, **changes: Any
) -> tuple[list[Any], list[int]]:
    programs = [one.program(name, **(changes.get(name) or {})) for name in parties]
    return outcomes([*(program.run for program in programs), mpcpriv.engine.deal], sight=sight)


def run(one: Case, parties: Sequence[str] = BOTH, **changes: Any) -> list[RunReport]:
    results, failed = attempt(one, parties, **changes)
    if failed:
        raise results[failed[0]]
    return results[:-1]


def opened(one: Case, reports: list[RunReport]) -> Result:
    analysis = analyses.find(one.job.job.analysis)
    shares = [report.share for report in reports]
    return read_result(one.admitted(), analysis, reports[0].rows, reports[0].layout, shares)


@pytest.mark.parametrize("parties", [BOTH, ("alice", "bob", "carol")])
def test_a_regression_is_that_of_the_join_and_costs_what_was_planned(
    tmp_path: Path, parties: tuple[str, ...]
) -> None:
    one = study(tmp_path, parties=parties)
    reports = run(one, parties)
    # All that a member sees of numbers: how many rows each table has.
    assert [report.rows for report in reports] == [{"alice-rows": 300, "bob-rows": 350}] * len(parties)
    assert len({report.transcript for report in reports}) == 1
    result = opened(one, reports)
    found: Any = result.answer
    joined = pd.merge(PEOPLE.iloc[ROWS["alice"]][["name", *LEFT]], PEOPLE.iloc[ROWS["bob"]][["name", *RIGHT]])
    expected = sm.OLS(joined["target"], sm.add_constant(joined[[*LEFT, "bp", "s5"]])).fit()
    assert found["rows"] == len(joined) == len(COMMON)
    np.testing.assert_allclose(found["estimate"], expected.params, rtol=1e-3)
    np.testing.assert_allclose(found["standard_error"], expected.bse, rtol=1e-3)
    np.testing.assert_allclose(found["p_value"], expected.pvalues, atol=1e-3)
    assert found["r_squared"] == pytest.approx(expected.rsquared, rel=1e-3)
    assert result.statement["rows"] == {"alice-rows": len(joined), "bob-rows": len(joined)}

    plan = plan_job(one.admitted(), {"alice-rows": 300, "bob-rows": 350}).cost
    assert max(report.rounds for report in reports) == plan.rounds
    assert [report.sent for report in reports] == [sum(row) for row in plan.sent]
    assert sum(report.dealt for report in reports) == pytest.approx(sum(plan.dealt_to), rel=0.05)


ANALYSES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("covariance", {}, LEFT, RIGHT),
    ("ridge", {"target": "target", "penalty": 0.5}, LEFT, RIGHT),
    ("lasso", {"target": "target", "penalty": 0.1}, LEFT, RIGHT),
    ("pca", {"components": 2, "standardise": True}, LEFT, RIGHT),
    ("chi-squared", {}, ["stage"], ["high"]),
    ("count-by-category", {}, ["stage"], ["high"]),
    ("fisher-exact", {}, ["high"], ["sex"]),
    ("anova", {"value": "bp", "group": "stage"}, ["stage"], ["bp"]),
    ("t-test", {"value": "s5", "group": "high"}, ["s5"], ["high"]),
    ("t-test", {"value": "s1", "paired": "s2"}, ["s1"], ["s2"]),
    ("aggregate-by-category", {"by": ["stage", "high"]}, ["stage", "age"], ["high", "bp"]),
]


@pytest.mark.parametrize(("analysis", "parameters", "left", "right"), ANALYSES)
def test_other_analyses_say_what_they_say_of_rows_that_owners_know(
    tmp_path: Path, analysis: str, parameters: dict[str, Any], left: list[str], right: list[str]
) -> None:
    found = []
    for mode in ("secret", "all"):
        (tmp_path / mode).mkdir()
        one = study(tmp_path / mode, analysis, parameters, mode=mode, names={"alice": left, "bob": right})
        found.append(opened(one, run(one)).answer)
    hidden, known = found
    assert hidden.keys() == known.keys()
    assert hidden["rows"] == len(COMMON)
    for name, value in known.items():
        if isinstance(value, str) or (isinstance(value, list) and isinstance(value[0], str)):
            assert hidden[name] == value
        else:
            np.testing.assert_allclose(hidden[name], value, rtol=2e-3, atol=1e-3)  # type: ignore[arg-type]


def test_a_logistic_regression_is_that_of_the_join_in_as_many_rounds_as_planned(tmp_path: Path) -> None:
    joined = PEOPLE.iloc[COMMON]
    for penalty in (0.0, 3.0):
        folder = tmp_path / str(penalty)
        folder.mkdir()
        parameters = {"target": "high", "penalty": penalty, "steps": 8}
        one = study(
            folder, "logistic-regression", parameters, names={"alice": LEFT[1:], "bob": ["s5", "high"]}
        )
        reports = run(one)
        found: Any = opened(one, reports).answer
        assert (found["rows"], found["converged"]) == (len(COMMON), 1)
        if penalty:
            features = joined[["bmi", "s1", "s5"]]
            spread = features.std(ddof=0)
            plain = LogisticRegression(C=1 / penalty, tol=1e-10).fit(features / spread, joined["high"])
            np.testing.assert_allclose(found["coefficients"] * spread, plain.coef_[0], rtol=2e-3)
        else:
            x = sm.add_constant(joined[["bmi", "s1", "s5"]], prepend=False)
            expected = sm.GLM(joined["high"], x, sm.families.Binomial()).fit(tol=1e-12)
            np.testing.assert_allclose(found["estimate"], expected.params, rtol=1e-3)
            np.testing.assert_allclose(found["standard_error"], expected.bse, rtol=1e-3)
            assert found["log_likelihood"] == pytest.approx(expected.llf, rel=1e-3)
            plan = plan_job(one.admitted(), {"alice-rows": 300, "bob-rows": 350}).cost
            assert [report.rounds for report in reports] == [plan.rounds] * 2
            assert [report.sent for report in reports] == [sum(row) for row in plan.sent]


def test_weights_and_an_offset_are_those_of_rows_that_are_there(tmp_path: Path) -> None:
    found = []
    for mode in ("secret", "all"):
        (tmp_path / mode).mkdir()
        parameters = {"target": "high", "penalty": 0.0, "steps": 8, "weights": "age", "offset": "s5"}
        names = {"alice": ["age", "bmi"], "bob": ["s5", "bp", "high"]}
        one = study(tmp_path / mode, "logistic-regression", parameters, mode=mode, names=names)
        found.append(opened(one, run(one)).answer)
    hidden, known = found
    assert hidden["converged"] == known["converged"] == 1
    for name in ("estimate", "standard_error", "log_likelihood"):
        np.testing.assert_allclose(hidden[name], known[name], rtol=1e-3)  # type: ignore[arg-type]


def test_a_category_counts_as_yes_or_nos_in_rows_that_are_there(tmp_path: Path) -> None:
    """Rows that are not in common are in no category, not in the first."""
    one = cells(tmp_path, 5, {"alice": np.arange(120), "bob": np.arange(60, 200)})
    found: Any = opened(one, run(one)).answer
    stage, ill = np.array(["I", "II", "III"])[np.arange(442) % 3], np.arange(442) % 4 == 0
    expected = np.stack([stage[60:120] == "II", stage[60:120] == "III", ill[60:120]]).astype(float)
    assert found["rows"] == 60
    np.testing.assert_allclose(found["mean"], expected.mean(1), atol=1e-4)
    np.testing.assert_allclose(np.reshape(found["covariance"], (3, 3)), np.cov(expected), atol=1e-4)


# Minimum numbers are decided on shares.


def few(common: int) -> dict[str, np.ndarray]:
    return {"alice": np.arange(60), "bob": np.arange(60 - common, 120 - common)}


MINIMA: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alignment": ({"minimum": 21}, {"minimum": 20}),
    "cohort": (
        {"privacy": {"unnoised": True, "minimum_cohort": 21}},
        {"privacy": {"unnoised": True, "minimum_cohort": 20}},
    ),
    "data set": ({"minimum_rows": 21}, {"minimum_rows": 20}),
}


@pytest.mark.parametrize("whose", MINIMA)
def test_of_too_few_rows_nothing_is_opened(tmp_path: Path, whose: str) -> None:
    more, enough = MINIMA[whose]
    (tmp_path / "more").mkdir()
    one = study(tmp_path / "more", rows=few(20), **more)
    reports = run(one)
    with pytest.raises(UsageError, match="alice-rows, bob-rows have fewer than 21 rows in common"):
        opened(one, reports)
    total = sum(np.frombuffer(report.share[32:], "<i8") for report in reports)
    assert not np.any(total)
    (tmp_path / "enough").mkdir()
    one = study(tmp_path / "enough", rows=few(20), **enough)
    assert opened(one, run(one)).answer["rows"] == 20


def test_all_would_be_opened_were_the_bit_not_multiplied(tmp_path: Path) -> None:
    def leaking(session: Any, present: Any, outputs: Any, enough: int) -> Any:
        return genuine(session, present, outputs, 0)

    genuine = unseen.settle
    with (
        mock.patch("mpcpriv.release.settle", leaking),
        pytest.raises(AssertionError, match="any"),
    ):
        test_of_too_few_rows_nothing_is_opened(tmp_path, "alignment")


def test_nobody_in_common_and_too_few_for_the_analysis_are_said_to_the_recipient(tmp_path: Path) -> None:
    for common, said in ((0, "fewer than 2 rows in common"), (4, "4 rows, and 6 coefficients")):
        folder = tmp_path / str(common)
        folder.mkdir()
        one = study(folder, rows=few(common))
        with pytest.raises(UsageError, match=said):
            opened(one, run(one))


def test_a_table_that_is_too_small_by_itself_is_refused_before_anything_is_shared(tmp_path: Path) -> None:
    one = study(tmp_path, rows=few(20), privacy={"unnoised": True, "minimum_cohort": 61})
    results, failed = attempt(one)
    assert "the cohort has 60 rows" in str(results[failed[0]])


def cells(folder: Path, cell: int, rows: dict[str, np.ndarray]) -> Case:
    """Of people by their numbers: every fourth is ill, every third in each stage."""
    names, stage = PEOPLE["name"].to_numpy(str), np.array(["I", "II", "III"])[np.arange(442) % 3]
    ill = (np.arange(442) % 4 == 0).astype(int)
    tables = {
        "alice": {"name": names[rows["alice"]], "stage": stage[rows["alice"]]},
        "bob": {"name": names[rows["bob"]], "ill": ill[rows["bob"]]},
    }
    name = {"name": "name", "type": "identifier"}
    columns = {
        "alice": [{"name": "stage", "type": "category", "categories": ["I", "II", "III"]}, name],
        "bob": [{"name": "ill", "type": "boolean"}, name],
    }
    keys = {f"{owner}-rows": [{"column": "name"}] for owner in BOTH}
    alignment = {"name": "people", "keys": keys, "mode": "secret"}
    privacy = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": cell}
    return case(folder, tables, columns, "covariance", parties=BOTH, alignment=alignment, privacy=privacy)


@pytest.mark.parametrize(("least", "told"), [(5, True), (6, False)])
def test_a_cell_of_few_rows_in_common_withholds_the_result(tmp_path: Path, least: int, told: bool) -> None:
    """Of 60 in common 5 are ill in each stage; in each table by itself there are more."""
    one = cells(tmp_path, least, {"alice": np.arange(200), "bob": np.arange(140, 440)})
    plan = plan_job(one.admitted(), {"alice-rows": 200, "bob-rows": 300})
    reports = run(one)
    assert [report.rounds for report in reports] == [plan.cost.rounds] * 2
    assert [report.sent for report in reports] == [sum(row) for row in plan.cost.sent]
    assert f"count of fewer than {least} rows" in dict(plan.learns)["alice"]
    if told:
        assert opened(one, reports).answer["rows"] == 60
        return
    with pytest.raises(UsageError, match="count of fewer rows than 6, the agreement's smallest cell"):
        opened(one, reports)
    shares: Any = sum(np.frombuffer(report.share[32:], "<i8") for report in reports)
    assert shares[0] == 60
    assert not shares[1:].any()


def test_rows_that_are_not_in_common_fill_no_cell(tmp_path: Path) -> None:
    """In each table there are many of each stage who are ill; of those in common not one in stage III."""
    common = np.array([i for i in range(442) if not (i % 4 == 0 and i % 3 == 2)])[:100]
    rest = np.setdiff1d(np.arange(442), common)
    rows = {"alice": np.append(common, rest[::2]), "bob": np.append(common, rest[1::2])}
    one = cells(tmp_path, 2, rows)
    with pytest.raises(UsageError, match="count of fewer rows than 2"):
        opened(one, run(one))


# What travels.


def sizes(folder: Path, common: int) -> dict[tuple[int, int], list[int]]:
    folder.mkdir()
    sight = Sight()
    results, failed = attempt(study(folder, rows=few(common), minimum=10), sight=sight)
    assert not failed, results
    return {pair: [len(message) for message in messages] for pair, messages in sight.received.items()}


def test_as_much_travels_whatever_is_in_common(tmp_path: Path) -> None:
    first = sizes(tmp_path / "0", 0)
    assert first
    # What the dealer is asked for, and when, is a matter of time; what parties say to each other is not.
    for common in (7, 30, 60):
        other = sizes(tmp_path / str(common), common)
        for pair in ((0, 1), (1, 0)):
            assert other[pair] == first[pair]


# What is refused.


@pytest.mark.parametrize(
    ("analysis", "parameters"),
    [("count-and-mean", {}), ("k-means", {"clusters": 2})],
)
def test_analyses_that_need_to_know_the_rows_are_refused_before_anything_is_sent(
    tmp_path: Path, analysis: str, parameters: dict[str, Any]
) -> None:
    one = study(tmp_path, analysis, parameters)
    for attempted in (one.program("alice").load, lambda: plan_job(one.admitted())):
        with pytest.raises(Unsupported, match="nobody learns which rows take part, and it needs to know"):
            attempted()


def test_noise_is_refused_with_the_reason(tmp_path: Path) -> None:
    one = study(
        tmp_path,
        privacy={"mechanism": "discrete-gaussian"},
        release={"epsilon": 1.0, "delta": 1e-6},
        budget={"epsilon": 10.0, "delta": 1e-5, "period_days": 30},
    )
    with pytest.raises(UsageError, match="no owner can add them up and put noise on them"):
        one.program("alice").load()


def before(one: Case, report: RunReport, **changes: Any) -> Unseen:
    """What a member keeps of a job."""
    terms = one.agreement.agreement.alignment("people")
    assert terms is not None
    assert report.people is not None
    salted = unseen.salted(report.input_salt, report.people)
    return Unseen(
        **(
            {"terms": terms.digest(), "rows": report.rows, "salt": report.input_salt, "people": salted}
            | changes
        )
    )


def test_a_table_that_was_changed_has_part_in_no_second_result(tmp_path: Path) -> None:
    for name in ("one", "other", "changed", "larger"):
        (tmp_path / name).mkdir()
    one = study(tmp_path / "one", rows=few(20))
    (alice, bob) = run(one)
    again = {"alice": {"unseen": [before(one, alice)]}, "bob": {"unseen": [before(one, bob)]}}
    # The same people in another order, and other columns.
    shuffled = few(20) | {"bob": few(20)["bob"][::-1].copy()}
    other = study(tmp_path / "other", rows=shuffled, names={"alice": LEFT[:2], "bob": ["s5", "target"]})
    run(other, **again)
    somebody_else = few(20) | {"bob": np.append(few(20)["bob"][:-1], 300)}
    changed = study(tmp_path / "changed", rows=somebody_else)
    results, failed = attempt(changed, **again)
    assert failed[0] == 1
    assert "since its first result without noise a table was changed" in str(results[1])
    # Of the other's table each knows how many rows it has.
    larger = study(tmp_path / "larger", rows=few(20) | {"bob": np.arange(40, 101)})
    results, failed = attempt(larger, alice=again["alice"])
    assert failed[0] == 0
    assert "a table was changed" in str(results[0])
    forgotten = {"alice": {"unseen": [before(one, alice, salt=None)]}}
    results, failed = attempt(one, **forgotten)
    assert "may have been changed: what tells is deleted" in str(results[0])


def test_results_of_known_rows_and_of_unknown_ones_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "known"):
        (tmp_path / name).mkdir()
    one = study(tmp_path / "one", rows=few(20))
    alice, _ = run(one)
    said = "by how many rows this one differs is not known"
    results, _ = attempt(one, alice={"earlier": [Cohort({"alice-rows": 60})]})
    assert said in str(results[0])
    run(one, alice={"earlier": [Cohort({"zed-rows": 60})]})
    results, _ = attempt(one, alice={"unseen": [before(one, alice, terms="0" * 64)]})
    assert said in str(results[0])
    known = study(tmp_path / "known", rows=few(20), mode="all")
    results, _ = attempt(known, alice={"unseen": [before(one, alice)]})
    assert said in str(results[0])
    assert "ask for noise" in str(results[0])
    run(known, alice={"unseen": [before(one, alice, rows={"zed-rows": 3})]})


def test_a_plan_says_that_nobody_learns_the_rows_in_common(tmp_path: Path) -> None:
    one = study(tmp_path, parties=("alice", "bob", "carol"), minimum=50)
    plan = plan_job(one.admitted(), {"alice-rows": 300, "bob-rows": 350})
    told = dict(plan.learns)
    everybody = told["everybody who takes part"]
    assert "how many rows alice-rows and bob-rows have, and how long it takes" in everybody
    assert "whether 50 rows or more are in common" in everybody
    assert "in common" not in everybody.partition(", and whether")[0]
    assert "no identifier, not which rows are in common" in told["each of alice, bob and carol"]
    assert "how many rows all data sets have together" in told["alice"]
    other = plan_job(one.admitted(), {"alice-rows": 300, "bob-rows": 350, "people": 3})
    assert other.cost == plan.cost
