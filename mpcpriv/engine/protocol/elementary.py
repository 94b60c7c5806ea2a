"""exp, log, reciprocal and roots over the whole range of fixed point, in few rounds.

Each value is first *normalised*: one comparison with all powers of two finds its bit length k, and
in the same rounds multiplies it by the power that brings it to u in [1/2, 1) (Catrina, Saxena,
FC 2010, section 5; there bit by bit) and looks up what else depends on k. The function of u is one
piecewise cubic. exp is a piecewise cubic times a looked-up factor at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.protocol.piecewise import Piecewise, Polynomial, evaluate, fit, polynomial
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session

LENGTHS = 45
"""Bit lengths of encoded values that are normalised: 1 to 45, so values in [2^-16, 2^29)."""
_FINE = 18
"""Fractional bits of u: its cube has 54 of the 60 that a piecewise cubic has."""
_BITS = 60
_MUL = Bilinear("mul")
FRACTION_BITS = 30
"""Fractional bits of `exp_fraction`."""
_FACTOR = 44
"""Those of its factors, which are below 2: times a mantissa below 2 with 16 bits, less than 2^62."""
_STEP = 15
"""The most bits that a quotient is lowered by at once."""
Table = Callable[[int], float]
"""What a function multiplies or adds by bit length, as a real that is rounded to a ring element."""


def log(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of ln x: ln u + (k - 16) ln 2. Ten rounds."""
    u, offset = _normalise(session, _log_table(), x)
    (mantissa,) = truncate(session, [(evaluate(session, _mantissa_log(), u)[0], _BITS - 1 - FRACTIONAL_BITS)])
    return mantissa + offset


def reciprocal(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of 1 / x: (1 / u) 2^(16 - k), with the sign of x. Twelve rounds."""
    return _scaled(session, _reciprocal_table(), _mantissa_reciprocal(), x, LENGTHS - FRACTIONAL_BITS)


def divide(session: Session, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Shares of x / y, accurate relative to the quotient: the reciprocal itself is never rounded.

    y is normalised to u 2^(k - 16). If it is below 1, x is first raised by the power of two that is missing;
    then multiplied by 1 / u; and if y is above 1, lowered in two steps, each of up to 15 bits, as there is no
    room for 29. 0 for y = 0. Seventeen rounds.
    """
    raised, left, first, second = evaluate(session, _division_table(), y)
    (u,) = truncate(session, [(raised, LENGTHS - _FINE)])
    (inverse,) = truncate(
        session, [(evaluate(session, _mantissa_reciprocal(), u)[0], _BITS - 1 - FRACTIONAL_BITS)]
    )
    (result,) = truncate(
        session, [(product(session, _MUL, product(session, _MUL, x, left), inverse), FRACTIONAL_BITS)]
    )
    for factor in (first, second):
        (result,) = truncate(session, [(product(session, _MUL, result, factor), _STEP)])
    return result


def sqrt(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of sqrt(x): sqrt(u) 2^((k - 16) / 2). Twelve rounds."""
    return _scaled(session, _sqrt_table(), _mantissa_sqrt(), x, 30)


def inv_sqrt(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of 1 / sqrt(x): u^(-1/2) 2^((16 - k) / 2). Twelve rounds."""
    return _scaled(session, _inv_sqrt_table(), _mantissa_inv_sqrt(), x, 32)


def scaled_inv_sqrt(session: Session, x: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """Shares of scale / sqrt(x) with so many fractional bits, up to 30, to a relative 6e-5; twelve rounds.

    Unlike `inv_sqrt` it keeps its digits where it is small.

    Args:
        x: at least scale^2, below 2^29.
        scale: from 2^-10 to 2^10.
    """
    return _scaled(session, _scaled_inv_sqrt_table(scale), _mantissa_inv_sqrt(), x, 48 - bits)


def exp(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of e^x: e^m e^(x - m), m the middle of the piece that holds x. Eight rounds.

    For large pieces e^m is divided by 2^22 until after the truncation, where 2^22 is exact.
    """
    mantissa, factor, boost = evaluate(session, _exp_pieces(), x)
    (mantissa,) = truncate(session, [(mantissa, _BITS - FRACTIONAL_BITS)])
    (small,) = truncate(session, [(product(session, _MUL, mantissa, factor), 24)])
    return product(session, _MUL, small, boost)


def fine_exp(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of e^x, with a smaller error than `exp` where x is near 0; 0 below -12, constant from 14.25 on.

    Seven rounds: below 2^21 no factor has to wait for the truncation.
    """
    mantissa, factor = evaluate(session, _fine_exp_pieces(), x)
    (mantissa,) = truncate(session, [(mantissa, _BITS - FRACTIONAL_BITS)])
    (result,) = truncate(session, [(product(session, _MUL, mantissa, factor), 24)])
    return result


def power(session: Session, x: torch.Tensor, exponent: float) -> torch.Tensor:
    """Shares of x^p for a public p, 0 < abs(p) < 1: u^p 2^(p (k - 16)); 0 for x <= 0. Twelve rounds."""
    table, mantissa, bits = _power_tables(exponent)
    return _scaled(session, table, mantissa, x, bits)


def exp_fraction(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of e^x for x <= 0, with 30 fractional bits, to a relative 3e-4; 0 below -20. Seven rounds.

    For sums of many: their rounding does not add up to what shows in 16 bits.
    """
    mantissa, factor = evaluate(session, _fraction_pieces(), x)
    (mantissa,) = truncate(session, [(mantissa, _BITS - FRACTIONAL_BITS)])
    (result,) = truncate(
        session, [(product(session, _MUL, mantissa, factor), FRACTIONAL_BITS + _FACTOR - FRACTION_BITS)]
    )
    return result


def _scaled(
    session: Session, table: Piecewise, mantissa: Piecewise, x: torch.Tensor, bits: int
) -> torch.Tensor:
    """Shares of mantissa(u) * table[k] / 2^bits."""
    u, factor = _normalise(session, table, x)
    (value,) = truncate(session, [(evaluate(session, mantissa, u)[0], _BITS - 1 - FRACTIONAL_BITS)])
    (result,) = truncate(session, [(product(session, _MUL, value, factor), bits)])
    return result


def _normalise(session: Session, table: Piecewise, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of u with 18 fractional bits, and of the table's entry."""
    raised, entry = evaluate(session, table, x)
    (u,) = truncate(session, [(raised, LENGTHS - _FINE)])
    return u, entry


@cache
def _log_table() -> Piecewise:
    return _by_length(lambda k: (k - FRACTIONAL_BITS) * np.log(2) * 2**FRACTIONAL_BITS, zero=None)


@cache
def _reciprocal_table() -> Piecewise:
    return _by_length(lambda k: 2.0 ** (LENGTHS - k), zero=0, odd=True)


@cache
def _division_table() -> Piecewise:
    """A divisor raised, and by its bit length: 2^(16 - k) or 1 with its sign, and twice 2^15 / 2^step."""

    def step(k: int, place: int) -> float:
        return 2.0 ** (_STEP - max(0, min(k - FRACTIONAL_BITS - place * _STEP, _STEP)))

    left = _by_length(lambda k: 2.0 ** max(FRACTIONAL_BITS - k, 0), zero=0, odd=True)
    steps = [_by_length(partial(step, place=p), zero=0, odd=True).pieces[1:] for p in (0, 1)]
    # Only the first factor has the sign; a coefficient is its magnitude where it is not.
    magnitudes = [np.minimum(s, np.uint64(0) - s) for s in steps]
    return Piecewise(left.thresholds, np.concatenate([left.pieces, *magnitudes]))


@cache
def _sqrt_table() -> Piecewise:
    return _by_length(lambda k: 2.0 ** ((k - FRACTIONAL_BITS) / 2 + 30), zero=0)


@cache
def _inv_sqrt_table() -> Piecewise:
    return _by_length(lambda k: 2.0 ** ((FRACTIONAL_BITS - k) / 2 + 32), zero=0)


@cache
def _scaled_inv_sqrt_table(scale: float) -> Piecewise:
    # Entries for x below scale^2 / 2 are not used, and would not fit.
    return _by_length(lambda k: min(scale * 2.0 ** ((FRACTIONAL_BITS - k) / 2), 2.0) * 2.0**32, zero=0)


@cache
def _power_tables(exponent: float) -> tuple[Piecewise, Piecewise, int]:
    """The factors by bit length with the fractional bits they have, and the mantissa, in [1/2, 1]."""
    first = 0 if exponent > 0 else 1  # (2 u)^p is at most 1 where u^p is not

    def logarithm(k: int) -> float:
        return exponent * (k - FRACTIONAL_BITS - first)

    bits = LENGTHS - math.ceil(max(logarithm(1), logarithm(LENGTHS)))
    table = _by_length(lambda k: 2.0 ** (logarithm(k) + bits), zero=0)
    return table, _mantissa(lambda u: ((1 + first) * u) ** exponent), bits


def _by_length(table: Table, zero: int | None, odd: bool = False) -> Piecewise:
    """x raised to [2^44, 2^45) and the table's entry for its bit length.

    What is too large counts as 2^29, with u = 1. What is not positive has u = 1/2 and the entry `zero`
    (None: the table's for length 0), unless `odd`: then a negative x is treated as -x, and its entry negated.
    """
    lengths = range(1, LENGTHS + 1)
    raised: list[Polynomial] = [[1 << (LENGTHS - 1)]]
    raised += [[0, 1 << (LENGTHS - k)] for k in lengths]
    raised += [[1 << LENGTHS]]
    entries: list[Polynomial] = [[round(table(0)) if zero is None else zero]]
    entries += [[round(table(k))] for k in lengths]
    entries += [[round(table(LENGTHS))]]
    thresholds = [1 << k for k in range(LENGTHS + 1)]
    if odd:
        thresholds = [1 - t for t in reversed(thresholds)] + thresholds
        raised = [[*piece[:1], *(-c for c in piece[1:])] for piece in reversed(raised[1:])] + raised
        entries = [[-c for c in piece] for piece in reversed(entries[1:])] + entries
    return Piecewise.of(thresholds, raised, entries)


@cache
def _mantissa_log() -> Piecewise:
    return _mantissa(np.log)


@cache
def _mantissa_reciprocal() -> Piecewise:
    return _mantissa(lambda u: 1 / u)


@cache
def _mantissa_sqrt() -> Piecewise:
    return _mantissa(np.sqrt)


@cache
def _mantissa_inv_sqrt() -> Piecewise:
    return _mantissa(lambda u: u**-0.5)


def _mantissa(function: Callable[[np.ndarray], np.ndarray]) -> Piecewise:
    """A function of u in [1/2, 1] with values in [-2, 2], as four cubics with 59 fractional bits."""
    edges = [0.5, 0.625, 0.75, 0.875, 1.0]
    unit = 2 ** (_FINE - FRACTIONAL_BITS)  # `polynomial` takes an encoded value; u has more bits
    pieces = []
    for low, high in itertools.pairwise(edges):
        fitted = fit(function, low, high, 3)
        scaled = [c / unit**j for j, c in enumerate(fitted)]
        pieces.append(polynomial(scaled, round((low + high) / 2 * 2**_FINE), _BITS - 1))
    return Piecewise.of([round(e * 2**_FINE) for e in edges[1:-1]], pieces)


@cache
def _exp_pieces() -> Piecewise:
    """e^(x - m) with 60 fractional bits, e^m / boost with 24, and the boost; 0 below, as at 30 above."""
    edges = [round(e * 2**FRACTIONAL_BITS) for e in np.linspace(-12, 30, 57)]
    middles = [(low + high) // 2 for low, high in itertools.pairwise(edges)]
    half = (edges[1] - edges[0]) / 2 / 2**FRACTIONAL_BITS
    fitted = fit(np.exp, -half, half, 3)
    reals = [m / 2**FRACTIONAL_BITS for m in middles]
    boosts = [1 << 22 if m > 12 else 1 for m in reals]
    mantissa = [polynomial(fitted, m, _BITS) for m in middles]
    factor: list[Polynomial] = [[round(np.exp(m) / b * 2**24)] for m, b in zip(reals, boosts, strict=True)]
    boost: list[Polynomial] = [[b] for b in boosts]
    top = polynomial([float(np.exp(half))], 0, _BITS)
    zero: Polynomial = [0]
    return Piecewise.of(edges, [zero, *mantissa, top], [zero, *factor, factor[-1]], [zero, *boost, boost[-1]])


@cache
def _fine_exp_pieces() -> Piecewise:
    """e^(x - m) with 60 fractional bits and e^m with 24: over 1/4 a cubic is 80x as exact as over 3/4."""
    ends = np.concatenate(
        [np.linspace(-12, -6, 9), np.linspace(-6, 6, 49)[1:], np.linspace(6, 14.25, 12)[1:]]
    )
    edges = [round(e * 2**FRACTIONAL_BITS) for e in ends]
    mantissa, factor = [], []
    for low, high in itertools.pairwise(edges):
        middle, half = (low + high) // 2, (high - low) / 2 / 2**FRACTIONAL_BITS
        mantissa.append(polynomial(fit(np.exp, -half, half, 3), middle, _BITS))
        factor.append([round(np.exp(middle / 2**FRACTIONAL_BITS) * 2**24)])
    top = polynomial([math.exp((ends[-1] - ends[-2]) / 2)], 0, _BITS)
    zero: Polynomial = [0]
    return Piecewise.of(edges, [zero, *mantissa, top], [zero, *factor, factor[-1]])


@cache
def _fraction_pieces() -> Piecewise:
    """e^(x - m) with 60 fractional bits and e^m with 44, of x in [-20, 0]; 0 below."""
    edges = [round(e * 2**FRACTIONAL_BITS) for e in np.linspace(-20, 0, 27)]
    middles = [(low + high) // 2 for low, high in itertools.pairwise(edges)]
    half = (edges[1] - edges[0]) / 2 / 2**FRACTIONAL_BITS
    fitted = fit(np.exp, -half, half, 3)
    zero: Polynomial = [0]
    # A maximum less itself is 0, so the last piece has no end: it would be 1 at 0 and wrong above.
    mantissa = [polynomial(fitted, m, _BITS) for m in middles]
    factor: list[Polynomial] = [[round(np.exp(m / 2**FRACTIONAL_BITS) * 2**_FACTOR)] for m in middles]
    return Piecewise.of(edges[:-1], [zero, *mantissa], [zero, *factor])
