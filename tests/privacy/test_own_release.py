"""One owner's own releases: the right noise on the right grid, and intervals that hold."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mpcpriv import privacy
from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy.accounting import gaussian_multiplier, training_multiplier
from mpcpriv.privacy.mechanism import Noise
from mpcpriv.privacy.noise import exponential_choice, noisy_maximum
from tests.privacy.noise_checks import ALPHA, _chi_squared, misfit, uneven

MILLION = pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])
SIZES = [20_000, MILLION]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noise, "share", lambda self, size: np.zeros(size, dtype=np.int64))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
def test_a_vector_gets_the_noise_that_it_says(mechanism: str, size: int) -> None:
    vector = np.full(size, math.pi)
    if mechanism == "laplace":
        release = privacy.laplace(vector, 3.0, 0.5)
        assert release.scale == pytest.approx(6, rel=1e-6)
        law = stats.laplace(scale=release.scale)
    else:
        release = privacy.gaussian(vector, 3.0, 0.5, 1e-6)
        assert release.scale == pytest.approx(3 * training_multiplier(0.5, 1e-6, 1.0, 1), rel=1e-3)
        law = stats.norm(scale=release.scale)
    noise = release.values - math.pi
    counted = np.bincount(np.minimum((law.cdf(noise) * 100).astype(int), 99), minlength=100)
    assert _chi_squared(counted, np.full(100, size / 100)) > ALPHA
    steps = [int(Fraction(one) / release.grid) for one in release.values.tolist()]
    assert [float(one * release.grid) for one in steps] == release.values.tolist()
    assert uneven(np.array([one & 255 for one in steps])) > ALPHA
    low, high = release.interval(0.9).T
    covered = np.count_nonzero((low <= math.pi) & (math.pi <= high))
    assert stats.binomtest(covered, size, 0.9).pvalue > ALPHA


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("entries", [1, 2, 7, 300])
def test_rounding_to_the_grid_is_within_the_sensitivity_that_is_accounted_for(entries: int) -> None:
    chance = np.random.default_rng(entries)
    multiplier = training_multiplier(0.7, 1e-6 * 0.999, 1.0, 1)
    for sensitivity in (1e-9, 1.0, 7.3, 1e12):
        for _ in range(10):
            before = chance.normal(scale=100 * sensitivity, size=entries)
            row = chance.normal(size=entries)
            one, other = (
                privacy.laplace(vector, sensitivity, 0.7)
                for vector in (before, before + row * (sensitivity / np.abs(row).sum()) * (1 - 1e-12))
            )
            steps = exact(one.values, one.grid) - exact(other.values, one.grid)
            assert np.abs(steps).sum() * float(one.grid) <= one.scale * 0.7
            one, other = (
                privacy.gaussian(vector, sensitivity, 0.7, 1e-6)
                for vector in (before, before + row * (sensitivity / np.linalg.norm(row)) * (1 - 1e-12))
            )
            steps = exact(one.values, one.grid) - exact(other.values, one.grid)
            assert math.sqrt((steps.astype(float) ** 2).sum()) * float(one.grid) <= one.scale / multiplier


def exact(values: np.ndarray, grid: Fraction) -> np.ndarray:
    return np.array([round(Fraction(one) / grid) for one in values.tolist()], dtype=object)


@pytest.mark.usefixtures("silent")
def test_large_numbers_do_not_wrap() -> None:
    assert privacy.laplace(2**62, 1.0, 1.0).value == 2.0**62
    assert privacy.laplace(-1e290, 1e-3, 1.0).value == -1e290
    assert privacy.laplace(np.float32(0.5), 1e-290, 1.0).scale == pytest.approx(1e-290)
    assert privacy.gaussian(0.5, 1e290, 1e-3, 1e-6).scale > 1e292
    assert privacy.gaussian([1e18, 5], 1.0, 1.0, 1e-6).values.tolist() == [1e18, 5.0]


def test_the_tight_epsilon_is_kept_and_losses_add_up() -> None:
    one, other = privacy.laplace(1.0, 1.0, 0.25), privacy.histogram("aab", "ab", 0.5)
    assert one.loss.epsilon(0) <= 0.25 * (1 + 1e-12)
    assert (one.loss + other.loss).epsilon(0) == pytest.approx(0.75)
    release = privacy.gaussian(0.0, 1.0, 1.0, 1e-6)
    assert release.scale >= gaussian_multiplier(1.0, 1e-6)
    assert release.loss.epsilon(1e-6) == pytest.approx(1.0, abs=1e-3)
    assert release.loss.epsilon(1e-6) <= 1.0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("epsilon", [0.3, 1.0, 4.0])
def test_counts_get_exactly_the_discrete_noise(epsilon: float, size: int) -> None:
    release = privacy.histogram([5, 5, "elsewhere"], range(size), epsilon)
    noise = np.array(list(release.counts.values()))
    noise[5] -= 2
    law = Noise("discrete-laplace", Fraction(1 / epsilon), 1, 0)
    assert misfit(noise, law, 1) > ALPHA
    for confidence in (0.5, 0.95):
        margin = release.margin(confidence)
        inside = np.mean(np.abs(noise) <= margin)
        less = np.mean(np.abs(noise) <= margin - 1)
        slack = 5 / math.sqrt(size)
        assert inside > confidence - slack  # it holds ...
        assert less < confidence + slack  # ... and the next smaller one would not
    assert release.interval(5)[0] >= 0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("delta", [0.3, 1e-3, 1e-6, 1e-12])
def test_the_threshold_is_the_least(epsilon: float, delta: float) -> None:
    threshold = privacy.stable_histogram([], epsilon, delta).threshold
    assert threshold is not None
    ratio = math.exp(-epsilon)
    assert ratio ** (threshold - 1) / (1 + ratio) <= delta * (1 + 1e-9)
    assert threshold == 2 or ratio ** (threshold - 2) / (1 + ratio) > delta * (1 - 1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_a_category_of_one_row_shows_as_seldom_as_is_said(size: int) -> None:
    release = privacy.stable_histogram(range(size), 1.0, 0.02)
    assert release.threshold is not None
    ratio = math.exp(-1)
    exactly = ratio ** (release.threshold - 1) / (1 + ratio)
    assert exactly < 0.02
    assert stats.binomtest(len(release.counts), size, exactly).pvalue > ALPHA
    assert min(release.counts.values()) == release.threshold
    assert release.loss.epsilon(0.02) <= 1.0 + 1e-9
    assert release.loss.epsilon(exactly / 2) == math.inf


@pytest.mark.usefixtures("silent")
def test_the_order_of_the_categories_is_not_the_rows() -> None:
    rows = [1, "1", "b", "a", 2.0, None] * 40
    first = list(privacy.stable_histogram(rows, 1.0, 1e-3).counts)
    random.Random(4).shuffle(rows)
    assert list(privacy.stable_histogram(rows, 1.0, 1e-3).counts) == first
    assert set(first) == set(rows)


def permute_and_flip(scores: list[float], scale: float) -> np.ndarray:
    """Its distribution (McKenna and Sheldon 2020, Proposition 4), term by term."""
    keep = [math.exp((one - max(scores)) / scale) for one in scores]
    found = []
    for place, own in enumerate(keep):
        polynomial = np.array([1.0])  # of the product over the others of (1 - keep x)
        for other in keep[:place] + keep[place + 1 :]:
            polynomial = np.convolve(polynomial, [1.0, -other])
        found.append(own * sum(one / (power + 1) for power, one in enumerate(polynomial)))
    return np.array(found)


@pytest.mark.parametrize("size", [5_000, MILLION])
@pytest.mark.parametrize("scores", [[3, 5, 4, 5, -2], [0.5, 0.25, -1.5, 0.75]])
def test_the_best_is_chosen_with_the_exact_probability(scores: list[float], size: int) -> None:
    expected = permute_and_flip(scores, 2.0)
    assert expected.sum() == pytest.approx(1)
    counted = np.bincount(noisy_maximum(scores, 2.0, size), minlength=len(scores))
    assert _chi_squared(counted, expected * size) > ALPHA


@pytest.mark.parametrize("size", [5_000, MILLION])
@pytest.mark.parametrize("scores", [[3, 5, 4, 5, -2], [0.5, 0.25, -1.5, 0.75]])
def test_the_exponential_mechanism_has_its_odds(scores: list[float], size: int) -> None:
    weights = np.exp(np.array(scores) / 2.0)
    counted = np.bincount(exponential_choice(scores, 2.0, size), minlength=len(scores))
    assert _chi_squared(counted, weights / weights.sum() * size) > ALPHA


def test_permute_and_flip_finds_the_best_more_often_than_the_exponential_mechanism() -> None:
    for scores in ([3, 5, 4, 5, -2], [1, 0], [9, 0, 0, 0], [4, 4, 3]):
        weights = np.exp(np.array(scores) / 2.0)
        best = np.array(scores) == max(scores)
        assert permute_and_flip(list(scores), 2.0)[best].sum() > (weights / weights.sum())[best].sum()


@pytest.mark.parametrize("monotone", [False, True])
def test_the_odds_are_those_of_the_sensitivity(monotone: bool) -> None:
    choice = privacy.exponential([1, 2, 10_000], 3, 0.5, monotone=monotone)
    assert (choice.scale, choice.index) == (6.0 if monotone else 12.0, 2)
    assert privacy.noisy_max([1, 2], 3, 0.5, monotone=monotone).scale == choice.scale


def test_many_choices_cost_less_by_the_exponential_mechanism() -> None:
    one, other = privacy.exponential([1, 2], 1, 0.1), privacy.noisy_max([1, 2], 1, 0.1)
    assert one.loss.epsilon(0) == other.loss.epsilon(0) == pytest.approx(0.1)
    assert (one.loss * 100).epsilon(1e-6) < 0.6 * (other.loss * 100).epsilon(1e-6)


def test_the_scale_of_the_choice_is_two_sensitivities_over_epsilon() -> None:
    choice = privacy.noisy_max([1, 2, 10_000], 3, 0.5)
    assert (choice.scale, choice.index) == (12.0, 2)
    assert choice.loss.epsilon(0) == pytest.approx(0.5)
    assert Fraction(privacy.noisy_max([1.0], 0.1, 0.3).scale) >= 2 * Fraction(0.1) / Fraction(0.3)


NAN, INF = math.nan, math.inf
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: privacy.laplace([1.0, NAN], 1.0, 1.0), "finite"),
    (lambda: privacy.laplace([INF], 1.0, 1.0), "finite"),
    (lambda: privacy.laplace([[1.0]], 1.0, 1.0), "shape"),
    (lambda: privacy.laplace([], 1.0, 1.0), "shape"),
    (lambda: privacy.laplace(["1"], 1.0, 1.0), "shape"),
    (lambda: privacy.laplace([2**70], 1.0, 1.0), "shape"),
    (lambda: privacy.laplace([1.7e308], 1.0, 1.0), "finite"),
    (lambda: privacy.laplace([1.0], 1e-320, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], 1e308, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], 0.0, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], -1.0, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], NAN, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], INF, 1.0), "sensitivity"),
    (lambda: privacy.laplace([1.0], 1.0, 0.0), "epsilon"),
    (lambda: privacy.laplace([1.0], 1.0, NAN), "epsilon"),
    (lambda: privacy.gaussian([1.0], 1.0, 1e308, 1e-6), "epsilon"),
    (lambda: privacy.gaussian([1.0], 1.0, 60.0, 1e-12), "epsilon"),
    (lambda: privacy.gaussian([1.0], 1.0, 1.0, 0.0), "delta"),
    (lambda: privacy.gaussian([1.0], 1.0, 1.0, 1.0), "delta"),
    (lambda: privacy.gaussian([1.0], 1.0, 1.0, 1.0005), "delta"),
    (lambda: privacy.histogram([], [], 1.0), "categories"),
    (lambda: privacy.histogram([], ["a", "a"], 1.0), "categories"),
    (lambda: privacy.histogram([], ["a"], -1.0), "epsilon"),
    (lambda: privacy.stable_histogram([], 1.0, 0.0), "delta"),
    (lambda: privacy.stable_histogram([], 1.0, 1.0), "delta"),
    (lambda: privacy.noisy_max([], 1.0, 1.0), "scores"),
    (lambda: privacy.noisy_max([1.0, NAN], 1.0, 1.0), "scores"),
    (lambda: privacy.noisy_max([1.0, INF], 1.0, 1.0), "scores"),
    (lambda: privacy.noisy_max([1.0], 0.0, 1.0), "sensitivity"),
    (lambda: privacy.noisy_max([1.0], 1.0, 0.0), "epsilon"),
    (lambda: privacy.exponential([], 1.0, 1.0), "scores"),
    (lambda: privacy.exponential([1.0], 1.0, -1.0), "epsilon"),
    (lambda: privacy.laplace([1.0, 2.0], 1.0, 1.0).value, "value"),
    (lambda: privacy.laplace([1.0], 1.0, 1.0).margin(1.0), "confidence"),
    (lambda: privacy.histogram([], ["a"], 1.0).interval("b"), "category"),
]


@pytest.mark.parametrize(("call", "named"), REFUSED)
def test_what_is_out_of_range_is_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        call()


def test_noise_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RangeError):
        privacy.laplace([1.0] * 10, 1.0, 1e-12)
    with pytest.raises(RangeError):
        privacy.noisy_max([1.0], 1e300, 1e-300)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, mpcpriv.privacy; "
        "heavy = {'numpy', 'opendp', 'torch', 'scipy', 'crypten', 'dp_accounting'}; "
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_name_is_there() -> None:
    assert all(hasattr(privacy, name) for name in privacy.__all__)
    assert callable(privacy.gaussian)
    with pytest.raises(AttributeError):
        _ = privacy.nothing
