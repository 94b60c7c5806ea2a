"""Functions that are constant far from zero: sigmoid, tanh, erf; and the periodic sine and cosine.

Each is a piecewise cubic with 60 fractional bits, truncated once: five rounds,
in which x may be truncated by `shift` bits, too.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Final

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.piecewise import Curve, Limited, Piecewise, Polynomial, evaluate, fitted, limited
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.session import Session

BITS: Final = 60
"""Fractional bits before truncation: results stay within [-2, 2]."""
ERROR: Final = 8e-5
"""What a piece may be off by."""
FINE: Final = 4e-6
"""What a piece of `fine_sigmoid` may be: less than the unit of 16 fractional bits."""


def sigmoid(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of 1 / (1 + e^-x), off by less than 1e-4."""
    return _truncated(session, scaled_sigmoid(1.0), x, shift)[0]


def fine_sigmoid(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of 1 / (1 + e^-x), off by about a unit, for twice the bytes of `sigmoid`."""
    return _truncated(session, _fine_sigmoid(), x)[0]


def tanh(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of tanh(x), off by less than 1e-4."""
    return _truncated(session, _tanh(), x, shift)[0]


def erf(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of the error function, off by less than 1e-4."""
    return _truncated(session, _erf(), x, shift)[0]


def turn(session: Session, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of cos(2 pi x) and sin(2 pi x), off by less than 1e-4, for x in any number of turns."""
    (whole,) = truncate(session, [(x, FRACTIONAL_BITS)])
    rest = x - (whole << FRACTIONAL_BITS)  # in (-1, 1): the truncation may round up
    cosine, sine = _truncated(session, _turn(), rest)
    return cosine, sine


def _truncated(session: Session, function: Piecewise, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    (result,) = truncate(session, [(evaluate(session, function, x, shift), BITS - FRACTIONAL_BITS)])
    return result


@cache
def scaled_sigmoid(scale: float) -> Piecewise:
    """scale / (1 + e^-x) with `BITS` fractional bits, for a scale of at most 2."""
    return _limited(Limited(lambda x: scale / (1 + np.exp(-x)), 0.0, scale))


@cache
def _fine_sigmoid() -> Piecewise:
    return _limited(Limited(lambda x: 1 / (1 + np.exp(-x)), 0.0, 1.0), FINE)


@cache
def _tanh() -> Piecewise:
    return _limited(Limited(np.tanh, -1.0, 1.0))


@cache
def _erf() -> Piecewise:
    return _limited(Limited(np.vectorize(math.erf), -1.0, 1.0))


def _limited(function: Limited, error: float = ERROR) -> Piecewise:
    thresholds, pieces = limited([function], degree=3, bits=BITS, error=error)
    return Piecewise.of(thresholds, *pieces)


@cache
def _turn() -> Piecewise:
    """Of x in (-1, 1), so that the pieces at the ends do not matter."""
    thresholds = [round(i * 2**FRACTIONAL_BITS / 10) for i in range(-10, 11)]
    curves: list[Curve] = [lambda x: np.cos(2 * np.pi * x), lambda x: np.sin(2 * np.pi * x)]
    end: Polynomial = [0]
    inside = [
        [fitted(curve, *edges, 3, BITS) for edges in itertools.pairwise(thresholds)] for curve in curves
    ]
    return Piecewise.of(thresholds, *([end, *pieces, end] for pieces in inside))
