"""Functions that are max(x, 0) plus a bounded rest: gelu, silu, softplus, mish, elu; and their slopes.

The rectifier is exact and the rest a piecewise cubic with 60 fractional bits, both of one comparison;
only the rest is truncated: five rounds. The slope, bounded too, costs no further round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.piecewise import Curve, Limited, Piecewise, evaluate, limited, rectifier
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.session import Session

_BITS: Final = 60
"""Fractional bits before truncation: rests and slopes stay within [-1.2, 1.2]."""
_DEGREE: Final = 3
_ERROR: Final = 6e-5
"""What a piece may be off by."""


@dataclass(frozen=True)
class Rectifier:
    """A function f with f(x) - max(x, 0) bounded, in float64.

    Attributes:
        value: f; near to max(x, 0) for large x.
        slope: its derivative; near to 0 and to 1 at the two ends.
        lowest: the limit of f towards minus infinity.
    """

    value: Curve
    slope: Curve
    lowest: float = 0.0


def rectify(session: Session, function: Rectifier, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of f(x), off by less than 1e-4 for every x in [-2^45, 2^45). Five rounds.

    Args:
        x: shares of x times 2^shift, with 16 fractional bits.
    """
    rest, positive = evaluate(session, _pieces(function, False), x, shift)
    (rest,) = truncate(session, [(rest, _BITS - FRACTIONAL_BITS)])
    result: torch.Tensor = rest + positive
    return result


def rectify_with_slope(
    session: Session, function: Rectifier, x: torch.Tensor, shift: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of f(x) and of its derivative, each off by less than 1e-4. Five rounds together."""
    found = evaluate(session, _pieces(function, True), x, shift)
    small = truncate(session, [(found[:2], _BITS - FRACTIONAL_BITS)])[0]
    return small[0] + found[2], small[1]


@cache
def _pieces(function: Rectifier, with_slope: bool) -> Piecewise:
    """The rest, perhaps the slope, and max(x, 0)."""

    def rest(x: np.ndarray) -> Any:
        return function.value(x) - np.maximum(x, 0)

    bounded = [Limited(rest, function.lowest, 0.0)] + [Limited(function.slope, 0.0, 1.0)] * with_slope
    thresholds, pieces = limited(bounded, degree=_DEGREE, bits=_BITS, error=_ERROR, through=[0])
    return Piecewise.of(thresholds, *pieces, rectifier(thresholds))


def _normal(x: np.ndarray) -> Any:
    """The distribution function of the standard normal, without cancellation."""
    return np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2


def _sigmoid(x: np.ndarray) -> Any:
    return np.exp(-np.logaddexp(0, -x))


def _tanh_inside(x: np.ndarray) -> Any:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _gelu_tanh_slope(x: np.ndarray) -> Any:
    inside = np.tanh(_tanh_inside(x))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return (1 + inside + x * (1 - inside**2) * slope) / 2


def _mish_slope(x: np.ndarray) -> Any:
    inside = np.tanh(np.logaddexp(0, x))
    return inside + x * (1 - inside**2) * _sigmoid(x)


GELU: Final = Rectifier(
    lambda x: x * _normal(x), lambda x: _normal(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
)
GELU_TANH: Final = Rectifier(lambda x: x / 2 * (1 + np.tanh(_tanh_inside(x))), _gelu_tanh_slope)
SILU: Final = Rectifier(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))))
SOFTPLUS: Final = Rectifier(lambda x: np.logaddexp(0, x), _sigmoid)
MISH: Final = Rectifier(lambda x: x * np.tanh(np.logaddexp(0, x)), _mish_slope)
ELU: Final = Rectifier(
    lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    lambda x: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0))),
    lowest=-1.0,
)
