"""exp, log, reciprocal and roots over the whole range of fixed point, in few rounds.

Each value is first *normalised*: compared with all powers of two at once, which gives its bit
length k one-hot, and multiplied by the power that brings it to u in [1/2, 1) (Catrina, Saxena,
FC 2010, section 5; there bit by bit). The function of u is one polynomial, its dependence on k a
table looked up linearly in the one-hot shares. exp is cut into pieces of width 2 in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product, square
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session

LENGTHS = 45
"""Bit lengths of encoded values that are normalised: 1 to 45, so values in [2^-16, 2^29)."""
_FINE = 28
"""Fractional bits of polynomials: fine enough to be lost in rounding to 16."""
_DEGREE = 7
_MUL = Bilinear("mul")
_K = np.minimum(np.arange(LENGTHS + 2), LENGTHS)
"""By class: 0 is every x <= 0, with u = 1/2; then the lengths; the last is every x too large, with u = 1."""


def log(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of ln x: ln u + (k - 16) ln 2."""
    t, length = _normalise(session, x)
    mantissa = _polynomial(session, _fit(np.log), t)
    return mantissa + _look_up(length, (_K - FRACTIONAL_BITS) * np.log(2) * 2**FRACTIONAL_BITS)


def reciprocal(session: Session, x: torch.Tensor, positive: bool) -> torch.Tensor:
    """Shares of 1 / x: (1 / u) 2^(16 - k), with the sign of x."""
    if positive:
        table = _positive(2.0 ** (LENGTHS - _K))
        return _scaled(session, x, lambda u: 1 / u, table, LENGTHS - FRACTIONAL_BITS)
    negative = below(session, x, [0])[..., 0]
    sign = -2 * negative + 1 if session.rank == 0 else -2 * negative
    size = reciprocal(session, product(session, _MUL, x, sign), positive=True)
    return product(session, _MUL, size, sign)


def sqrt(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of sqrt(x): sqrt(u) 2^((k - 16) / 2)."""
    return _scaled(session, x, np.sqrt, _positive(2.0 ** ((_K - FRACTIONAL_BITS) / 2 + 30)), 30)


def inv_sqrt(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of 1 / sqrt(x): u^(-1/2) 2^((16 - k) / 2)."""
    return _scaled(session, x, lambda u: u**-0.5, _positive(2.0 ** ((FRACTIONAL_BITS - _K) / 2 + 32)), 32)


def exp(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of e^x: e^m e^(x - m), m the middle of the piece of width 2 that holds x.

    For pieces from 12 on, e^m is divided by 2^22 until after the truncation, where 2^22 is exact.
    """
    edges = np.arange(-12, 32, 2)
    piece = _classes(session, below(session, x, (edges << FRACTIONAL_BITS).tolist()))
    largest = (int(edges[-1]) << FRACTIONAL_BITS) - x if session.rank == 0 else -x
    x = x + product(session, _MUL, piece[..., -1], largest)  # too large: as the largest
    piece[..., -2] += piece[..., -1]
    piece = piece[..., 1:-1]  # too small: in no piece, so times zero
    middles = edges[:-1] + 1
    boost = np.where(middles > 12, 2.0**22, 1)
    centre = _look_up(piece, middles * 2.0**FRACTIONAL_BITS)
    t = (x - centre) << (_FINE - FRACTIONAL_BITS)
    mantissa = _polynomial(session, _fit_unit(np.exp), t)
    factor = _look_up(piece, np.exp(middles) / boost * 2**24)
    (small,) = truncate(session, [(product(session, _MUL, mantissa, factor), 24)])
    return product(session, _MUL, small, _look_up(piece, boost))


def _scaled(
    session: Session,
    x: torch.Tensor,
    function: Callable[[np.ndarray], np.ndarray],
    table: np.ndarray,
    bits: int,
) -> torch.Tensor:
    """Shares of function(u) * table[k] / 2^bits."""
    t, length = _normalise(session, x)
    mantissa = _polynomial(session, _fit(function), t)
    (result,) = truncate(session, [(product(session, _MUL, mantissa, _look_up(length, table)), bits)])
    return result


def _normalise(session: Session, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of t = 4 u - 3 in [-1, 1) with 28 fractional bits, and of the bit length, one-hot."""
    under = below(session, x, [1 << k for k in range(LENGTHS + 1)])
    length = _classes(session, under)
    factor = _look_up(length[..., 1:-1], 2.0 ** (LENGTHS - _K[1:-1]))
    raised = product(session, _MUL, x, factor)
    raised += (length[..., 0] << (LENGTHS - 1)) + (length[..., -1] << LENGTHS)
    (u,) = truncate(session, [(raised, LENGTHS - 2 - _FINE)])
    return (u - (3 << _FINE) if session.rank == 0 else u), length


def _classes(session: Session, under: torch.Tensor) -> torch.Tensor:
    """From [x < t] for increasing t, which of the pieces between them holds x, one-hot."""
    edge = torch.full((*under.shape[:-1], 1), int(session.rank == 0), dtype=torch.int64)
    return torch.diff(torch.cat([torch.zeros_like(edge), under, edge], -1))


def _positive(table: np.ndarray) -> np.ndarray:
    """The table with 0 for length 0."""
    return np.where(_K > 0, table, 0.0)


def _look_up(one_hot: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """Shares of the entry of a public table, rounded to integers, that the one-hot shares choose."""
    return one_hot @ torch.from_numpy(np.rint(table).astype(np.int64))


def _fit(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Coefficients in t of the function of u = (t + 3) / 4."""
    return _fit_unit(lambda t: function((t + 3) / 4))


def _fit_unit(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The polynomial of degree 7 through the Chebyshev nodes of [-1, 1], constant term first."""
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    return np.polynomial.polynomial.polyfit(nodes, function(nodes), _DEGREE)


def _polynomial(session: Session, coefficients: np.ndarray, t: torch.Tensor) -> torch.Tensor:
    """Shares of the polynomial of t, from 28 fractional bits to 16; seven rounds.

    All powers are made in three levels, so that only their sum with the coefficients is truncated.
    """
    (t2,) = truncate(session, [(square(session, t), _FINE)])
    t3, t4 = _times(session, t2, [t, t2])
    t5, t6, t7 = _times(session, t4, [t, t2, t3])
    encoded = [round(c * 2**_FINE) for c in coefficients]
    total = sum(c * power for c, power in zip(encoded[1:], (t, t2, t3, t4, t5, t6, t7), strict=True))
    if session.rank == 0:
        total = total + (encoded[0] << _FINE)
    (result,) = truncate(session, [(total, 2 * _FINE - FRACTIONAL_BITS)])
    return result


def _times(session: Session, x: torch.Tensor, others: list[torch.Tensor]) -> list[torch.Tensor]:
    products = product(session, _MUL, x, torch.stack(others))
    (stacked,) = truncate(session, [(products, _FINE)])
    return list(stacked)
