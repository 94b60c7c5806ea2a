"""Newton's method on shares, for models whose rows depend on the coefficients by a linear predictor.

Coefficients, gradients and Hessians stay secret on the way. Where fixed point loses digits, and what is done:

- Columns are standardised, and Gram matrices held as if there were about `_ROWS` rows, whatever there are:
  then they and their inverse both keep their digits.
- The inverse is followed by Schulz's iteration (G. Schulz, ZAMM 13, 1933), and need not be exact: the
  gradient is, and it decides where the steps end. Sums over rows are truncated once, after the sum.
- Coefficients lie on the grid of 2^-16, at which the gradient is exact. The last change, which is small, is
  added on a grid that is `scale_of` times as fine.
- What else rounding does to a row has no bias, and is many times less than what is random in the row. The
  curves in it are `fine_exp` and `fine_sigmoid`, whose errors do not add up over rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from mpcpriv.errors import UsageError

Vector = Any
"""A shared tensor; in a test, one of float64."""

_AT_ONCE: Final = 1 << 16
"""Elements of which an exponential is taken at once: some hundred thresholds are dealt for each."""
_ROWS: Final = 27
_INVERTING: Final = 18
"""Iterations for the first inverse: each doubles an eigenvalue's part, 2^-18 of the trace at first."""
_LATER: Final = 5
"""Iterations for the inverse of a Hessian that is close to the one before."""
_SHORT: Final = 1.5
"""The inverse times the Hessian has eigenvalues of at most this first; the iteration diverges from 2 on."""
_LIMIT: Final = 256.0
"""Of the coefficients of standardised columns: no predictor leaves the ring."""
_MOST_BITS: Final = 12
"""Of `scale_of`: a coefficient at the limit, with it, still has products in the ring."""

_NEAR: Final = 4e-4
"""Twice what the last step could lower the objective by, for it to have settled: it moved nothing by more
than 0.02 standard errors, and Newton's next would by about their square."""
_FLAT: Final = 1e-3
"""Neither has one settled that left a gradient of more than this per row: it would be far away."""
_INVERSE: Final = 0.02
"""Nor one whose inverse, times the Hessian, is further from one than this (the sum of squares)."""


def _unit(rows: int) -> float:
    return float(2.0 ** round(math.log2(rows / _ROWS)))


def scale_of(rows: int) -> float:
    """What a coefficient is multiplied by in the end: 300 over its standard error, where there is room."""
    return float(2.0 ** min(max(6 + round(math.log2(_unit(rows)) / 2), 0), _MOST_BITS))


def parts_of(rows: int) -> float:
    """What the information is multiplied by: products of each row are truncated before they are summed."""
    return float(2.0 ** min(max(25 - math.ceil(math.log2(rows)), 0), 8))


_LEAST: Final = 3 * 2.0**-16
"""Variance that fixed point holds, where rounding makes up to two units of none: that of a yes-or-no in one
of 20,000 rows."""

_LOST: Final = 0.01
"""What part of a variance may be lost to rounding: it is much less where columns are not nearly collinear."""

Steps = Callable[[int, str], Iterator[int]]
"""`mpcpriv.steps`."""


@dataclass(frozen=True)
class Point:
    """Of each row, at a predictor, what the objective -log L does as the predictor grows.

    Attributes:
        slope: (n,), its derivative.
        curvature: (n,), its second derivative, positive; or something near to it.
        information: (n,) or a number: the expectation of the second derivative.
    """

    slope: Vector
    curvature: Vector
    information: Vector


class Model(Protocol):
    """What a row contributes."""

    def start(self, offset: Vector) -> tuple[Vector, Vector]:
        """Slopes and curvatures, (n,), with coefficients of 0, of the parabola whose minimum is the start."""

    def at(self, predictor: Vector) -> Point:
        """At a predictor (n,)."""

    def outside(self, predictor: Vector) -> Vector:
        """Of how many rows the predictor has left what `at` can be computed for: a scalar."""

    def dispersion(self, point: Point, weights: Vector | None, degrees: Any) -> Vector:
        """Of a residual the variance, by the variance function: a scalar.

        Args:
            point: of all rows.
            weights: (n,), 0 of rows that are not there; None where they are 1.
            degrees: rows that are there less coefficients: a number, or a scalar.
        """


@dataclass(frozen=True)
class Fit:
    """Where Newton's method ended.

    Attributes:
        coefficients: (d + 1,), times `scale_of`.
        predictor, point: at the last point where they were computed: closer to the end than shows in them.
        dispersion: there.
        converged: (1,), 1 or 0.
    """

    coefficients: Vector
    predictor: Vector
    point: Point
    dispersion: Vector
    converged: Vector


def exponential(x: Vector) -> Vector:
    """e^x of x up to 14."""
    import torch

    return torch.exp(x) if isinstance(x, torch.Tensor) else _in_parts(x, lambda part: part.fine_exp())


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e^-x)."""
    import torch

    return torch.sigmoid(x) if isinstance(x, torch.Tensor) else _in_parts(x, lambda part: part.fine_sigmoid())


def _in_parts(x: Vector, function: Callable[[Vector], Vector]) -> Vector:
    """A function of (n,), of as many elements at once as the dealer deals thresholds for."""
    import torch

    return torch.cat([function(part) for part in x.split(_AT_ONCE)]) if len(x) > _AT_ONCE else function(x)


def free(x: Vector) -> Vector:
    """Forgets the bounds of a tensor.

    Interval arithmetic multiplies ends that never meet, and would refuse what follows. What holds instead: a
    standardised column has length sqrt(n), so by Cauchy and Schwarz no sum over rows of products of two of
    them exceeds n, times the largest weight, which models keep below 2^29 / n; and Schulz's iteration keeps
    the inverse times the Hessian between 0 and 1.
    """
    x.interval = None
    return x


def standardise(x: Vector, present: Vector | None = None) -> tuple[Vector, Vector, Vector, Vector]:
    """Standardises the columns.

    Args:
        x: (n, d), columns of standard deviation 0.05 to 4; a constant one becomes 0.
        present: (n,), 1 of rows that are there and 0 of others, which are zeros in x; None where all are.

    Returns:
        (n, d + 1), x with mean 0 and variance 1 per column, and a column of ones, zeros in rows that are not
        there; the means (d,); one over the standard deviations (d,); the variances (d,).
    """
    import torch

    if present is None:
        mean = x.mean(0)
        centred = x - mean
        variance = centred.square().mean(0)
    else:
        count: Any = present.sum()
        mean = x.sum(0) / count
        centred = (x - mean) * present.unsqueeze(1)
        variance = centred.square().sum(0) / count
    per_spread = torch.rsqrt(variance)
    z = free(centred * per_spread)
    return torch.cat([z, ones(z, present)], dim=1), mean, per_spread, variance


def mean_of(values: Vector, present: Vector | None) -> Vector:
    """The mean of (n,), a scalar, over the rows that are there; a division by their number tells nobody that
    there is none."""
    return values.mean() if present is None else (present * values).sum() / present.sum()


def ones(x: Vector, present: Vector | None = None) -> Vector:
    """A column of them beside (n, d), of zeros in rows that are not there."""
    return x[:, :1] * 0 + 1 if present is None else present.unsqueeze(1)


def minimise(
    x: Vector,
    variance: Vector,
    model: Model,
    offset: Vector,
    weights: Vector | None,
    penalty: float,
    turns: int,
    steps: Steps,
    present: Vector | None = None,
) -> Fit:
    """Newton's method on all rows: it needs few steps, and so few exponentials and rounds.

    Args:
        x: (n, d + 1), standardised, with its column of ones; rows of zeros add to no gradient or Hessian.
        variance: (d,), of the columns before; where it is less than fixed point holds, nothing converges.
        model: of the rows.
        offset: (n,), added to the predictor; or 0.
        weights: (n,), of the rows, 0 of those that are not there; None where they are 1.
        penalty: of half the sum of the squared coefficients but the last.
        turns: Newton's steps, after the one to the start.
        steps: counts the turns of a loop.
        present: as `standardise` takes it.
    """
    import torch

    rows, terms = x.shape
    if rows <= terms:
        raise UsageError(f"{rows} rows are too few for {terms} coefficients")
    unit, scale = _unit(rows), scale_of(rows)
    across = x.t()
    ridge = torch.tensor([penalty] * (terms - 1) + [0.0], dtype=torch.float64)
    one = torch.eye(terms, dtype=torch.int64)

    def weighted(values: Any) -> Any:
        return values if weights is None else weights * values

    def hessian_of(curvature: Any) -> Any:
        gram = (
            across.matmul(x) * curvature
            if isinstance(curvature, float)
            else across.matmul(x * curvature.unsqueeze(1))
        )
        return gram / unit + torch.diag(ridge / unit)

    def improved(inverse: Any, hessian: Any, times: int, what: str) -> Any:
        for _ in steps(times, what) if what else range(times):
            inverse = inverse * 2 - inverse.matmul(hessian.matmul(inverse))
        return inverse

    slope, curvature = model.start(offset)
    hessian = hessian_of(weighted(curvature))
    gradient: Any = across.matmul(weighted(slope)) / unit
    # From one over the trace, below the inverse, the iteration stays below it: a step falls short.
    inverse = improved(one * (hessian * one).sum().reciprocal(), hessian, _INVERTING, "inverting")
    coefficients = inverse.matmul(gradient) * -1

    def step(at: Any, inverse: Any) -> tuple[Any, ...]:
        predictor = x.matmul(at) + offset
        point = model.at(predictor)
        gradient = across.matmul(weighted(point.slope)) + at * ridge
        hessian = hessian_of(weighted(point.curvature))
        # No eigenvalue exceeds the root of the sum of squares: a Hessian that grew does not mislead.
        product = inverse.matmul(hessian)
        inverse = inverse * (torch.rsqrt((product * product).sum()) * _SHORT)
        inverse = improved(inverse, hessian, _LATER, "")
        coefficients = (at - inverse.matmul(gradient / unit)).clamp(-_LIMIT, _LIMIT)
        return coefficients, inverse, at, predictor, point, gradient, hessian

    last = step(coefficients, inverse)
    # The first step is not a turn: it comes after other things than the later ones, and what the dealer is
    # asked for ahead would be in vain.
    for _ in steps(turns - 1, "fitting after the first step"):
        last = step(*last[:2])
    _, inverse, at, predictor, point, gradient, hessian = last
    gradient = gradient * (scale / unit)
    change = inverse.matmul(gradient)
    # Whether it converged is of the rows that are there: how many others there are does not show in it.
    there: Any = rows if present is None else present.sum()
    dispersion = model.dispersion(point, present if weights is None else weights, there - terms)
    rest = one - inverse.matmul(hessian)
    lower = (gradient * change).sum() * (1 / (_NEAR * scale**2 / unit)) - dispersion
    flat = gradient.abs().sum() * (unit / scale / rows / _FLAT) - there * (1 / rows)
    left = (rest * rest).sum() * (1 / _INVERSE) - 1
    wrong: Any = torch.stack([lower, flat, left, model.outside(predictor) + lower * 0])
    # A column without variance is one of zeros here, and so is its coefficient, whatever it should be.
    wrong = torch.cat([wrong, _LEAST - variance]).gt(0)
    return Fit(
        at * scale - change,
        predictor,
        point,
        dispersion,
        (wrong.sum() * 1).eq(0).reshape(1),
    )


def fold(coefficients: Vector, mean: Vector, per_spread: Vector, shift: Vector) -> Vector:
    """The same model, (d + 1,), for columns that are not standardised: means and spreads stay secret.

    Args:
        coefficients: (d + 1,).
        mean, per_spread: as `standardise` returned them.
        shift: what is taken off the intercept besides.
    """
    import torch

    slopes = coefficients[:-1] * per_spread
    return torch.cat([slopes, coefficients[-1:] - (slopes * mean).sum().reshape(1) - shift])


def information(
    x: Vector,
    weights: Vector | None,
    point: Point,
    variance: Vector,
    penalty: float,
    present: Vector | None = None,
) -> Vector:
    """The Fisher information of the coefficients, with the penalty's part: one over their covariance.

    It is opened in the place of its inverse, which the recipients compute in float64: both say the same, and
    a sum over rows keeps its digits.

    Args:
        x: (n, d), as they were shared.
        weights: (n,), or None.
        point: where it is taken.
        variance: (d,), of the columns.
        penalty: of half the sum of the squared coefficients of standardised columns.
        present: as `standardise` takes it.

    Returns:
        ((d + 1)^2,), times `parts_of`.
    """
    import torch

    whole = free(torch.cat([x, ones(x, present)], dim=1))
    part = parts_of(len(x))
    kept: Any = point.information if weights is None else weights * point.information
    across = whole.t()
    gram: Any = (
        across.matmul(whole) * (kept * part)
        if isinstance(kept, float)
        else across.matmul(whole * free(kept * part).unsqueeze(1))
    )
    if penalty:
        ridge: Any = torch.cat([variance * (penalty * part), variance[:1] * 0])
        gram = gram + ridge * torch.eye(len(ridge), dtype=torch.int64)
    return gram.flatten()


def covariance(information: np.ndarray, rounding: float) -> np.ndarray | None:
    """One over an information matrix, in float64 at the recipients.

    Args:
        information: (d, d), as it was opened, of numbers of about 1.
        rounding: of each of its sums, the standard deviation.

    Returns:
        (d, d); None where there is none, or where rounding would show in it.
    """
    symmetric = (information + information.T) / 2
    size = np.sqrt(np.clip(np.diag(symmetric), 0, None))
    if not (size > 0).all():
        return None
    values, vectors = np.linalg.eigh(symmetric / np.outer(size, size))
    if values[0] * _LOST <= math.sqrt(len(size)) * rounding / size.min() ** 2:
        return None
    inverse: np.ndarray = (vectors / values) @ vectors.T / np.outer(size, size)
    return inverse
