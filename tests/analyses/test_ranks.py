"""Mann-Whitney, Kolmogorov-Smirnov and Wilcoxon against scipy on real tables, with ties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.grouped_tables import Loaded, elections, iris, prisoners, some
from tests.analyses.tables import OPEN
from tests.analyses.test_t_test import flowers

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])


def few(loaded: Loaded, rows: int) -> Loaded:
    """Every so many'th row of a table: sorting on shares is slow."""
    frame, terms = loaded
    step = max(len(next(iter(frame.values()))) // rows, 1)
    return {name: values[::step][:rows] for name, values in frame.items()}, terms


GROUPED = [
    (few(some(prisoners(), "age", "arrest"), 140), {"value": "age", "group": "arrest"}),
    (few(some(elections(), "vote", "income"), 150), {"value": "income", "group": "vote"}),
    (flowers(), {"value": "length", "group": "species"}),
]


@SPLITS
@pytest.mark.parametrize(("loaded", "parameters"), GROUPED)
def test_two_groups(
    tmp_path: Path, loaded: Loaded, parameters: dict[str, Any], split: Callable[..., Any]
) -> None:
    frame, terms = loaded
    value, group = frame[parameters["value"]], frame[parameters["group"]]
    first, second = value[group == 0], value[group == 1]
    (tmp_path / "u").mkdir()
    found = split(tmp_path / "u", "mann-whitney", frame, terms, parameters)
    expected = stats.mannwhitneyu(first, second, method="asymptotic")
    assert found["statistic"] == expected.statistic
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found["counts"] == [len(first), len(second)]
    assert found["ties"] == sum(t**3 - t for t in np.unique(value, return_counts=True)[1])
    assert found["larger"] == expected.statistic / (len(first) * len(second))
    assert plain("mann-whitney", frame, terms, parameters) == found
    found = split(tmp_path, "kolmogorov-smirnov", frame, terms, parameters)
    distance = stats.ks_2samp(first, second)
    assert found["statistic"] == pytest.approx(distance.statistic, rel=1e-12)
    assert found["p_value"] == pytest.approx(distance.pvalue, rel=1e-9)
    assert plain("kolmogorov-smirnov", frame, terms, parameters) == found


def test_without_continuity(tmp_path: Path) -> None:
    frame, terms = GROUPED[0][0]
    found = plain("mann-whitney", frame, terms, {**GROUPED[0][1], "continuity": False})
    first, second = (frame["age"][frame["arrest"] == code] for code in (0, 1))
    expected = stats.mannwhitneyu(first, second, method="asymptotic", use_continuity=False)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)


def pairs(name: str) -> Loaded:
    """Two columns of one table, with the same bounds where they are numbers."""
    if name == "iris":
        frame, _ = few(some(iris(), "length", "width"), 60)
        frame = {"length": frame["length"], "width": frame["width"] + 2.7}
        bounds = {"type": "number", "low": 4.0, "high": 8.0}
        return {"length": np.round(frame["length"], 1), "width": np.round(frame["width"], 1)}, [
            {"name": "length", **bounds},
            {"name": "width", **bounds},
        ]
    if name == "elections":
        return few(some(elections(), "educ", "income"), 150)
    return few(some(prisoners(), "age", "week"), 140)


@SPLITS
@pytest.mark.parametrize("name", ["iris", "elections", "prisoners"])
def test_pairs(tmp_path: Path, name: str, split: Callable[..., Any]) -> None:
    frame, terms = pairs(name)
    first, second = frame
    parameters = {"value": first, "paired": second, **({"resolution": 0.1} if name == "iris" else {})}
    # Of the flowers two are as wide as they are long.
    privacy = OPEN if name == "iris" else None
    found = split(tmp_path, "wilcoxon", frame, terms, parameters, privacy=privacy)
    difference = np.round(frame[first] - frame[second], 6)
    expected = stats.wilcoxon(difference, method="asymptotic")
    assert found["pairs"] == np.count_nonzero(difference)
    assert found["statistic"] == pytest.approx(expected.statistic)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert plain("wilcoxon", frame, terms, parameters) == found


def test_decimals_without_a_resolution(tmp_path: Path) -> None:
    """One owner's differences have the ties of decimals; those of two owners are rounded, and lose some."""
    frame, terms = pairs("iris")
    parameters = {"value": "length", "paired": "width"}
    expected = stats.wilcoxon(np.round(frame["length"] - frame["width"], 6), method="asymptotic").statistic
    found = split_by_rows(tmp_path, "wilcoxon", frame, terms, parameters, privacy=OPEN)
    assert found["statistic"] == expected
    (tmp_path / "c").mkdir()
    found = split_by_columns(tmp_path / "c", "wilcoxon", frame, terms, parameters, privacy=OPEN)
    assert found["statistic"] == pytest.approx(expected, rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=3, max_size=60))
@settings(max_examples=200, deadline=None)
def test_ranks_and_distances_with_any_ties(rows: list[tuple[int, bool]]) -> None:
    """In plain: the same code on float64."""
    from mpcpriv.analyses.kolmogorov_smirnov import ANALYSIS as DISTANCE
    from mpcpriv.analyses.kolmogorov_smirnov import _samples
    from mpcpriv.analyses.ranks import Line

    values = torch.tensor([float(value) for value, _ in rows], dtype=torch.float64)
    mine = torch.tensor([int(one) for _, one in rows])
    line = Line.of(values, mine.unsqueeze(1))
    twice, ties = line.rank_sums()
    ranks = stats.rankdata(values.numpy())
    assert twice.item() / 2 == ranks[mine.numpy() == 1].sum()
    assert ties.item() == sum(t**3 - t for t in np.unique(values.numpy(), return_counts=True)[1])
    first, second = values[mine == 1].numpy(), values[mine == 0].numpy()
    if len(first) and len(second):
        (most,) = DISTANCE.of_line(line)
        expected = stats.ks_2samp(first, second, method="asymp")  # scipy's exact p-value fails with some
        assert most.item() / len(first) / len(second) == pytest.approx(expected.statistic)
        low, other = _samples((len(first), len(second)), round(most.item()))
        assert (sum(low), sum(other)) == (len(first), len(second))
        apart = low[0] / len(first) - other[0] / len(second)
        assert abs(apart) == pytest.approx(expected.statistic)


@pytest.mark.parametrize("analysis", ["mann-whitney", "kolmogorov-smirnov"])
def test_a_small_group_is_not_compared(tmp_path: Path, analysis: str) -> None:
    frame, terms = few(some(prisoners(), "age", "arrest"), 30)
    frame = {**frame, "arrest": (np.arange(30) < 4).astype(float)}
    with pytest.raises(UsageError, match="fewer rows than the agreement lets be shown"):
        split_by_rows(tmp_path, analysis, frame, terms, {"value": "age", "group": "arrest"})


def test_as_many_rows_as_add_up_exactly() -> None:
    most = 1 << 17
    value = np.repeat([1.0, 2.0], [most - 1, 2])
    frame = {"value": value, "group": np.arange(most + 1) % 2}
    terms = [
        {"name": "value", "type": "integer", "low": 0.0, "high": 5.0},
        {"name": "group", "type": "boolean"},
    ]
    parameters = {"value": "value", "group": "group"}
    with pytest.raises(UsageError, match=f"{most + 1} rows; ranks of {most} at most"):
        plain("mann-whitney", frame, terms, parameters)
    fewer = {name: values[:-1] for name, values in frame.items()}
    found = plain("mann-whitney", fewer, terms, parameters)
    assert found["ties"] == (most - 1) ** 3 - (most - 1)


def test_what_cannot_be_ranked_is_refused(tmp_path: Path) -> None:
    frame, terms = few(some(prisoners(), "age", "arrest"), 30)
    parameters = {"value": "age", "group": "arrest"}
    with pytest.raises(UsageError, match="all values are the same"):
        plain("mann-whitney", {**frame, "age": frame["age"] * 0 + 20}, terms, parameters)
    with pytest.raises(UsageError, match="a group has no rows"):
        plain("mann-whitney", {**frame, "arrest": frame["arrest"] * 0}, terms, parameters)
    with pytest.raises(UsageError, match="of column 'arrest' nothing is asked"):
        split_by_rows(tmp_path, "mann-whitney", frame, terms, {"value": "age", "group": "fin"})
    frame, terms = few(some(iris(), "length", "width"), 30)
    with pytest.raises(UsageError, match="have different bounds; agree on the same"):
        split_by_columns(tmp_path, "wilcoxon", frame, terms, {"value": "length", "paired": "width"})
    same = {"length": frame["length"], "width": frame["length"]}
    with pytest.raises(UsageError, match="no pair differs"):
        plain(
            "wilcoxon",
            same,
            [terms[0], {**terms[0], "name": "width"}],
            {"value": "length", "paired": "width"},
        )


def test_no_noise_here(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="how much one row can change its result is not known"):
        split_by_rows(
            tmp_path,
            "mann-whitney",
            *GROUPED[0][0],
            GROUPED[0][1],
            privacy={"mechanism": "discrete-gaussian"},
            budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
            release={"epsilon": 2.0, "delta": 1e-6},
        )
