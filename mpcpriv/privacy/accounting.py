"""What noise costs, and how much of it a budget needs.

Neighbours differ in the presence of one row: one row is added or removed, as in Opacus and OpenDP. A noise
multiplier is the standard deviation of Gaussian noise over the l2-sensitivity. All numbers are rounded to
the safe side: a loss, an ε, a δ and a multiplier up, a number of steps and a rate down.

What a ledger is charged is a `Loss`, by Rényi divergences; `training_epsilon` and `discrete_epsilon` say
how much is truly lost, which is less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, Literal

from mpcpriv.errors import UsageError
from mpcpriv.privacy import analytic, discrete, subsampling
from mpcpriv.privacy.loss import ORDERS, Loss

EPSILON_MAX: Final = 1e4
"""No ε above it can be asked for: it would promise nothing."""
_SMALLEST: Final = 5e-324
_CONVOLVED: Final = 2.0**-40
"""More δ than the floating-point errors of composing a privacy loss distribution can hide."""


def gaussian_multiplier(epsilon: float, delta: float) -> float:
    """The least noise multiplier with which one Gaussian release is (epsilon, delta)-differentially private.

    Raises:
        UsageError: epsilon is not in (0, 10000], or delta not in (0, 1).
    """
    _check_epsilon(epsilon)
    target = math.log(_check_delta(delta))
    return _least(lambda multiplier: analytic.log_delta(multiplier, epsilon) <= target)


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    """The least ε of one Gaussian release at this delta; 0 where delta alone pays for it.

    Raises:
        UsageError: the multiplier is not in [1e-9, 1e100], or delta not in (0, 1).
    """
    _check_multiplier(multiplier)
    target = math.log(_check_delta(delta))
    if analytic.log_delta(multiplier, 0.0) <= target:
        return 0.0
    return _least(lambda epsilon: analytic.log_delta(multiplier, epsilon) <= target)


def gaussian_delta(multiplier: float, epsilon: float) -> float:
    """The least δ of one Gaussian release at this epsilon; never 0.

    Raises:
        UsageError: the multiplier is not in [1e-9, 1e100], or epsilon negative or not finite.
    """
    _check_multiplier(multiplier)
    if not 0 <= epsilon < math.inf:
        raise UsageError(f"epsilon is {epsilon!r}: give a finite number of at least 0")
    return max(math.exp(analytic.log_delta(multiplier, epsilon)), _SMALLEST)


def training_loss(multiplier: float, rate: float, steps: int) -> Loss:
    """Of steps that each release the noised sum over a Poisson sample of the rows.

    Args:
        multiplier: the noise multiplier of one step.
        rate: the probability, in [0, 1], of each row to be in a step's sample, independently and in secret.
        steps: how many; at least 0. The loss of n steps is n times that of one.

    Raises:
        UsageError: an argument is out of its range.
    """
    _check_multiplier(multiplier)
    _check_rate(rate)
    if not (float(steps).is_integer() and steps >= 0):
        raise UsageError(f"steps are {steps!r}: give a whole number of at least 0")
    return Loss.of([subsampling.divergence(multiplier, rate, order) for order in ORDERS]) * int(steps)


def training_epsilon(multiplier: float, rate: float, steps: int, delta: float) -> float:
    """What the same steps truly lose at this delta, by their privacy loss distribution, rounded up.

    At most what `training_loss` says, which is what a ledger is charged. J. Doroshenko et al., "Connect the
    Dots: Tighter Discrete Approximations of Privacy Loss Distributions", PETS 2022. Takes up to a second.

    Raises:
        UsageError: an argument is out of its range, or the extra `accounting` is not installed.
    """
    charged = training_loss(multiplier, rate, steps).epsilon(_check_delta(delta))
    if charged == 0 or rate == 0 or steps == 0 or delta <= 2 * _CONVOLVED:
        return charged
    distribution = _loss_distribution(multiplier, rate, min(charged, 10.0) / 10_000).self_compose(steps)
    return min(charged, float(distribution.get_epsilon_for_delta(delta - _CONVOLVED)))


def training_multiplier(
    epsilon: float, delta: float, rate: float, steps: int, *, tight: bool = False
) -> float:
    """The least noise multiplier for which `training_loss` keeps within epsilon at delta.

    Args:
        tight: hold `training_epsilon` against epsilon instead. A ledger does not: it charges `training_loss`.

    Raises:
        UsageError: an argument is out of its range; there is nothing to protect, since rate or steps is 0;
            or tight is asked for without the extra `accounting`.
    """
    _check_epsilon(epsilon)
    _check_delta(delta)
    _check_rate(rate)
    if rate == 0 or steps == 0:
        raise UsageError(f"{steps} steps at a rate of {rate} look at no row: they need no noise")
    enough = _least(lambda multiplier: training_loss(multiplier, rate, steps).epsilon(delta) <= epsilon)
    if tight:
        return _least(
            lambda multiplier: training_epsilon(multiplier, rate, steps, delta) <= epsilon, enough, 2.0**-12
        )
    return enough


def training_steps(epsilon: float, delta: float, multiplier: float, rate: float) -> int:
    """The most steps that keep `training_loss` within epsilon at delta; may be 0.

    Raises:
        UsageError: an argument is out of its range, or there is no end to the steps.
    """
    _check_epsilon(epsilon)
    _check_delta(delta)
    step = training_loss(multiplier, rate, 1)
    if not any(step.rdp):
        raise UsageError("steps that lose nothing can be taken without end: give a rate above 0")
    most = 1
    while (step * most).epsilon(delta) <= epsilon:
        most *= 2
    least = 0  # within; `most` is not
    while most - least > 1:
        half = (least + most) // 2
        if (step * half).epsilon(delta) <= epsilon:
            least = half
        else:
            most = half
    return least


def training_rate(epsilon: float, delta: float, multiplier: float, steps: int) -> float:
    """The largest sampling rate that keeps `training_loss` within epsilon at delta; 0 if none does.

    Raises:
        UsageError: an argument is out of its range.
    """
    _check_epsilon(epsilon)
    _check_delta(delta)

    def within(rate: float) -> bool:
        return training_loss(multiplier, rate, steps).epsilon(delta) <= epsilon

    if within(1.0):
        return 1.0
    low, high = 0.0, 1.0
    while high - low > max(2.0**-40 * high, 2.0**-60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def discrete_sum_rho(variance: Fraction, honest: int, l2_squared: int, l1: int, dimension: int) -> float:
    """ρ of zero-concentrated differential privacy of integers plus a sum of independent discrete Gaussians.

    P. Kairouz, Z. Liu and T. Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning
    with Secure Aggregation", ICML 2021, Proposition 14: with k of them, of parameter σ² >= 1/4 each, in
    every coordinate, and τ = 10 Σ_{j=1}^{k-1} exp(-2π² σ² j / (j+1)), the divergence of order α is at most
    each of α Δ2² / 2kσ² + τ d, (α/2) (Δ2² / kσ² + 2 Δ1 τ / σ√k + τ² d) and (α/2) (Δ2 / σ√k + τ √d)².

    Args:
        variance: the parameter σ² of each, in squared grid units.
        honest: k, how many are unknown to those against whom to protect.
        l2_squared, l1: the largest norms of one row's contribution, in grid units.
        dimension: the number of coordinates d.

    Raises:
        UsageError: an argument is out of its range.
    """
    if not (honest >= 1 and dimension >= 1):
        raise UsageError(
            f"{honest} honest parties, {dimension} coordinates: there must be at least 1 of each"
        )
    if not (l2_squared >= 0 and l1 >= 0):
        raise UsageError(f"norms are at least 0, and these are {l2_squared} and {l1}")
    tau = _apart(variance, honest)
    plain = float(Fraction(l2_squared) / (honest * variance))
    deviation = math.sqrt(honest * variance)
    bounds = (
        plain / 2 + tau * dimension,  # at every α >= 1, over α
        (plain + 2 * l1 * tau / deviation + tau * tau * dimension) / 2,
        (math.sqrt(plain) + tau * math.sqrt(dimension)) ** 2 / 2,
    )
    # τ has a relative error of (exponent) ulps, where it counts at all; the rest of a few.
    return min(bounds) * (1 + 2.0**-44)


def discrete_epsilon(
    kind: Literal["discrete-gaussian", "discrete-laplace"],
    scale: Fraction,
    sensitivity: int,
    delta: float,
    *,
    honest: int = 1,
) -> float:
    """The least ε, at this delta, of one whole number to which each of several parties adds discrete noise.

    Args:
        kind: of the noise.
        scale: of one party's noise: the parameter σ² of a discrete Gaussian, at least 1/4, or the scale b
            of a discrete Laplace, in grid units.
        sensitivity: by how much one row moves the number at most, in grid units; at least 1.
        delta: in (0, 1).
        honest: whose noise counts. Of Laplace noise one party's does; that of more is not counted.

    Raises:
        UsageError: an argument is out of its range.
    """
    target = math.log(_check_delta(delta))
    if not (sensitivity >= 1 and honest >= 1):
        raise UsageError(f"a sensitivity of {sensitivity}, {honest} honest parties: give at least 1 of each")
    if kind == "discrete-laplace":
        if not scale > 0:
            raise UsageError(f"a discrete Laplace of scale {scale}: give a positive one")

        def within(epsilon: float) -> bool:
            return discrete.log_delta_laplace(float(scale), sensitivity, epsilon) <= target

    else:
        tau = _apart(scale, honest)
        variance = float(honest * scale)

        def within(epsilon: float) -> bool:
            # The sum's probabilities are within exp(τ/2) of a discrete Gaussian's, either way, and the
            # shifted one's too: what Proposition 14 above rests on. So P(E) - e^ε Q(E) is at most exp(τ/2)
            # times the same of the discrete Gaussian at ε - τ, or at 0 and as much more as that is below.
            delta = math.exp(discrete.log_delta_gaussian(variance, sensitivity, max(epsilon - tau, 0.0)))
            return math.log(max(delta + max(tau - epsilon, 0.0), _SMALLEST)) + tau / 2 <= target

    return 0.0 if within(0.0) else _least(within)


def stable_delta(
    scale: Fraction, parties: int, threshold: int, contribution: int = 1, cells: int = 1
) -> float:
    """δ of a histogram that shows only those of unknown groups whose noisy count reaches a threshold.

    A group in which there is a single row would betray it by being shown at all (A. Korolova et al.,
    "Releasing Search Queries and Clicks Privately", WWW 2009). Goes with the loss of the noise itself, as
    its `delta`.

    Args:
        scale: b of the discrete Laplace noise that each party adds.
        parties: how many add noise, honest or not: all of it can lift a count over the threshold.
        threshold: above the contribution; in the units of the scale.
        contribution: what one row adds to a group at most.
        cells: in how many groups one row is at most.

    Raises:
        UsageError: an argument is out of its range.
    """
    if not (scale > 0 and parties >= 1 and contribution >= 1 and cells >= 1):
        raise UsageError("a scale must be positive, and parties, contribution and cells at least 1")
    if not threshold > contribution:
        raise UsageError(f"the threshold {threshold} must be above what one row contributes, {contribution}")
    return min(cells * discrete.laplace_tail(float(scale), parties, threshold - contribution), 1.0)


def _apart(variance: Fraction, honest: int) -> float:
    """τ: twice the largest logarithm of how far a sum of discrete Gaussians is from one, at any integer."""
    if not variance >= Fraction(1, 4):
        raise UsageError(f"a discrete Gaussian of parameter {variance}: the bound for their sum needs 1/4")
    terms = (math.exp(-2 * math.pi**2 * float(variance) * j / (j + 1)) for j in range(1, honest))
    return 10 * sum(terms)


def _loss_distribution(multiplier: float, rate: float, interval: float) -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise UsageError(
            "the tight ε of a training needs the extra `accounting`: pip install 'mpcpriv[accounting]'"
        ) from None
    return privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, sampling_prob=rate, value_discretization_interval=interval
    )


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon <= EPSILON_MAX:
        raise UsageError(f"epsilon is {epsilon!r}: give a number above 0 and at most {EPSILON_MAX:g}")


def _check_delta(delta: float) -> float:
    if not 0 < delta < 1:
        raise UsageError(
            f"delta is {delta!r}: give a number between 0 and 1, well below one over the number of rows"
        )
    return delta


def _check_multiplier(multiplier: float) -> None:
    if not 1e-9 <= multiplier <= 1e100:
        raise UsageError(f"the noise multiplier is {multiplier!r}: give a number from 1e-9 to 1e100")


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise UsageError(f"the sampling rate is {rate!r}: give a number from 0 to 1")


def _least(enough: Callable[[float], bool], start: float = 1.0, parts: float = 2.0**-40) -> float:
    """The least positive number that is enough, up to a relative `parts` more; all above it must be
    enough."""
    high = start
    while not enough(high):
        high *= 2
        if high > 2.0**200:
            raise UsageError("no finite number is enough: ask for more epsilon or delta")
    low = high / 2
    while enough(low):
        low, high = low / 2, low
    while high - low > parts * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
