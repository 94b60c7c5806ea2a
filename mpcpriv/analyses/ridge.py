"""Ridge regression: least squares with a penalty on the squares of coefficients (Hoerl and Kennard, 1970)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mpcpriv.analyses.analysis import Answer
from mpcpriv.analyses.penalised import Penalised, PenaltyParameters
from mpcpriv.job.model import Job


class Ridge(Penalised):
    """In closed form, from sums of products."""

    name: Final = "ridge"
    title: Final = "a linear regression of one column on all others, with a penalty on squared coefficients"
    text: Final = (
        "Least of the sum of squared residuals + penalty * |w|^2, the intercept not penalised: "
        "scikit-learn's Ridge with alpha = penalty, of features that are standardised before (mean 0, "
        "variance 1, divided by n) unless the job says otherwise. Sums over all rows of each column and of "
        "each product of two are opened; the coefficients are computed from them at the recipients in "
        "float64. A category counts as a yes-or-no for each of its categories but the first. No standard "
        "errors: the penalty makes estimates biased on purpose. With differential privacy noise is added to "
        "all sums, and what a real table could not have (negative eigenvalues) is taken off; how far the "
        "noise moves a coefficient is not told."
    )
    parameters: Final = PenaltyParameters
    example: Final = """\
analysis = "ridge"
inputs = [
    { dataset = "north", columns = ["age", "weight", "pressure"] },
    { dataset = "south", columns = ["age", "weight", "pressure"] },
]
parameters = { target = "pressure", penalty = 1.0 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        return {**super().outputs(job), "degrees": "how many coefficients, with the intercept, it is worth"}

    def slopes(self, gram: np.ndarray, cross: np.ndarray, rows: int, penalty: float) -> np.ndarray:
        """See `Penalised.slopes`."""
        del rows
        found: np.ndarray = np.linalg.solve(gram + penalty * np.eye(len(cross)), cross)
        return found

    def more(self, gram: np.ndarray, slopes: np.ndarray, penalty: float) -> Answer:
        """See `Penalised.more`."""
        del slopes
        values = np.clip(np.linalg.eigvalsh(gram), 0, None)
        return {"degrees": 1 + float((values / (values + penalty)).sum())}


ANALYSIS: Final = Ridge()
