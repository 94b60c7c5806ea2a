"""An audit in one run: planted rows, and what a single release shows of them, bound its ε from below.

T. Steinke, M. Nasr and M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, Algorithm 1
and Appendix D. Each of m canaries is put into the data or left out by its own fair coin. Who sees the
release, and no coin, guesses of some of them that they were in, of some that they were out, and of the others
nothing. Were the release (ε, δ)-differentially private for the presence of one row, no more guesses would be
right than of as many coins that each show the truth with probability e^ε / (1 + e^ε), but for what δ adds:

    included = privacy.toss(1000)
    ... train on all other rows and the canaries that are in; score every canary by the weights ...
    privacy.guess(included, scores, inside=100, outside=100).epsilon(delta=1e-5)

An ε above the claimed one says that the promise is broken. One below says that this attack on this run did
not break it, and no more: it is no proof of privacy.

Coins and canaries are chosen before the run, how many guesses are made before the scores are seen. All that
is known beside the release must be the same however the coins fell, or the coins show there: where the number
of rows is public, scores may not depend on it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpcpriv.errors import UsageError

MOST: Final = 1 << 20
"""Canaries."""
_SLACK: Final = 1 + 2.0**-20
"""More than the relative rounding of a sum of binomial probabilities of so many."""


def toss(canaries: int) -> NDArray[np.bool_]:
    """Which canaries are put in: fair coins of the operating system's, (canaries,).

    Raises:
        UsageError: there is none, or more than `MOST`.
    """
    if not 1 <= canaries <= MOST:
        raise UsageError(f"{canaries} canaries: give 1 to {MOST}")
    coins: NDArray[np.bool_] = np.frombuffer(os.urandom(canaries), dtype=np.uint8) % 2 == 1
    return coins


def guess(included: ArrayLike, scores: ArrayLike, *, inside: int, outside: int) -> Guesses:
    """Guesses that the canaries of the highest scores are in and those of the lowest out.

    Args:
        included: (m,), the coins; of `toss`.
        scores: (m,), finite, of the release alone: the higher, the more it looks as though the canary was in.
            Of weights, for one: how far they moved along the step that the canary's clipped gradient is.
        inside, outside: how many; the fewer, the surer they are, and the less they can prove.

    Raises:
        UsageError: the shapes differ, a score is not finite, or there are fewer canaries than guesses.
    """
    coins, array = np.asarray(included), np.asarray(scores, dtype=float)
    if coins.ndim != 1 or coins.dtype != np.bool_ or array.shape != coins.shape:
        raise UsageError(f"included {coins.shape} of {coins.dtype}, scores {array.shape}: give (m,) booleans")
    if not np.isfinite(array).all():
        raise UsageError("scores: not all are finite")
    if inside < 0 or outside < 0 or not 1 <= inside + outside <= len(coins):
        raise UsageError(f"{inside} + {outside} guesses of {len(coins)} canaries: 1 to {len(coins)} in all")
    order = np.argsort(array, kind="stable")  # which of equal ones comes first depends on no coin
    right = int(coins[order[len(order) - inside :]].sum()) + int((~coins[order[:outside]]).sum())
    return Guesses(len(coins), inside + outside, right)


@dataclass(frozen=True)
class Guesses:
    """How well an auditor guessed.

    Attributes:
        canaries: how many there were.
        made: of how many the auditor guessed whether they were in.
        right: how often that was so.

    Raises:
        UsageError: they are not 0 <= right <= made <= canaries <= `MOST`, or no guess was made.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.right <= self.made <= self.canaries <= MOST and self.made):
            raise UsageError(f"{self.right} right of {self.made} guesses of {self.canaries} canaries")

    def chance(self, epsilon: float, delta: float) -> float:
        """At most how likely so many right guesses were, had the release been (epsilon, delta)-private.

        Raises:
            UsageError: epsilon is negative or not finite, or delta not in [0, 1).
        """
        if not 0 <= epsilon < math.inf:
            raise UsageError(f"epsilon is {epsilon!r}; give a finite number of at least 0")
        if not 0 <= delta < 1:
            raise UsageError(f"delta is {delta!r}; give a number of at least 0 and below 1")
        return self._chance(_ways(self.made), epsilon, delta)

    def epsilon(self, delta: float, confidence: float = 0.95) -> float:
        """The ε that the release exceeds at this delta: wrong with a probability of 1 - confidence at most.

        0 where nothing can be said.

        Raises:
            UsageError: delta is not in [0, 1), or confidence not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise UsageError(f"confidence: {confidence!r}; give a number between 0 and 1, such as 0.95")
        rare, ways = 1 - confidence, _ways(self.made)
        if self.chance(0.0, delta) >= rare:
            return 0.0
        low, high = 0.0, 1.0  # `low` is refuted; `high` will not be, since the chance goes to 1
        while self._chance(ways, high, delta) < rare:
            low, high = high, 2 * high
        while high - low > 2.0**-20 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self._chance(ways, middle, delta) < rare else (low, middle)
        return low

    def _chance(self, ways: NDArray[np.float64], epsilon: float, delta: float) -> float:
        # Of W right ones among the coins: P(W >= v), and from δ 2 m max_i P(v > W >= v - i) / i.
        right = -math.log1p(math.exp(-epsilon))
        sure = np.arange(self.made + 1)
        mass = np.exp(ways + sure * right + (self.made - sure) * (right - epsilon))
        below = np.cumsum(mass[: self.right][::-1])
        steepest = float((below / np.arange(1, self.right + 1)).max(initial=0.0))
        return min((float(mass[self.right :].sum()) + 2 * self.canaries * delta * steepest) * _SLACK, 1.0)


def _ways(made: int) -> NDArray[np.float64]:
    """(made + 1,): the logarithm of how many ways there are to be right 0, 1, ... times."""
    factorials = np.array([math.lgamma(one) for one in range(1, made + 2)])
    found: NDArray[np.float64] = factorials[-1] - factorials - factorials[::-1]
    return found
