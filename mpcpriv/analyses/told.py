"""Which cells an answer tells: counts of rows that follow from sums which are no counts.

Of a yes-or-no the mean is a count, and a product of two sums up to a cell of their table. So an analysis says
(`TellsCells`) of which tables its answer tells all cells, and where one has few rows nothing of a result
without noise is opened: see `mpcpriv.release.withheld`.

A category, and an integer whose agreed bounds allow a few values only, is told by its moments alike: with how
many rows there are, k of them determine the counts of k + 1 values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.errors import UsageError


@dataclass(frozen=True)
class Levels:
    """Values of a column that are counted.

    Attributes:
        column: its name.
        codes: the values, as owners hold them, in ascending order; rows with another are in no cell.

    Raises:
        UsageError: there are none, or they are in another order.
    """

    column: str
    codes: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.codes or list(self.codes) != sorted(set(self.codes)):
            raise UsageError(f"values of column {self.column!r}: at least one, and in ascending order")


Cells = tuple[Levels, ...]
"""A table of one column or several: a cell for each combination of their values."""


def levels(column: ColumnTerms, most: int = 2) -> Levels | None:
    """All values of a yes-or-no, of a category, or of an integer that has so many at most; None of others."""
    if column.type == "boolean":
        return Levels(column.name, (0.0, 1.0))
    if column.type == "category":
        return Levels(column.name, tuple(map(float, range(len(column.categories or [])))))
    if column.type == "integer" and column.low is not None and column.high is not None:
        first, last = math.ceil(column.low), math.floor(column.high)
        if 0 <= last - first < most:
            return Levels(column.name, tuple(map(float, range(first, last + 1))))
    return None


def singles(columns: Iterable[ColumnTerms], most: int) -> list[Cells]:
    """Tables of one column each: what powers up to one less than `most` tell, summed over all rows."""
    return [(one,) for one in (levels(column, most) for column in columns) if one]


def pairs(columns: Iterable[ColumnTerms]) -> list[Cells]:
    """What sums of products of two tell: of each column its own table, and that of every two."""
    columns = list(columns)
    two = [one for one in map(levels, columns) if one]
    return [*singles(columns, 3), *itertools.combinations(two, 2)]


def size(table: Cells) -> int:
    """How many cells it has."""
    return math.prod(len(one.codes) for one in table)


def count(tables: Sequence[Cells], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many rows are in each cell, one table after the other, int64; 0 of tables with other columns."""
    there = [all(one.column in columns for one in table) for table in tables]
    places = {
        one: _places(one, columns[one.column])
        for table, here in zip(tables, there, strict=True)
        for one in table
        if here
    }
    found = [np.zeros(0, dtype=np.int64)]
    for table, here in zip(tables, there, strict=True):
        counts = np.zeros(size(table), dtype=np.int64)
        if here:
            # A last place on each axis is for rows in no cell.
            shape = [len(one.codes) + 1 for one in table]
            flat = places[table[0]]
            for one, width in zip(table[1:], shape[1:], strict=True):
                flat = flat * width + places[one]
            every = np.bincount(flat, minlength=math.prod(shape)).reshape(shape)
            counts += every[(slice(-1),) * len(table)].ravel()
        found.append(counts)
    return np.concatenate(found)


def inside(table: Cells, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether each row is in each cell, int64 (rows, cells)."""
    rows = len(columns[table[0].column])
    found = np.ones((rows, 1), dtype=np.int64)
    for one in table:
        there = _places(one, columns[one.column])[:, None] == np.arange(len(one.codes))
        found = (found[:, :, None] * there[:, None, :]).reshape(rows, -1)
    return found


def _places(one: Levels, values: np.ndarray) -> np.ndarray:
    """Of each row which of the values it has, (rows,); as many as there are where it has none of them."""
    codes = np.array(one.codes)
    place = np.searchsorted(codes, values).clip(max=len(codes) - 1)
    return np.where(codes[place] == values, place, len(codes))
