"""The clipped gradient of logistic regression: one number of each row is clipped, and that exactly.

The gradient of one row is (p - y) x, and x is the row's length s times a direction u. So it is clipped by
clipping the number t = s (p - y) to [-C, C] (M. Abadi et al., "Deep Learning with Differential Privacy", CCS
2016, Algorithm 1, with the norm |t| |u| = |t|): one comparison for each row and no root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.private.rows import clipped, directed
from mpcpriv.engine.protocol.elementary import scaled_inv_sqrt
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.tensor import SharedTensor

BITS: Final = 2 * FRACTIONAL_BITS
"""Fractional bits of the sum: it is perturbed before it is truncated."""
LONGEST: Final = 1024.0
"""Rows, with a 1 for the intercept, are cut to this length."""
_ROOT_ERROR: Final = 1e-4


@dataclass(frozen=True)
class Rows:
    """Rows with a 1 for the intercept, (n, d + 1), as directions and lengths; a row that is absent is zero.

    Attributes:
        direction: (n, d + 1); on the grid the Euclidean norm of each is at most 2^16.
        length: (n, 1).
        target: (n, 1), 0 or 1.
    """

    direction: SharedTensor
    length: SharedTensor
    target: SharedTensor


def prepared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What an owner shares of its rows: direction, length and target side by side, on the grid."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    direction, length = directed(x)
    # Twice as long as it may be, and so cut to that: rounding leaves none longer.
    unit, length = clipped(2 * direction, 1.0), np.minimum(length, LONGEST)
    rest = np.concatenate([length, y], axis=1) * float(1 << FRACTIONAL_BITS)
    return np.concatenate([unit, np.rint(rest).astype(np.int64)], axis=1)


def split(x: SharedTensor, y: SharedTensor) -> Rows:
    """Rows that are shared already, as directions and lengths; once, in about 20 rounds.

    Args:
        x: (n, d), of a norm below 2^9.
        y: (n,), 0 or 1.
    """
    s = session.current()
    rows, columns = x.shape
    x = SharedTensor.cat([x, SharedTensor.constant(torch.ones(rows, 1))], dim=1)
    square = x.square().sum(1, keepdim=True)  # at least 1
    # What the root is off by relatively, each square and each element of the result by a unit, is taken off
    # beforehand: then no direction is longer than 1.
    unit = 2.0**-FRACTIONAL_BITS
    slack = (1 + _ROOT_ERROR) / math.sqrt(1 - (columns + 1) * unit) / (1 - math.sqrt(columns + 1) * unit)
    bits = 28
    inverse = scaled_inv_sqrt(s, square.share, 1 / slack, bits)
    (direction,) = truncate(s, [(product(s, Bilinear("mul"), x.operand, inverse), bits)])
    return Rows(SharedTensor.of(direction), square.sqrt(), y.reshape(rows, 1))


def gradient(rows: Rows, weights: SharedTensor, clip: float) -> SharedTensor:
    """The sum of clipped gradients, with `BITS` fractional bits; in about 15 rounds.

    Args:
        rows: n of them; n times the clip stays below 2^18.
        weights: (d + 1, 1), the intercept last, of magnitude below 2^10.
        clip: the largest norm of one row's gradient.

    Returns:
        (d + 1, 1). One row, whatever it holds, adds at most `sensitivity(clip)` units of 2^-BITS in Euclidean
        norm, exactly: |t| <= C by the comparison, and no direction is longer than 1; nothing is rounded
            after.
    """
    score = rows.length * rows.direction.matmul(weights)
    t = (rows.length * (score.sigmoid() - rows.target)).clamp(-_grid(clip), _grid(clip))
    share = product(session.current(), Bilinear("matmul"), rows.direction.t().operand, t.operand)
    return SharedTensor.of(share, BITS)


def sensitivity(clip: float) -> int:
    """The largest Euclidean norm of one row's part of `gradient`, in units of 2^-BITS."""
    return round(_grid(clip) * (1 << FRACTIONAL_BITS)) << FRACTIONAL_BITS


def _grid(clip: float) -> float:
    """The largest number of the grid that is not above."""
    return math.floor(clip * (1 << FRACTIONAL_BITS)) / (1 << FRACTIONAL_BITS)
