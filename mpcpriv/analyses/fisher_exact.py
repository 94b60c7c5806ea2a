"""Fisher's exact test of a table of two by two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.feature import categories
from mpcpriv.analyses.groups import Groups, OfGroups, Value
from mpcpriv.analyses.query import Query
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.documents import Document
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.job.model import Job


class Parameters(Document):
    """None."""


class FisherExact(OfGroups):
    """As scipy's `fisher_exact`."""

    name: Final = "fisher-exact"
    title: Final = "whether two yes-or-nos are independent: Fisher's exact test, and the odds ratio"
    text: Final = (
        "Of two columns, booleans or categories of two: the two-sided p-value from the hypergeometric "
        "distribution, and the odds ratio of the sample with a 95 % confidence interval (Woolf's, on the "
        "log scale), where no count is 0. The table of counts is what is opened; all else follows from "
        "it. Where a count is less than the agreement allows to be shown, the test is refused: for few "
        "rows, agree on a smallest cell of 1. There is no variant with differential privacy: the "
        "test is given the margins, which counts with noise do not have; chi-squared has one."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "fisher-exact"
inputs = [
    { dataset = "north", columns = ["treated", "ill"] },
    { dataset = "south", columns = ["treated", "ill"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            "cells": "the combinations of the two columns",
            "counts": "how many rows are in each",
            "p_value": "two-sided",
            "odds_ratio": "of the sample; not there where a count is 0",
            "low": "the lower end of its 95 % confidence interval",
            "high": "its upper end",
        }

    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[str]:
        """See `OfGroups.grouping`."""
        del parameters
        for column in columns.values():
            if len(categories(column)) != 2:
                raise UsageError(
                    f"{self.name}: column {column.name!r} has not two categories; see chi-squared"
                )
        return list(columns)

    def check(self, by: Sequence[str], values: Sequence[Value], parameters: Any) -> None:
        """See `OfGroups.check`."""
        del values, parameters
        if len(by) != 2:
            raise UsageError(f"{self.name}: a number of columns of {len(by)}; it takes two")

    def query(self, asked: Asked) -> Query:
        """See `Private.query`."""
        if asked.noised:
            raise Unsupported(
                f"{self.name}: counts with noise have no exact test; ask for chi-squared, whose p-value "
                "takes the noise into account"
            )
        return super().query(asked)

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        from scipy import stats

        del asked
        counts = np.rint(groups.whole(self.name).counts).astype(int)
        told: dict[str, Any] = {
            "rows": groups.rows,
            "cells": list(groups.names),
            "counts": counts.tolist(),
            "p_value": float(stats.fisher_exact(counts.reshape(2, 2)).pvalue),
        }
        if (counts > 0).all():
            found = stats.contingency.odds_ratio(counts.reshape(2, 2), kind="sample")
            interval = found.confidence_interval(0.95)
            ends = {"low": float(interval.low), "high": float(interval.high)}
            told |= {"odds_ratio": float(found.statistic), **ends}
        return told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        heads = {"odds ratio": "odds_ratio", "[0.025": "low", "0.975]": "high", "p": "p_value"}
        test = {head: [told[name]] for head, name in heads.items() if name in told}
        notes = [] if "odds_ratio" in told else ["a count is 0: the odds ratio is 0 or infinite"]
        return [
            Table("Counts", {"": told["cells"], "rows": told["counts"]}),
            Table("Fisher's exact test", test, notes),
        ]


ANALYSIS: Final = FisherExact()
