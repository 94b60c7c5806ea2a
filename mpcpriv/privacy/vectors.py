"""Releasing numbers of one's own, with Laplace or Gaussian noise.

Noise in floats betrays by its last bits what it hides (I. Mironov, CCS 2012). So the numbers are rounded to
integers on a grid that follows from the sensitivity alone, the noise is drawn as integers, and their exact
sum is the release: what becomes of it later, a float for one, cannot undo it. Rounding may add one step of
the grid to what a row changes of each number; the noise is chosen for that much more, some 2^-24 of it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpcpriv.errors import UsageError
from mpcpriv.privacy.mechanism import Noise, Sensitivity, calibrate
from mpcpriv.privacy.released import NoisyVector

LAPLACE_BITS: Final = 24
GAUSSIAN_BITS: Final = 36
"""How much finer than the sensitivity, spread over the numbers, the grid is."""


def laplace(vector: ArrayLike, sensitivity: float, epsilon: float) -> NoisyVector:
    """Numbers with discrete Laplace noise: pure ε-differential privacy.

    Args:
        vector: (n,) or one number; finite.
        sensitivity: the most that one row, added or removed, can change of the vector: the sum of magnitudes
            over its numbers. It must hold of the vector as it was computed: clip every row first, and sum
            integers or with `math.fsum`, since rounding in a long sum of floats can be more than a row.
        epsilon: above 0.

    Raises:
        UsageError: an argument is out of its range.
        RangeError: the noise does not fit 64 bits: epsilon is too small for so long a vector.
    """
    numbers = _numbers(vector)
    grid = _grid(sensitivity, len(numbers), LAPLACE_BITS)
    l1 = math.ceil(Fraction(sensitivity) / grid) + len(numbers)
    noise = calibrate("discrete-laplace", epsilon, 0.0, Sensitivity(l1, l1 * l1, l1), len(numbers), 1, 0)
    return _release(numbers, grid, noise, Sensitivity(l1, l1 * l1, l1), epsilon, 0.0)


def gaussian(vector: ArrayLike, sensitivity: float, epsilon: float, delta: float) -> NoisyVector:
    """Numbers with discrete Gaussian noise: (ε, δ)-differential privacy, with the least σ that gives it.

    Balle and Wang 2018 give it for the real Gaussian. The discrete one on this grid is within 2^-77 / z^2 of
    that in total variation, all numbers together; δ is lowered by more than what this can cost.

    Args:
        vector: (n,) or one number; finite.
        sensitivity: as for `laplace`, but the root of the sum of squares.
        epsilon: above 0.
        delta: above 0, below 1; far below one over the number of rows.

    Raises:
        UsageError: an argument is out of its range.
        RangeError: the noise does not fit 64 bits: epsilon is too small for so long a vector.
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta: {delta!r}; give a number above 0 and below 1")
    numbers = _numbers(vector)
    root = math.isqrt(len(numbers) - 1) + 1
    grid = _grid(sensitivity, root, GAUSSIAN_BITS)
    l2 = math.ceil(Fraction(sensitivity) / grid) + root
    changed = Sensitivity(l2 * root, l2 * l2, l2)
    noise = calibrate("discrete-gaussian", epsilon, delta * 0.999, changed, len(numbers), 1, 0)
    # A step of the density against its mean over the step: 1/2 n E|x^2 - 1| / 24 σ^2 < n / 32 σ^2.
    distance = len(numbers) / (32 * float(noise.scale))
    if (1 + math.exp(min(epsilon, 700))) * distance > delta * 0.001:
        raise UsageError(f"epsilon: {epsilon:g} is too much for a delta of {delta:g}; take laplace")
    return _release(numbers, grid, noise, changed, epsilon, delta)


def _numbers(vector: ArrayLike) -> list[int] | list[float]:
    array = np.asarray(vector)
    if array.ndim > 1 or array.size == 0 or array.dtype.kind not in "biuf":
        raise UsageError(f"vector: shape {array.shape} of {array.dtype}; give one number or (n,) numbers")
    if not np.isfinite(array).all():
        raise UsageError("vector: not all of it is finite; clip every row first")
    numbers: list[int] | list[float] = np.atleast_1d(array).tolist()
    return numbers


def _grid(sensitivity: float, parts: int, bits: int) -> Fraction:
    """A power of two, at most 2^-bits of the sensitivity over the parts."""
    if not 0 < sensitivity < math.inf:
        raise UsageError(f"sensitivity: {sensitivity!r}; give a finite number above 0")
    _, exponent = math.frexp(sensitivity)
    return Fraction(2) ** (exponent - 1 - (parts - 1).bit_length() - bits)


def _release(
    numbers: list[int] | list[float],
    grid: Fraction,
    noise: Noise,
    sensitivity: Sensitivity,
    epsilon: float,
    delta: float,
) -> NoisyVector:
    drawn: list[int] = noise.share(len(numbers)).tolist()
    # Integers without end: nothing wraps, and nothing is rounded before the sum.
    noised = [(round(Fraction(one) / grid) + extra) for one, extra in zip(numbers, drawn, strict=True)]
    values: NDArray[np.float64] = np.array([float(one * grid) for one in noised])
    values.flags.writeable = False
    gaussian = noise.kind == "discrete-gaussian"
    scale = math.sqrt(noise.scale) if gaussian else float(noise.scale)
    return NoisyVector(
        noise.kind,
        scale * float(grid),
        grid,
        epsilon,
        delta,
        noise.loss(sensitivity, len(numbers)),
        values,
    )
