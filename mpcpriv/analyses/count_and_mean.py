"""Count, mean and variance of columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mpcpriv.analyses.analysis import Context, Output, Outputs
from mpcpriv.analyses.table import Table, together
from mpcpriv.documents import Document
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job


class Parameters(Document):
    """None."""


class CountAndMean:
    """The sums of each column and of its squares: what the mean and the variance are made of."""

    name: Final = "count-and-mean"
    title: Final = "how many rows there are, and the mean and variance of each column over all of them"
    text: Final = (
        "The variance is that of a sample (divided by rows - 1). Two sums are opened for each column, those "
        "of x and x^2; mean and variance determine them, and they determine mean and variance. Values are "
        "rounded to 2^-19 of the width of the agreed bounds (whole numbers not at all, if these are less "
        "than 2^19 apart); the sum of x is then exact, that of x^2 to one unit. Numbers, integers, booleans."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "count-and-mean"
inputs = [
    { dataset = "north", columns = ["age", "weight"] },
    { dataset = "south", columns = ["age", "weight"] },
]
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        columns = ", ".join(dict.fromkeys(column for one in job.inputs for column in one.columns))
        return {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "mean": f"the mean of each column ({columns}) over all rows",
            "variance": "the sample variance of each column over all rows",
        }

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters) -> Outputs:
        """See `Analysis.run`."""
        del ctx, parameters
        table, _ = together(inputs)
        if table.rows < 2:
            raise UsageError("count-and-mean: a variance needs two rows")
        columns = list(table.columns.values())
        for column in columns:
            if column.terms.type == "category":
                raise UsageError(
                    f"count-and-mean: column {column.terms.name!r} is a category and has no mean"
                )
        rows = table.rows
        centre = np.array([column.scale.centre for column in columns])
        unit = np.array([column.scale.unit for column in columns])
        x = SharedTensor.stack([column.shared for column in columns])
        sums = x.sum(1)
        # A product of vectors is truncated once, after its sum: exact to one unit, for any number of rows.
        squares = x.unsqueeze(1).matmul(x.unsqueeze(2)).flatten()
        both = SharedTensor.cat([sums, squares])

        def mean(opened: np.ndarray) -> list[float]:
            return list((centre + unit * opened / rows).tolist())

        def variance(opened: np.ndarray) -> list[float]:
            total, square = np.split(opened, 2)
            return list((unit**2 * np.maximum(square - total**2 / rows, 0) / (rows - 1)).tolist())

        return {
            "rows": rows,
            "columns": list(table.columns),
            "mean": Output(sums, mean),
            "variance": Output(both, variance),
        }


ANALYSIS: Final = CountAndMean()
