"""Releasing which of several candidates has the highest score, and nothing of the scores.

Two mechanisms of the same ε. `noisy_max` is permute-and-flip, which finds the best at least as often as the
exponential mechanism, whatever the scores. `exponential` is the exponential mechanism, which costs less where
many choices, or choices and Gaussians, add up.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy.accounting import EPSILON_MAX
from mpcpriv.privacy.loss import Loss
from mpcpriv.privacy.mechanism import rounded_up
from mpcpriv.privacy.noise import exponential_choice, noisy_maximum
from mpcpriv.privacy.released import NoisyChoice


def noisy_max(
    scores: ArrayLike, sensitivity: float, epsilon: float, *, monotone: bool = False
) -> NoisyChoice:
    """The place of the highest score after exponential noise of scale 2 Δ / ε: pure ε-differential privacy.

    Sampled exactly as permute-and-flip, which is never worse than the exponential mechanism (McKenna and
    Sheldon, NeurIPS 2020). Scores are taken as exactly the numbers that they are.

    Args:
        scores: (n,), finite; integers or floats.
        sensitivity: Δ, the most that one row, added or removed, can change of any one score.
        epsilon: above 0.
        monotone: whether a further row moves no score down, as with counts, or none up; half the noise,
            a scale of Δ / ε, does then.

    Raises:
        UsageError: an argument is out of its range.
        RangeError: the scale is no float.
    """
    index, scale = _choose(noisy_maximum, scores, sensitivity, epsilon, monotone=monotone)
    return NoisyChoice(index, scale, epsilon, Loss.pure_dp(epsilon))


def exponential(
    scores: ArrayLike, sensitivity: float, epsilon: float, *, monotone: bool = False
) -> NoisyChoice:
    """A place by the exponential mechanism, with odds exp(ε score / 2 Δ): pure ε-differential privacy.

    McSherry and Talwar, "Mechanism Design via Differential Privacy", FOCS 2007. Sampled exactly, as the
    highest score after Gumbel noise. Its loss is `Loss.bounded_range`, which adds up to less than that of
    `noisy_max`.

    Args:
        scores, sensitivity, epsilon: as for `noisy_max`.
        monotone: as for `noisy_max`; the odds are exp(ε score / Δ) then.

    Raises:
        UsageError: an argument is out of its range.
        RangeError: the scale is no float.
    """
    index, scale = _choose(exponential_choice, scores, sensitivity, epsilon, monotone=monotone)
    return NoisyChoice(index, scale, epsilon, Loss.bounded_range(epsilon))


def _choose(
    draw: Callable[[list[float] | list[int], float, int], list[int]],
    scores: ArrayLike,
    sensitivity: float,
    epsilon: float,
    *,
    monotone: bool,
) -> tuple[int, float]:
    array = np.asarray(scores)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "if":
        raise UsageError(f"scores: shape {array.shape} of {array.dtype}; give (n,) integers or floats")
    if not np.isfinite(array).all():
        raise UsageError("scores: not all are finite; leave out what may not be chosen")
    if not 0 < sensitivity < float("inf"):
        raise UsageError(f"sensitivity: {sensitivity!r}; give a finite number above 0")
    if not 0 < epsilon <= EPSILON_MAX:
        raise UsageError(f"epsilon: {epsilon!r}; give a number above 0, at most {EPSILON_MAX:g}")
    exact = (1 if monotone else 2) * Fraction(sensitivity) / Fraction(epsilon)
    try:
        scale = rounded_up(exact)
    except OverflowError:
        raise RangeError("scores: the noise for so small an epsilon is no float") from None
    return draw(array.tolist(), scale, 1)[0], scale
