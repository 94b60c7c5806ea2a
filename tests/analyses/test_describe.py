"""Columns described, against pandas and numpy, on real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.described import noised_quantiles
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.query import Noised
from mpcpriv.analyses.shown import Histogram, Table
from mpcpriv.errors import UsageError
from tests.analyses.answers import column, plain, split_by_columns, split_by_rows
from tests.analyses.tables import cancer, diabetes, visits, with_terms

LEVELS = [0.1, 0.25, 0.5, 0.9]
OPEN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])


def few(load: Callable[[], Any]) -> Any:
    """Four columns, two of them numbers if there are."""
    frame, terms = load()
    names = [one["name"] for one in terms][-2:] + [one["name"] for one in terms][:2]
    return {name: frame[name] for name in names}, [one for one in terms if one["name"] in names]


def by_column(found: dict[str, Any], name: str, each: int) -> dict[str, np.ndarray]:
    flat = np.array(found[name]).reshape(len(found["columns"]), each)
    return dict(zip(found["columns"], flat, strict=True))


@SPLITS
@pytest.mark.parametrize("load", [diabetes, cancer, visits])
def test_as_pandas_has_them(tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any]) -> None:
    frame, terms = few(load)
    found = split(tmp_path, "describe", frame, terms, {"quantiles": LEVELS, "bins": 8}, privacy=OPEN)
    table = pd.DataFrame({name: frame[name].astype(float) for name in found["columns"]})
    assert found["count"] == [len(table)] * 4
    assert found["missing"] == [0] * 4
    spread = table.std().to_numpy()
    assert (np.abs(np.array(found["mean"]) - table.mean()) < 1e-6 * spread).all()
    assert found["standard_deviation"] == pytest.approx(spread, rel=1e-5)
    assert found["variance"] == pytest.approx(table.var().to_numpy(), rel=1e-5)
    assert found["skewness"] == pytest.approx(table.skew().to_numpy(), rel=1e-3, abs=1e-5)
    assert found["kurtosis"] == pytest.approx(table.kurt().to_numpy(), rel=1e-3, abs=1e-5)
    widths = {one["name"]: one.get("high", 1.0) - one.get("low", 0.0) for one in terms}
    kinds = {one["name"]: one["type"] for one in terms}
    start = edge = 0
    for place, (name, quantiles) in enumerate(by_column(found, "quantiles", len(LEVELS)).items()):
        cell = widths[name] / 2**14 if kinds[name] == "number" else 1e-3
        assert np.abs(quantiles - np.quantile(table[name], LEVELS)).max() <= 1.01 * cell
        assert abs(found["smallest"][place] - table[name].min()) <= cell
        assert abs(found["largest"][place] - table[name].max()) <= cell
        bins = found["bins"][place]
        edges = found["edges"][edge : edge + bins + 1]
        assert found["histogram"][start : start + bins] == np.histogram(table[name], edges)[0].tolist()
        start, edge = start + bins, edge + bins + 1
    oracle = plain("describe", frame, terms, {"quantiles": LEVELS, "bins": 8})
    order = [oracle["columns"].index(name) for name in found["columns"]]
    assert np.array(oracle["mean"])[order] == pytest.approx(found["mean"], rel=1e-9)
    ours, theirs = by_column(oracle, "quantiles", len(LEVELS)), by_column(found, "quantiles", len(LEVELS))
    for name, width in widths.items():
        assert ours[name] == pytest.approx(theirs[name], abs=2e-5 * width + 1e-9)


def test_extremes_are_nobodys(tmp_path: Path) -> None:
    """With a smallest cell of 5, what is told has 5 rows on either side, and small counts are not told."""
    ages = np.concatenate([np.full(40, 50), np.full(30, 60), [99, 98, 97, 96, 95, 94, 1, 2, 3, 4, 5]])
    frame, terms = with_terms({"age": ages}, {"age": "integer"})
    found = split_by_rows(
        tmp_path,
        "describe",
        frame,
        [{**terms[0], "low": 0.0, "high": 100.0}],
        {"quantiles": [0.001, 0.5, 0.999], "bins": 10},
        privacy={"unnoised": True, "minimum_cohort": 2, "smallest_cell": 5},
    )
    assert (found["smallest"], found["largest"]) == ([5], [95])
    assert found["quantiles"] == [5, 50, 95]
    assert found["histogram"] == [-1 if n < 5 else n for n in found["histogram"]]
    assert found["histogram"][5:7] == [40, 30]
    assert -1 in found["histogram"]


def with_gaps() -> Any:
    """Real measurements of which some are taken away."""
    frame, terms = few(diabetes)
    rng = np.random.default_rng(8)
    rows = len(next(iter(frame.values())))
    holes = {name: rng.random(rows) < 0.2 for name in frame}
    return frame, [{**one, "missing": True} for one in terms], holes


@pytest.mark.parametrize(("next_one", "told"), [(0.54, True), (0.53, False), (0.5, True)])
def test_quantiles_have_a_cell_of_rows_between_them(tmp_path: Path, next_one: float, told: bool) -> None:
    """Or else one after the other they would tell each value: of 101 rows these are ranks 50 and 54 or 53."""
    frame, terms = {"a": np.arange(101)}, [column("a", np.arange(101), "integer", low=0.0, high=100.0)]
    privacy = {**OPEN, "smallest_cell": 5}
    job = ("describe", frame, terms, {"quantiles": [0.5, next_one], "bins": 2})
    if told:
        found = split_by_rows(tmp_path, *job, privacy=privacy)
        assert found["quantiles"] == pytest.approx([50, 100 * next_one], abs=0.01)
        return
    with pytest.raises(UsageError, match="fewer than 5 between them"):
        split_by_rows(tmp_path, *job, privacy=privacy)


@SPLITS
def test_missing_values(tmp_path: Path, split: Callable[..., Any]) -> None:
    frame, terms, holes = with_gaps()
    written = {name: np.where(holes[name], np.nan, values) for name, values in frame.items()}
    found = split(tmp_path, "describe", written, terms, {"quantiles": LEVELS}, privacy=OPEN)
    table = pd.DataFrame(written)[found["columns"]]
    assert found["missing"] == table.isna().sum().tolist()
    assert found["count"] == table.count().tolist()
    assert found["mean"] == pytest.approx(table.mean().to_numpy(), rel=1e-5)
    assert found["skewness"] == pytest.approx(table.skew().to_numpy(), rel=1e-3, abs=1e-5)
    widths = {one["name"]: one.get("high", 1.0) - one.get("low", 0.0) for one in terms}
    for name, quantiles in by_column(found, "quantiles", len(LEVELS)).items():
        expected = np.quantile(table[name].dropna(), LEVELS, method="midpoint")
        assert np.abs(quantiles - expected).max() <= 2e-4 * widths[name]


def test_a_column_of_few_values_is_not_told(tmp_path: Path) -> None:
    values = np.full(60, np.nan)
    values[[3, 30, 50, 51, 52]] = [1, 2, 3, 4, 5.0]
    terms = [{"name": "dose", "type": "number", "low": 0.0, "high": 10.0, "missing": True}]
    with pytest.raises(UsageError, match="column 'dose' has too few values"):
        split_by_rows(
            tmp_path,
            "describe",
            {"dose": values},
            terms,
            privacy={"unnoised": True, "minimum_cohort": 2, "smallest_cell": 4},
        )


def test_other_analyses_take_no_missing_values(tmp_path: Path) -> None:
    frame, terms, _ = with_gaps()
    with pytest.raises(UsageError, match="may have missing values, and analysis covariance takes none"):
        split_by_rows(tmp_path, "covariance", frame, terms)


def test_missing_is_a_category_of_its_own(tmp_path: Path) -> None:
    stage = {"name": "stage", "type": "category", "categories": ["early", "late"], "missing": True}
    ill = {"name": "ill", "type": "boolean", "missing": True}
    frame = {"stage": np.array([0, 1, 2, 1, 1, 0]), "ill": np.array([0, 1, 1, np.nan, 1, 0])}
    found = split_by_rows(tmp_path, "count-by-category", frame, [stage, ill], cuts=[2, 4], privacy=OPEN)
    counts = {cell: count for cell, count in zip(found["cells"], found["counts"], strict=True) if count}
    assert sum(counts.values()) == 6
    assert sorted(counts.values()) == [1, 1, 2, 2]
    assert [name for name in counts if "missing" in name]


def test_what_has_none_is_refused() -> None:
    terms = [{"name": "c", "type": "category", "categories": ["a", "b"]}]
    with pytest.raises(UsageError, match="column 'c' is a category"):
        plain("describe", {"c": np.zeros(9)}, terms)
    frame, numbers = with_terms({"x": np.array([1.0, 2, 3])})
    with pytest.raises(UsageError, match="it needs 4 rows"):
        plain("describe", frame, numbers)


def test_constant_columns() -> None:
    terms = [{"name": "x", "type": "number", "low": 0.0, "high": 10.0}]
    found = plain("describe", {"x": np.full(50, 3.3)}, terms)
    assert found["mean"] == pytest.approx([3.3])
    assert (found["variance"], found["skewness"], found["kurtosis"]) == ([0], [0], [0])


def test_noise_is_held_by_the_intervals() -> None:
    rng = np.random.default_rng(11)
    analysis: Any = analyses.find("describe")
    terms = {"x": ColumnTerms(name="x", type="number", low=0.0, high=100.0)}
    terms["ill"] = ColumnTerms(name="ill", type="boolean")
    asked = analyses.Asked(
        analysis.parameters(quantiles=LEVELS, bins=32), {"rows": Outline(5000, "patient", terms)}, epsilon=1.0
    )
    query = analysis.query(asked)
    # One row changes each of four powers and a missing count by one at most, and one bin, of two columns.
    assert query.sensitivity().l2_squared == 2 * 6 * 2**28
    frame = {"x": np.clip(rng.gamma(3, 10, 5000), 0, 100), "ill": (rng.random(5000) < 0.3).astype(float)}
    true = pd.Series(frame["x"])
    total, deviation = query.total(frame), 3.0 * np.sqrt(query.sensitivity().l2_squared)
    held = []
    for _ in range(200):
        noise = np.rint(rng.normal(0, deviation, query.size)).astype(np.int64)
        found = query.read(Noised(total + noise, deviation))
        quantiles = np.quantile(true, LEVELS)
        width = np.array(found["noise"]).reshape(4, 2)[:, 0]
        off = np.array([found[name][0] for name in ("mean", "standard_deviation", "skewness", "kurtosis")])
        off -= [true.mean(), true.std(), true.skew(), true.kurt()]
        held.append(
            [
                *(np.array(found["quantiles_low"][:4]) <= quantiles),
                *(quantiles <= np.array(found["quantiles_high"][:4])),
                *(np.abs(off) < 2 * width),
                found["mean_low"][0] < true.mean() < found["mean_high"][0],
            ]
        )
        assert "smallest" not in found
    assert (np.mean(held, axis=0) > 0.91).all()
    assert (np.array(found["quantiles_high"][:4]) - found["quantiles_low"][:4]).max() < 40


def test_quantiles_of_counts_without_noise() -> None:
    values = np.random.default_rng(3).normal(0, 1, 20_000).clip(-4, 4)
    counts, edges = np.histogram(values, 200, (-4, 4))
    best, low, high = noised_quantiles(edges, counts.astype(float), 20_000.0, 1e-9, LEVELS)
    expected = np.quantile(values, LEVELS)
    assert best == pytest.approx(expected, abs=0.01)
    assert (low <= expected).all()
    assert (expected <= high).all()


def test_noise_through_the_door(tmp_path: Path) -> None:
    frame, terms = few(visits)
    found = split_by_columns(
        tmp_path,
        "describe",
        frame,
        terms,
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 4.0, "delta": 1e-6},
    )
    table = pd.DataFrame(frame)[found["columns"]]
    off = np.abs(np.array(found["mean"]) - table.mean())
    assert (off < 6 * np.array(found["noise"][:4])).all()
    assert off.max() > 0


def test_what_people_see() -> None:
    frame, terms = few(diabetes)
    analysis: Any = analyses.find("describe")
    table, *plots = analysis.show(plain("describe", frame, terms))
    assert isinstance(table, Table)
    assert list(table.columns)[:5] == ["", "count", "missing", "mean", "std"]
    assert [plot.title for plot in plots] == table.columns[""]
    assert all(isinstance(plot, Histogram) and len(plot.edges) == len(plot.heights) + 1 for plot in plots)


def test_a_plan_says_what_it_costs(tmp_path: Path) -> None:
    from mpcpriv.party.planning import plan_job
    from tests.protocol.job_cases import case

    terms = {"alice": [{"name": "x", "type": "number", "low": 0.0, "high": 1.0, "missing": True}]}
    terms["bob"] = [{"name": "n", "type": "integer", "low": 0.0, "high": 9.0}]
    tables = {"alice": {"x": np.zeros(20)}, "bob": {"n": np.zeros(20, dtype=np.int64)}}
    one = case(tmp_path, tables, terms, "describe", parties=("alice", "bob"))
    planned = plan_job(one.admitted(), {"alice-rows": 20, "bob-rows": 20})
    assert planned
