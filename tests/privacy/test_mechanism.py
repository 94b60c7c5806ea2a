"""How much noise there must be: never less than what is charged, refused where it is none."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy import mechanism
from mpcpriv.privacy import noise as sampler
from mpcpriv.privacy.accounting import gaussian_multiplier, training_multiplier
from mpcpriv.privacy.mechanism import Kind, Noise, Sensitivity, calibrate, calibrate_loss

UNIT = 1 << 16
SUM = Sensitivity(UNIT, UNIT**2, UNIT)
WIDE = Sensitivity(300, 9_000, 50)
KINDS: list[Kind] = ["discrete-gaussian", "discrete-laplace"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("sensitivity", [SUM, WIDE])
def test_it_never_costs_more_than_what_is_charged(
    kind: Kind, epsilon: float, sensitivity: Sensitivity
) -> None:
    charged = calibrate_loss(kind, epsilon, 1e-6)
    for parties in range(1, 6):
        for collusion in range(parties):
            noise = calibrate(kind, epsilon, 1e-6, sensitivity, 1_000, parties, collusion)
            loss = noise.loss(sensitivity, 1_000)
            assert all(one <= most for one, most in zip(loss.rdp, charged.rdp, strict=True))
            assert loss.pure == charged.pure
            # Nor is there more noise than that takes.
            if kind == "discrete-gaussian":
                assert loss.rdp[40] >= charged.rdp[40] * (1 - 1e-6)
            else:
                assert sensitivity.l1 / noise.scale >= Fraction(epsilon) * (1 - Fraction(1, 10**9))


@pytest.mark.parametrize(("parties", "collusion"), [(2, 1), (3, 1), (5, 0), (5, 4)])
def test_the_honest_parties_alone_add_what_is_needed(parties: int, collusion: int) -> None:
    noise = calibrate("discrete-gaussian", 1.0, 1e-6, SUM, 10, parties, collusion)
    needed = (training_multiplier(1.0, 1e-6, 1.0, 1) * UNIT) ** 2  # so that a ledger charges 1.0
    assert needed >= (gaussian_multiplier(1.0, 1e-6) * UNIT) ** 2
    assert needed <= noise.honest * noise.scale <= needed * (1 + 1e-9)
    assert noise.variance == pytest.approx(parties * needed / (parties - collusion))


def test_where_a_sum_is_not_quite_gaussian_there_is_more_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """From σ = 2 on, what the sum lacks is below 1e-17, so another bound stands in for one that counts."""
    plain = calibrate("discrete-gaussian", 1.0, 1e-6, SUM, 10, 3, 1)
    bound = mechanism.discrete_sum_rho
    monkeypatch.setattr(mechanism, "discrete_sum_rho", lambda *given: bound(*given) * 1.01)
    more = calibrate("discrete-gaussian", 1.0, 1e-6, SUM, 10, 3, 1)
    assert plain.scale * Fraction(101, 100) <= more.scale <= plain.scale * Fraction(104, 100)
    assert more.loss(SUM, 10).rdp <= calibrate_loss("discrete-gaussian", 1.0, 1e-6).rdp


def test_laplace_noise_is_whole_at_every_party() -> None:
    for parties in (1, 3):
        noise = calibrate("discrete-laplace", 0.5, 0.0, WIDE, 10, parties, parties - 1)
        assert noise.scale == 600
        assert noise.variance == pytest.approx(parties * 2 * 600**2, rel=1e-5)
    assert calibrate("discrete-laplace", 1e4, 0.0, Sensitivity(1, 1, 1), 1, 2, 1).variance < 1e-300


def test_rounding_is_towards_more_noise() -> None:
    """0.1 is no float: what is drawn costs at most the ε that was asked for, to the last bit."""
    noise = calibrate("discrete-laplace", 0.1, 0.0, Sensitivity(7, 7, 1), 7, 2, 1)
    assert 7 / noise.scale <= Fraction(0.1)
    for root in (Fraction(4), Fraction(5), Fraction(10**20 + 1)):
        made = Noise("discrete-gaussian", root, 2, 1)
        assert made.loss(SUM, 1).rdp >= calibrated_by_float(root).loss(SUM, 1).rdp


def calibrated_by_float(variance: Fraction) -> Noise:
    from mpcpriv.privacy.mechanism import root_up

    return Noise("discrete-gaussian", Fraction(root_up(variance)) ** 2, 2, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, 1e308])
def test_an_epsilon_out_of_range_is_refused(kind: Kind, epsilon: float) -> None:
    for call in (
        lambda: calibrate(kind, epsilon, 1e-6, SUM, 1, 2, 1),
        lambda: calibrate_loss(kind, epsilon, 1e-6),
    ):
        with pytest.raises(UsageError, match="epsilon"):
            call()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delta", [-1e-9, 1.0, 2.0, math.nan])
def test_a_delta_out_of_range_is_refused(kind: Kind, delta: float) -> None:
    with pytest.raises(UsageError, match="delta"):
        calibrate(kind, 1.0, delta, SUM, 1, 2, 1)


def test_a_gaussian_without_delta_is_refused() -> None:
    with pytest.raises(UsageError, match="delta"):
        calibrate("discrete-gaussian", 1.0, 0.0, SUM, 1, 2, 1)


def test_noise_that_is_coarser_than_the_grid_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"σ = 1\.04 grid units.*finer grid"):
        calibrate("discrete-gaussian", 5.0, 1e-6, Sensitivity(1, 1, 1), 1, 2, 1)
    assert Noise("discrete-gaussian", Fraction(4), 2, 1).variance == 8
    with pytest.raises(UsageError, match="the least is 2"):
        Noise("discrete-gaussian", Fraction(399, 100), 2, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [1e-12, 1e-300, 5e-324])
def test_noise_that_does_not_fit_64_bits_is_refused(kind: Kind, epsilon: float) -> None:
    huge = Sensitivity(1 << 62, 1 << 124, 1 << 62)
    with pytest.raises((RangeError, UsageError)):
        calibrate(kind, epsilon, 1e-6, huge, 1, 2, 1)


@pytest.mark.parametrize("fields", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1.0, 1, 1), (3, 9, 4), (9, 9, 4)])
def test_norms_of_no_vector_are_refused(fields: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UsageError, match="sensitivity"):
        Sensitivity(*fields)


@pytest.mark.parametrize(("parties", "collusion"), [(2, 2), (2, -1), (0, 0)])
def test_somebody_must_be_honest(parties: int, collusion: int) -> None:
    for kind in KINDS:
        with pytest.raises(UsageError, match="collude"):
            calibrate(kind, 1.0, 1e-6, SUM, 1, parties, collusion)


def test_noise_does_not_print_its_values() -> None:
    drawn = Noise("discrete-gaussian", Fraction(10**6), 2, 1).share(3)
    assert drawn.dtype == np.int64
    for text in (repr(drawn), str(drawn), f"{drawn}", repr([drawn]), repr(drawn + 1), repr(drawn[:2])):
        assert "secret" in text
        assert not any(str(one) in text for one in np.asarray(drawn).tolist() if abs(one) > 9)


@pytest.mark.parametrize("end", [2**63 - 1, -(2**63)])
def test_a_draw_at_the_end_of_the_type_is_refused_and_not_cut_off(end: int) -> None:
    with pytest.raises(RangeError, match="64 bits"):
        sampler._draw(lambda zeros: [*zeros[:-1], end], 3)


def test_what_cannot_be_drawn_is_refused() -> None:
    for draw in (sampler.discrete_gaussian, sampler.discrete_laplace):
        with pytest.raises(UsageError):
            draw(1.0, -1)
        for scale in (0.0, -1.0, math.nan):
            with pytest.raises(UsageError):
                draw(scale, 1)
        for scale in (2.0**57, math.inf):
            with pytest.raises(RangeError):
                draw(scale, 1)
        assert draw(3.0, 0).size == 0
