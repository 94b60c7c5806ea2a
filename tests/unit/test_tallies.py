"""A query with tables of counts: what a row can change, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mpcpriv.analyses.query import Query
from mpcpriv.analyses.tallies import Tallied
from mpcpriv.errors import UsageError

Columns = Mapping[str, np.ndarray]


def query(places: Callable[[Columns], np.ndarray], weight: int = 4) -> Tallied:
    def contributions(columns: Columns) -> np.ndarray:
        found: np.ndarray = columns["a"].astype(np.int64)[:, None]
        return found

    def read(_: Any) -> dict[str, int]:
        return {}

    sums = Query(np.array([-10]), np.array([10]), contributions, read)
    return Tallied(sums=sums, tables=[3, 2], places=places, weight=weight, read=read)


def both(columns: Columns) -> np.ndarray:
    a = columns["a"].astype(np.int64)
    return np.stack([a % 3, np.where(a > 1, a % 2, -1)], axis=1)


def test_each_row_counts_in_one_cell_of_each_table() -> None:
    found = query(both)
    assert found.size == 6
    assert found.total({"a": np.array([0.0, 1, 2, 3, 50])}).tolist() == [16, 8, 4, 8, 8, 4]


def test_a_row_changes_no_more_than_is_said() -> None:
    """Each row by itself, and all rows but it, against the norms."""
    found = query(both)
    most, rows = found.sensitivity(), np.arange(-20.0, 30)
    assert (most.l1, most.l2_squared, most.linf) == (10 + 2 * 4, 100 + 2 * 16, 10)
    for row in rows:
        alone = found.total({"a": np.array([row])})
        without = found.total({"a": rows}) - found.total({"a": rows[rows != row]})
        assert (alone == without).all()
        assert np.abs(alone).sum() <= most.l1
        assert np.square(alone).sum() <= most.l2_squared
        assert np.abs(alone).max() <= most.linf


@pytest.mark.parametrize(
    ("places", "match"),
    [
        (lambda columns: both(columns) + 1, "none of the 3 declared"),
        (lambda columns: both(columns) - 2, "none of the 3 declared"),
        (lambda columns: both(columns)[:, :1], r"declared is int64 \(3, 2\)"),
        (lambda columns: both(columns).astype(float), "counts in float64"),
    ],
)
def test_cells_that_are_none_are_refused(places: Callable[[Columns], np.ndarray], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        query(places).total({"a": np.array([2.0, 3, 3])})
