"""The estimator of an audit in one run, where the ε is known: above it no more often than promised.

Where each canary is told by a coin of its own, how often a bound is above the truth is a sum of binomial
probabilities, and is computed.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from mpcpriv import privacy
from mpcpriv.errors import UsageError
from mpcpriv.privacy import Guesses
from mpcpriv.privacy.accounting import gaussian_epsilon


def test_it_is_the_papers() -> None:
    """The example of its Appendix D."""
    assert Guesses(1000, 100, 75).epsilon(1e-4) == pytest.approx(0.673, abs=5e-4)


@pytest.mark.parametrize(
    ("canaries", "made", "right"), [(10, 3, 0), (10, 3, 1), (100, 100, 100), (1000, 100, 75), (900, 800, 640)]
)
@pytest.mark.parametrize(
    ("epsilon", "delta"), [(0.0, 0.0), (0.5, 1e-4), (1.3, 1e-6), (3.0, 1e-3), (8.0, 1e-2)]
)
def test_chances_are_those_of_coins(
    canaries: int, made: int, right: int, epsilon: float, delta: float
) -> None:
    """Never below what scipy says, and hardly above."""
    coins = stats.binom(made, 1 / (1 + math.exp(-epsilon)))
    steepest = max(
        ((coins.cdf(right - 1) - coins.cdf(right - i - 1)) / i for i in range(1, right + 1)), default=0.0
    )
    expected = min(coins.sf(right - 1) + 2 * canaries * delta * steepest, 1.0)
    found = Guesses(canaries, made, right).chance(epsilon, delta)
    assert expected * (1 - 1e-9) <= found <= expected * (1 + 1e-5) + 1e-15


@cache
def bound(canaries: int, right: int, delta: float, confidence: float) -> float:
    return Guesses(canaries, canaries, right).epsilon(delta, confidence)


def above(
    epsilon: float, canaries: int, shown: float, delta: float, confidence: float
) -> tuple[float, float]:
    """How often the bound is above epsilon, where each guess is right with this probability; and its mean."""
    mass = stats.binom(canaries, shown).pmf(np.arange(canaries + 1))
    # What is left out is as good as 0, of the bounds too.
    bounds = [bound(canaries, v, delta, confidence) if p > 1e-15 else 0.0 for v, p in enumerate(mass)]
    return float(mass @ (np.array(bounds) > epsilon)), float(mass @ np.array(bounds))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_of_randomised_response_the_bound_is_above_as_rarely_as_promised(
    epsilon: float, confidence: float
) -> None:
    """And close below: nothing tells more at this ε."""
    often, mean = above(epsilon, 500, 1 / (1 + math.exp(-epsilon)), 0.0, confidence)
    assert 0 < often <= 1 - confidence
    # Of a rate of right ones by 500 coins, about so much more than its own spread is left.
    slope = math.exp(epsilon / 2) + math.exp(-epsilon / 2)
    assert mean > epsilon - slope * (stats.norm.ppf(confidence) + 1) / math.sqrt(500)


def test_delta_is_counted() -> None:
    """Each canary is shown with probability δ, and by randomised response else: (ε, δ), exactly."""
    epsilon, delta = 1.0, 0.02
    shown = delta + (1 - delta) / (1 + math.exp(-epsilon))
    assert above(epsilon, 500, shown, delta, 0.95)[0] <= 0.05
    assert above(epsilon, 500, shown, 0.0, 0.95)[0] > 0.06  # where it is not, the bound breaks
    # All shown at once, with probability δ: no ε at all, and as often all guesses are right.
    assert Guesses(50, 50, 50).epsilon(0.06) == 0
    assert Guesses(50, 50, 50).epsilon(0.0) > 2


def gaussian(multiplier: float, runs: int) -> np.ndarray:
    """Bounds at δ = 1e-5 of a vector with one canary in each of 1,000 places and Gaussian noise."""
    generator = np.random.default_rng(3)
    found = []
    for _ in range(runs):
        included = generator.random(1000) < 0.5
        scores = included + multiplier * generator.normal(size=1000)
        found.append(privacy.guess(included, scores, inside=100, outside=100).epsilon(1e-5))
    return np.array(found)


def test_of_the_gaussian_mechanism_the_bound_is_below_the_known_epsilon_and_worth_something() -> None:
    for multiplier, least in ((4.0, 0.05), (1.0, 0.25), (0.5, 0.25)):
        truth, bounds = gaussian_epsilon(multiplier, 1e-5), gaussian(multiplier, 200)
        assert (bounds < truth).all()  # Gaussian tails tell less than their ε, so not one in twenty is above
        assert np.median(bounds) > least * truth
        assert (gaussian(multiplier / 16, 20) > min(truth, 4.0)).all()


def test_guesses_are_the_highest_and_the_lowest_scores() -> None:
    included = np.array([True, False, True, False, True])
    scores = [0.9, 0.8, 0.1, -3.0, 0.2]
    assert privacy.guess(included, scores, inside=1, outside=1) == Guesses(5, 2, 2)
    assert privacy.guess(included, scores, inside=2, outside=2) == Guesses(5, 4, 2)
    assert privacy.guess(included, scores, inside=0, outside=2) == Guesses(5, 2, 1)
    assert privacy.guess(included, scores, inside=5, outside=0) == Guesses(5, 5, 3)


def test_coins_are_fair_and_each_its_own() -> None:
    coins = privacy.toss(200_000)
    assert coins.dtype == np.bool_
    assert abs(float(coins.mean()) - 0.5) < 5 * 0.5 / math.sqrt(200_000)
    assert abs(float((coins[1:] == coins[:-1]).mean()) - 0.5) < 5 * 0.5 / math.sqrt(200_000)
    assert (privacy.toss(64) != privacy.toss(64)).any()


def test_what_is_no_audit_is_refused() -> None:
    coins = np.array([True, False])
    for scores, inside, outside in (
        ([1.0], 1, 0),
        ([1.0, math.nan], 1, 0),
        ([1.0, 2.0], 0, 0),
        ([1.0, 2.0], 2, 1),
        ([1.0, 2.0], -1, 2),
    ):
        with pytest.raises(UsageError):
            privacy.guess(coins, scores, inside=inside, outside=outside)
    with pytest.raises(UsageError, match="booleans"):
        privacy.guess(np.array([1, 0]), [1.0, 2.0], inside=1, outside=1)
    with pytest.raises(UsageError):
        privacy.toss(0)
    for made, right in ((0, 0), (3, 4), (11, 5), (3, -1)):
        with pytest.raises(UsageError):
            Guesses(10, made, right)
    for epsilon, delta in ((-1.0, 0.0), (math.inf, 0.0), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(UsageError):
            Guesses(10, 5, 5).chance(epsilon, delta)
    for confidence in (0.0, 1.0):
        with pytest.raises(UsageError, match="confidence"):
            Guesses(10, 5, 5).epsilon(0.0, confidence)
