"""Piecewise polynomials of a shared value, exact in the ring, in the four rounds of one comparison.

The comparison opens c = x + r, so powers of x are linear in dealt powers of r, and so is a
comparison's bit times a power: with the bit b opened as o = b + d (mod 2),

    b x^j = (o + (1 - 2 o) d) (c - r)^j = sum_i binom(j, i) c^(j - i) (-1)^i (o r^i + (1 - 2 o) d r^i).

A piecewise polynomial is the last piece plus, for each threshold above x, the difference of the two
pieces that meet there: linear in those. Nothing is rounded, so a piece may leave the range of the
ring where x is not in it. (Splines with one opening: Boyle et al., "Function Secret Sharing for
Mixed-Mode and Fixed-Point Secure Computation", EUROCRYPT 2021, there for two parties.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import compare
from mpcpriv.engine.session import Session

_RING = 1 << 64
Curve = Callable[[np.ndarray], np.ndarray]
Polynomial = list[int]
"""Coefficients in Z_2^64 of a ring element x, constant term first."""


@dataclass(frozen=True)
class Piecewise:
    """Several functions that are polynomials between common thresholds.

    Attributes:
        thresholds: K increasing ring elements; a piece holds the threshold below it.
        pieces: uint64 (M, K + 1, D + 1): by function and piece, a polynomial of degree up to 3 in x.
    """

    thresholds: tuple[int, ...]
    pieces: np.ndarray

    @staticmethod
    def of(thresholds: Sequence[int], *functions: Sequence[Polynomial]) -> Piecewise:
        """From K thresholds and, per function, K + 1 polynomials of any degree up to 3."""
        degree = max(len(piece) for pieces in functions for piece in pieces) - 1
        table = [
            [
                [coefficient % _RING for coefficient in piece] + [0] * (degree + 1 - len(piece))
                for piece in pieces
            ]
            for pieces in functions
        ]
        return Piecewise(tuple(int(t) for t in thresholds), np.array(table, dtype=np.uint64))


def evaluate(session: Session, function: Piecewise, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of the M functions of x, or of x / 2^shift, modulo 2^64, in shape (M, *x.shape).

    Args:
        x: shares of ring elements in [-2^62, 2^62).
        shift: bits by which x is truncated first, in the same rounds; off by one unit as `truncate` is.
    """
    count, _, terms = function.pieces.shape
    if x.numel() == 0:
        return torch.zeros((count, *x.shape), dtype=torch.int64)
    done = compare(session, x, list(function.thresholds), degree=terms - 1, shift=shift)
    one = torch.full_like(done.r, int(session.rank == 0))
    powers = torch.cat([torch.stack([one, done.r], -1)[:, :terms], done.powers], -1)
    steps = function.pieces[:, :-1] - function.pieces[:, 1:]
    result = np.empty((count, x.numel()), np.uint64)
    _evaluate(
        done.c.numpy().view(np.uint64),
        powers.numpy().view(np.uint64),
        done.opened.numpy().view(np.uint8),
        done.landing.numpy().view(np.uint64),
        steps,
        np.ascontiguousarray(function.pieces[:, -1]),
        result,
    )
    return torch.from_numpy(result.view(np.int64)).reshape(count, *x.shape)


RELU = Piecewise.of([0], [[0], [0, 1]], [[0], [1]])
"""max(x, 0), and [x >= 0]."""


def polynomial(coefficients: Sequence[float], origin: int, bits: int) -> Polynomial:
    """A polynomial of reals as one of ring elements, with `bits` fractional bits.

    Args:
        coefficients: in u = (x - origin) / 2^16, constant term first.
        origin: a ring element.
        bits: of the result; coefficient j is rounded to bits - 16 j bits.
    """
    result = [0] * len(coefficients)
    for power, coefficient in enumerate(coefficients):
        scaled = round(coefficient * 2.0 ** (bits - FRACTIONAL_BITS * power))
        for i in range(power + 1):
            result[i] += scaled * math.comb(power, i) * (-origin) ** (power - i)
    return result


def fit(function: Curve, low: float, high: float, degree: int) -> list[float]:
    """Coefficients in u = x - (low + high) / 2 of the interpolant at Chebyshev nodes (near-minimax)."""
    nodes = (high - low) / 2 * np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    fitted = np.polynomial.polynomial.polyfit(nodes, function((low + high) / 2 + nodes), degree)
    return [float(c) for c in fitted]


def knots(
    curves: Sequence[Curve], start: int, end: int, *, degree: int, bits: int, error: float
) -> list[int]:
    """Ring elements from `start` to `end`, both included, going up or down: each piece between two
    neighbours is as long as it can be for `fitted` to be within the error of every curve.

    Args:
        curves: of x in reals, where ring elements have 16 fractional bits.
        degree, bits: as `fitted` will be given.
    """
    found, step = [start], 1 if end >= start else -1
    while found[-1] != end:
        near, far = 1, abs(end - found[-1])  # one unit is one value: it is fitted whatever the curve
        while near < far:
            middle = (near + far + 1) // 2
            last = found[-1] + step * middle
            if all(_off(curve, found[-1], last, degree, bits) <= error for curve in curves):
                near = middle
            else:
                far = middle - 1
        found.append(found[-1] + step * near)
    return found


def fitted(curve: Curve, left: int, right: int, degree: int, bits: int) -> Polynomial:
    """The polynomial between two ring elements with 16 fractional bits, with values of `bits`."""
    if right - left == 1:  # a single value
        return polynomial([float(curve(np.array(left * 2.0**-FRACTIONAL_BITS)))], left, bits)
    middle = (left + right) // 2
    low, high = (2.0**-FRACTIONAL_BITS * edge for edge in (left, right))
    # The polynomial's origin is a ring element, the middle of the fit may be half of one further.
    shift = np.polynomial.Polynomial([middle * 2.0**-FRACTIONAL_BITS - (low + high) / 2, 1.0])
    shifted = np.polynomial.Polynomial(fit(curve, low, high, degree))(shift)
    return polynomial([float(c) for c in shifted.coef], middle, bits)


def _off(curve: Curve, one: int, other: int, degree: int, bits: int) -> float:
    """The worst error between two ring elements: that of the fit, and of its rounded coefficients."""
    low, high = sorted(2.0**-FRACTIONAL_BITS * edge for edge in (one, other))
    u = np.linspace(low, high, 65)[1:-1]
    values = np.polynomial.polynomial.polyval(u - (low + high) / 2, fit(curve, low, high, degree))
    half = (high - low) / 2
    rounded = sum(2.0 ** (FRACTIONAL_BITS * j - bits - 1) * half**j for j in range(degree + 1))
    return float(np.abs(values - curve(u)).max()) + rounded


@njit(cache=True, nogil=True)
def _evaluate(c, powers, opened, landing, steps, last, result):  # type: ignore[no-untyped-def]
    terms = powers.shape[1]
    weights, values = np.empty(terms, np.uint64), np.empty(terms, np.uint64)
    for n in range(c.shape[0]):
        for m in range(result.shape[0]):
            result[m, n] = 0
        for k in range(opened.shape[1] + 1):
            # Shares of b r^i, and from them of b x^j; the last piece has b = 1.
            for i in range(terms):
                weights[i] = powers[n, i]
                if k < opened.shape[1]:
                    d = landing[n, k, i]
                    weights[i] = powers[n, i] - d if opened[n, k] & np.uint8(1) else d
            for j in range(terms):
                values[j] = weights[j]
            # (c - r)^j by repeated differences: values[j] <- c values[j - 1] - values[j].
            for level in range(1, terms):
                for j in range(terms - 1, level - 1, -1):
                    values[j] = c[n] * values[j - 1] - values[j]
            for m in range(result.shape[0]):
                for j in range(terms):
                    factor = steps[m, k, j] if k < opened.shape[1] else last[m, j]
                    result[m, n] += factor * values[j]
