"""Which rows take part in a step: each owner tosses a coin for each of its own rows.

The coins are the operating system's, and nobody else sees how they fell: a batch has as many places for each
owner as are public (`capacity`), and the places that are left are filled with rows that count for nothing. So
amplification by subsampling holds against everybody who does not know the row's coin: all other parties
together, the dealer, and whoever gets the result. It does not hold against the row's owner, who has the row.

Rarely more rows would take part than there are places; those are left out, and the chance of it is accounted
(`overflow`): it depends on the coins alone, not on data.
"""

from __future__ import annotations

import math
import os
from typing import Final

import numpy as np

RARE_BITS: Final = 64
"""More rows than places have a chance of at most 2^-64, for each owner and step."""
_LARGEST_EPSILON: Final = 16.0


def capacity(rows: int, rate: float) -> int:
    """The places of one owner in a batch.

    By Chernoff's bound, P(X >= k) <= exp(-rows D(k / rows, rate)) for the binomial X (W. Hoeffding, JASA 58,
    1963, Theorem 1), D being the divergence of two coins.

    Args:
        rows: of the owner; public.
        rate: of each row to take part.
    """
    if rate >= 1:
        return rows
    places = math.ceil(rows * rate)
    while places < rows and rows * _divergence((places + 1) / rows, rate) < RARE_BITS * math.log(2):
        places += 1
    return places


def _divergence(p: float, q: float) -> float:
    if p <= q:
        return 0.0
    left = 0.0 if p >= 1 else (1 - p) * math.log((1 - p) / (1 - q))
    return p * math.log(p / q) + left


def draw(rows: int, rate: float) -> np.ndarray:
    """The rows that take part, int64 and increasing, at most `capacity`; the coins are the system's."""
    if rate >= 1:
        return np.arange(rows)
    words = np.frombuffer(os.urandom(8 * rows), dtype=np.uint64)
    # A word is below this with probability floor(2^64 rate) / 2^64: never more than the rate.
    chosen = np.flatnonzero(words < np.uint64(math.floor(math.ldexp(rate, 64))))
    return chosen[: capacity(rows, rate)]


def overflow(draws: int, rate: float) -> float:
    """What the places being few adds to δ, for every ε up to 16.

    With probability p <= draws 2^-64 the batches are not the coins'. Both data sets are that far from the
    process that is accounted, so (ε, δ) becomes (ε, δ + (1 + e^ε) p).

    Args:
        draws: owners times steps.
    """
    return 0.0 if rate >= 1 else draws * 2.0**-RARE_BITS * (1 + math.exp(_LARGEST_EPSILON))
