"""Group by, against pandas on real tables: exact sums, suppressed groups, noise as wide as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.grouped_tables import TABLES, Loaded, elections, prisoners, some, wine

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
OPEN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
NAMES = {"sum": "sum", "mean": "mean", "var": "variance", "std": "deviation"}


def expected(frame: dict[str, np.ndarray], by: list[str], column: str) -> pd.DataFrame:
    table: pd.DataFrame = pd.DataFrame(frame).groupby(by)[column].agg(["count", *NAMES])
    return table


def compared(found: dict[str, Any], frame: dict[str, np.ndarray], by: list[str], rel: float = 1e-4) -> None:
    for column in set(frame) - set(by):
        table = expected(frame, by, column)
        places = [place for place, name in enumerate(found["column"]) if name == column]
        assert [found["count"][place] for place in places] == table["count"].tolist()
        for name, ours in NAMES.items():
            assert [found[ours][place] for place in places] == pytest.approx(table[name].tolist(), rel=rel)


@SPLITS
@pytest.mark.parametrize("load", TABLES)
def test_as_pandas_has_them(tmp_path: Path, load: Callable[[], Loaded], split: Callable[..., Any]) -> None:
    frame, terms = load()
    by = [one["name"] for one in terms if one["type"] == "category"]
    found = split(tmp_path, "aggregate-by-category", frame, terms, privacy=OPEN)
    compared(found, frame, by)
    assert found["rows"] == sum(found["counts"]) == len(frame[by[0]])
    for shares in (False, True):
        oracle = plain("aggregate-by-category", frame, terms, shares=shares)
        compared(oracle, frame, by)
        assert oracle["counts"] == found["counts"]


def test_several_owners_categories_go_together(tmp_path: Path) -> None:
    frame, terms = some(elections(), "party", "age", "vote", "income")
    found = split_by_columns(
        tmp_path,
        "aggregate-by-category",
        frame,
        terms,
        {"by": ["party", "vote"]},
        alice=["party", "age"],
        privacy=OPEN,
    )
    compared(found, frame, ["party", "vote"])
    assert found["cells"][:2] == ["left / vote 0", "left / vote 1"]
    counts = split_by_columns(
        tmp_path, "count-by-category", *some(elections(), "party", "vote"), alice=["party"], privacy=OPEN
    )
    assert counts["counts"] == found["counts"]
    assert counts["cells"] == found["cells"]


@SPLITS
def test_of_small_groups_nothing_is_opened(
    tmp_path: Path, split: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpcpriv.analyses.groups import Groups

    seen: list[Groups] = []
    monkeypatch.setattr(
        "mpcpriv.analyses.aggregate_by_category._quantile", lambda groups, _: seen.append(groups) or 2.0
    )
    frame, terms = wine()
    closed = {**OPEN, "smallest_cell": 50}  # there are 59, 71, 48
    found = split(tmp_path, "aggregate-by-category", frame, terms, privacy=closed)
    assert found["counts"] == [-1, 71, -1]
    assert set(found["group"]) == {"b"}
    for hidden in (0, 2):
        assert not seen[-1].sums[hidden].any()
        assert not seen[-1].squares[hidden].any()
    assert seen[-1].sums[1].all()


def test_intervals_hold_the_noise(tmp_path: Path) -> None:
    frame, terms = some(prisoners(), "arrest", "age")
    frame = {name: np.tile(values, 5) for name, values in frame.items()}
    release = {"epsilon": 2.0, "delta": 1e-6}
    found = split_by_rows(
        tmp_path,
        "aggregate-by-category",
        frame,
        terms,
        {"by": ["arrest"]},
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release=release,
    )
    table = expected(frame, ["arrest"], "age")
    assert found["count"] != table["count"].tolist()
    assert np.abs(np.array(found["counts"]) - table["count"]).max() < 3 * found["margin"]
    for name, ours in {"sum": "sum", "mean": "mean", "var": "variance"}.items():
        error = np.abs(np.array(found[ours]) - table[name]) / np.array(found[f"{ours}_noise"])
        assert (error < 6).all()
    assert (np.array(found["high"]) > np.array(found["mean"])).all()


def test_the_noise_that_is_told_is_that_of_the_figures() -> None:
    """Means and variances from noised sums, over many draws: as spread as the delta method says."""
    from mpcpriv import analyses
    from mpcpriv.agreement.model import ColumnTerms
    from mpcpriv.analyses.outline import Outline
    from mpcpriv.analyses.query import Noised

    frame, terms = some(prisoners(), "arrest", "age")
    found = analyses.find("aggregate-by-category")
    outline = Outline(432, "person", {one["name"]: ColumnTerms.model_validate(one) for one in terms})
    assert isinstance(found, analyses.Private)
    query = found.query(
        analyses.Asked(found.parameters.model_validate({"by": ["arrest"]}), {"rows": outline}, 1.0)
    )
    total, deviation = query.total(frame), 2.0**14 * 2
    rng = np.random.default_rng(4)
    drawn: list[dict[str, Any]] = [
        dict(query.read(Noised(total + np.rint(rng.normal(scale=deviation, size=total.shape)), deviation)))
        for _ in range(2000)
    ]
    for name in ("sum", "mean", "variance"):
        spread = np.std([one[name] for one in drawn], axis=0)
        told = np.mean([one[f"{name}_noise"] for one in drawn], axis=0)
        assert spread == pytest.approx(told, rel=0.1)


@pytest.mark.parametrize(
    ("parameters", "columns", "said"),
    [
        ({}, ["alcohol", "acid"], "there is no category"),
        ({"by": ["place"]}, ["alcohol", "grower"], "place in `by` are none of the columns"),
        ({"by": ["acid"]}, ["alcohol", "acid"], "'acid' is a number; a category"),
        ({}, ["grower"], "count-by-category counts them"),
    ],
)
def test_what_is_no_grouping_is_refused(
    tmp_path: Path, parameters: dict[str, Any], columns: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        split_by_rows(tmp_path, "aggregate-by-category", *some(wine(), *columns), parameters, privacy=OPEN)
