"""Rows counted by category: a frequency table, or a cross-table of several columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.feature import categories
from mpcpriv.analyses.groups import Groups, OfGroups
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.job.model import Job


class Parameters(Document):
    """None."""


class CountByCategory(OfGroups):
    """Each owner counts its own rows; the counts are added up under masks."""

    name: Final = "count-by-category"
    title: Final = "how many rows fall into each category, or each combination of categories"
    text: Final = (
        "One cell for each combination of the agreed categories of all columns (booleans are 0 and 1), in "
        "the order of the agreement, the last column's varying fastest; 10,000 cells at most. Rows or "
        "columns may be split between owners. Without noise, cells with fewer rows than the agreement "
        "allows to be shown are -1, and with them the smallest other cell: the rest of the table would tell "
        "how many rows they have together. With differential privacy (rows split), one row changes one cell "
        "by one; the noise may make a count less than 0, and no cell is suppressed."
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
            told["margin"] = "how far a true count is from the one that is told, at most, in 95 % of cases"
        return told

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        del parameters
        for column in columns.values():
            categories(column)
        return list(columns)

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        told: Answer = {
            "rows": groups.rows,
            "cells": list(groups.names),
            "counts": np.rint(groups.counts).astype(int).tolist(),  # -1 where suppressed
        }
        return {**told, "margin": quantile() * groups.deviation} if asked.noised else told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        noised = "margin" in told
        counts = [count if noised or count >= 0 else None for count in told["counts"]]
        notes = [f"each count within {told['margin']:.1f}, in 95 % of cases"] if noised else []
        if None in counts:
            notes.append("empty where suppressed")
        margins = [told["margin"]] * len(counts) if noised else []
        heights = [float(count or 0) for count in counts]
        return [
            Table("Rows by category", {"": told["cells"], "rows": counts}, notes),
            Bars("Rows by category", told["cells"], heights, margins),
        ]


ANALYSIS: Final = CountByCategory()
