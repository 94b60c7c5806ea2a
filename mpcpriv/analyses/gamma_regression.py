"""Gamma regression, log link.

Of the target y only ln y is needed, which its owner takes: with the predictor p all that a row contributes is
a function of y / m = e^(ln y - p), which is around 1, whatever the units of the data are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Plain
from mpcpriv.analyses.counts import DIGITS
from mpcpriv.analyses.feature import Feature
from mpcpriv.analyses.generalised_linear import (
    LIMITS,
    METHOD,
    Found,
    GeneralisedLinear,
    Parameters,
    Rows,
    logarithm,
)
from mpcpriv.analyses.newton import Fit, Point, Vector, exponential, free, mean_of
from mpcpriv.data.scale import Scale
from mpcpriv.errors import UsageError

_HIGHEST: Final = 9.0
"""Of ln (y / m): its square, and its weight with it, stay in the ring."""
_ROOM: Final = 1 << 29


class Gamma:
    """A `Model` of y with mean m = e^predictor and a variance in proportion to m^2."""

    def __init__(self, log: Vector, present: Vector | None = None) -> None:
        """A model of ln y (n,), less its mean.

        Args:
            log: ln y, up to a constant.
            present: (n,), 1 of rows that are there, else 0; None where all are. In others y is m.

        Raises:
            UsageError: there are too many rows.
        """
        self.middle: Any = mean_of(log, present)
        self.log = free(log - self.middle if present is None else present * (log - self.middle))
        self.highest = min(_HIGHEST, math.log(_ROOM / len(log)))
        if self.highest < 3:
            raise UsageError(f"{len(log)} rows are too many for a gamma regression; take a part of them")

    def start(self, offset: Vector) -> tuple[Vector, Vector]:
        """See `Model.start`: least squares of ln y."""
        slope: Any = (self.log - offset) * -1
        return slope, 1.0

    def at(self, predictor: Vector) -> Point:
        """See `Model.at`."""
        ratio: Any = exponential((self.log - predictor).clamp(-16.0, self.highest))
        return Point(1 - ratio, ratio, 1.0)

    def outside(self, predictor: Vector) -> Vector:
        """See `Model.outside`."""
        found: Any = (self.log - predictor).gt(self.highest).sum() * 1
        return found

    def dispersion(self, point: Point, weights: Vector | None, degrees: Any) -> Vector:
        """See `Model.dispersion`: Pearson's chi-squared over the residual degrees of freedom."""
        weighted: Any = point.slope if weights is None else weights * point.slope
        # Truncated after its sum: it may be small.
        found: Any = weighted.matmul(point.slope) / degrees
        return found


class GammaRegression(GeneralisedLinear):
    """The model of all rows, in the units of the data."""

    name = "gamma-regression"
    family = "GLM, gamma, log link"
    ratio = "mean ratio"
    title: Final = "a gamma regression of an amount on other columns, with standard errors and tests"
    text: Final = (
        METHOD
        + "The target is an amount above 0 (its agreed bounds say so) of which the logarithm of the mean is "
        "linear in all other columns, and whose variance is in proportion to the square of the mean; "
        "e^coefficient is a ratio of means. The dispersion is Pearson's chi-squared over the residual "
        "degrees of freedom. `exposure` is a column whose logarithm is added, `offset` one that is added "
        "as it is; `weights` are, say, numbers of claims where the target is their average. " + LIMITS
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "gamma-regression"
inputs = [
    { dataset = "north", columns = ["cost", "age", "severe"] },
    { dataset = "south", columns = ["cost", "age", "severe"] },
]
parameters = { target = "cost" }
"""

    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """See `GeneralisedLinear.of_target`: the logarithm."""
        del parameters
        return {"log": logarithm(self.name, target)}

    def model(self, rows: Rows, parameters: Any) -> Gamma:
        """See `GeneralisedLinear.model`."""
        del parameters
        log = rows.target["log"]
        return Gamma(log.shared * log.scale.unit, rows.present)

    def middle(self, model: Gamma) -> Vector:
        """See `GeneralisedLinear.middle`."""
        middle: Vector = model.middle
        return middle

    def besides(self, model: Gamma, fit: Fit, rows: Rows) -> Mapping[str, Any]:
        """See `GeneralisedLinear.besides`."""
        slope: Any = fit.point.slope
        falls = rows.weighted(fit.predictor - model.log - slope).sum()
        squares = rows.weighted(slope).matmul(slope)
        return {"squares": squares * (DIGITS / rows.count), "deviance": falls * (DIGITS / rows.count)}

    def level(self, found: Found, parameters: Any) -> tuple[float, float]:
        """See `GeneralisedLinear.level`."""
        del parameters
        centre = Scale.of(logarithm(self.name, found.target).terms).centre
        return centre, self._dispersion(found)

    @staticmethod
    def _dispersion(found: Found) -> float:
        """In units of the shared weights."""
        return found.number("squares") / DIGITS * found.count / found.degrees

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        del parameters
        return {
            "dispersion": self._dispersion(found) * found.weights,
            "deviance": 2 * found.number("deviance") / DIGITS * found.count * found.weights,
        }

    def told(self) -> Mapping[str, str]:
        """See `GeneralisedLinear.told`."""
        return {
            "dispersion": "Pearson's chi-squared over the residual degrees of freedom",
            "deviance": "of the model, not divided by the dispersion",
        }


ANALYSIS: Final = GammaRegression()
