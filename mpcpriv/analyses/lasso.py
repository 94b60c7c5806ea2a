"""The lasso: least squares with a penalty on the magnitudes of coefficients (Tibshirani, 1996).

Coordinate descent on sums of products (Friedman, Hastie and Tibshirani, "Regularization paths for generalized
linear models via coordinate descent", J. Stat. Softw. 33, 2010, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mpcpriv.analyses.analysis import Answer
from mpcpriv.analyses.penalised import Penalised, PenaltyParameters
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_SWEEPS: Final = 100_000
_SETTLED: Final = 1e-9
"""Of the target's share in the largest coefficient, what a last sweep may still have changed."""


class Lasso(Penalised):
    """Some coefficients become 0."""

    name: Final = "lasso"
    title: Final = "a linear regression of one column on those others that matter"
    text: Final = (
        "Least of the sum of squared residuals / (2 n) + penalty * |w|, the intercept not penalised: "
        "scikit-learn's Lasso with alpha = penalty, of features that are standardised before (mean 0, "
        "variance 1, divided by n) unless the job says otherwise. Sums over all rows of each column and of "
        "each product of two are opened; the coefficients are computed from them at the recipients in "
        "float64. A category counts as a yes-or-no for each of its categories but the first. No standard "
        "errors: the penalty makes estimates biased on purpose, and the choice of features leaves no simple "
        "one. With differential privacy noise is added to all sums, and what a real table could not have "
        "(negative eigenvalues) is taken off; how far the noise moves a coefficient is not told."
    )
    parameters: Final = PenaltyParameters
    example: Final = """\
analysis = "lasso"
inputs = [
    { dataset = "north", columns = ["age", "weight", "pressure"] },
    { dataset = "south", columns = ["age", "weight", "pressure"] },
]
parameters = { target = "pressure", penalty = 0.1 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        return {**super().outputs(job), "kept": "how many features have a coefficient other than 0"}

    def slopes(self, gram: np.ndarray, cross: np.ndarray, rows: int, penalty: float) -> np.ndarray:
        """See `Penalised.slopes`."""
        slopes, own, least = np.zeros(len(cross)), np.diag(gram), penalty * rows
        # What is left of `cross` by the other coefficients is kept, so that a coefficient that stays costs
        # nothing.
        left = cross.copy()
        size = np.sqrt(np.where(own > 0, own, 1))
        for _ in range(_SWEEPS):
            before = slopes.copy()
            for place in np.flatnonzero(own > 0):
                pull = left[place] + own[place] * slopes[place]
                value = np.sign(pull) * max(abs(pull) - least, 0.0) / own[place]
                if value != slopes[place]:
                    left -= gram[place] * (value - slopes[place])
                    slopes[place] = value
            if np.abs((slopes - before) * size).max() <= _SETTLED * np.abs(cross / size).max():
                return slopes
        raise UsageError(
            "lasso: the columns all but follow from each other, and the penalty is too small to choose "
            "between them; raise it, or leave one out"
        )

    def more(self, gram: np.ndarray, slopes: np.ndarray, penalty: float) -> Answer:
        """See `Penalised.more`."""
        del gram, penalty
        return {"kept": int((slopes != 0).sum())}


ANALYSIS: Final = Lasso()
