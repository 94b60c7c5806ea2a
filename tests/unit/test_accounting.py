"""What noise costs: against multiprecision integrals, and distributions that are convolved term by term."""

from __future__ import annotations

import builtins
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from mpcpriv.errors import UsageError
from mpcpriv.privacy import accounting, subsampling
from mpcpriv.privacy.loss import ORDERS

EPSILONS = (1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3)
DELTAS = (1e-300, 1e-100, 1e-20, 1e-5, 1e-2, 0.5)


def exact_delta(multiplier: float, epsilon: float) -> Any:
    """Balle and Wang (2018), Theorem 8, as it is written, with 80 digits."""
    with mpmath.workdps(80):
        z, e = mpmath.mpf(multiplier), mpmath.mpf(epsilon)
        return mpmath.ncdf(1 / (2 * z) - e * z) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * z) - e * z)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("delta", DELTAS)
def test_the_gaussian_mechanism_is_tight_and_safe(epsilon: float, delta: float) -> None:
    multiplier = accounting.gaussian_multiplier(epsilon, delta)
    exact = exact_delta(multiplier, epsilon)
    assert exact <= delta
    assert exact_delta(multiplier * (1 - 1e-9), epsilon) > delta
    assert exact <= accounting.gaussian_delta(multiplier, epsilon) <= exact * (1 + 1e-9)
    back = accounting.gaussian_epsilon(multiplier, delta)
    assert exact_delta(multiplier, back) <= delta
    assert back <= epsilon * (1 + 1e-9)


def test_delta_alone_can_pay() -> None:
    assert accounting.gaussian_epsilon(100.0, 0.1) == 0.0
    assert accounting.gaussian_delta(1e6, 1e3) > 0  # far less than any float, and still no 0


@pytest.mark.parametrize(
    ("multiplier", "rate", "order"),
    [
        (multiplier, rate, order)
        for multiplier in (0.3, 1.0, 6.0)
        for rate in (1e-5, 0.01, 0.3, 0.95)
        for order in (1.125, 1.875, 3.5, 8.0)
    ],
)
def test_steps_on_samples_are_their_integral(multiplier: float, rate: float, order: float) -> None:
    with mpmath.workdps(30):
        z, q, a = mpmath.mpf(multiplier), mpmath.mpf(rate), mpmath.mpf(order)

        def gain(x: Any) -> Any:
            change = q * mpmath.expm1((2 * x - 1) / (2 * z * z))
            return mpmath.npdf(x, 0, z) * ((1 + change) ** a - 1 - a * change)

        ends = [a * k / 8 for k in range(9)]
        exact = mpmath.log1p(mpmath.quad(gain, [-14 * z, -5 * z, *ends, a + 5 * z, a + 14 * z])) / (a - 1)
    found = subsampling.divergence(multiplier, rate, order)
    assert exact <= found <= exact * (1 + 1e-6)


def test_a_sample_of_all_is_a_plain_gaussian() -> None:
    for order in ORDERS:
        plain = order / (2 * 3.0**2)
        assert plain <= subsampling.divergence(3.0, 1.0, order) <= plain * (1 + 1e-12)
        nearly = subsampling.divergence(3.0, 1 - 1e-12, order)
        assert plain * (1 - 1e-9) <= nearly <= plain * (1 + 1e-6)


def test_four_ways_round_a_training() -> None:
    multiplier = accounting.training_multiplier(2.0, 1e-6, 0.02, 700)
    charged = accounting.training_loss(multiplier, 0.02, 700)
    assert 2.0 * (1 - 1e-8) <= charged.epsilon(1e-6) <= 2.0
    assert charged == accounting.training_loss(multiplier, 0.02, 1) * 700
    assert accounting.training_steps(2.0, 1e-6, multiplier, 0.02) == 700
    assert accounting.training_rate(2.0, 1e-6, multiplier, 700) == pytest.approx(0.02, rel=1e-8)
    assert accounting.training_loss(multiplier, 0.02, 701).epsilon(1e-6) > 2.0
    assert accounting.training_steps(1e-6, 1e-6, multiplier, 0.02) == 0


def test_the_true_loss_needs_less_noise() -> None:
    tight = accounting.training_multiplier(2.0, 1e-6, 0.3, 5, tight=True)
    assert tight < accounting.training_multiplier(2.0, 1e-6, 0.3, 5)
    assert 1.99 < accounting.training_epsilon(tight, 0.3, 5, 1e-6) <= 2.0


# Sums of discrete Gaussians, by convolution.


def discrete_gaussian(variance: float, reach: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-at * at / (2 * variance))
    return weights / weights.sum()  # type: ignore[no-any-return]


def summed(variance: float, honest: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    one = discrete_gaussian(variance, math.ceil(37 * math.sqrt(variance)))
    total = one
    for _ in range(honest - 1):
        total = np.convolve(total, one)
    return total


SUMS = [
    (deviation, honest, shift) for deviation in (0.6, 2, 3, 8) for honest in (1, 2, 4) for shift in (1, 3)
]


@pytest.mark.parametrize(("deviation", "honest", "shift"), SUMS)
def test_the_bound_for_sums_holds_and_is_tight(deviation: float, honest: int, shift: int) -> None:
    variance = Fraction(deviation) ** 2
    rho = accounting.discrete_sum_rho(variance, honest, shift * shift, shift, 1)
    noise = summed(float(variance), honest)
    one, other = noise[shift:], noise[:-shift]
    known = (one > 1e-280) & (other > 1e-280)
    one, other = one[known], other[known]
    for order in (1.001, 1.5, 2.0, 4.0, 10.0):
        if order * shift > 30 * deviation:  # where the moment is made of, probabilities are below all floats
            continue
        for p, q in ((one, other), (other, one)):
            moment = math.log(math.fsum(np.exp(order * np.log(p) + (1 - order) * np.log(q))))
            assert moment / (order - 1) <= rho * order * (1 + 1e-6)
            if deviation >= 2:
                assert moment / (order - 1) >= rho * order * (1 - 1e-6)


@pytest.mark.parametrize(("deviation", "honest", "shift"), SUMS)
@pytest.mark.parametrize("delta", [1e-3, 1e-8])
def test_one_release_of_a_sum_is_tight(deviation: float, honest: int, shift: int, delta: float) -> None:
    variance = Fraction(deviation) ** 2
    noise = np.pad(summed(float(variance), honest), shift)
    one, other = noise[shift:], noise[:-shift]
    epsilon = accounting.discrete_epsilon("discrete-gaussian", variance, shift, delta, honest=honest)

    def lost(at: float) -> float:
        return math.fsum(np.maximum(one - math.exp(at) * other, 0))

    assert lost(epsilon) <= delta * (1 + 1e-9)
    if deviation >= 2:
        assert lost(epsilon * (1 - 1e-6)) > delta
    assert (
        epsilon
        <= accounting.Loss.zcdp(
            accounting.discrete_sum_rho(variance, honest, shift * shift, shift, 1)
        ).epsilon(delta)
        or deviation < 2
    )


@pytest.mark.parametrize("grid", [1, 2**10, 2**16, 2**40])
def test_a_fine_grid_is_the_line(grid: int) -> None:
    deviation = 5 * grid
    found = accounting.discrete_epsilon("discrete-gaussian", Fraction(deviation) ** 2, grid, 1e-7)
    line = accounting.gaussian_epsilon(5.0, 1e-7)
    assert line * (1 - 1e-9) <= found if grid > 1 else found > 0
    assert found == pytest.approx(line, rel={1: 0.1, 2**10: 1e-3}.get(grid, 1e-4))


@pytest.mark.parametrize(("scale", "sensitivity"), [(2, 1), (5, 3), (1, 4), (40, 7)])
@pytest.mark.parametrize("delta", [0.2, 1e-2, 1e-6])
def test_one_release_with_laplace_noise_is_tight(scale: int, sensitivity: int, delta: float) -> None:
    at = np.arange(-60 * scale, 60 * scale + sensitivity + 1)
    first, second = (np.exp(-np.abs(at - centre) / scale) for centre in (0, sensitivity))
    share = math.tanh(1 / (2 * scale))
    epsilon = accounting.discrete_epsilon("discrete-laplace", Fraction(scale), sensitivity, delta)

    def lost(value: float) -> float:
        return share * math.fsum(np.maximum(first - math.exp(value) * second, 0))

    assert epsilon <= sensitivity / scale * (1 + 1e-9)
    assert lost(epsilon) <= delta * (1 + 1e-9)
    assert epsilon == 0 or lost(epsilon - 1e-6) > delta


@pytest.mark.parametrize(("scale", "parties"), [(1.5, 1), (1.5, 3), (20.0, 2), (3000.0, 3)])
def test_a_lone_row_is_shown_as_rarely_as_said(scale: float, parties: int) -> None:
    threshold = math.ceil(12 * scale) + 1
    one = np.exp(-np.abs(np.arange(-math.ceil(40 * scale), math.ceil(40 * scale) + 1)) / scale)
    one *= math.tanh(1 / (2 * scale))
    total = one
    for _ in range(parties - 1):
        size = len(total) + len(one) - 1
        fine = 1 << (size - 1).bit_length()
        total = np.fft.irfft(np.fft.rfft(total, fine) * np.fft.rfft(one, fine), fine)[:size]
    middle = len(total) // 2
    exact = math.fsum(total[middle + threshold - 1 :])
    found = accounting.stable_delta(Fraction(scale), parties, threshold)
    assert exact * (1 - 1e-6) <= found <= exact * 1.02
    assert accounting.stable_delta(Fraction(scale), parties, threshold + 1, 2, 3) == pytest.approx(3 * found)


def test_arguments_out_of_range_are_refused() -> None:
    nan = math.nan
    refused: list[tuple[Any, tuple[Any, ...]]] = [
        *((accounting.gaussian_multiplier, (epsilon, 1e-5)) for epsilon in (0, -1, nan, math.inf, 1e308)),
        *((accounting.gaussian_multiplier, (1.0, delta)) for delta in (0, 1, -1e-5, nan)),
        *((accounting.gaussian_epsilon, (multiplier, 1e-5)) for multiplier in (0, -1, nan, math.inf)),
        *((accounting.gaussian_delta, (1.0, epsilon)) for epsilon in (-1, nan, math.inf)),
        *((accounting.training_loss, (1.0, rate, 10)) for rate in (-0.1, 1.1, nan)),
        *((accounting.training_loss, (1.0, 0.1, steps)) for steps in (-1, 2.5, nan)),
        (accounting.training_multiplier, (1.0, 1e-5, 0.0, 10)),
        (accounting.training_multiplier, (1.0, 1e-5, 0.1, 0)),
        (accounting.training_steps, (1.0, 1e-5, 1.0, 0.0)),
        *((accounting.discrete_sum_rho, (Fraction(bad), 2, 1, 1, 1)) for bad in (0, -1, 0.2)),
        *(
            (accounting.discrete_sum_rho, (Fraction(4), *bad))
            for bad in ((0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 1, 0))
        ),
        (accounting.discrete_epsilon, ("discrete-laplace", Fraction(0), 1, 1e-5)),
        (accounting.discrete_epsilon, ("discrete-gaussian", Fraction(4), 0, 1e-5)),
        (accounting.discrete_epsilon, ("laplace", Fraction(4), 1, 1e-5)),
        (accounting.stable_delta, (Fraction(4), 2, 1)),
    ]
    for function, arguments in refused:
        with pytest.raises(UsageError):
            function(*arguments)


def test_without_the_extra_one_hears_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import_as_it_is = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("dp_accounting"):
            raise ModuleNotFoundError(name)
        return import_as_it_is(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"mpcpriv\[accounting\]"):
        accounting.training_epsilon(1.0, 0.01, 100, 1e-5)
    assert accounting.training_loss(1.0, 0.01, 100).epsilon(1e-5) > 0  # needs none
