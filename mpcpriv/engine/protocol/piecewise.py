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

import itertools
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
_UNIT = 2.0**-FRACTIONAL_BITS
_ANGLES = np.pi * (np.arange(64) + 0.5) / 64
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


def rectifier(thresholds: Sequence[int]) -> list[Polynomial]:
    """The pieces of max(x, 0) between increasing thresholds, 0 among them."""
    return [[0] if t <= 0 else [0, 1] for t in (*thresholds, 1)]


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


@dataclass(frozen=True)
class Limited:
    """A real function that is constant far from zero, but for a small error.

    Attributes:
        curve: the function, of float64 arrays.
        low, high: its limits towards minus and plus infinity.
    """

    curve: Curve
    low: float
    high: float


def limited(
    functions: Sequence[Limited], *, degree: int, bits: int, error: float, through: Sequence[int] = ()
) -> tuple[list[int], list[list[Polynomial]]]:
    """Few common thresholds between which each function is a polynomial, and by function all pieces.

    Args:
        functions: of a value with 16 fractional bits.
        degree: of the polynomials, up to 3.
        bits: fractional bits of their values.
        error: the most that any may be off by, at any x.
        through: ring elements that have to be among the thresholds.
    """
    stops = sorted({-_reach(functions, -1, error), *through, _reach(functions, 1, error)})
    curves = [function.curve for function in functions]
    thresholds = stops[:1]
    for start, end in itertools.pairwise(stops):
        thresholds += knots(curves, start, end, degree=degree, bits=bits, error=error)[1:]
    pieces = [
        [
            polynomial([function.low], 0, bits),
            *(fitted(function.curve, *edges, degree, bits) for edges in itertools.pairwise(thresholds)),
            polynomial([function.high], 0, bits),
        ]
        for function in functions
    ]
    return thresholds, pieces


def knots(
    curves: Sequence[Curve], start: int, end: int, *, degree: int, bits: int, error: float
) -> list[int]:
    """Ring elements from `start` up to `end`, both included: each piece between two neighbours is as long
    as it can be for `fitted` to be within the error of every curve.
    """
    found = [start]
    while found[-1] < end:
        near, far = found[-1] + 1, end  # one unit is one value: it is fitted whatever the curve
        while near < far:
            middle = (near + far + 1) // 2
            if all(_fitted(curve, found[-1], middle, degree, bits)[1] <= error for curve in curves):
                near = middle
            else:
                far = middle - 1
        found.append(near)
    return found


def fitted(curve: Curve, left: int, right: int, degree: int, bits: int) -> Polynomial:
    """The polynomial between two ring elements with 16 fractional bits, with values of `bits`."""
    coefficients, _ = _fitted(curve, left, right, degree, bits)
    return polynomial(coefficients, (left + right) // 2, bits)


def _fitted(curve: Curve, left: int, right: int, degree: int, bits: int) -> tuple[list[float], float]:
    """Coefficients around the middle, as `polynomial` takes them, and the largest error.

    The leading coefficient has the fewest bits: it is rounded first, and the others are fitted to what
    it leaves (least squares at Chebyshev nodes, near-minimax).
    """
    if right - left == 1:  # a single value
        return [float(curve(np.array(left * _UNIT))), *[0.0] * degree], 0.0
    middle, half = (left + right) // 2 * _UNIT, (right - left) / 2 * _UNIT
    u = (left + right) / 2 * _UNIT - middle + half * np.cos(_ANGLES)
    rest = curve(middle + u)
    coefficients = [0.0] * (degree + 1)
    for power in range(degree, -1, -1):
        best = float(np.mean(rest * np.cos(power * _ANGLES))) * (2 / half) ** power
        step = 2.0 ** (FRACTIONAL_BITS * power - bits)
        coefficients[power] = round(best / step) * step
        rest = rest - coefficients[power] * u**power
    return coefficients, float(np.abs(rest).max())


def _reach(functions: Sequence[Limited], sign: int, error: float) -> int:
    """From where on every function is as near to its limit as the error allows, as an encoded distance."""
    distance = np.arange(1, 64 * 64) / 64
    limits = [(f.curve, f.low if sign < 0 else f.high) for f in functions]
    far = np.max([np.abs(curve(sign * distance) - limit) for curve, limit in limits], axis=0)
    outside = np.flatnonzero(far > error)
    return round(float(distance[outside[-1] + 1]) * 2**FRACTIONAL_BITS) if outside.size else 0


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
