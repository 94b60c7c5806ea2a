"""Discrete noise on integers: what its shifts give away, and how far it reaches, to full precision.

The discrete Gaussian of parameter σ² has weight exp(-x²/2σ²) at every integer x, the discrete Laplace of
scale b the weight exp(-|x|/b). Each δ is that of a sum of whole numbers which one row moves by at most the
sensitivity.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from mpcpriv.privacy import analytic

Floats = npt.NDArray[np.float64]

_REACH: Final = 12.0
_SUMMED: Final = 2.0**12
"""Up to this standard deviation the terms are added up one by one."""
_SLACK: Final = 2.0**-40
_TINY: Final = 2.0**-1000


def log_delta_gaussian(variance: float, sensitivity: int, epsilon: float) -> float:
    """The logarithm of the least δ of a discrete Gaussian at epsilon, rounded up; at most 0.

    C. Canonne, G. Kamath and T. Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
    Theorem 7, as one sum of what is never negative.
    """
    deviation = math.sqrt(variance)
    multiplier = deviation / sensitivity
    start = epsilon * multiplier - 0.5 / multiplier  # in standard deviations; only beyond it is anything lost
    if deviation > _SUMMED:
        # The summand is log-concave, so that its sum over the integers is at most its integral and its peak.
        steep = 1 / (math.e * start) if start > 0 else 1 - start
        peak = -(max(start, 0.0) ** 2) / 2 + math.log(min(1.0, steep / multiplier))
        log_sum = np.logaddexp(
            analytic.log_delta(multiplier, epsilon), peak - math.log(deviation * math.sqrt(2 * math.pi))
        )
    else:
        first = max(math.ceil(start * deviation), math.floor(-_REACH * deviation))
        at = np.arange(first, max(first, 0) + math.ceil(_REACH * deviation) + 1, dtype=np.float64)
        over = np.maximum(at - start * deviation, 0.0) * (sensitivity / variance)
        exponent = -at * at / (2 * variance)
        top = float(exponent.max())
        mass = float(np.sum(np.exp(exponent - top) * -np.expm1(-over)))
        # The weights of all integers are at least their integral (Poisson's summation), and that of 0.
        weights = max(deviation * math.sqrt(2 * math.pi), 1.0)
        log_sum = top + math.log(max(mass, _TINY) / weights)
    steepness = abs(start) * (0.5 / multiplier + epsilon * multiplier)
    return min(float(log_sum) + _SLACK + 2.0**-50 * steepness, 0.0)


def log_delta_laplace(scale: float, sensitivity: int, epsilon: float) -> float:
    """The logarithm of the least δ of a discrete Laplace at epsilon, rounded up; -inf from sensitivity /
    scale on.

    With the noise about the sensitivity Δ and about 0, the loss is above epsilon from an integer Δ - m on:
    δ is the mass of the one there, less e^ε times that of the other.
    """
    if epsilon * scale >= sensitivity:
        return -math.inf
    beyond = math.ceil((sensitivity - epsilon * scale) / 2) - 1  # m, from 0 and below half the sensitivity
    ratio = math.exp(-1 / scale)
    # 1 - r^(m+1) / (1+r) - e^ε r^(Δ-m) / (1+r), as two terms that are never negative.
    mass = ratio * math.expm1(-beyond / scale) + math.expm1(epsilon - (sensitivity - beyond) / scale)
    return min(math.log(max(-mass, _TINY)) - math.log1p(ratio) + _SLACK, 0.0)


def laplace_tail(scale: float, terms: int, least: int) -> float:
    """The probability, rounded up, that independent discrete Laplaces add up to at least `least`, which is
    positive.

    The sum is the difference of two negative binomials, whose tails have short closed forms. Where the
    scale is large, the inner one goes in blocks, each counted at its most likely end: at most 1/1000 too
    much per term.
    """
    block = max(1, int(scale / 1024))
    blocks = 1 + math.ceil((60 + 4 * terms) * scale / block)
    starts = np.arange(blocks + 1, dtype=np.float64) * block
    inner = _negative_binomial_tail(scale, terms, starts)
    outer = _negative_binomial_tail(scale, terms, starts + least)
    # What lies beyond the last block is less than a part in 10^15, and is counted as if at its start.
    found = float(np.sum((inner[:-1] - inner[1:]) * outer[:-1]) + inner[-1] * outer[-1])
    return min(found * (1 + _SLACK) + _TINY, 1.0)


def _negative_binomial_tail(scale: float, terms: int, least: Floats) -> Floats:
    """P[A >= least] of a sum of geometric variables of ratio exp(-1/scale), which start at 0.

    That is the probability of fewer than `terms` successes in least + terms - 1 trials.
    """
    trials = least + (terms - 1)
    success = -math.expm1(-1 / scale)
    found = np.zeros_like(least)
    choices = np.ones_like(least)
    for successes in range(terms):
        found += choices * success**successes * np.exp((successes - trials) / scale)
        choices = choices * (trials - successes) / (successes + 1)
    return found
