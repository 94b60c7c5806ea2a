"""Sums over rows, and tables in which each row counts in one cell.

A table may have many thousands of cells: what a row can change of it is one of them, and what it costs to sum
it does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mpcpriv.analyses.query import Query
from mpcpriv.errors import UsageError
from mpcpriv.privacy.mechanism import Sensitivity


@dataclass(frozen=True, kw_only=True)
class Tallied(Query):
    """The sums of a query, and behind them the cells of one table after the other.

    Attributes:
        sums: the query that comes first.
        tables: how many cells each table has.
        places: of one owner's columns, int64 (rows, tables): in which cell of each table a row counts; -1
            where in none. Row i of them follows from row i alone.
        weight: what one row counts for.
    """

    sums: Query
    tables: Sequence[int]
    places: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    weight: int
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    contributions: Callable[[Mapping[str, np.ndarray]], np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        cells = np.zeros(sum(self.tables), dtype=np.int64)
        # A frozen dataclass's own fields, from the parts that it is made of.
        object.__setattr__(self, "low", np.concatenate([self.sums.low, cells]))
        object.__setattr__(self, "high", np.concatenate([self.sums.high, cells + self.weight]))
        object.__setattr__(self, "contributions", self.sums.contributions)
        super().__post_init__()

    def sensitivity(self) -> Sensitivity:
        """See `Query.sensitivity`: a row changes at most one cell of each table, by its weight."""
        of_sums, tables = self.sums.sensitivity(), len(self.tables)
        return Sensitivity(
            of_sums.l1 + tables * self.weight,
            of_sums.l2_squared + tables * self.weight**2,
            max(of_sums.linf, self.weight),
        )

    def total(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """See `Query.total`.

        Raises:
            UsageError: also where `places` are none of the tables'.
        """
        places = self.places(columns)
        rows = len(next(iter(columns.values())))
        expected = (rows, len(self.tables))
        if places.shape != expected or places.dtype != np.int64:
            raise UsageError(
                f"the analysis counts in {places.dtype} {places.shape}; declared is int64 {expected}"
            )
        parts = [self.sums.total(columns)]
        for place, size in enumerate(self.tables):
            mine = places[:, place]
            if rows and not (mine.min() >= -1 and mine.max() < size):
                raise UsageError(f"the analysis counts in a cell that is none of the {size} declared")
            parts.append(self.weight * np.bincount(mine[mine >= 0], minlength=size).astype(np.int64))
        return np.concatenate(parts)
