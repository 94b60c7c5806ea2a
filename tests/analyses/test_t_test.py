"""t-tests against scipy on real tables, rows split and columns split; with noise, against simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses import simulated
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.query import Noised
from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.grouped_tables import Loaded, elections, iris, prisoners, some

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])


def flowers() -> Loaded:
    """Of two species."""
    frame, _ = iris()
    chosen = frame["species"] < 2
    two = {"name": "species", "type": "category", "categories": ["setosa", "versicolor"]}
    loaded = some(iris(), "length")
    return {name: frame[name][chosen] for name in ("length", "species")}, [*loaded[1], two]


GROUPED = [
    (some(prisoners(), "week", "fin"), {"value": "week", "group": "fin"}),
    (some(prisoners(), "arrest", "age"), {"value": "age", "group": "arrest", "pooled": True}),
    (some(elections(), "age", "vote"), {"value": "age", "group": "vote", "mean": 1.5}),
    (flowers(), {"value": "length", "group": "species"}),
]


def compared(found: dict[str, Any], test: Any, centre: float = 0.0) -> None:
    assert found["statistic"] == pytest.approx(test.statistic, rel=1e-3, abs=1e-4)
    assert found["p_value"] == pytest.approx(test.pvalue, abs=1e-3, rel=1e-2)
    assert found["degrees"] == pytest.approx(test.df, rel=1e-3)
    interval = test.confidence_interval()
    ends = interval.low - centre, interval.high - centre
    width = interval.high - interval.low
    assert (found["low"], found["high"]) == pytest.approx(ends, abs=1e-3 * width)


@SPLITS
@pytest.mark.parametrize(("loaded", "parameters"), GROUPED)
def test_two_groups(
    tmp_path: Path, loaded: Loaded, parameters: dict[str, Any], split: Callable[..., Any]
) -> None:
    frame, terms = loaded
    found = split(tmp_path, "t-test", frame, terms, parameters)
    value, group = frame[parameters["value"]], frame[parameters["group"]]
    first, second = value[group == 0], value[group == 1]
    shift = parameters.get("mean", 0.0)
    compared(found, stats.ttest_ind(first - shift, second, equal_var="pooled" in parameters), -shift)
    n = np.array([len(first), len(second)])
    pooled = np.sqrt(((n - 1) @ [first.var(ddof=1), second.var(ddof=1)]) / (n.sum() - 2))
    difference = first.mean() - second.mean()
    assert found["difference"] == pytest.approx(difference, rel=1e-3)
    assert found["cohens_d"] == pytest.approx((difference - shift) / pooled, rel=1e-3)
    assert found["counts"] == n.tolist()
    assert found["deviations"] == pytest.approx([first.std(ddof=1), second.std(ddof=1)], rel=1e-3)
    for shares in (False, True):
        oracle = plain("t-test", frame, terms, parameters, shares=shares)
        assert oracle["statistic"] == pytest.approx(found["statistic"], rel=1e-3, abs=1e-4)
    assert list(analyses.find("t-test").show(found)[1].columns) == [  # type: ignore[attr-defined]
        "difference", "std err", "t", "df", "P>|t|", "[0.025", "0.975]", "Cohen's d",
    ]  # fmt: skip


@SPLITS
@pytest.mark.parametrize("load", [iris, elections])
def test_pairs(tmp_path: Path, load: Callable[[], Loaded], split: Callable[..., Any]) -> None:
    names = ("length", "width") if load is iris else ("educ", "income")
    frame, terms = some(load(), *names)
    parameters = {"value": names[0], "paired": names[1], "mean": 2.0}
    found = split(tmp_path, "t-test", frame, terms, parameters)
    compared(found, stats.ttest_rel(frame[names[0]] - 2, frame[names[1]]))
    difference = frame[names[0]] - frame[names[1]]
    assert found["difference"] == pytest.approx(difference.mean() - 2, rel=1e-3)
    assert found["cohens_d"] == pytest.approx((difference.mean() - 2) / difference.std(ddof=1), rel=1e-3)


def test_one_sample(tmp_path: Path) -> None:
    frame, terms = some(prisoners(), "age")
    found = split_by_rows(tmp_path, "t-test", frame, terms, {"value": "age", "mean": 24.0})
    compared(found, stats.ttest_1samp(frame["age"], 24.0), 24.0)
    assert found["counts"] == [432]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"value": "age", "group": "place"}, "group 'place' is none of the columns"),
        ({"value": "arrest", "group": "age"}, "'age' is a integer; a category or a boolean"),
        ({"value": "sex", "group": "arrest"}, "'sex' is none of the columns"),
        ({"value": "age"}, "of columns arrest nothing is asked"),
    ],
)
def test_what_is_no_test_is_refused(tmp_path: Path, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split_by_rows(tmp_path, "t-test", *some(prisoners(), "age", "arrest"), parameters)


@SPLITS
def test_no_test_of_a_group_that_is_suppressed(tmp_path: Path, split: Callable[..., Any]) -> None:
    frame, terms = some(prisoners(), "age", "arrest")
    few = {"age": frame["age"][:20], "arrest": (np.arange(20) < 4).astype(float)}
    with pytest.raises(UsageError, match="arrest 0, arrest 1 are suppressed"):
        split(tmp_path, "t-test", few, terms, {"value": "age", "group": "arrest"})


def test_constant_groups_have_no_t(tmp_path: Path) -> None:
    frame, terms = some(prisoners(), "age", "arrest")
    with pytest.raises(UsageError, match="all values of a group are the same"):
        split_by_rows(
            tmp_path,
            "t-test",
            {**frame, "age": frame["age"] * 0 + 30},
            terms,
            {"value": "age", "group": "arrest"},
        )


# -- with noise


def noised(
    name: str, parameters: dict[str, Any], loaded: Loaded, deviation: float, rng: np.random.Generator
) -> dict[str, Any]:
    """The answer with fresh noise of so many rows' size in each sum."""
    frame, terms = loaded
    found = analyses.find(name)
    outline = Outline(
        len(next(iter(frame.values()))),
        "person",
        {one["name"]: ColumnTerms.model_validate(one) for one in terms},
    )
    assert isinstance(found, analyses.Private)
    query = found.query(analyses.Asked(found.parameters.model_validate(parameters), {"r": outline}, 1.0))
    total, grid = query.total(frame), deviation * 2**14
    drawn = np.rint(rng.normal(scale=grid, size=total.shape)).astype(np.int64)
    return dict(query.read(Noised(total + drawn, grid)))


def test_with_noise_the_error_of_the_first_kind_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 tests where nothing is there about 10 have p <= 0.05; more than 22 are one in 10,000."""
    monkeypatch.setattr(simulated, "TIMES", 499)
    rng = np.random.default_rng(6)
    rejected = naive = covered = 0
    terms = some(prisoners(), "age", "arrest")[1]
    for _ in range(200):
        frame = {"age": rng.normal(30, 5, 400).clip(15, 45), "arrest": (rng.random(400) < 0.3).astype(float)}
        found = noised("t-test", {"value": "age", "group": "arrest"}, (frame, terms), 6.0, rng)
        rejected += found["p_value"] <= 0.05
        covered += found["low"] <= 0 <= found["high"]
        # The noise makes a difference: as if there were none, far too many would be rejected.
        without = np.sqrt(max(found["standard_error"] ** 2 - found["noise"] ** 2, 1e-9))
        naive += abs(found["difference"] / without) > 1.96
    assert 1 <= rejected <= 22
    assert abs(covered + rejected - 200) <= 3  # the p-value counts what is drawn
    assert naive > 30


def test_with_noise_a_large_difference_is_found(tmp_path: Path) -> None:
    frame, terms = some(elections(), "age", "vote")
    frame = {**frame, "age": np.clip(frame["age"] + 15 * frame["vote"], 0, 95)}
    terms = [{"name": "age", "type": "integer", "low": 0.0, "high": 100.0}, terms[1]]
    found = split_by_rows(
        tmp_path,
        "t-test",
        frame,
        terms,
        {"value": "age", "group": "vote"},
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 3.0, "delta": 1e-6},
    )
    assert found["p_value"] == 1e-4
    truth = frame["age"][frame["vote"] == 0].mean() - frame["age"][frame["vote"] == 1].mean()
    assert found["low"] < truth < found["high"]
    assert 0 < found["noise"] < found["standard_error"]
    assert "degrees" not in found
