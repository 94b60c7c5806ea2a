"""Rows counted by category: a frequency table, or a cross-table of several columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_GRID: Final = 16
"""A row counts for so much, so that little noise is still many grid units wide."""
_MOST: Final = 10_000
"""Cells."""
_NORMAL: Final = 1.959964
"""Of a standard normal variable, 95 % lie within this."""


class Parameters(Document):
    """None."""


class CountByCategory:
    """Each owner counts its own rows; the counts are added up under masks."""

    name: Final = "count-by-category"
    title: Final = "how many rows fall into each category, or each combination of categories"
    text: Final = (
        "One cell for each combination of the agreed categories of all columns (booleans are 0 and 1), in "
        "the order of the agreement, the last column's varying fastest; 10,000 cells at most. Rows may be "
        "split between owners, columns may not. Without noise, cells with fewer rows than the agreement "
        "allows to be shown are -1, and with them the smallest other cell: the rest of the table would tell "
        "how many rows they have together. With differential privacy, one row changes one cell by one; the "
        "noise may make a count less than 0, and no cell is suppressed. Missing values, where they may be, "
        "are a category of their own."
    )
    parameters: Final = Parameters
    takes_missing: Final = True
    example: Final = """\
analysis = "count-by-category"
inputs = [
    { dataset = "north", columns = ["region", "ill"] },
    { dataset = "south", columns = ["region", "ill"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        columns = ", ".join(dict.fromkeys(column for one in job.inputs for column in one.columns))
        told = {
            "rows": "how many rows all data sets have together",
            "cells": f"the combinations of categories of {columns}",
            "counts": "how many rows are in each; -1 where that is suppressed",
        }
        if job.release.epsilon is not None:
            told["counts"] = "how many rows are in each, with noise"
            told["margin"] = "how far a true count is from the one that is told, at most, in 95 % of cases"
        return told

    def query(self, asked: Asked) -> Query:
        """See `Private.query`."""
        whole, split = together(asked.tables)
        if split == "columns split":
            raise UsageError("count-by-category: the columns of different owners cannot be counted together")
        levels = {name: _levels(column) for name, column in whole.columns.items()}
        cells = math.prod(map(len, levels.values()))
        if cells > _MOST:
            raise UsageError(
                f"count-by-category: {cells} cells; ask for fewer columns, {_MOST} cells at most"
            )
        sizes = tuple(map(len, levels.values()))
        names = [" / ".join(combination) for combination in itertools.product(*levels.values())]

        def contributions(columns: Mapping[str, np.ndarray]) -> np.ndarray:
            places = np.ravel_multi_index([columns[name].astype(np.int64) for name in levels], sizes)
            found = np.zeros((len(places), cells), dtype=np.int64)
            found[np.arange(len(places)), places] = _GRID
            return found

        def read(noised: Noised) -> Answer:
            told: Answer = {
                "rows": whole.rows,
                "cells": names,
                "counts": np.rint(noised.values / _GRID).astype(int).tolist(),  # -1 where suppressed
            }
            if not noised.deviation:
                return told
            return {**told, "margin": _NORMAL * noised.deviation / _GRID}

        low, high = np.zeros(cells, dtype=np.int64), np.full(cells, _GRID, dtype=np.int64)
        return Query(low, high, contributions, read, l1=_GRID, grid=_GRID)


def _levels(column: ColumnTerms) -> list[str]:
    more = [f"{column.name} missing"] if column.missing else []
    if column.type == "boolean":
        return [f"{column.name} 0", f"{column.name} 1", *more]
    if column.type == "category":
        return [*(column.categories or []), *more]
    raise UsageError(f"count-by-category: column {column.name!r} is a {column.type} and has no categories")


ANALYSIS: Final = CountByCategory()
