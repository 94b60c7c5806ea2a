"""Differential privacy as arithmetic: what a release costs, how much noise it needs, what may be spent.

Nothing here knows of shares or parties' tables; agreements price jobs with it, and the release door adds
its noise. `loss.py` is what everything is counted in.

It serves one owner alone as well, who releases something of his own rows to anybody outside:

    from mpcpriv import privacy

    privacy.laplace(vector, sensitivity, epsilon)              sums: pure ε
    privacy.gaussian(vector, sensitivity, epsilon, delta)      sums of many columns: (ε, δ)
    privacy.histogram(values, categories, epsilon)             counts of known categories
    privacy.stable_histogram(values, epsilon, delta)           counts of the categories that occur
    privacy.noisy_max(scores, sensitivity, epsilon)            the best of several candidates
    privacy.exponential(scores, sensitivity, epsilon)          the same by the exponential mechanism

and whoever wants to know whether a release keeps what it promises: `canaries.py`, an audit in one run.

Two data sets are neighbours when one has one row more; a row is what is protected. Each call spends its ε;
the losses of several add up: `(one.loss + other.loss).epsilon(delta)`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mpcpriv.privacy.loss import Allowance, Loss

if TYPE_CHECKING:
    from mpcpriv.privacy.canaries import Guesses, guess, toss
    from mpcpriv.privacy.counts import histogram, stable_histogram
    from mpcpriv.privacy.released import NoisyChoice, NoisyHistogram, NoisyVector
    from mpcpriv.privacy.selection import exponential, noisy_max
    from mpcpriv.privacy.vectors import gaussian, laplace

__all__ = [
    "Allowance",
    "Guesses",
    "Loss",
    "NoisyChoice",
    "NoisyHistogram",
    "NoisyVector",
    "exponential",
    "gaussian",
    "guess",
    "histogram",
    "laplace",
    "noisy_max",
    "stable_histogram",
    "toss",
]

# Where what needs numpy is; it is loaded on first use.
_MODULES = {
    "Guesses": "canaries",
    "NoisyChoice": "released",
    "NoisyHistogram": "released",
    "NoisyVector": "released",
    "exponential": "selection",
    "gaussian": "vectors",
    "guess": "canaries",
    "histogram": "counts",
    "laplace": "vectors",
    "noisy_max": "selection",
    "stable_histogram": "counts",
    "toss": "canaries",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"mpcpriv.privacy.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mpcpriv.privacy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
