"""Whether the parties' noise is what it must be: the exact distribution, fresh, and enough of it.

A `Draw` gives what each party adds to the sum that is opened. `violations` draws twice and says all that is
wrong; a sound draw is called wrong with a probability of at most `ALPHA`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mpcpriv.privacy.mechanism import Noise

ALPHA = 1e-6
Integers = NDArray[np.int64]
Draw = Callable[[Noise, int], Integers]
"""From the noise and a size: what is added to the opened vector, (parties, size)."""

LEAST_IN_A_BIN = 20
NARROW = 64.0
"""Up to this scale every integer is looked at; above it, 200 equal bins and the low eight bits."""


def promised(noise: Noise) -> float:
    """The variance that a release relies on: all honest parties' of a Gaussian, one party's of the others."""
    return noise.variance * (noise.honest if noise.kind == "discrete-gaussian" else 1) / noise.parties


def mass(noise: Noise) -> tuple[int, NDArray[np.float64]]:
    """One party's distribution: the probabilities of -reach .. reach, all but 1e-20 of it."""
    if noise.kind == "discrete-gaussian":
        reach = math.ceil(10 * math.sqrt(noise.scale)) + 1
        at = np.arange(-reach, reach + 1, dtype=float)
        weights = np.exp(-at * at / (2 * float(noise.scale)))
    else:
        reach = math.ceil(50 * float(noise.scale)) + 1
        at = np.arange(-reach, reach + 1, dtype=float)
        weights = np.exp(-np.abs(at) / float(noise.scale))
        if noise.kind == "one-sided-geometric":
            weights[at < 0] = 0
    return reach, weights / weights.sum()


def violations(draw: Draw, noise: Noise, size: int) -> list[str]:
    """All that is wrong with what two calls of half the size each give."""
    halves = [np.asarray(draw(noise, size // 2)) for _ in range(2)]
    return list(_violations(halves, noise))


def _violations(halves: list[Integers], noise: Noise) -> Iterator[str]:
    parties = np.concatenate(halves, axis=1)
    if parties.dtype != np.int64 or len(parties) != noise.parties:
        yield f"{len(parties)} parties, {parties.dtype}"
        return
    pairs = [
        (f"parties {one} and {other}", parties[one], parties[other])
        for one, other in itertools.combinations(range(len(parties)), 2)
    ]
    pairs += [(f"two calls of party {one}", halves[0][one], halves[1][one]) for one in range(len(parties))]
    pairs += [
        (f"neighbours in the vector of party {one}", halves[0][one, :-1], halves[0][one, 1:])
        for one in range(len(parties))
    ]
    coalitions = list(itertools.combinations(range(len(parties)), noise.collusion))
    alpha = ALPHA / (len(pairs) + len(coalitions) + 2 * len(parties) + 1)

    for name, left, right in pairs:
        if correlated(left, right, alpha):
            yield f"{name}: correlated"
    for one, own in enumerate(parties):
        if misfit(own, noise, 1) < alpha:
            yield f"party {one}: not the distribution"
        if float(noise.scale) > NARROW and uneven(own & 255) < alpha:
            yield f"party {one}: low bits"
    if float(noise.scale) <= NARROW and misfit(parties.sum(axis=0), noise, len(parties)) < alpha:
        yield "sum: not the distribution"
    for coalition in coalitions:
        rest = np.delete(parties, coalition, axis=0).sum(axis=0).astype(float)
        if rest.var() < 0.99 * promised(noise) * (
            1 + stats.norm.ppf(alpha) * spread_of_variance(noise, rest)
        ):
            yield f"without {coalition}: too little variance"


def correlated(left: Integers, right: Integers, alpha: float) -> bool:
    if not (left.any() and right.any()):
        return True  # nothing was added; nothing can be said of it
    left, right = left - left.mean(), right - right.mean()
    if not (left.any() and right.any()):
        return True  # one number for all
    left, right = left / np.abs(left).max(), right / np.abs(right).max()
    together = float(left @ right) / math.sqrt(float(left @ left) * float(right @ right))
    return abs(together) * math.sqrt(len(left)) > -stats.norm.ppf(alpha / 2)


def spread_of_variance(noise: Noise, values: NDArray[np.float64]) -> float:
    """The standard error of the variance of so many values over itself, at most: by one party's kurtosis."""
    kurtosis = {
        "discrete-gaussian": 3.0,
        "discrete-laplace": 6.5,
        "one-sided-geometric": 9 + noise.parties / noise.variance,
    }[noise.kind]
    return math.sqrt((kurtosis - 1) / len(values))


def misfit(values: Integers, noise: Noise, parties: int) -> float:
    """The p-value of chi-squared against the exact distribution of the sum of so many parties' noise."""
    if float(noise.scale) > NARROW:
        return _wide_misfit(values, noise)
    reach, one = mass(noise)
    expected = one
    for _ in range(parties - 1):
        expected = np.convolve(expected, one)
    reach *= parties
    counted = np.bincount(np.clip(values + reach, 0, 2 * reach), minlength=2 * reach + 1)
    expected = expected * len(values)
    if counted[expected == 0].any():
        return 0.0
    # What is too rare for a bin of its own goes into one at either end.
    within = np.flatnonzero(expected >= LEAST_IN_A_BIN)
    low, high = within[0], within[-1] + 1
    bins, likely = _with_tails(counted, low, high), _with_tails(expected, low, high)
    return _chi_squared(bins[likely > 0], likely[likely > 0])


def _wide_misfit(values: Integers, noise: Noise) -> float:
    law = {
        "discrete-gaussian": stats.norm(scale=math.sqrt(noise.scale)),
        "discrete-laplace": stats.laplace(scale=float(noise.scale)),
        "one-sided-geometric": stats.expon(scale=float(noise.scale)),
    }[noise.kind]
    # The grid is far finer than the bins: the error of using the density is below 1e-6 of a bin.
    counted = np.bincount(np.minimum((law.cdf(values) * 200).astype(int), 199), minlength=200)
    return _chi_squared(counted, np.full(200, len(values) / 200))


def uneven(values: Integers) -> float:
    counted = np.bincount(values, minlength=256)
    return _chi_squared(counted, np.full(256, len(values) / 256))


def _with_tails(counts: NDArray[np.float64], low: int, high: int) -> NDArray[np.float64]:
    return np.concatenate([[counts[:low].sum()], counts[low:high], [counts[high:].sum()]])


def _chi_squared(counted: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    statistic = float(((counted - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(counted) - 1))
