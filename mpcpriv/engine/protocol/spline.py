"""Piecewise polynomials of a shared value: one comparison for all pieces, then Horner's scheme.

The piece is found by comparing with all knots at once (`compare.below`), its coefficients are
selected linearly from the comparison bits, and the polynomial is evaluated in the distance from
the middle of the piece, so that its terms stay small. Eight rounds for degree 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS, encode
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session


@dataclass(frozen=True)
class Spline:
    """A cubic on each of the pieces between `knots`, and a constant outside.

    Attributes:
        knots: K increasing reals.
        middles: K + 1 origins, one per piece; 0 for the two outer ones.
        coefficients: (4, K + 1), constant term first; the outer pieces are constant.
    """

    knots: np.ndarray
    middles: np.ndarray
    coefficients: np.ndarray

    @staticmethod
    def fit(
        function: Callable[[np.ndarray], np.ndarray], knots: np.ndarray, below: float, above: float
    ) -> Spline:
        """Interpolates `function` at the four Chebyshev nodes of each piece (near-minimax).

        Args:
            function: vectorised, on reals.
            knots: increasing reals.
            below, above: the constants outside.
        """
        nodes = np.cos(np.pi * (np.arange(4) + 0.5) / 4)
        middles, coefficients = [0.0], [np.array([below, 0.0, 0.0, 0.0])]
        for low, high in itertools.pairwise(knots):
            middle, half = (low + high) / 2, (high - low) / 2
            points = half * nodes
            middles.append(middle)
            coefficients.append(np.polynomial.polynomial.polyfit(points, function(middle + points), 3))
        middles.append(0.0)
        coefficients.append(np.array([above, 0.0, 0.0, 0.0]))
        return Spline(np.asarray(knots), np.array(middles), np.array(coefficients).T)


def symmetric(*knots: float) -> np.ndarray:
    """These positive knots and their negatives, in order."""
    return np.array([-k for k in reversed(knots)] + list(knots))


def evaluate(session: Session, spline: Spline, x: torch.Tensor) -> torch.Tensor:
    """Shares of spline(x), 16 fractional bits in and out.

    Args:
        x: shares of ring elements in [-2^62, 2^62), in any shape.
    """
    under = below(session, x, encode(spline.knots).tolist())  # 1 for every knot above x
    table = encode(np.vstack([spline.middles[None], spline.coefficients]))  # (5, K + 1)
    steps = (table[:, :-1] - table[:, 1:]).T
    selected = torch.movedim(under @ steps, -1, 0)
    if session.rank == 0:
        selected = selected + table[:, -1].reshape(-1, *([1] * x.dim()))
    middle, c0, c1, c2, c3 = selected
    u = x - middle
    # In the outer pieces u is unbounded and u * u may wrap; it is then multiplied by an exact zero.
    u2, u_c1, u_c3 = product(session, Bilinear("mul"), u, torch.stack([u, c1, c3]))
    u2, c3u = truncate(session, [(u2, FRACTIONAL_BITS), (u_c3, FRACTIONAL_BITS)])
    high = product(session, Bilinear("mul"), u2, c2 + c3u)
    (result,) = truncate(session, [(high + u_c1 + (c0 << FRACTIONAL_BITS), FRACTIONAL_BITS)])
    return result
