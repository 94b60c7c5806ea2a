"""What one's own data were released as: the noised numbers, what they cost, and how far off they may be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mpcpriv.errors import UsageError
from mpcpriv.privacy.loss import Loss
from mpcpriv.privacy.mechanism import Kind


@dataclass(frozen=True)
class Release:
    """What all releases say of themselves.

    Attributes:
        mechanism: discrete-gaussian or discrete-laplace.
        scale: σ or b of the noise, in the unit of the numbers.
        grid: the numbers are multiples of it.
        epsilon, delta: what was asked for, and is kept.
        loss: what adds up over releases; its ε at `delta` may be above `epsilon`, which is the tight one.
    """

    mechanism: Kind
    scale: float
    grid: Fraction
    epsilon: float
    delta: float
    loss: Loss = field(repr=False)

    def margin(self, confidence: float = 0.95) -> float:
        """The noise of one number is at most this, up or down, with at least this probability.

        Raises:
            UsageError: the confidence is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise UsageError(f"confidence: {confidence!r}; give a number between 0 and 1, such as 0.95")
        if self.mechanism == "discrete-gaussian":
            # The grid is so fine that the normal quantile holds; half a step is the numbers' own rounding.
            return self.scale * statistics.NormalDist().inv_cdf((1 + confidence) / 2) + float(self.grid)
        # P(|x| >= m) = 2 p^m / (1 + p) with p = exp(-1/b), for integers m > 0.
        b = self.scale / float(self.grid)
        steps = math.ceil(b * (math.log(2 / (1 - confidence)) - math.log1p(math.exp(-1 / b)))) - 1
        rounding = 0 if self.grid == 1 else 1
        return float((max(steps, 0) + rounding) * self.grid)


@dataclass(frozen=True, eq=False)
class NoisyVector(Release):
    """Numbers with noise.

    Attributes:
        values: (n,) float64.
    """

    values: NDArray[np.float64]

    @property
    def value(self) -> float:
        """The only number.

        Raises:
            UsageError: there are more.
        """
        if self.values.size != 1:
            raise UsageError(f"value: {self.values.size} numbers were released; take `values`")
        return float(self.values[0])

    def interval(self, confidence: float = 0.95) -> NDArray[np.float64]:
        """(n, 2): each number without its noise lies between the two with at least this probability.

        Raises:
            UsageError: the confidence is not between 0 and 1.
        """
        margin = self.margin(confidence)
        return np.stack([self.values - margin, self.values + margin], axis=-1)


@dataclass(frozen=True, eq=False)
class NoisyHistogram(Release):
    """Counts with noise; one of them may be below 0.

    Attributes:
        counts: by category.
        threshold: categories with less than this are left out; None where all categories were given.
    """

    counts: Mapping[Hashable, int]
    threshold: int | None = None

    def interval(self, category: Hashable, confidence: float = 0.95) -> tuple[int, int]:
        """The count without its noise is in between, both included, with at least this probability.

        Of categories above a threshold, those that noise has lifted over it are seen more often.

        Raises:
            UsageError: the confidence is not between 0 and 1, or there is no such category.
        """
        if category not in self.counts:
            raise UsageError(f"category: {category!r} is not among the released ones")
        margin = round(self.margin(confidence))
        return max(self.counts[category] - margin, 0), max(self.counts[category] + margin, 0)


@dataclass(frozen=True)
class NoisyChoice:
    """Which candidate was chosen.

    Attributes:
        index: its place among the scores.
        scale: of the exponential or Gumbel noise, in the unit of the scores.
        epsilon: of pure differential privacy.
        loss: what adds up over releases.
    """

    index: int
    scale: float
    epsilon: float
    loss: Loss = field(repr=False)
