"""Functions that are constant far from zero: sigmoid, tanh, erf; and the periodic sine and cosine.

Each is a piecewise quadratic or cubic with 60 fractional bits, truncated once: five rounds,
in which x may be truncated by `shift` bits, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.piecewise import Piecewise, Polynomial, evaluate, fit, polynomial
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.session import Session

BITS: Final = 60
"""Fractional bits before truncation: results stay within [-2, 2]."""
Function = Callable[[np.ndarray], np.ndarray]


def sigmoid(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of 1 / (1 + e^-x), off by less than 1e-4."""
    return _truncated(session, scaled_sigmoid(1.0), x, shift)[0]


def tanh(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of tanh(x), off by less than 2e-4."""
    return _truncated(session, _tanh(), x, shift)[0]


def erf(session: Session, x: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Shares of the error function, off by less than 2e-4."""
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
    knots = _symmetric(0.23, 0.7, 1.35, 2.07, 2.72, 3.42, 4.26, 5.35, 6.99, 9.8)
    return _between(knots, (lambda x: scale / (1 + np.exp(-x)), 0.0, scale), degree=2)


@cache
def _tanh() -> Piecewise:
    knots = _symmetric(0.1, 0.33, 0.61, 0.97, 1.28, 1.6, 1.97, 2.42, 3.05, 4.09, 5.2)
    return _between(knots, (np.tanh, -1.0, 1.0), degree=2)


@cache
def _erf() -> Piecewise:
    knots = _symmetric(0.1, 0.31, 0.56, 0.95, 1.22, 1.49, 1.79, 2.17, 2.79)
    return _between(knots, (np.vectorize(math.erf), -1.0, 1.0), degree=2)


@cache
def _turn() -> Piecewise:
    knots = [i / 10 for i in range(-10, 11)]
    cosine: Function = lambda x: np.cos(2 * np.pi * x)  # noqa: E731
    sine: Function = lambda x: np.sin(2 * np.pi * x)  # noqa: E731
    return _between(knots, (cosine, 1.0, 1.0), (sine, 0.0, 0.0), degree=3)


def _symmetric(*knots: float) -> list[float]:
    return [-k for k in reversed(knots)] + list(knots)


def _between(knots: Sequence[float], *functions: tuple[Function, float, float], degree: int) -> Piecewise:
    """Each function fitted between neighbouring knots, and its two constants outside them."""
    thresholds = [round(k * 2**FRACTIONAL_BITS) for k in knots]
    return Piecewise.of(
        thresholds, *(pieces_between(thresholds, *function, degree) for function in functions)
    )


def pieces_between(
    thresholds: list[int], function: Function, low: float, high: float, degree: int
) -> list[Polynomial]:
    """A function fitted between neighbouring thresholds, and its two constants outside them."""
    pieces = [polynomial([low], 0, BITS)]
    for left, right in itertools.pairwise(thresholds):
        middle = (left + right) // 2
        edges = [2.0**-FRACTIONAL_BITS * edge for edge in (2 * middle - right, right)]
        pieces.append(polynomial(fit(function, edges[0], edges[1], degree), middle, BITS))
    return [*pieces, polynomial([high], 0, BITS)]
