"""Results without noise that would tell a cell of few rows: nothing of them is opened."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.told import Levels, count, inside, levels
from mpcpriv.errors import UsageError
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.planning import plan_job
from mpcpriv.release.share import combine
from mpcpriv.release.withheld import TOLD
from tests.protocol.job_cases import OWNERS, Case, case
from tests.protocol.test_jobs import run, values
from tests.protocol.test_private_jobs import BUDGET, GAUSSIAN

ROWS = 150
_rng = np.random.default_rng(20)
_ill = _rng.random(ROWS) < 0.3
FRAME: Mapping[str, np.ndarray] = {
    "age": _rng.uniform(20, 80, ROWS),
    "weight": _rng.normal(70, 10, ROWS).clip(40, 110),
    "ill": _ill * 1,
    "treated": (_rng.random(ROWS) < np.where(_ill, 0.6, 0.3)) * 1,
    # In most pairs of two there are more than in all three together.
    "rare": (np.arange(ROWS) % 13 == 4) * 1,
    "place": _rng.choice(3, ROWS, p=[0.5, 0.3, 0.2]),
    "grade": 3 + (_rng.random(ROWS) < 0.25) * 1,
    "score": _rng.choice(5, ROWS, p=[0.3, 0.3, 0.2, 0.12, 0.08]),
    "stage": 7 + _rng.choice(3, ROWS, p=[0.5, 0.4, 0.1]),
    "days": np.round(_rng.uniform(1, 12, ROWS)),
}
TERMS: Mapping[str, Mapping[str, Any]] = {
    one["name"]: one
    for one in (
        {"name": "age", "type": "number", "low": 20.0, "high": 80.0},
        {"name": "weight", "type": "number", "low": 40.0, "high": 110.0},
        {"name": "ill", "type": "boolean"},
        {"name": "treated", "type": "boolean"},
        {"name": "rare", "type": "boolean"},
        {"name": "place", "type": "category", "categories": ["north", "south", "west"]},
        # Integers of two, five and three values.
        {"name": "grade", "type": "integer", "low": 3.0, "high": 4.0},
        {"name": "score", "type": "integer", "low": 0.0, "high": 4.0},
        {"name": "stage", "type": "integer", "low": 7.0, "high": 9.0},
        {"name": "days", "type": "integer", "low": 1.0, "high": 12.0},
    )
}


@dataclass(frozen=True)
class Door:
    """A job, and the columns of the tables whose smallest cell it would tell."""

    analysis: str
    columns: Sequence[str]
    tables: Sequence[Sequence[str]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    alice: Sequence[str] = ()

    def smallest(self) -> int:
        """Counted here, column by column."""
        cells = [
            [FRAME[name] == code for name, code in zip(table, cell, strict=True)]
            for table in self.tables
            for cell in itertools.product(*(np.unique(FRAME[name]) for name in table))
        ]
        return int(min(np.logical_and.reduce(cell).sum() for cell in cells))

    def case(self, folder: Path, least: int, **options: Any) -> Case:
        """Rows split among three, or where `alice` has columns, columns among two."""
        privacy = {
            "unnoised": True,
            "minimum_cohort": 2,
            "smallest_cell": least,
            **options.pop("privacy", {}),
        }
        written = {
            name: np.array(TERMS[name]["categories"])[FRAME[name]] if name == "place" else FRAME[name]
            for name in self.columns
        }
        own = {owner: (written, slice(n, None, 3)) for n, owner in enumerate(OWNERS)}
        if self.alice:
            hers = {name: one for name, one in written.items() if name in self.alice}
            his = {name: one for name, one in written.items() if name not in self.alice}
            own = {"alice": (hers, slice(None)), "bob": (his, slice(None))}
        tables = {owner: {n: one[rows] for n, one in some.items()} for owner, (some, rows) in own.items()}
        terms = {owner: [dict(TERMS[name]) for name in table] for owner, table in tables.items()}
        given = dict(self.parameters)
        return case(
            folder, tables, terms, self.analysis, given, parties=tuple(own), privacy=privacy, **options
        )


def opened(reports: Sequence[RunReport]) -> dict[str, np.ndarray]:
    """What any recipient can read, whatever its daemon does."""
    return combine(reports[0].layout, [report.share for report in reports])[0]


SOME = ["age", "ill", "treated", "place", "grade"]
PAIRS = [*itertools.combinations(SOME[1:], 2)]
LINEAR = ["weight", *SOME]
TARGET = {"target": "weight"}
SURVIVAL = ["days", "ill", "treated", "place"]

DOORS = {
    "covariance": Door("covariance", SOME, PAIRS),
    "covariance, columns split": Door("covariance", SOME, PAIRS, alice=["age", "ill", "grade"]),
    "covariance of a column": Door("covariance", ["age", "rare"], [["rare"]]),
    "covariance, three values": Door("covariance", ["age", "stage"], [["stage"]]),
    "linear-regression": Door("linear-regression", LINEAR, PAIRS, TARGET),
    "ridge": Door("ridge", LINEAR, PAIRS, {**TARGET, "penalty": 1.0}),
    "lasso": Door("lasso", LINEAR, PAIRS, {**TARGET, "penalty": 0.01}, alice=["weight", "treated"]),
    "pca": Door("pca", SOME, PAIRS),
    "count-and-mean": Door("count-and-mean", ["age", "rare", "stage"], [["rare"], ["stage"]]),
    "count-and-mean, columns split": Door(
        "count-and-mean", ["age", "rare", "stage"], [["rare"], ["stage"]], alice=["rare"]
    ),
    "count-and-mean, three values": Door("count-and-mean", ["age", "stage"], [["stage"]]),
    "describe": Door("describe", ["age", "rare"], [["rare"]]),
    "describe, five values": Door("describe", ["score", "age"], [["score"]], alice=["score"]),
    "aggregate-by-category": Door(
        "aggregate-by-category",
        ["place", "treated", "ill", "age"],
        [["place", "treated", "ill"]],
        {"by": ["place", "treated"]},
    ),
    "aggregate-by-category, columns split": Door(
        "aggregate-by-category",
        ["place", "treated", "ill", "age"],
        [["place", "treated", "ill"]],
        {"by": ["place", "treated"]},
        alice=["place", "age"],
    ),
    "t-test": Door("t-test", ["ill", "treated"], [["ill", "treated"]], {"value": "ill", "group": "treated"}),
    "t-test of pairs": Door(
        "t-test", ["ill", "treated"], [["ill", "treated"]], {"value": "ill", "paired": "treated"}, ["ill"]
    ),
    "t-test of one": Door("t-test", ["rare"], [["rare"]], {"value": "rare"}),
    "anova": Door("anova", ["grade", "place"], [["grade", "place"]], {"value": "grade", "group": "place"}),
    "anova, three values": Door(
        "anova", ["stage", "place"], [["stage", "place"]], {"value": "stage", "group": "place"}
    ),
    "mann-whitney": Door(
        "mann-whitney", ["ill", "treated"], [["ill", "treated"]], {"value": "ill", "group": "treated"}
    ),
    "kolmogorov-smirnov": Door(
        "kolmogorov-smirnov",
        ["grade", "treated"],
        [["grade", "treated"]],
        {"value": "grade", "group": "treated"},
        ["grade"],
    ),
    "wilcoxon": Door(
        "wilcoxon", ["ill", "treated"], [["ill", "treated"]], {"value": "ill", "paired": "treated"}
    ),
    "logistic-regression": Door(
        "logistic-regression", SOME, PAIRS, {"target": "ill", "steps": 4}, alice=["ill", "age"]
    ),
    "poisson-regression": Door(
        "poisson-regression", ["days", "ill", "place"], [["ill", "place"]], {"target": "days", "steps": 4}
    ),
    "gamma-regression": Door(
        "gamma-regression", ["weight", "ill", "treated"], [["ill", "treated"]], {**TARGET, "steps": 4}
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_one_row_too_few_and_nothing_is_opened(tmp_path: Path, name: str) -> None:
    door = DOORS[name]
    least = door.smallest()
    assert least > 1
    enough = door.case(tmp_path, least)
    reports = run(enough, enough.admitted().parties)
    found = opened(reports)
    assert found.pop(TOLD).tolist() == [1]
    assert all(one.any() for one in found.values())
    assert values(enough, reports)["rows"] == ROWS
    # One too few.
    one = door.case(tmp_path, least + 1)
    reports = run(one, one.admitted().parties)
    assert not np.concatenate(list(opened(reports).values())).any()
    with pytest.raises(UsageError, match=rf"count of fewer rows than {least + 1}, .* merge categories"):
        values(one, reports)


EXACT = ["covariance", "count-and-mean", "aggregate-by-category", "mann-whitney"]


@pytest.mark.parametrize("name", [*EXACT, "covariance, columns split"])
def test_what_is_not_withheld_is_as_it_was(tmp_path: Path, name: str) -> None:
    found = []
    for least in (DOORS[name].smallest(), 1):
        one = DOORS[name].case(tmp_path, least)
        found.append(opened(run(one, one.admitted().parties)))
    enough, free = found
    assert enough.keys() == {*free, TOLD}
    # In fixed point what is computed on shares is rounded by chance: here to a unit or two.
    assert all(np.abs(enough[place] - free[place]).max() <= 2 * (name not in EXACT) for place in free)


NOISED = ["covariance", "linear-regression", "count-and-mean", "t-test", "aggregate-by-category"]


@pytest.mark.parametrize("name", NOISED)
def test_with_noise_nothing_is_withheld(tmp_path: Path, name: str) -> None:
    release = {"epsilon": 8.0, "delta": 1e-6}
    privacy = {**GAUSSIAN, "unnoised": False}
    budget = {**BUDGET, "epsilon": 50.0}
    one = DOORS[name].case(tmp_path, 100, privacy=privacy, release=release, budget=budget)
    reports = run(one)
    assert [layout.name for layout in reports[0].layout] == ["query"]
    assert np.count_nonzero(opened(reports)["query"]) > 1


COX = {"time": "days", "event": "ill"}


@pytest.mark.parametrize("alice", [(), ("days", "ill", "place")])
def test_cox_regression_of_few_events_in_a_category(tmp_path: Path, alice: Sequence[str]) -> None:
    tables = [["treated", "place"], ["ill", "treated"], ["ill", "place"]]
    door = Door("cox-regression", SURVIVAL, tables, {**COX, "steps": 3}, alice)
    least = door.smallest()
    assert [Door("", [], [table]).smallest() > least for table in tables] == [True, True, False]
    enough, few = (door.case(tmp_path, some) for some in (least, least + 1))
    reports = run(enough, enough.admitted().parties)
    assert opened(reports)["information"].all()
    assert values(enough, reports)["rows"] == ROWS
    reports = run(few, few.admitted().parties)
    assert not np.concatenate(list(opened(reports).values())).any()
    with pytest.raises(UsageError, match="it was not opened"):
        values(few, reports)


@pytest.mark.parametrize("alice", [(), ("days", "ill")])
def test_a_log_rank_test_of_a_small_group_or_of_few_events(tmp_path: Path, alice: Sequence[str]) -> None:
    group = Door("log-rank", ["days", "ill", "rare"], [["rare", "ill"]], {**COX, "group": "rare"}, alice)
    events = Door(
        "log-rank",
        ["days", "rare", "treated"],
        [["rare", "treated"]],
        {**COX, "event": "rare", "group": "treated"},
    )
    for door in (group, events) if not alice else (group,):
        size = door.smallest()
        enough, few = (door.case(tmp_path, some) for some in (size, size + 1))
        reports = run(enough, enough.admitted().parties)
        assert opened(reports)["excess"].all()
        assert "statistic" in values(enough, reports)
        reports = run(few, few.admitted().parties)
        found = opened(reports)
        assert not found["excess"].any()
        assert not found["covariance"].any()
        assert not found["totals"].any()
        with pytest.raises(UsageError, match=f"fewer rows than {size + 1}, .* it was not opened"):
            values(few, reports)


def test_clusters_of_which_few_said_yes_are_not_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    place = np.repeat([0, 1, 2], 40)
    frame = {"x": rng.normal(5 * place - 5, 0.3).clip(-7, 7), "yes": (np.arange(120) % 2) * 1}
    frame["yes"][place == 2] = np.arange(40) < 3
    terms = [{"name": "x", "type": "number", "low": -7.0, "high": 7.0}, {"name": "yes", "type": "boolean"}]
    tables = {o: {n: one[k::3] for n, one in frame.items()} for k, o in enumerate(OWNERS)}
    given = {"clusters": 3, "scale": "bounds", "starts": 4, "steps": 8}
    for least, shown in ((3, [40, 40, 40]), (4, [40, -1, -1])):
        privacy = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": least}
        one = case(tmp_path, tables, dict.fromkeys(OWNERS, terms), "k-means", given, privacy=privacy)
        reports = run(one)
        found = values(one, reports)
        assert found["sizes"] == shown
        if least == 4:
            assert not any(abs(centre - 5) < 1 for centre in found["centres"][::2])
            assert np.count_nonzero(opened(reports)["centres"]) == 2


def test_a_few_that_are_missing_are_not_told(tmp_path: Path) -> None:
    terms = [{"name": "age", "type": "number", "low": 0.0, "high": 100.0, "missing": True}]
    for many, told in ((0, True), (4, False), (5, True)):
        words = np.array([repr(float(one)) for one in FRAME["age"]])
        words[7 * np.arange(many)] = ""
        tables = {owner: {"age": words[k::3]} for k, owner in enumerate(OWNERS)}
        one = case(tmp_path, tables, dict.fromkeys(OWNERS, terms), "describe")  # a smallest cell of 5
        reports = run(one)
        if told:
            assert values(one, reports)["missing"] == [many]
        else:
            assert not np.concatenate(list(opened(reports).values())).any()
            with pytest.raises(UsageError, match="or a few that are missing"):
                values(one, reports)


@pytest.mark.parametrize(("same", "told"), [(0, True), (4, False), (5, True), (55, True), (56, False)])
def test_a_few_pairs_that_do_not_differ_are_not_told(tmp_path: Path, same: int, told: bool) -> None:
    first = np.arange(60) % 11
    second = np.where(np.arange(60) < same, first, 11 - first)
    terms = [{"name": name, "type": "integer", "low": 0.0, "high": 11.0} for name in ("before", "after")]
    tables = {"alice": {"before": first}, "bob": {"after": second}}
    columns = {owner: [one] for owner, one in zip(tables, terms, strict=True)}
    given = {"value": "before", "paired": "after"}
    one = case(tmp_path, tables, columns, "wilcoxon", given, parties=("alice", "bob"))
    reports = run(one, ("alice", "bob"))
    if told:
        assert values(one, reports)["pairs"] == 60 - same
    else:
        assert not opened(reports)["sums"].any()
        with pytest.raises(UsageError, match="fewer pairs differ, or fewer do not"):
            values(one, reports)


@pytest.mark.parametrize("name", ["covariance", "lasso", "aggregate-by-category, columns split", "describe"])
def test_a_plan_knows_what_it_costs(tmp_path: Path, name: str) -> None:
    one = DOORS[name].case(tmp_path, 5)
    reports = run(one, one.admitted().parties)
    planned = plan_job(one.admitted(), dict(reports[0].rows))
    assert [report.rounds for report in reports] == [planned.cost.rounds] * len(reports)
    assert [report.sent for report in reports] == [sum(row) for row in planned.cost.sent]
    assert {len(report.share) for report in reports} == {planned.result}
    said = "would tell a count of fewer than 5 rows, nothing but that it would"
    assert said in dict(planned.learns)["alice"]


def test_a_table_whose_columns_three_have(tmp_path: Path) -> None:
    door = Door("t-test", ["place", "treated", "ill"], [["place", "treated", "ill"]])
    tables = {owner: {name: FRAME[name]} for owner, name in zip(OWNERS, door.columns, strict=True)}
    tables["alice"]["place"] = np.array(TERMS["place"]["categories"])[FRAME["place"]]
    terms = {owner: [dict(TERMS[name]) for name in table] for owner, table in tables.items()}
    given = {"by": ["place", "treated"]}
    for least in (door.smallest(), door.smallest() + 1):
        privacy = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": least}
        one = case(tmp_path, tables, terms, "aggregate-by-category", given, privacy=privacy)
        assert opened(run(one))[TOLD].tolist() == [least == door.smallest()]


def test_numbers_tell_no_cells(tmp_path: Path) -> None:
    one = Door("covariance", ["age", "weight", "score"], []).case(tmp_path, 5)
    reports = run(one)
    assert [layout.name for layout in reports[0].layout] == ["query"]
    assert len(values(one, reports)["covariance"]) == 9


def test_too_many_cells_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcpriv.release.withheld._MOST", 10)
    one = DOORS["covariance"].case(tmp_path, 5)
    with pytest.raises(UsageError, match="it would tell 39 cells"):
        plan_job(one.admitted())


def test_whoever_counts_counts_what_is_there() -> None:
    columns = {name: ColumnTerms.model_validate(dict(one)) for name, one in TERMS.items()}
    table = tuple(one for one in (levels(columns[name]) for name in ("grade", "place")) if one)
    some = {"grade": np.array([3, 4, 4, 5, 2, 3.5]), "place": np.array([0, 2, 1, 0, 0, 1])}
    one, five, four = np.eye(6)[[0, 5, 4]].tolist()
    assert inside(table, some).tolist() == [one, five, four, *([0] * 6 for _ in range(3))]
    assert count([table, table[::-1]], some).tolist() == [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1]
    assert levels(columns["stage"]) is None
    assert levels(columns["age"], 100) is None
    assert levels(columns["stage"], 3) is not None
    for wrong in ((), (1.0, 0.0), (0.0, 0.0)):
        with pytest.raises(UsageError, match="in ascending order"):
            Levels("ill", wrong)
    counted = count([table, table[:1]], {"grade": FRAME["grade"]})
    assert counted.tolist() == [0] * 6 + [int((FRAME["grade"] == code).sum()) for code in (3, 4)]


def test_of_another_package_it_is_what_it_says() -> None:
    told = {name for name in analyses.installed() if isinstance(analyses.find(name), analyses.TellsCells)}
    assert "count-by-category" in told  # as any of groups; of counts alone there is nothing to add
    assert not {"kaplan-meier", "k-means", "meta-analysis", "private-logistic-regression"} & told
