"""Models of counts with a log link, on shares: Poisson's, and the negative binomial one's.

All is computed of the target divided by its mean, which the level of the predictor takes up: so e^predictor
is around 1, where fixed point has its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Plain
from mpcpriv.analyses.feature import Feature, plain
from mpcpriv.analyses.generalised_linear import (
    Found,
    GeneralisedLinear,
    Rows,
    from_zero,
    number_of,
    whole_of,
)
from mpcpriv.analyses.newton import Fit, Point, Vector, exponential, free
from mpcpriv.analyses.told import Cells, singles
from mpcpriv.data.scale import Scale
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Column

_HIGHEST: Final = 14.0
"""Predictors that `exponential` takes."""
_ROOM: Final = 1 << 29
"""What the means of all rows may add up to."""
_LEAST: Final = 1e-5
"""Of the agreed bounds of a number; it has no more digits."""
_WIDEST: Final = 1 << 19
"""A number is rounded to this part of its bounds."""
_ROUNDED: Final = 0.02
"""Of the mean of the target, its values may be rounded by no more."""
_HIGH: Final = 1 << 11
"""Values are eight units apart at most: of one that is so many units, its place among them is left 8 bits."""
DIGITS: Final = 256.0
"""By what means over rows are multiplied before they are opened."""


class Counts:
    """A `Model` of counts y with mean m = e^predictor and variance m + c m^2, divided by the mean of y.

    Where there is a c, the objective is 1 + c times -log L: then weights of rows are around 1, and keep their
    digits, however large c is.
    """

    def __init__(
        self, y: Vector, per: Vector, mean: Vector, over: Vector | None, present: Vector | None = None
    ) -> None:
        """A model of y (n,), whose mean is 1.

        Args:
            y: the target as it was shared, from 0, times `per`; 1, as m, in rows that are not there.
            per: one over its mean: a scalar, in units of `unit_of`.
            mean: `DIGITS` times just what y was divided by: a scalar, in the units of the data.
            over: c, a scalar; None for 0.
            present: (n,), 1 of rows that are there, else 0; None where all are.

        Raises:
            UsageError: there are too many rows.
        """
        self.y, self.per, self.mean, self.over, self.present = y, per, mean, over, present
        self.highest = min(_HIGHEST, math.log(_ROOM / len(y)))
        if self.highest < 3:
            raise UsageError(f"{len(y)} rows are too many for a model of counts; take a part of them")
        if over is not None:
            # c / (1 + c) and what is left of 1: they weigh m and 1, and their error cancels where m is 1.
            self.rest: Any = (over + 1).reciprocal()
            self.part: Any = 1 - self.rest
            self._more: Any = y * self.part + self.rest

    def start(self, offset: Vector) -> tuple[Vector, Vector]:
        """See `Model.start`: a step of iteratively reweighted least squares from m = (y + 1) / 2."""
        import torch

        half = (self.y + 1) * 0.5
        damped, weight, _ = self._damped(half)
        return (half - self.y) * damped - weight * (torch.log(half) - offset), weight

    def at(self, predictor: Vector) -> Point:
        """See `Model.at`."""
        # Below the range e^x is 0.
        mean = exponential(predictor.clamp(-2 * _HIGHEST, self.highest))
        damped, weight, curvature = self._damped(mean)
        return Point((mean - self.y) * damped, curvature, weight)

    def outside(self, predictor: Vector) -> Vector:
        """See `Model.outside`."""
        found: Any = predictor.gt(self.highest).sum() * 1
        return found

    def dispersion(self, point: Point, weights: Vector | None, degrees: Any) -> Vector:
        """See `Model.dispersion`."""
        del point, weights, degrees
        return 1.0 if self.over is None else self.over + 1

    def moment(self, fit: Fit) -> Vector:
        """c by the method of moments, from the residuals of Poisson's model: its mean is that of the data.

        (sum (y - m)^2 - sum y) / sum m^2: weighted least squares of the auxiliary regression of Cameron and
        Trivedi (Journal of Econometrics 46, 1990); here of counts that are divided by their mean.

        Returns:
            a scalar, 0 where there is less variance than Poisson's.
        """
        # Sums over rows, divided by their number: no square leaves the ring.
        part = 2.0 ** -round(math.log2(len(self.y)) / 2)
        slope, means, y = fit.point.slope, fit.point.information, self.y
        if self.present is not None:
            slope, means, y = self.present * slope, self.present * means, self.present * y
        residual: Any = slope * part
        level = means * part
        excess: Any = residual.matmul(residual) * (self.mean * (1 / DIGITS)) - y.sum() * part**2
        return (excess / level.matmul(level)).relu()

    def divisor(self, mean: Any) -> Any:
        """(1 + c m) / (1 + c)."""
        return mean * self.part + self.rest

    def _damped(self, mean: Any) -> tuple[Any, Any, Any]:
        """(1 + c) / (1 + c m), that times m, and the second derivative of the objective."""
        if self.over is None:
            return 1, mean, mean
        damped = self.divisor(mean).reciprocal()
        weight = mean * damped
        return damped, weight, weight * (damped * self._more)


class OfCounts(GeneralisedLinear):
    """A generalised linear model of `Counts`."""

    ratio = "rate ratio"

    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """See `GeneralisedLinear.of_target`."""
        del parameters
        low, high = bounds(from_zero(self.name, "target", target))
        if high - low > _WIDEST:
            raise UsageError(
                f"{self.name}: target {target.name!r} has agreed bounds that are {high - low:g} apart, and "
                f"more than {_WIDEST} counts cannot be told apart; agree on narrower ones"
            )
        scale = Scale.of(target)
        if unit_of(scale) > _HIGH * scale.unit:
            raise UsageError(
                f"{self.name}: target {target.name!r} has agreed bounds that are so close to each other, for "
                "what they are, that its digits are lost; agree on a lower one nearer to 0"
            )
        return {"": plain(target)}

    @staticmethod
    def counts(rows: Rows) -> tuple[Vector, Vector, Vector]:
        """What `Counts` is made of: y, one over its mean, and the mean."""
        column = rows.target[""]
        shared, part = whole_of(column), column.scale.unit / unit_of(column.scale)
        if part < 1:
            shared = shared * part
        fine: Any
        if rows.present is None:
            per = shared.mean().reciprocal()
            fine = shared.sum() * (DIGITS / rows.count)
        else:
            shared = free(rows.present * shared)
            fine = shared.sum() * (DIGITS / rows.count) / (rows.present.sum() * (1 / rows.count))
            per = (fine * (1 / DIGITS)).reciprocal()
        # The mean is what counts were divided by, to more digits: what one over it misses is taken back.
        mean = fine - fine * (fine * per - DIGITS) * (1 / DIGITS)
        y: Any = shared * per
        if rows.present is not None:
            y = y + (1 - rows.present)
        return free(y), per, mean * unit_of(column.scale)

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Cells]:
        """See `TellsCells.cells`: sums over counts, of logarithms too, tell those that have few values."""
        target = [column for name, column in columns.items() if name == parameters.target]
        return [*super().cells(columns, parameters), *singles(target, 5)]

    def besides(self, model: Counts, fit: Fit, rows: Rows) -> Mapping[str, Vector]:
        """See `GeneralisedLinear.besides`."""
        del fit
        return {"per": model.per, "total": rows.weighted(model.y).sum()}

    def level(self, found: Found, parameters: Any) -> tuple[float, float]:
        """See `GeneralisedLinear.level`."""
        del parameters
        mean = mean_of(found)
        return math.log(mean), 1 / (mean * found.weights)

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        del parameters
        mean = mean_of(found)
        return {"mean": mean, "total": found.number("total") * mean * found.weights}

    def told(self) -> Mapping[str, str]:
        """See `GeneralisedLinear.told`."""
        return {
            "mean": "the mean of the target",
            "total": "the sum of the target, times the weights if there are any",
        }


def unit_of(scale: Scale) -> float:
    """In what counts are computed with: a power of two times the target's unit, so that the mean is around 1.

    It is the lower bound that says how large a mean is at least; one over it keeps its digits.
    """
    least = scale.low + scale.centre / scale.unit
    return scale.unit * 2.0 ** max(math.floor(math.log2(max(least, 1.0))), 0)


def mean_of(found: Found) -> float:
    """Of the target.

    Raises:
        UsageError: it is 0, or nearly.
    """
    per, unit = found.number("per"), unit_of(Scale.of(found.target))
    if not 0 < per < 2**15:
        raise UsageError(f"column {found.target.name!r}: it is 0 in nearly all rows; nothing explains that")
    mean = unit / per
    if found.target.type == "number" and unit / 2**16 > _ROUNDED * mean:
        raise UsageError(
            f"column {found.target.name!r}: its agreed bounds are so wide that its digits are lost; agree on "
            "narrower ones"
        )
    return mean


def logarithm_of(target: ColumnTerms) -> Feature:
    """ln y, and of a y that is 0, or much less than others, the least: it is only multiplied by y."""
    low, high = bounds(target)
    least = 1.0 if target.type != "number" else high * _LEAST
    if high <= 0:
        raise UsageError(f"column {target.name!r}: by its agreed bounds it is 0 always")
    least, high = max(low, least), max(high, least)

    def logarithm(y: Any) -> Any:
        return np.log(np.clip(y, least, high))

    return number_of(target, logarithm, math.log(least), math.log(high))


def interpolant(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> list[float]:
    """Six coefficients of a polynomial that takes a function's place between two points, from the constant
    on: the interpolant at Chebyshev's nodes."""
    from numpy.polynomial import Chebyshev, Polynomial

    found = Chebyshev.interpolate(function, 5, domain=[low, high]).convert(kind=Polynomial)
    coefficients: list[float] = found.coef.tolist()
    return coefficients


def quintic(x: Vector, coefficients: Sequence[float]) -> Vector:
    """A polynomial of six coefficients, of each element."""
    square: Any = x * x
    cube = x * square
    powers = (x, square, cube, square * square, square * cube)
    return sum((power * k for power, k in zip(powers, coefficients[1:], strict=True)), coefficients[0])


def natural(column: Column) -> Vector:
    """A column in the units of the data, or of what its owner made of it."""
    found: Any = whole_of(column)
    return found * column.scale.unit


def bounds(target: ColumnTerms) -> tuple[float, float]:
    """The agreed ones."""
    if target.type == "boolean":
        return 0.0, 1.0
    assert target.low is not None
    assert target.high is not None
    return target.low, target.high
