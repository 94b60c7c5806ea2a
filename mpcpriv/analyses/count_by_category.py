"""Rows counted by category: a frequency table, or a cross-table of several columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Plain
from mpcpriv.analyses.feature import categories
from mpcpriv.analyses.groups import Groups, OfGroups
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job


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


class CountByCategory(OfGroups):
    """Each owner counts its own rows; the counts are added up under masks."""

    name: Final = "count-by-category"
    title: Final = "how many rows fall into each category, or each combination of categories"
    text: Final = (
        "One cell for each combination of the agreed categories of all columns (booleans are 0 and 1), in "
        "the order of the agreement, the last column's varying fastest; 10,000 cells at most. Rows or "
        "columns may be split between owners. Without noise, cells with fewer rows than the agreement "
        "allows to be shown are -1, and with them the smallest other cell: the rest of the table would tell "
        "how many rows they have together; where the agreement says so, counts are rounded. With "
        "differential privacy (rows split), one row changes one cell by one, and every cell has noise, "
        "empty ones too, so that a count may be less than 0. `truncated` puts counts between 0 and the "
        "number of rows, which makes small ones too large on average. `spurious`, as 0.05, shows only cells "
        "whose noised counts "
        "reach a threshold, and makes all others -1 on shares; it is so large that, were all cells empty, "
        "one of them would be shown in 5 % of cases at most. It is for tables of which most cells are empty "
        "(Korolova et al., WWW 2009; Bun, Nissim and Stemmer, ITCS 2016): all cells are agreed and have "
        "noise, so it costs no delta and protects nobody more, but rare categories are lost. Missing "
        "values, where they may be, are a category of their own."
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
            if job.parameters.get("truncated") is True:
                told["counts"] += ", put between 0 and the number of rows, so that small ones are too large"
            if "spurious" in job.parameters:
                told["counts"] += "; -1 where that is below the threshold"
                told["threshold"] = "the least noised count that is shown"
            told["margin"] = "how far a true count is from the one that is told, at most, in 95 % of cases"
        return told

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        del parameters
        for column in columns.values():
            categories(column)
        return list(columns)

    def spurious(self, parameters: Any) -> float | None:
        """See `OfGroups.spurious`."""
        asked: float | None = parameters.spurious
        return asked

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        parameters: Parameters = asked.parameters
        if parameters.spurious is not None and not asked.noised:
            raise UsageError("count-by-category: spurious is about noise, and there is none; leave it out")
        counts = np.rint(groups.counts).astype(int)  # -1 where suppressed
        if asked.noised and parameters.truncated:
            # Where there is a threshold no count is below 0, and -1 is none.
            counts = np.clip(counts, 0 if groups.threshold is None else -1, groups.rows)
        told: dict[str, Plain] = {
            "rows": groups.rows,
            "cells": list(groups.names),
            "counts": counts.tolist(),
        }
        if asked.noised:
            told["margin"] = quantile() * groups.deviation
        if groups.threshold is not None:
            told["threshold"] = groups.threshold
        return told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        noised = "margin" in told
        all_shown = noised and "threshold" not in told
        counts = [count if all_shown or count >= 0 else None for count in told["counts"]]
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
