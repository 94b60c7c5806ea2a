"""Counts by category: exact, suppressed where small, noised where asked; and cohorts that differ by few."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpcpriv.engine
from mpcpriv.analyses.cells import suppress
from mpcpriv.errors import UsageError
from mpcpriv.release.rules import difference
from tests.protocol.job_cases import OWNERS, Case, Tables, case, column
from tests.protocol.parties import run as run_parties
from tests.protocol.test_jobs import run, values
from tests.protocol.test_private_jobs import BUDGET, GAUSSIAN, document

mpcpriv.engine.activate()

from mpcpriv.engine.tensor import SharedTensor  # noqa: E402

REGIONS = ["north", "south", "west", "east"]


def tables(counts: Mapping[tuple[str, int], tuple[int, int, int]]) -> Tables:
    """Three owners' rows, so many of each region and state of health."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for place, owner in enumerate(OWNERS):
        rows = [key for key, numbers in counts.items() for _ in range(numbers[place])]
        found[owner] = {
            "region": np.array([region for region, _ in rows]),
            "ill": np.array([ill for _, ill in rows]),
        }
    return found


TERMS = [
    column("region", np.array([0]), "category", categories=REGIONS),
    column("ill", np.array([0]), "boolean"),
]
COUNTS = dict(
    zip(
        itertools.product(REGIONS, (0, 1)),
        [(9, 8, 7), (2, 1, 1), (30, 0, 1), (1, 1, 3), (0, 0, 0), (4, 5, 6), (10, 20, 30), (1, 2, 2)],
        strict=True,
    )
)
TOTALS = [sum(one) for one in COUNTS.values()]


def counting(folder: Path, privacy: dict[str, Any], counts: Any = COUNTS, **options: Any) -> Case:
    return case(
        folder, tables(counts), dict.fromkeys(OWNERS, TERMS), "count-by-category", privacy=privacy, **options
    )


def unnoised(**changes: Any) -> dict[str, Any]:
    return {"unnoised": True, "minimum_cohort": 10, **changes}


def test_counts_are_exact_and_cells_are_named(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=1))
    found = values(one, run(one))
    assert found["counts"] == TOTALS
    assert found["cells"][:3] == ["north / ill 0", "north / ill 1", "south / ill 0"]
    assert found["rows"] == sum(TOTALS)


def test_small_cells_are_suppressed_before_anybody_sees_them(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=6))
    assert values(one, run(one))["counts"] == [24, -1, 31, -1, -1, -1, 60, -1]


def test_one_small_cell_takes_the_smallest_other_with_it(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised(smallest_cell=1))
    assert 0 in values(one, run(one))["counts"]
    one = counting(tmp_path, unnoised(smallest_cell=4))
    # The empty cell alone would be the rows less all others.
    assert values(one, run(one))["counts"] == [24, -1, 31, 5, -1, 15, 60, 5]


def suppressed(counts: list[int], least: int) -> list[int]:
    hidden = {n for n, count in enumerate(counts) if count < least}
    if 0 < len(hidden) < len(counts):
        hidden.add(min((n for n in range(len(counts)) if n not in hidden), key=lambda n: counts[n]))
    return [-1 if n in hidden else count for n, count in enumerate(counts)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9) | st.integers(0, 2**28), min_size=1, max_size=7), st.integers(1, 9))
def test_suppression_is_as_documented(counts: list[int], least: int) -> None:
    def program(_: object) -> list[int]:
        secret = SharedTensor(np.array(counts, dtype=float), src=0)
        shown: list[float] = suppress(secret, least).get_plain_text().tolist()
        return [round(one) for one in shown]

    found = run_parties(2, program)[0]
    expected = suppressed(counts, least)
    ties = [count for count in counts if count >= least]
    if found != expected:  # of equal smallest ones either goes
        assert sorted(found) == sorted(expected)
        assert ties.count(min(ties)) > 1


def test_noised_counts_are_near_and_nothing_is_suppressed(tmp_path: Path) -> None:
    one = counting(tmp_path, dict(GAUSSIAN), release={"epsilon": 2.0, "delta": 1e-6}, budget=BUDGET)
    found = document(one, run(one))
    noise = found["statement"]["privacy"]["noise"] / 16
    assert found["result"]["margin"] == pytest.approx(1.96 * noise, rel=1e-3)
    assert np.abs(np.array(found["result"]["counts"]) - TOTALS).max() < 7 * noise
    assert found["statement"]["privacy"]["sensitivity_l2"] == 16


def test_cohorts_that_differ_by_few_rows_are_not_both_released(tmp_path: Path) -> None:
    one = counting(tmp_path, unnoised())
    rows = {"alice-rows": 57, "bob-rows": 37, "carol-rows": 50}
    assert values(one, run(one, earlier=[rows]))["rows"] == 144
    for changed in ({**rows, "bob-rows": 38}, {**rows, "alice-rows": 50, "carol-rows": 48}):
        with pytest.raises(UsageError, match=r"differs by [19] rows from one that was released"):
            run(one, earlier=[rows, changed])
    assert values(one, run(one, earlier=[{**rows, "bob-rows": 27}]))["rows"] == 144
    assert difference(rows, {"alice-rows": 57}) == 87


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    terms = [column("region", np.array([0.0, 9.0]))]
    data: Tables = {owner: {"region": np.arange(5.0)} for owner in OWNERS}
    one = case(tmp_path, data, dict.fromkeys(OWNERS, terms), "count-by-category", privacy=unnoised())
    with pytest.raises(UsageError, match="is a number and has no categories"):
        run(one)
    many = [column(f"c{n}", np.array([0]), "category", categories=REGIONS) for n in range(7)]
    data = {owner: {f"c{n}": np.array(REGIONS) for n in range(7)} for owner in OWNERS}
    one = case(tmp_path, data, dict.fromkeys(OWNERS, many), "count-by-category", privacy=unnoised())
    with pytest.raises(UsageError, match="16384 cells; ask for fewer columns"):
        run(one)
