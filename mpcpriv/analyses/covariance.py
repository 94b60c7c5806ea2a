"""Covariances and Pearson's correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.cross_products import OfCrossProducts, Sums
from mpcpriv.analyses.feature import Feature, regressors
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job


class Parameters(Document):
    """None."""


class Covariance(OfCrossProducts):
    """Of every two columns."""

    name: Final = "covariance"
    title: Final = "means, covariances and Pearson's correlations of columns"
    text: Final = (
        "Sums over all rows of each column and of each product of two are opened; means and covariances "
        "determine them, and they determine means and covariances. Divided by rows - 1. A category counts "
        "as a yes-or-no for each of its categories but the first. With differential privacy noise is added "
        "to all sums, on a scale where the agreed bounds are -1 and 1; `noise` is its standard deviation in "
        "each covariance, as far as it comes from the products, and a matrix of them may then be none of a "
        "real table (not positive semidefinite)."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "covariance"
inputs = [
    { dataset = "north", columns = ["age", "weight"] },
    { dataset = "south", columns = ["age", "weight"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "mean": "the mean of each column",
            "covariance": "of every two columns, row by row: with the means, the sums of all products",
            "correlation": "the same, divided by both standard deviations; 0 where a column is constant",
        }
        if job.release.epsilon is not None:
            told["noise"] = "of the noise in each covariance, the standard deviation"
        return told

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`."""
        del parameters
        return regressors(table.columns)

    def tell(self, asked: Asked, sums: Sums) -> Answer:
        """See `OfCrossProducts.tell`."""
        if sums.rows < 2:
            raise UsageError("covariance: it needs two rows")
        covariance = sums.covariance()
        spread = np.sqrt(np.clip(np.diag(covariance), 0, None))
        both = np.outer(spread, spread)
        correlation = np.clip(np.divide(covariance, both, out=np.zeros_like(both), where=both > 0), -1, 1)
        told = {
            "rows": sums.rows,
            "columns": list(sums.names),
            "mean": sums.means().tolist(),
            "covariance": covariance.flatten().tolist(),
            "correlation": correlation.flatten().tolist(),
        }
        if asked.noised:
            noise = np.outer(sums.unit, sums.unit) * sums.deviation / (sums.rows - 1)
            told["noise"] = noise.flatten().tolist()
        return told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        names: Any = answer["columns"]
        tables = []
        for what in ("correlation", "covariance"):
            matrix = np.array(answer[what]).reshape(len(names), len(names))
            columns = {name: matrix[:, place].tolist() for place, name in enumerate(names)}
            tables.append(Table(what.capitalize() + "s", {"": names, **columns}))
        return tables


ANALYSIS: Final = Covariance()
