"""Random values that nobody knows: bits from all parties together, and normal deviates made of them."""

from __future__ import annotations

import itertools
import statistics
from functools import cache
from typing import Any, Final

import numpy as np
import torch

from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import land
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.protocol.piecewise import Piecewise, evaluate, fitted, knots
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session

_TAIL: Final = 20
"""Bits of the uniform value behind a deviate, besides its sign: the largest is 5.03."""
_BITS: Final = 59
"""Fractional bits before truncation: deviates stay below 8."""


def bits(session: Session, shape: tuple[int, ...]) -> torch.Tensor:
    """Shares of uniform bits, as integers, that are known to no coalition short of all parties. One round."""
    dealt = session.correlations.take(DaBit(shape))
    mine = (session.private_bits(shape) ^ dealt.masks[0]) & 1
    # Safe to open: the bits of all parties together are masked by the daBit, which only the dealer knows.
    (opened,) = session.open("rand: bits", [mine], group="xor")
    return land(session, opened, dealt.derived()[0])


def normal(session: Session, shape: tuple[int, ...]) -> torch.Tensor:
    """Shares of standard normal deviates, encoded, up to 5.03 in magnitude. Seven rounds.

    The inverse of the distribution function at a uniform value of 20 bits, to 2e-4, and a sign.
    """
    drawn = bits(session, (*shape, _TAIL + 1))
    uniform = (drawn[..., :_TAIL] << torch.arange(_TAIL)).sum(-1)
    (size,) = truncate(session, [(evaluate(session, _tail(), uniform)[0], _BITS - FRACTIONAL_BITS)])
    sign = 1 - 2 * drawn[..., _TAIL] if session.rank == 0 else -2 * drawn[..., _TAIL]
    return product(session, Bilinear("mul"), size, sign)


@cache
def _tail() -> Piecewise:
    """The deviate that is exceeded with probability (x + 1/2) / 2^21, for an integer x of 20 bits."""
    quantile = np.vectorize(statistics.NormalDist().inv_cdf)
    scale = 2.0 ** (FRACTIONAL_BITS - _TAIL - 1)

    def deviate(x: np.ndarray) -> Any:
        return -quantile(np.clip((x + 2.0 ** -(FRACTIONAL_BITS + 1)) * scale, 1e-12, 0.5))

    edges = knots([deviate], 0, 1 << _TAIL, degree=3, bits=_BITS, error=2e-4)
    pieces = [fitted(deviate, *between, 3, _BITS) for between in itertools.pairwise(edges)]
    return Piecewise.of(edges[1:-1], pieces)
