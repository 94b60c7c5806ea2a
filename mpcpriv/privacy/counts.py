"""Releasing how many rows of one's own fall into each category."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction

from mpcpriv.errors import UsageError
from mpcpriv.privacy.accounting import stable_delta
from mpcpriv.privacy.loss import ORDERS, Loss
from mpcpriv.privacy.mechanism import Noise, Sensitivity, calibrate
from mpcpriv.privacy.released import NoisyHistogram

_ONE_ROW = Sensitivity(1, 1, 1)


def histogram(values: Iterable[Hashable], categories: Sequence[Hashable], epsilon: float) -> NoisyHistogram:
    """Counts of categories that are known without looking at the data: pure ε-differential privacy.

    Args:
        values: one category of each row; those that are not among the categories count nowhere.
        categories: all different; each gets a count, those without a row too.
        epsilon: above 0.

    Raises:
        UsageError: an argument is out of its range.
    """
    if not categories or len(set(categories)) != len(categories):
        raise UsageError("categories: none, or one of them twice; give each once")
    noise = calibrate("discrete-laplace", epsilon, 0.0, _ONE_ROW, len(categories), 1, 0)
    drawn: list[int] = noise.share(len(categories)).tolist()
    counted = Counter(values)
    counts = {one: counted[one] + extra for one, extra in zip(categories, drawn, strict=True)}
    loss = noise.loss(_ONE_ROW, len(categories))
    return NoisyHistogram(noise.kind, float(noise.scale), Fraction(1), epsilon, 0.0, loss, counts)


def stable_histogram(values: Iterable[Hashable], epsilon: float, delta: float) -> NoisyHistogram:
    """Counts of the categories that occur, of which rare ones are left out: (ε, δ)-differential privacy.

    Noise is added to the counts above 0, and those below a threshold are dropped (Korolova, Kenthapadi,
    Mishra and Ntoulas, "Releasing Search Queries and Clicks Privately", WWW 2009). The threshold is the
    least with which a category of one row stays with a probability of at most δ.

    Args:
        values: one category of each row.
        epsilon: above 0.
        delta: above 0, below 1; far below one over the number of rows.

    Raises:
        UsageError: an argument is out of its range.
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta: {delta!r}; give a number above 0 and below 1")
    counted = Counter(values)
    noise = calibrate("discrete-laplace", epsilon, 0.0, _ONE_ROW, max(len(counted), 1), 1, 0)
    threshold = _threshold(noise, delta)
    failure = stable_delta(noise.scale, 1, threshold)
    # In an order that is not the rows': which row came first is nobody's business.
    ordered = sorted(counted, key=lambda one: (type(one).__name__, repr(one)))
    drawn: list[int] = noise.share(len(ordered)).tolist()
    noised = {one: counted[one] + extra for one, extra in zip(ordered, drawn, strict=True)}
    counts = {one: count for one, count in noised.items() if count >= threshold}
    loss = noise.loss(_ONE_ROW, 1) + Loss.of([0.0] * len(ORDERS), pure=0.0, delta=failure)
    return NoisyHistogram(
        noise.kind, float(noise.scale), Fraction(1), epsilon, delta, loss, counts, threshold
    )


def _threshold(noise: Noise, delta: float) -> int:
    """The least with which one row shows its category with a probability of at most delta."""
    threshold = 2 + max(math.floor(-math.log(delta) * float(noise.scale)), 0)
    while stable_delta(noise.scale, 1, threshold) > delta:
        threshold += 1
    while threshold > 2 and stable_delta(noise.scale, 1, threshold - 1) <= delta:
        threshold -= 1
    return threshold
