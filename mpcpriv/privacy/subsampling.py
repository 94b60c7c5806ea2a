"""Rényi divergences of the Gaussian mechanism on a Poisson sample of the rows.

I. Mironov, K. Talwar and L. Zhang, "Rényi Differential Privacy of the Sampled Gaussian Mechanism", 2019:
where every row is there with probability q, independently, and neighbours differ in one row's presence, the
divergence of order α is log(A) / (α - 1) with A the α-th moment of the likelihood ratio 1 + q u (Theorem 4;
the other direction is never larger, Theorem 5 and Corollary 7). Both forms below compute A - 1 as a sum of
what is never negative: small losses, of which there are many steps, do not drown in the 1.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ULP: Final = 2.0**-52
_TINY: Final = 2.0**-1000
_REACH: Final = 12.0
"""Standard deviations of the noise to integrate over at either end."""
_LEAST: Final = 2.0**-4
"""Below this multiplier the secrecy of the sample is not counted, which is an upper bound: there is no
privacy to speak of, and the integral would need millions of points."""


def divergence(multiplier: float, rate: float, order: float) -> float:
    """Of one step, at an order above 1, rounded up.

    Args:
        multiplier: the standard deviation of the noise over the sensitivity.
        rate: the probability of a row to be in the sample, from 0 to 1.
    """
    if rate == 0.0:
        return 0.0
    if rate == 1.0 or multiplier < _LEAST:
        return order / (2 * multiplier * multiplier) * (1 + 4 * _ULP)
    of = _whole if order == int(order) else _broken
    log_excess, error = of(multiplier, rate, order)
    log_moment = (
        float(np.logaddexp(0.0, log_excess + error)) if log_excess > -30 else math.exp(log_excess + error)
    )
    return log_moment / (order - 1) * (1 + 16 * _ULP)


def _whole(multiplier: float, rate: float, order: float) -> tuple[float, float]:
    """log(A - 1) at a whole order, and a bound on its error: the binomial series (Section 3.3).

    The binomial weights sum to 1 and the exponentials of the first two terms are 1, so that A - 1 is the
    series of the exponentials less 1, from the third term on.
    """
    whole = int(order)
    times = np.arange(2, whole + 1, dtype=np.float64)
    weights = _log_binomials(whole) + times * math.log(rate) + (whole - times) * math.log1p(-rate)
    gains = times * (times - 1) / (2 * multiplier * multiplier)
    terms = weights + _log_expm1(gains)
    largest = float(terms.max())
    # The magnitudes from which the terms were made bound the error of each; the sum adds less than a part
    # in 2^40.
    made_of = (
        math.lgamma(whole + 1) * 3 + whole * (abs(math.log(rate)) + abs(math.log1p(-rate))) + float(gains[-1])
    )
    return largest + math.log(float(np.exp(terms - largest).sum())), 4 * _ULP * made_of + 2.0**-40


def _broken(multiplier: float, rate: float, order: float) -> tuple[float, float]:
    """log(A - 1) at any order, and a bound on its error: the trapezoidal rule over the noise.

    The mean of u is 0, so that A - 1 is the mean of (1 + q u)^α - 1 - α q u, which Bernoulli's inequality
    keeps from being negative. The integrand is analytic in a strip of half-width π z² about the real line
    and falls off like a normal density, and the rule converges exponentially in the inverse of its step
    (Trefethen and Weideman, "The Exponentially Convergent Trapezoidal Rule", SIAM Review, 2014).
    """
    step = min(multiplier, multiplier * multiplier) / 4
    at = np.arange(-_REACH * multiplier, order + _REACH * multiplier + step, step)
    ratio = (2 * at - 1) / (2 * multiplier * multiplier)
    log_power = order * np.logaddexp(math.log1p(-rate), math.log(rate) + ratio)
    change = rate * np.expm1(np.minimum(ratio, 1 - math.log(rate)))  # where it is far, `near` does not count
    small = np.expm1(order * np.log1p(change)) - order * change
    # What the subtraction loses is given back: never below.
    near = np.log(np.maximum(small, 0.0) + 8 * _ULP * order * np.abs(change) + _TINY)
    above = np.maximum(log_power, 1.0)
    far = above + np.log1p((order - 1) * np.exp(-above) - order * np.exp(above / order - above))
    terms = np.where(log_power < 1, near, far) - at * at / (2 * multiplier * multiplier)
    largest = float(terms.max())
    log_sum = largest + math.log(float(np.exp(terms - largest).sum()))
    made_of = float(np.abs(log_power).max()) + float(np.abs(at).max() / multiplier) ** 2
    scale = math.log(step / multiplier) - 0.5 * math.log(2 * math.pi)
    return log_sum + scale, 4 * _ULP * made_of + 2.0**-40


@functools.cache
def _log_binomials(whole: int) -> Floats:
    """log C(whole, k) for k from 2 to whole."""
    factorials = _log_factorials(whole)
    found: Floats = factorials[-1] - factorials[2:] - factorials[-3::-1]
    return found


def _log_factorials(whole: int) -> Floats:
    return np.array([math.lgamma(k + 1) for k in range(whole + 1)])


def _log_expm1(value: Floats) -> Floats:
    small = np.log(np.expm1(np.minimum(value, 1.0)))
    large = value + np.log1p(-np.exp(-np.maximum(value, 1.0)))
    found: Floats = np.where(value < 1, small, large)
    return found
