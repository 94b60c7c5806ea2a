"""Linear regression by least squares, with tests and intervals.

With differential privacy the sums of products have noise, and so do coefficients that are computed from
them (Wang, "Revisiting differentially private linear regression", UAI 2018). Their standard errors are those
of the sample and of the noise together, by the delta method: where A b = c, noise E in A and e in c move b by
A^-1 (e - E b), to first order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.inference import COEFFICIENTS, INTERCEPT, coefficient_table, shown_coefficients
from mpcpriv.analyses.least_squares import Moments, OfTarget, told_of
from mpcpriv.analyses.shown import Forest, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

_BEYOND: Final = 0.05
"""How probable it may be that noise is wider than is reckoned with, where its width decides on a penalty."""
_FAR: Final = 2.0
"""How much further than that all eigenvalues must be from 0, for intervals by the delta method."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        target: the column that is explained: a number, an integer or a boolean.
    """

    target: ColumnName


class LinearRegression(OfTarget):
    """Ordinary least squares, with an intercept."""

    name: Final = "linear-regression"
    title: Final = "a linear regression of one column on all others, with standard errors and tests"
    text: Final = (
        "Ordinary least squares with an intercept. Sums over all rows of each column and of each product of "
        "two are opened; everything else is computed from them at the recipients in float64. A category "
        "counts as a yes-or-no for each of its categories but the first. Standard errors hold where "
        "residuals are independent and equally wide; intervals and tests are by Student's t. A column that "
        "is constant or follows from others is refused by name. Where rows are split, sums are exact, of "
        "values that are rounded to 2^-25 of the width of the agreed bounds (2^-19 from some 10^7 rows on); "
        "where columns are split, to 2^-19. With differential privacy noise is added to all sums, and "
        "standard errors are those of the sample and of the noise together, to first order; where the noise "
        "is too wide for that, coefficients are told with a ridge penalty that outweighs it, and without "
        "standard errors."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "linear-regression"
inputs = [
    { dataset = "north", columns = ["age", "weight", "pressure"] },
    { dataset = "south", columns = ["age", "weight", "pressure"] },
]
parameters = { target = "pressure" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        target = job.parameters.get("target")
        told = {
            "rows": "how many rows all data sets have together",
            "target": f"the column that is explained ({target})",
            "degrees": "degrees of freedom of the residuals: rows less coefficients",
            **COEFFICIENTS,
            "terms": f"the intercept and the features, in order ({told_of(job.inputs, target)})",
            "inflation": "of each feature, the variance inflation factor: 1 where others tell nothing of it",
            "residual_error": "the residuals' standard deviation",
            "r_squared": "the part of the target's variance that is explained",
            "adjusted_r_squared": "the same, allowing for the number of features",
        }
        if job.release.epsilon is not None:
            noise = "; the noise is contained in it"
            return {
                **told,
                "standard_error": told["standard_error"] + noise,
                "noise": "of each estimate, the standard deviation that noise alone gives it",
                "penalty": (
                    "the ridge penalty, for features from -1 to 1; above 0 where the noise is so wide that "
                    "nothing but terms, estimates and penalty is told"
                ),
            }
        return {
            **told,
            "f_statistic": "of the test that no feature explains anything",
            "f_p_value": "of the same test",
            "log_likelihood": "of the model with normal residuals",
            "aic": "Akaike's information criterion",
            "bic": "the Bayesian information criterion",
            "condition": "the condition number of the matrix of features and intercept",
        }

    def model(self, asked: Asked, moments: Moments) -> Answer:
        """See `OfTarget.model`."""
        if asked.noised:
            return self._noised(moments)
        moments.determined(self.name)
        slopes = np.linalg.solve(moments.gram, moments.cross)
        features, degrees = len(slopes), moments.rows - len(slopes) - 1
        residual, total = moments.residual(slopes), float(moments.beyond[-1, -1])
        variance = residual / degrees * _inverse(moments)
        explained = 1 - residual / total
        f = (total - residual) / features / (residual / degrees)
        square = residual * float(moments.unit[-1]) ** 2
        likelihood = -moments.rows / 2 * (math.log(2 * math.pi * square / moments.rows) + 1)
        from scipy import special

        return {
            **self._told(moments, slopes, variance, residual, explained),
            "f_statistic": f,
            "f_p_value": float(special.fdtrc(features, degrees, f)),
            "log_likelihood": likelihood,
            "aic": 2 * (features + 1) - 2 * likelihood,
            "bic": math.log(moments.rows) * (features + 1) - 2 * likelihood,
            "condition": _condition(moments),
        }

    def _noised(self, moments: Moments) -> Answer:
        """The same, with what noise does to it."""
        size, deviation = len(moments.names), moments.deviation
        width = deviation * math.sqrt(size * math.log(2 * size**2 / _BEYOND))
        least = float(np.linalg.eigvalsh(moments.gram)[0])
        if least < _FAR * width:
            # Wang 2018, algorithm 2 (AdaSSP), the least eigenvalue being that of the noised matrix.
            penalty = _FAR * width - least
            slopes = np.linalg.solve(moments.gram + penalty * np.eye(size), moments.cross)
            intercept, estimates = moments.of_x(slopes)
            return {
                "rows": moments.rows,
                "target": moments.target,
                "terms": [INTERCEPT, *moments.names],
                "estimate": [intercept, *estimates.tolist()],
                "penalty": penalty,
            }
        slopes = np.linalg.solve(moments.gram, moments.cross)
        total = max(float(moments.beyond[-1, -1]), 0.0)
        # Of noise in all products, what it does to the sum of squared residuals.
        weights = np.append([-moments.intercept(slopes)], np.append(-slopes, 1.0))
        residual = max(moments.residual(slopes), deviation * float(weights @ weights))
        inverse = _inverse(moments)
        noise = inverse @ _of_noise(weights, deviation)[:-1, :-1] @ inverse
        variance = residual / (moments.rows - size - 1) * inverse + noise
        change = moments.units()
        explained = min(max(1 - residual / total, 0.0), 1.0) if total else 0.0
        return {
            **self._told(moments, slopes, variance, residual, explained),
            "noise": np.sqrt(np.diag(change @ noise @ change.T)).tolist(),
            "penalty": 0.0,
        }

    def _told(
        self, moments: Moments, slopes: np.ndarray, variance: np.ndarray, residual: float, explained: float
    ) -> dict[str, Any]:
        degrees, change = moments.rows - len(slopes) - 1, moments.units()
        intercept, estimates = moments.of_x(slopes)
        errors = np.sqrt(np.diag(change @ variance @ change.T))
        inflation = np.diag(np.linalg.inv(moments.gram)) * np.diag(moments.gram)
        return {
            "rows": moments.rows,
            "target": moments.target,
            "degrees": degrees,
            **coefficient_table([INTERCEPT, *moments.names], [intercept, *estimates], errors, degrees),
            "inflation": inflation.tolist(),
            "residual_error": float(moments.unit[-1]) * math.sqrt(residual / degrees),
            "r_squared": explained,
            "adjusted_r_squared": 1 - (1 - explained) * (moments.rows - 1) / degrees,
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        title = f"Linear regression of {some['target']}"
        if some.get("penalty"):
            note = "The noise is too wide for standard errors; a ridge penalty outweighs it."
            return [Table(title, {"": some["terms"], "coef": some["estimate"]}, [note])]
        rows = {
            "No. observations": some["rows"],
            "Df residuals": some["degrees"],
            "Df model": len(some["terms"]) - 1,
            "R-squared": some["r_squared"],
            "Adj. R-squared": some["adjusted_r_squared"],
            "Residual std err": some["residual_error"],
            "F-statistic": some.get("f_statistic"),
            "Prob (F-statistic)": some.get("f_p_value"),
            "Log-likelihood": some.get("log_likelihood"),
            "AIC": some.get("aic"),
            "BIC": some.get("bic"),
            "Cond. no.": some.get("condition"),
        }
        told = {name: value for name, value in rows.items() if value is not None}
        table, plot = shown_coefficients(title, answer, notes=[f"Student's t, {some['degrees']} degrees."])
        assert isinstance(table, Table)
        assert isinstance(plot, Forest)
        columns = {**table.columns, "VIF": [None, *some["inflation"]]}
        if "noise" in some:
            columns["noise"] = some["noise"]
        return [
            Table(title, {"": list(told), "value": list(told.values())}),
            Table("Coefficients", columns, table.notes),
            plot,
        ]


def _inverse(moments: Moments) -> np.ndarray:
    """Of the matrix of sums of products of the intercept's ones and the features, z: (d + 1, d + 1)."""
    slopes = np.linalg.inv(moments.gram)
    across = -slopes @ moments.mean[:-1]
    first = 1 / moments.rows - moments.mean[:-1] @ across
    return np.block([[np.full((1, 1), first), across[None, :]], [across[:, None], slopes]])


def _of_noise(weights: np.ndarray, deviation: float) -> np.ndarray:
    """The covariance of E w, where E is symmetric, of independent noise but for E_00 = 0: rows are public."""
    squares = weights**2
    found = np.outer(weights, weights)
    np.fill_diagonal(found, squares.sum())
    found[0, 0] -= squares[0]
    return deviation**2 * found


def _condition(moments: Moments) -> float:
    """Of the matrix of ones and features x, (n, d + 1): the largest singular value by the smallest.

    From a triangular factor, for eigenvalues of its square would lose half of the digits.
    """
    unit = moments.unit[:-1]
    means = moments.centre[:-1] + unit * moments.mean[:-1]
    size = len(unit)
    factor = np.zeros((size + 1, size + 1))
    factor[0] = math.sqrt(moments.rows) * np.append(1.0, means)
    factor[1:, 1:] = np.linalg.cholesky(moments.gram).T * unit
    values = np.linalg.svd(factor, compute_uv=False)
    return float(values[0] / values[-1])


ANALYSIS: Final = LinearRegression()
