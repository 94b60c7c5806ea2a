"""Rows counted by category: a frequency table, or a cross-table of several columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Plain
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
    """Of a table with noise; both are read off the noised counts, and cost no privacy.

    Attributes:
        truncated: whether counts below 0 are shown as 0, and those above the number of rows as that, as the
            truncated geometric mechanism does (Ghosh, Roughgarden and Sundararajan, STOC 2009). None is
            farther from the true count for it, but those near 0 are too large on average, and sums of many
            such counts are far too large.
        spurious: show only cells whose noised counts reach a threshold, which follows from the noise: if no
            row were in any cell, any would be shown with this probability at most. Others are -1, and are
            opened to nobody. None: all are shown.
    """

    truncated: bool = False
    spurious: Annotated[float, Field(gt=0, lt=1)] | None = None


class CountByCategory:
    """Each owner counts its own rows; the counts are added up under masks."""

    name: Final = "count-by-category"
    title: Final = "how many rows fall into each category, or each combination of categories"
    text: Final = (
        "One cell for each combination of the agreed categories of all columns (booleans are 0 and 1), in "
        "the order of the agreement, the last column's varying fastest; 10,000 cells at most. Rows may be "
        "split between owners, columns may not. Without noise, cells with fewer rows than the agreement "
        "allows to be shown are -1, and with them the smallest other cell: the rest of the table would tell "
        "how many rows they have together; where the agreement says so, counts are rounded. With "
        "differential privacy, one row changes one cell by one, and every cell has noise, empty ones too, so "
        "that a count may be less than 0. `truncated` puts counts between 0 and the number of rows, which "
        "makes small ones too large on average. `spurious`, as 0.05, shows only cells whose noised counts "
        "reach a threshold, and makes all others -1 on shares; it is so large that, were all cells empty, "
        "one of them would be shown in 5 % of cases at most. It is for tables of which most cells are empty "
        "(Korolova et al., WWW 2009; Bun, Nissim and Stemmer, ITCS 2016): all cells are agreed and have "
        "noise, so it costs no delta and protects nobody more, but rare categories are lost."
    )
    parameters: Final = Parameters
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
            if job.parameters.get("truncated") is True:
                told["counts"] += ", put between 0 and the number of rows, so that small ones are too large"
            if "spurious" in job.parameters:
                told["counts"] += "; -1 where that is below the threshold"
                told["threshold"] = "the least noised count that is shown"
            told["margin"] = "how far a true count is from the one that is told, at most, in 95 % of cases"
        return told

    def query(self, asked: Asked) -> Query:
        """See `Private.query`."""
        whole, split = together(asked.tables)
        if split == "columns split":
            raise UsageError("count-by-category: the columns of different owners cannot be counted together")
        levels = {name: _levels(column) for name, column in whole.columns.items()}
        parameters: Parameters = asked.parameters
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
            counts = np.rint(noised.values / _GRID).astype(int)  # -1 where suppressed
            if noised.deviation and parameters.truncated:
                # Where there is a threshold no count is below 0, and -1 is none.
                counts = np.clip(counts, 0 if noised.threshold is None else -1, whole.rows)
            told: dict[str, Plain] = {"rows": whole.rows, "cells": names, "counts": counts.tolist()}
            if noised.deviation:
                told["margin"] = _NORMAL * noised.deviation / _GRID
            if noised.threshold is not None:
                told["threshold"] = noised.threshold / _GRID
            return told

        low, high = np.zeros(cells, dtype=np.int64), np.full(cells, _GRID, dtype=np.int64)
        return Query(low, high, contributions, read, l1=_GRID, grid=_GRID, spurious=parameters.spurious)


def _levels(column: ColumnTerms) -> list[str]:
    if column.type == "boolean":
        return [f"{column.name} 0", f"{column.name} 1"]
    if column.type == "category":
        return list(column.categories or [])
    raise UsageError(f"count-by-category: column {column.name!r} is a {column.type} and has no categories")


ANALYSIS: Final = CountByCategory()
