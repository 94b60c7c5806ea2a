"""The choice of the largest sum: its exact distribution, what a row changes of it, and the noise for it."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from mpcpriv.privacy.mechanism import Noise
from tests.privacy.noise_checks import Draw, Integers, violations
from tests.privacy.test_noise import draw
from tests.privacy.test_noise_faults import (
    added_twice,
    after_opening,
    each_draw_for_two_entries,
    even_only,
    none_at_one_party,
    once_drawn,
    one_draw_for_the_whole_vector,
    one_seed_for_two_parties,
    one_too_many,
    sound,
    two_draws_at_one_party,
    variance_of_95_percent,
)
from tests.privacy.test_own_release import permute_and_flip

REACH = 160
"""Of the noise here, all but 1e-17 is below it."""
Law = np.ndarray
"""The probabilities of 0 .. REACH - 1, or of -REACH .. REACH - 1."""


def geometric(scale: float) -> Law:
    law = np.exp(-np.arange(REACH) / scale)
    return law / law.sum()


def chances(scores: tuple[int, ...], law: Law) -> np.ndarray:
    """How likely each place is to be that of the largest score with noise, of equal ones the first."""
    up_to = np.concatenate([[0.0], np.cumsum(law)])
    noise = np.arange(len(law))
    found = []
    for place, own in enumerate(scores):
        likely = law
        for other, score in enumerate(scores):
            if other != place:
                most = own + noise - score - (other < place)
                likely = likely * up_to[np.clip(most + 1, 0, len(law))]
        found.append(likely.sum())
    return np.array(found)


def with_ties_by_chance(scores: tuple[int, ...], law: Law) -> np.ndarray:
    """The same where each order of the places is as likely to decide ties."""
    orders = list(itertools.permutations(range(len(scores))))
    found = np.zeros(len(scores))
    for order in orders:
        found[list(order)] += chances(tuple(scores[place] for place in order), law) / len(orders)
    return found


SCORES = list(itertools.product(range(4), repeat=3))


def worst(law: Law, moves: list[tuple[int, ...]]) -> float:
    """The largest logarithm of how much more likely a choice becomes when a row moves the scores."""
    found = 0.0
    for scores in SCORES:
        before = chances(scores, law)
        for move in moves:
            after = chances(tuple(np.add(scores, move).tolist()), law)
            found = max(found, float(np.abs(np.log(after / before)).max()))
    return found


UP = list(itertools.product((0, 1), repeat=3))
UP_OR_DOWN = list(itertools.product((-1, 0, 1), repeat=3))


def test_a_row_changes_no_choice_by_more_than_epsilon_and_some_by_as_much() -> None:
    """Whatever the others' noise, which shifts the scores: these are all around ties, and beside them."""
    for epsilon in (0.5, 1.0, 2.0):
        assert 0.9 * epsilon < worst(geometric(1 / epsilon), UP) <= epsilon * (1 + 1e-9)
        assert 0.9 * epsilon < worst(geometric(2 / epsilon), UP_OR_DOWN) <= epsilon * (1 + 1e-9)


def test_too_little_noise_is_found() -> None:
    assert worst(geometric(0.9), UP) > 1
    assert worst(geometric(1.0), UP_OR_DOWN) > 1.5  # moves of both signs need twice the scale
    cut = geometric(1.0)
    cut[8:] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        assert not worst(cut / cut.sum(), [(1, 0, 0)]) <= 1


@pytest.mark.parametrize("scores", [(3, 5, 4, 5), (0, 0, 0), (2, 7), (6, 1, 5, 4)])
@pytest.mark.parametrize("scale", [0.7, 2.0])
def test_with_ties_by_chance_it_is_permute_and_flip(scores: tuple[int, ...], scale: float) -> None:
    found = with_ties_by_chance(scores, geometric(scale))
    assert found == pytest.approx(permute_and_flip(list(scores), scale), abs=1e-12)


def laplace(scale: float) -> Law:
    law = np.exp(-np.abs(np.arange(-REACH, REACH)) / scale)
    return law / law.sum()


@pytest.mark.parametrize("parties", [1, 2, 3])
def test_the_largest_is_found_more_often_than_with_laplace_noise(parties: int) -> None:
    def whole(one: Law) -> Law:
        found = one
        for _ in range(parties - 1):
            found = np.convolve(found, one)
        return found

    for scores in ((9, 0, 0), (3, 2, 1), (2, 0), (5, 5, 0, 0), (4, 0, 0, 0, 0)):
        ours, theirs = (chances(scores, whole(law(2.0))) for law in (geometric, laplace))
        best = [place for place, score in enumerate(scores) if score == max(scores)]
        assert ours[best].sum() > theirs[best].sum()


def test_it_is_chosen_as_the_distribution_says() -> None:
    """By the noise that a party draws."""
    scores, size = np.array([3, 5, 4, 5]), 40_000
    noise = Noise("one-sided-geometric", Fraction(2), 1, 0)
    drawn = np.asarray(noise.share(size * 4)).reshape(size, 4)
    counted = np.bincount((drawn + scores).argmax(axis=1), minlength=4)
    expected = chances((3, 5, 4, 5), geometric(2.0)) * size
    assert float(((counted - expected) ** 2 / expected).sum()) < 32  # alpha 5e-7 at 3 degrees of freedom


def choices(parties: int = 3, scale: int = 1) -> Noise:
    return Noise("one-sided-geometric", Fraction(scale), parties, 1)


@pytest.mark.parametrize("scale", [1, 16, 1 << 30])
@pytest.mark.parametrize("parties", [2, 3, 5])
def test_twenty_thousand_samples(parties: int, scale: int) -> None:
    assert violations(draw, choices(parties, scale), 20_000) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scale", [1, 16, 1 << 30])
def test_a_million_samples(scale: int) -> None:
    assert violations(draw, choices(3, scale), 1_000_000) == []


def two_sided(noise: Noise, size: int) -> Integers:
    return sound(Noise("discrete-laplace", noise.scale, noise.parties, noise.collusion), size)


def magnitudes(noise: Noise, size: int) -> Integers:
    """Of a discrete Laplace, which is 0 half as often as it should be."""
    return np.abs(two_sided(noise, size))


def half_the_scale(noise: Noise, size: int) -> Integers:
    return sound(Noise(noise.kind, noise.scale / 2, noise.parties, noise.collusion), size)


def negated(noise: Noise, size: int) -> Integers:
    return -sound(noise, size)


def without_tail(noise: Noise, size: int) -> Integers:
    return np.minimum(sound(noise, size), 6)


def rounded_exponentials(noise: Noise, size: int) -> Integers:
    reals = np.random.default_rng().exponential(float(noise.scale), (noise.parties, size))
    return np.rint(reals).astype(np.int64)


FAULTS: list[Draw] = [
    two_sided,
    magnitudes,
    half_the_scale,
    negated,
    without_tail,
    rounded_exponentials,
    none_at_one_party,
    variance_of_95_percent,
    one_seed_for_two_parties,
    added_twice,
    two_draws_at_one_party,
    after_opening,
    one_too_many,
    even_only,
    one_draw_for_the_whole_vector,
    each_draw_for_two_entries,
]


def test_sound_noise_passes() -> None:
    assert violations(sound, choices(), 1_000_000) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(fault: Draw) -> None:
    assert violations(fault, choices(), 1_000_000)


def test_a_draw_that_is_used_again_is_found() -> None:
    assert any("two calls" in one for one in violations(once_drawn(choices()), choices(), 100_000))
