"""Logistic regression; with a penalty it is scikit-learn's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Opened, Plain
from mpcpriv.analyses.counts import DIGITS
from mpcpriv.analyses.feature import Feature, dummies, plain
from mpcpriv.analyses.generalised_linear import LIMITS, METHOD, Found, GeneralisedLinear, Rows
from mpcpriv.analyses.generalised_linear import Parameters as Common
from mpcpriv.analyses.newton import Fit, Point, Vector, sigmoid
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

MODEL: Final[Mapping[str, str]] = {
    "features": "the names of the features, in order",
    "coefficients": "one number for each feature, in its unit",
    "intercept": "one number",
}
"""What `model_of` returns, in plain words."""


class Parameters(Common):
    """What a job can set.

    Attributes:
        target: the column that is predicted: a boolean, or a category of two, the second counting as 1.
        penalty: of |w|^2 / 2 for standardised features: 1 / C of scikit-learn; 0 for maximum likelihood.
    """

    steps: Annotated[int, Field(ge=1, le=50)] = 10
    penalty: Annotated[float, Field(ge=0, le=1e4)] = 1.0


class Binary:
    """A `Model` of a yes or no."""

    def __init__(self, y: Vector) -> None:
        """A model of y (n,), 0 or 1."""
        self.y = y

    def start(self, offset: Vector) -> tuple[Vector, Vector]:
        """See `Model.start`: at coefficients of 0."""
        if isinstance(offset, float):
            return 0.5 - self.y, 0.25
        point = self.at(offset)
        return point.slope, point.curvature

    def at(self, predictor: Vector) -> Point:
        """See `Model.at`."""
        probability: Any = sigmoid(predictor)
        certainty = probability - probability * probability
        return Point(probability - self.y, certainty, certainty)

    def outside(self, predictor: Vector) -> Vector:
        """See `Model.outside`: none."""
        del predictor
        return 0.0

    def dispersion(self, point: Point, weights: Vector | None, degrees: Any) -> Vector:
        """See `Model.dispersion`."""
        del point, weights, degrees
        return 1.0


class LogisticRegression(GeneralisedLinear):
    """The model of all rows, in the units of the data."""

    name = "logistic-regression"
    family = "GLM, binomial, logit link"
    ratio = "odds ratio"
    title: Final = "a logistic regression of a yes or no on other columns, with standard errors and tests"
    text: Final = (
        METHOD
        + "What is minimised is the sum of log-losses + penalty / 2 * |w|^2 of standardised features, the "
        "intercept not penalised: with the penalty of 1, or any above 0, scikit-learn's default with C = 1 / "
        "penalty, and with 0 maximum likelihood, as statsmodels'. With a penalty estimates are drawn to 0 "
        "and standard errors are of the penalised objective, so p-values say less: test with a penalty of 0. "
        "Where a column predicts the target without fail there is no maximum, and `converged` is 0. " + LIMITS
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "logistic-regression"
inputs = [
    { dataset = "north", columns = ["age", "weight", "ill"] },
    { dataset = "south", columns = ["age", "weight", "ill"] },
]
parameters = { target = "ill", steps = 10, penalty = 1.0 }
"""

    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """See `GeneralisedLinear.of_target`."""
        del parameters
        if target.type == "boolean":
            return {"": plain(target)}
        if target.type == "category" and len(target.categories or []) == 2:
            return {"": dummies(target)[0]}
        raise UsageError(f"{self.name}: target {target.name!r} must be a boolean, or a category of two")

    def model(self, rows: Rows, parameters: Any) -> Binary:
        """See `GeneralisedLinear.model`."""
        del parameters
        return Binary(rows.target[""].shared)

    def besides(self, model: Binary, fit: Fit, rows: Rows) -> Mapping[str, Any]:
        """See `GeneralisedLinear.besides`."""
        import torch

        losses: Any = torch.nn.functional.softplus(fit.predictor) - model.y * fit.predictor
        return {"loss": rows.weighted(losses).sum() * (DIGITS / rows.count)}

    def level(self, found: Found, parameters: Any) -> tuple[float, float]:
        """See `GeneralisedLinear.level`."""
        del parameters
        return 0.0, 1 / found.weights

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        del parameters
        loss = found.number("loss") / DIGITS * found.count * found.weights
        return {"deviance": 2 * loss, "log_likelihood": -loss}

    def told(self) -> Mapping[str, str]:
        """See `GeneralisedLinear.told`."""
        return {
            "deviance": "twice the sum of log-losses",
            "log_likelihood": "less the sum of log-losses",
        }

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        return {
            **super().outputs(job),
            **MODEL,
        }

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        told = dict(super().read(asked, opened))
        terms: Any = told["terms"]
        return {**told, **model_of(terms[:-1], np.array(told["estimate"], dtype=np.float64))}


def model_of(features: Sequence[str], estimates: np.ndarray) -> dict[str, Plain]:
    """A model as scikit-learn's users know it.

    Args:
        features: their d names.
        estimates: (d + 1,), the intercept last.
    """
    return {
        "features": list(features),
        "coefficients": estimates[:-1].tolist(),
        "intercept": float(estimates[-1]),
    }


ANALYSIS: Final = LogisticRegression()
