"""What `violations` would find: each way in which noise goes wrong, planted into sound noise.

The sound noise is numpy's here, by the exact distribution's inverse: fast, so that 400,000 samples or more of
every fault are looked at; the checks are the ones that the real noise passes in test_noise.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from mpcpriv.privacy.mechanism import Kind, Noise
from tests.privacy.noise_checks import Draw, Integers, mass, violations
from tests.privacy.test_noise import KINDS, counts, reals

SIZE, LARGE = 400_000, 1_000_000
"""Rounded reals differ by little: 200,000 samples do not show it."""
chance = np.random.default_rng(20_090_401)


def sampled(noise: Noise, size: int) -> Integers:
    """One party's."""
    if noise.scale > 1 << 20:
        reals = (
            chance.normal(scale=math.sqrt(noise.scale), size=size)
            if noise.kind == "discrete-gaussian"
            else chance.laplace(scale=float(noise.scale), size=size)
        )
        return np.rint(reals).astype(np.int64)
    reach, probabilities = mass(noise)
    return np.searchsorted(np.cumsum(probabilities), chance.random(size)) - reach


def sound(noise: Noise, size: int) -> Integers:
    return np.stack([sampled(noise, size) for _ in range(noise.parties)])


def altered(noise: Noise, **fields: object) -> Noise:
    """With other fields, which nobody checks."""
    other = dataclasses.replace(noise)
    for name, value in fields.items():
        object.__setattr__(other, name, value)
    return other


def with_variance(noise: Noise, factor: float) -> Noise:
    exponent = 1.0 if noise.kind == "discrete-gaussian" else 0.5
    return altered(noise, scale=float(noise.scale) * factor**exponent)


def sigma(noise: Noise) -> float:
    """One party's, or the standard deviation of a Laplace of its scale."""
    return math.sqrt(noise.scale) if noise.kind == "discrete-gaussian" else math.sqrt(2) * float(noise.scale)


def none_at_one_party(noise: Noise, size: int) -> Integers:
    drawn = sound(noise, size)
    drawn[-1] = 0
    return drawn


def variance_of_95_percent(noise: Noise, size: int) -> Integers:
    return sound(with_variance(noise, 0.95), size)


def one_seed_for_two_parties(noise: Noise, size: int) -> Integers:
    drawn = sound(noise, size)
    drawn[1] = drawn[0]
    return drawn


def opposite_noise_at_two_parties(noise: Noise, size: int) -> Integers:
    drawn = sound(noise, size)
    drawn[1] = -drawn[0]
    return drawn


def sigma_for_sigma_squared(noise: Noise, size: int) -> Integers:
    return sound(altered(noise, scale=math.sqrt(noise.scale) / 2), size)


def shared_among_all_instead_of_the_honest(noise: Noise, size: int) -> Integers:
    return sound(with_variance(noise, noise.honest / noise.parties), size)


def rounded_reals(noise: Noise, size: int) -> Integers:
    shape = (noise.parties, size)
    if noise.kind == "discrete-gaussian":
        return np.rint(chance.normal(scale=sigma(noise), size=shape)).astype(np.int64)
    return np.rint(chance.laplace(scale=float(noise.scale), size=shape)).astype(np.int64)


def cut_off_reals(noise: Noise, size: int) -> Integers:
    shape = (noise.parties, size)
    return np.trunc(chance.normal(scale=sigma(noise), size=shape)).astype(np.int64)


def added_twice(noise: Noise, size: int) -> Integers:
    return 2 * sound(noise, size)


def two_draws_at_one_party(noise: Noise, size: int) -> Integers:
    drawn = sound(noise, size)
    drawn[0] += sampled(noise, size)
    return drawn


def after_opening(noise: Noise, size: int) -> Integers:
    return np.zeros((noise.parties, size), dtype=np.int64)


def without_tails(noise: Noise, size: int) -> Integers:
    reach = round(3.5 * sigma(noise))
    return np.clip(sound(noise, size), -reach, reach)


def one_too_many(noise: Noise, size: int) -> Integers:
    return sound(noise, size) + 1


def even_only(noise: Noise, size: int) -> Integers:
    return sound(noise, size) // 2 * 2


def positive_only(noise: Noise, size: int) -> Integers:
    return np.abs(sound(noise, size))


def the_other_distribution(noise: Noise, size: int) -> Integers:
    """Of the same variance."""
    if noise.kind == "discrete-gaussian":
        return sound(altered(noise, kind="discrete-laplace", scale=sigma(noise) / math.sqrt(2)), size)
    return sound(altered(noise, kind="discrete-gaussian", scale=sigma(noise) ** 2), size)


def one_draw_for_the_whole_vector(noise: Noise, size: int) -> Integers:
    return np.repeat(sound(noise, 1), size, axis=1)


def each_draw_for_two_entries(noise: Noise, size: int) -> Integers:
    return np.repeat(sound(noise, size // 2), 2, axis=1)


def as_float32(noise: Noise, size: int) -> Integers:
    return sound(noise, size).astype(np.float32).astype(np.int64)


def zero_more_often(noise: Noise, size: int) -> Integers:
    """A sampler of sign and magnitude that forgets to refuse -0 (Canonne et al. 2020, Algorithm 2)."""
    drawn = sound(noise, size)
    drawn[(np.abs(drawn) == 1) & (chance.random(drawn.shape) < 0.05)] = 0
    return drawn


def once_drawn(noise: Noise) -> Draw:
    """The same draw at each call."""
    kept: list[Integers] = []

    def draw(noise: Noise, size: int) -> Integers:
        if not kept:
            kept.append(sound(noise, size))
        return kept[0]

    return draw


FAULTS: list[Draw] = [
    none_at_one_party,
    variance_of_95_percent,
    one_seed_for_two_parties,
    opposite_noise_at_two_parties,
    sigma_for_sigma_squared,
    shared_among_all_instead_of_the_honest,
    cut_off_reals,
    added_twice,
    two_draws_at_one_party,
    after_opening,
    without_tails,
    one_too_many,
    even_only,
    positive_only,
    the_other_distribution,
    one_draw_for_the_whole_vector,
    each_draw_for_two_entries,
    zero_more_often,
]
Make = Callable[[Kind, int, int], Noise]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [counts, reals])
def test_sound_noise_passes(kind: Kind, make: Make) -> None:
    assert violations(sound, make(kind, 3, 1), SIZE) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(kind: Kind, fault: Draw) -> None:
    assert violations(fault, counts(kind, 3, 1), SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_reals_are_found_where_the_noise_is_smallest(kind: Kind) -> None:
    assert violations(rounded_reals, counts(kind, 5, 1), LARGE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_that_is_used_again_is_found(kind: Kind) -> None:
    noise = counts(kind, 2, 1)
    found = violations(once_drawn(noise), noise, SIZE)
    assert any("two calls" in one for one in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [as_float32, even_only, one_seed_for_two_parties])
def test_a_fault_in_fine_noise_is_found(kind: Kind, fault: Draw) -> None:
    assert violations(fault, reals(kind, 3, 1), SIZE)
