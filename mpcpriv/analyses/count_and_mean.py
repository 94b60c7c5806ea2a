"""Count, mean and variance of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import span
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.told import Cells, singles
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_GRID: Final = 1 << 26
"""A value at the end of its bounds contributes so much to a sum."""
_NOISED: Final = 1 << 20
"""The same, to a sum with noise."""
_NORMAL: Final = 1.959964
"""Of a standard normal variable, 95 % lie within this."""


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
        "than 2^19 apart); the sum of x is then exact, that of x^2 to one unit. Numbers, integers, booleans. "
        "With differential privacy, noise is added to both sums of all columns at once, each on a scale "
        "where the agreed bounds are -1 and 1, and the answer has 95 % confidence intervals of the means, in "
        "which the noise and the chance of the sample are both contained: bounds as narrow as may be public "
        "make them narrow."
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
        told = {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "mean": f"the mean of each column ({columns}) over all rows",
            "variance": "the sample variance of each column over all rows",
        }
        if job.release.epsilon is not None:
            told |= {
                "mean_low": "of each mean, the lower end of a 95 % confidence interval",
                "mean_high": "its upper end",
                "noise": "of the noise in each mean, the standard deviation",
            }
        return told

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Cells]:
        """See `TellsCells.cells`."""
        del parameters
        return singles(columns.values(), 3)

    def run(self, ctx: Context, inputs: Mapping[str, Any], parameters: Parameters) -> Mapping[str, Any]:
        """See `Analysis.run`."""
        import torch

        from mpcpriv.analyses import table

        del ctx, parameters
        _checked(together({name: one.outline for name, one in inputs.items()})[0])
        whole, _ = table.together(inputs)
        x = torch.stack([column.shared for column in whole.columns.values()])
        # A product of vectors is truncated once, after its sum: exact to one unit, for any number of rows.
        squares = x.unsqueeze(1).matmul(x.unsqueeze(2)).flatten()
        return {"sums": x.sum(1), "squares": squares}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Analysis.read`."""
        whole, _ = together(asked.tables)
        scales = [Scale.of(column) for column in whole.columns.values()]
        centre, unit = np.array([one.centre for one in scales]), np.array([one.unit for one in scales])
        sums, squares, rows = opened["sums"], opened["squares"], whole.rows
        variance = unit**2 * np.maximum(squares - sums**2 / rows, 0) / (rows - 1)
        return {
            "rows": rows,
            "columns": list(whole.columns),
            "mean": (centre + unit * sums / rows).tolist(),
            "variance": variance.tolist(),
        }

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: with t in [-1, 1] across the bounds, t and the second Chebyshev polynomial,
        2 t^2 - 1, which has the same range.
        """
        whole, _ = together(asked.tables)
        _checked(whole)
        spans = {name: span(column, asked.noised) for name, column in whole.columns.items()}
        rows, names = whole.rows, list(spans)
        grid = _NOISED if asked.noised else _GRID
        high = np.full(2 * len(spans), grid, dtype=np.int64)

        def contributions(columns: Mapping[str, np.ndarray]) -> np.ndarray:
            found = np.zeros((len(next(iter(columns.values()))), len(high)), dtype=np.int64)
            for place, (name, (middle, half)) in enumerate(spans.items()):
                if name in columns:
                    t = (columns[name] - middle) / half
                    found[:, 2 * place] = np.rint(grid * t)
                    found[:, 2 * place + 1] = np.rint(grid * (2 * t**2 - 1))
            return found

        def read(noised: Noised) -> Answer:
            middle, half = np.array(list(spans.values())).T
            first, second = (noised.values.reshape(-1, 2) / (grid * rows)).T
            variance = half**2 * np.clip((second + 1) / 2 - first**2, 0, 1) * rows / (rows - 1)
            mean = middle + half * first
            told = {"rows": rows, "columns": names, "mean": mean.tolist(), "variance": variance.tolist()}
            if not asked.noised:
                return told
            noise = half * noised.deviation / (grid * rows)
            margin = _NORMAL * np.sqrt(variance / rows + noise**2)
            return {
                **told,
                "mean_low": (mean - margin).tolist(),
                "mean_high": (mean + margin).tolist(),
                "noise": noise.tolist(),
            }

        return Query(-high, high, contributions, read)

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        columns = {
            "": told["columns"],
            "mean": told["mean"],
            "std": np.sqrt(told["variance"]).tolist(),
            "variance": told["variance"],
        }
        if "mean_low" in told:
            columns |= {"[0.025": told["mean_low"], "0.975]": told["mean_high"], "noise": told["noise"]}
        return [Table("Means", columns, [f"{told['rows']} rows"])]


def _checked(whole: Outline) -> None:
    if whole.rows < 2:
        raise UsageError("count-and-mean: a variance needs two rows")
    for name, column in whole.columns.items():
        if column.type == "category":
            raise UsageError(f"count-and-mean: column {name!r} is a category and has no mean")


ANALYSIS: Final = CountAndMean()
