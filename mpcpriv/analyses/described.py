"""Moments of a column and the cells in which its values are counted; no share is here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.inference import LEVEL, quantile
from mpcpriv.data.scale import Scale

_CELLS: Final = 1 << 14
"""Of a column, about; an integer with at most so many values has one for each."""
_STEP: Final = 1e-6
"""Of a slope that is found by differences."""
_FLAT: Final = 1e-13
"""Of the mean square about the middle of the bounds, what is left of nothing in float64."""


def values_of(column: ColumnTerms, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column, and which of them are there; what stands for a missing one is arbitrary."""
    values = given.astype(np.float64)
    if column.missing and column.type == "boolean":
        return values, values < 2  # a third code stands for a missing one
    return values, ~np.isnan(values)


@dataclass(frozen=True)
class Moments:
    """What is known of a column.

    Attributes:
        count: of its values, n.
        middle, half: x = middle + half * t.
        sums: (4,), of t, t^2, t^3, t^4.
        rounding: what each power was rounded to.
    """

    count: float
    middle: float
    half: float
    sums: np.ndarray
    rounding: float = 0.0

    def told(self) -> np.ndarray:
        """Mean, standard deviation, skewness and excess kurtosis, (4,), as pandas has them.

        Skewness and kurtosis by Joanes and Gill ("Comparing measures of sample skewness and kurtosis", The
        Statistician 47, 1998): G1 and G2.
        """
        n = self.count
        first, second, third, fourth = self.sums / n
        m2 = second - first**2
        if m2 <= max(_FLAT * abs(second), 4 * self.rounding):
            return np.array([self.middle + self.half * first, 0.0, 0.0, 0.0])
        m3 = third - 3 * first * second + 2 * first**3
        m4 = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        spread = self.half * math.sqrt(m2 * n / (n - 1))
        skewness = math.sqrt(n * (n - 1)) / (n - 2) * m3 / m2**1.5
        kurtosis = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (m4 / m2**2 - 3) + 6)
        return np.array([self.middle + self.half * first, spread, skewness, kurtosis])

    def noise(self, deviation: float) -> np.ndarray:
        """What noise of this standard deviation in each sum makes of the four, to first order, (4,)."""
        step = _STEP * self.count
        slopes = np.zeros((4, 4))
        for place in range(4):
            moved = [
                replace(self, sums=self.sums + sign * step * np.eye(4)[place]).told() for sign in (-1, 1)
            ]
            slopes[:, place] = (moved[1] - moved[0]) / (2 * step)
        found: np.ndarray = deviation * np.sqrt((slopes**2).sum(axis=1))
        return found


@dataclass(frozen=True)
class Cells:
    """Narrow cells between the bounds of a column, and the wide bins of its histogram.

    Attributes:
        low: the first value.
        width: of a cell.
        size: how many there are.
        exact: whether each is one value; else its middle stands for it.
        edges: of the bins.
        bin_of: (size,), of each cell its bin.
    """

    low: float
    width: float
    size: int
    exact: bool
    edges: np.ndarray
    bin_of: np.ndarray

    @classmethod
    def of(cls, column: ColumnTerms, bins: int) -> Cells:
        """Of a column and its histogram.

        Raises:
            UsageError: it has no agreed bounds.
        """
        scale = Scale.of(column)
        low, high = scale.centre + scale.unit * scale.low, scale.centre + scale.unit * scale.high
        values = round(high - low) + 1
        if column.type != "number" and values <= _CELLS:
            at = low + np.arange(values)
            if values <= bins:
                return cls(low, 1.0, values, True, np.append(at, high + 1) - 0.5, np.arange(values))
            edges = np.linspace(low, high, bins + 1)
            places = np.searchsorted(edges, at, side="right") - 1
            return cls(low, 1.0, values, True, edges, np.minimum(places, bins - 1))
        each = max(_CELLS // bins, 1)
        edges = np.linspace(low, high, bins + 1)
        size = each * bins
        return cls(low, (high - low) / size, size, False, edges, np.arange(size) // each)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    def place(self, values: np.ndarray) -> np.ndarray:
        """Of values their cells, int64."""
        found = np.floor((values - self.low) / self.width + (0.5 if self.exact else 0.0))
        places: np.ndarray = np.clip(found, 0, self.size - 1).astype(np.int64)
        return places

    def value(self, places: Any) -> np.ndarray:
        """Of cells, or points between them, their values."""
        # What is read beyond the last cell stands for no value.
        inside = np.clip(np.asarray(places, dtype=np.float64), 0, self.size - 1)
        values: np.ndarray = self.low + self.width * (inside + (0.0 if self.exact else 0.5))
        return values

    def in_bins(self, counts: Any) -> Any:
        """The counts of cells, (size,), added up for each bin."""
        import torch

        ends = np.searchsorted(self.bin_of, np.arange(self.bins), side="right")
        starts = np.append(0, ends[:-1])
        return torch.stack([counts[a:b].sum() for a, b in zip(starts, ends, strict=True)])


def noised_quantiles(
    edges: np.ndarray, counts: np.ndarray, total: float, deviation: float, levels: Sequence[float]
) -> np.ndarray:
    """Quantiles from counts with noise, and 95 % intervals that hold the true ones: (3, levels).

    The noise of a sum of bins is that of as many bins as are on the nearer side, where the total is known.

    Args:
        edges: of the bins, one more than counts.
        counts: with noise.
        total: of the true counts.
        deviation: of the noise in each.
        levels: of the quantiles.
    """
    bins = len(counts)
    left = np.append(0.0, np.cumsum(counts))
    right = total - np.append(np.cumsum(counts[::-1])[::-1], 0.0)
    near = np.arange(bins + 1) <= bins / 2
    upto = np.where(near, left, right)
    # Wide enough for all edges at once.
    surely = quantile(level=1 - (1 - LEVEL) / bins)
    margin = surely * deviation * np.sqrt(np.minimum(np.arange(bins + 1), bins - np.arange(bins + 1)))
    rising = np.clip(np.maximum.accumulate(upto), 0, total)
    rising[-1] = total
    found = []
    for level in levels:
        rank = level * total
        # Of edges at which surely fewer, or surely more, values are: the next one outside.
        before = np.flatnonzero(upto + margin < rank)
        after = np.flatnonzero(upto - margin > rank)
        low = edges[before[-1]] if before.size else edges[0]
        high = edges[after[0]] if after.size else edges[-1]
        place = min(int(np.searchsorted(rising, rank, side="right")), bins) - 1
        place = max(place, 0)
        inside = rising[place + 1] - rising[place]
        part = (rank - rising[place]) / inside if inside > 0 else 0.5
        best = edges[place] + min(max(part, 0.0), 1.0) * (edges[place + 1] - edges[place])
        found.append([min(max(best, low), high), low, high])
    return np.array(found).T
