"""What the parties add is the exact distribution, fresh, and enough whoever colludes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mpcpriv.privacy.mechanism import Kind, Noise, Sensitivity, calibrate
from tests.privacy.noise_checks import Integers, violations

CONFIGURATIONS = [(parties, collusion) for parties in range(2, 6) for collusion in range(1, parties)]
KINDS: list[Kind] = ["discrete-gaussian", "discrete-laplace"]


def draw(noise: Noise, size: int) -> Integers:
    return np.stack([noise.share(size) for _ in range(noise.parties)])


def counts(kind: Kind, parties: int, collusion: int) -> Noise:
    """For one count: σ of a party between 2.1 and 4.2, b of 1."""
    return calibrate(kind, 1.0, 1e-6, Sensitivity(1, 1, 1), 1, parties, collusion)


def reals(kind: Kind, parties: int, collusion: int) -> Noise:
    """For a sum of reals with 30 fractional bits: every low bit counts."""
    unit = 1 << 30
    return calibrate(kind, 1.0, 1e-6, Sensitivity(unit, unit**2, unit), 1, parties, collusion)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("parties", "collusion"), CONFIGURATIONS)
def test_a_million_samples_of_counts(kind: Kind, parties: int, collusion: int) -> None:
    assert violations(draw, counts(kind, parties, collusion), 1_000_000) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parties", [2, 5])
def test_a_million_samples_of_reals(kind: Kind, parties: int) -> None:
    assert violations(draw, reals(kind, parties, parties - 1), 1_000_000) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [counts, reals])
@pytest.mark.parametrize(("parties", "collusion"), [(2, 1), (3, 1), (5, 1)])
def test_twenty_thousand_samples(kind: Kind, make: type, parties: int, collusion: int) -> None:
    assert violations(draw, make(kind, parties, collusion), 20_000) == []


def test_the_noise_that_is_drawn_is_not_less_than_what_is_accounted_for() -> None:
    """A σ² that is no square of a float, and a b that is no float, are drawn with the next above."""
    from mpcpriv.privacy import mechanism

    for scale in (Fraction(5), Fraction(37, 3), Fraction(10**30 + 1, 7)):
        sigma, b = mechanism.root_up(scale), mechanism.rounded_up(scale)
        assert Fraction(sigma) ** 2 >= scale > Fraction(np.nextafter(sigma, 0).item()) ** 2
        assert Fraction(b) >= scale > Fraction(np.nextafter(b, 0).item())
