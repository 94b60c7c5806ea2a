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


@dataclass(frozen=True)
class Levels:
    """Values of a column that are counted.

    Attributes:
        column: its name.
        codes: the values, as owners hold them; rows with another are in no cell.
    """

    column: str
    codes: tuple[float, ...]


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
        if last - first < most:
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


def places(table: Cells, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of each row its cell, int64 (rows,); -1 where it is in none."""
    found = np.zeros(len(columns[table[0].column]), dtype=np.int64)
    there = np.ones(len(found), dtype=bool)
    for one in table:
        values = columns[one.column]
        codes = np.array(one.codes)
        place = np.searchsorted(codes, values).clip(max=len(codes) - 1)
        found = found * len(codes) + place
        there &= codes[place] == values
    return np.where(there, found, -1)


def count(tables: Sequence[Cells], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many rows are in each cell, one table after the other, int64; 0 of tables with other columns."""
    counts = []
    for table in tables:
        here = all(one.column in columns for one in table)
        found = places(table, columns) if here else np.zeros(0, dtype=np.int64)
        counts.append(np.bincount(found[found >= 0], minlength=size(table)))
    return np.concatenate(counts).astype(np.int64) if counts else np.zeros(0, dtype=np.int64)
