"""Losses add up exactly, only grow, are rounded up, and come back from JSON as they were."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.privacy.loss import DELTA_UNIT, ORDERS, UNIT, Allowance, Loss

amounts = st.integers(0, 1 << 60)
losses = st.builds(
    lambda base, tilt, pure, delta: Loss(
        tuple(base + tilt * place for place in range(len(ORDERS))), pure, delta
    ),
    amounts,
    st.integers(0, 1 << 45),
    st.none() | amounts,
    st.integers(0, 1 << 90),
)
real = st.one_of(
    st.builds(Loss.zcdp, st.floats(0, 20)),
    st.builds(Loss.pure_dp, st.floats(0, 20)),
    st.builds(Loss.laplace, st.floats(0, 20)),
    st.builds(Loss.bounded_range, st.floats(0, 20)),
    st.builds(Loss.failure, st.floats(0, 1e-3)),
)
deltas = st.floats(1e-15, 0.5)


def at_most(one: Loss, other: Loss) -> bool:
    pure = other.pure is None or (one.pure is not None and one.pure <= other.pure)
    rdp = all(a <= b for a, b in zip(one.rdp, other.rdp, strict=True))
    return pure and rdp and one.delta <= other.delta


@given(losses, losses, losses)
def test_sums_are_exact_in_any_order(one: Loss, two: Loss, three: Loss) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + Loss.none() == one
    assert one * 3 == one + one + one
    assert one * 0 == Loss.none() or one.pure is None


@given(losses, losses, deltas, deltas)
def test_more_costs_more_and_a_larger_delta_less(one: Loss, two: Loss, delta: float, other: float) -> None:
    assert (one + two).epsilon(delta) >= one.epsilon(delta)
    low, high = sorted((delta, other))
    assert one.epsilon(low) >= one.epsilon(high)


@given(losses, losses, st.floats(0, 100), st.floats(0, 100), deltas, deltas)
def test_an_allowance_covers_less_of_more(
    one: Loss, two: Loss, epsilon: float, another: float, delta: float, other: float
) -> None:
    small = Allowance(min(epsilon, another), min(delta, other))
    large = Allowance(max(epsilon, another), max(delta, other))
    if small.covers(one + two):
        assert small.covers(one)
        assert large.covers(one + two)
    assert large.left(one) >= large.left(one + two)
    assert large.covers(one) == (one.epsilon(large.delta) <= large.epsilon)


@given(losses | real)
def test_json_gives_back_what_it_took(loss: Loss) -> None:
    assert Loss.from_json(json.loads(json.dumps(loss.to_json()))) == loss


@given(
    st.lists(st.floats(0, 1e6), min_size=3, max_size=3),
    st.floats(0, 1e6),
    st.floats(0, 1),
)
def test_numbers_are_rounded_up_by_less_than_a_unit(values: list[float], pure: float, delta: float) -> None:
    values = (values * len(ORDERS))[: len(ORDERS)]
    loss = Loss.of(values, pure, delta)
    for value, units, unit in [
        *((value, units, UNIT) for value, units in zip(values, loss.rdp, strict=True)),
        (pure, loss.pure or 0, UNIT),
        (delta, loss.delta, DELTA_UNIT),
    ]:
        assert 0 <= units * unit - Fraction(value) < unit


@pytest.mark.parametrize("bad", [-1.0, -1e-300, math.nan, math.inf])
def test_what_is_no_loss_is_refused(bad: float) -> None:
    for make in (Loss.zcdp, Loss.pure_dp, Loss.laplace, Loss.bounded_range, Loss.failure):
        with pytest.raises(ValueError, match="no privacy loss"):
            make(bad)


def test_nothing_is_given_back() -> None:
    loss = Loss.zcdp(0.5)
    with pytest.raises(ValueError, match="does not come back"):
        loss * -1
    with pytest.raises(ValueError, match="does not come back"):
        Loss(loss.rdp, -1)
    with pytest.raises(ValueError, match="does not come back"):
        Loss(loss.rdp, None, -1)
    with pytest.raises(ValueError, match="does not come back"):
        Loss.from_json({**loss.to_json(), "rdp": ["-1"] * len(ORDERS)})
    with pytest.raises(ValueError, match="orders"):
        Loss.from_json({"rdp": ["1"], "pure": None, "delta": "0"})


@given(st.floats(1e-3, 20), st.floats(1e-12, 1e-2))
def test_epsilon_is_the_least_over_orders_rounded_up(rho: float, delta: float) -> None:
    # The conversion in exact logarithms but for one: an ε is never below it, and at most a rounding above.
    found = Loss.zcdp(rho).epsilon(delta)
    best = min(
        rho * order + math.log1p(-1 / order) - math.log(delta * order) / (order - 1) for order in ORDERS
    )
    assert best * (1 - 1e-14) <= found <= max(best, 0.0) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("rho", [1e-8, 1e-5, 1e-3, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-8, 1e-5])
def test_the_orders_are_dense_enough(rho: float, delta: float) -> None:
    best = min(
        rho * order + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        for order in (1 + 2.0 ** (step / 64) for step in range(-512, 1024))
    )
    if best > 2e-3:
        assert Loss.zcdp(rho).epsilon(delta) <= best * 1.005


def test_a_delta_spent_is_a_delta_gone() -> None:
    loss = Loss.pure_dp(0.3) + Loss.failure(1e-6)
    assert loss.epsilon(1e-7) == math.inf
    assert loss.epsilon(0) == math.inf
    assert loss.epsilon(1e-6) == pytest.approx(0.3) or loss.epsilon(1e-6) == math.inf  # rounded up by 2^-100
    assert loss.epsilon(1.1e-6) == pytest.approx(0.3)
    assert not Allowance(10, 1e-7).covers(loss)
    assert Allowance(0.3001, 1.1e-6).covers(loss)
    assert not Allowance(0.2999, 1.1e-6).covers(loss)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 4.0])
def test_pure_mechanisms_are_those_of_their_distributions(epsilon: float) -> None:
    # Randomised response, and discrete Laplace noise summed term by term; each is attained, so both ways.
    answers = [1 / (1 + math.exp(-epsilon)), 1 / (1 + math.exp(epsilon))]
    scale = 3 / epsilon
    reach = math.ceil(40 * scale)
    weights = [math.exp(-abs(x) / scale) for x in range(-reach, reach + 1)]
    total = math.fsum(weights)
    kinds = {
        Loss.pure_dp(epsilon): (answers, answers[::-1]),
        Loss.laplace(epsilon, scale): ([w / total for w in weights[3:]], [w / total for w in weights[:-3]]),
    }
    for loss, (one, other) in kinds.items():
        for order, units in itertools.islice(zip(ORDERS, loss.rdp, strict=True), 0, None, 9):
            if order < 60:
                moment = math.fsum(q * (p / q) ** order for p, q in zip(one, other, strict=True))
                exact = math.log(moment) / (order - 1)
                assert float(units * UNIT) == pytest.approx(exact, rel=1e-8, abs=1e-10)
                assert units * UNIT >= exact - 1e-12 / (order - 1)


@given(st.floats(1e-3, 10))
def test_what_is_known_of_a_mechanism_makes_it_cost_less(epsilon: float) -> None:
    any_pure = Loss.pure_dp(epsilon)
    assert at_most(Loss.laplace(epsilon), any_pure)
    assert at_most(Loss.bounded_range(epsilon), any_pure)
    assert all(
        units <= epsilon * epsilon / 2 * order / UNIT + 1
        for order, units in zip(ORDERS, any_pure.rdp, strict=True)
    )
