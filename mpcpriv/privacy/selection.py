"""Releasing which of several candidates has the highest score, and nothing of the scores."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy.accounting import EPSILON_MAX
from mpcpriv.privacy.loss import Loss
from mpcpriv.privacy.mechanism import rounded_up
from mpcpriv.privacy.noise import noisy_maximum
from mpcpriv.privacy.released import NoisyChoice


def noisy_max(scores: ArrayLike, sensitivity: float, epsilon: float) -> NoisyChoice:
    """The place of the highest score after exponential noise of scale 2 Δ / ε: pure ε-differential privacy.

    Sampled exactly as permute-and-flip, which is never worse than the exponential mechanism (McKenna and
    Sheldon, NeurIPS 2020). Scores are taken as exactly the numbers that they are.

    Args:
        scores: (n,), finite; integers or floats.
        sensitivity: Δ, the most that one row, added or removed, can change of any one score.
        epsilon: above 0.

    Raises:
        UsageError: an argument is out of its range.
        RangeError: the scale is no float.
    """
    array = np.asarray(scores)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "if":
        raise UsageError(f"scores: shape {array.shape} of {array.dtype}; give (n,) integers or floats")
    if not np.isfinite(array).all():
        raise UsageError("scores: not all are finite; leave out what may not be chosen")
    if not 0 < sensitivity < float("inf"):
        raise UsageError(f"sensitivity: {sensitivity!r}; give a finite number above 0")
    if not 0 < epsilon <= EPSILON_MAX:
        raise UsageError(f"epsilon: {epsilon!r}; give a number above 0, at most {EPSILON_MAX:g}")
    exact = 2 * Fraction(sensitivity) / Fraction(epsilon)
    try:
        scale = rounded_up(exact)
    except OverflowError:
        raise RangeError("scores: the noise for so small an epsilon is no float") from None
    index = noisy_maximum(array.tolist(), scale, 1)[0]
    return NoisyChoice(index, scale, epsilon, Loss.pure_dp(epsilon))
