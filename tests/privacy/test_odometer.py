"""What was spent job by job, how far the rest goes, and numbers rounded to the safe side."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.privacy.ledger import Entry, Standing
from mpcpriv.privacy.loss import Allowance, Loss
from mpcpriv.privacy.odometer import forecast, readings
from mpcpriv.privacy.rounding import down, up
from tests.privacy.budgets import END, INPUTS, NOW, STUDY, job

PURE = Allowance(1.0, 0.0)


def entry(number: int, loss: Loss, state: Standing = "debited", at: datetime = NOW) -> Entry:
    paid = state == "debited"
    return Entry(
        job(number),
        STUDY,
        "north",
        0,
        END,
        loss,
        PURE,
        state,
        at,
        at if paid else None,
        INPUTS if paid else None,
    )


def daily(*epsilons: float) -> list[Entry]:
    return [
        entry(number, Loss.pure_dp(epsilon), at=NOW + timedelta(days=number))
        for number, epsilon in enumerate(epsilons)
    ]


def test_the_odometer_adds_up_and_leaves_out_what_lapsed() -> None:
    entries = daily(0.25, 0.125, 0.5)
    entries[1] = replace(entries[1], state="lapsed")
    entries[2] = replace(entries[2], state="reserved")
    found = readings(entries, PURE)
    assert [(one.entry.job, one.epsilon, one.running) for one in found] == [
        (job(0), 0.25, 0.25),
        (job(2), 0.5, 0.75),
    ]


def test_gaussians_cost_less_together() -> None:
    loss, allowance = Loss.zcdp(0.01), Allowance(2.0, 1e-6)
    last = readings([entry(number, loss) for number in range(10)], allowance)[-1]
    assert last.running == (loss * 10).epsilon(1e-6)
    assert last.epsilon < last.running < 5 * last.epsilon


def test_the_forecast_is_the_largest_number_that_fits() -> None:
    for loss, allowance in (
        (Loss.pure_dp(0.125), PURE),
        (Loss.zcdp(0.0001), Allowance(1.0, 1e-6)),
        (Loss.pure_dp(2.0**-12), Allowance(1.0, 0.0)),
    ):
        found = forecast([entry(number, loss) for number in range(3)], allowance, NOW).jobs
        assert found is not None
        assert found > 0
        assert allowance.covers(loss * (3 + found))
        assert not allowance.covers(loss * (4 + found))


def test_the_forecast_goes_by_the_dearest_of_the_last_five() -> None:
    now = NOW + timedelta(days=10)
    assert forecast(daily(0.25, 0.0625), PURE, now).jobs == 2
    assert forecast(daily(0.25, *[0.0625] * 4), PURE, now).jobs == 2
    assert forecast(daily(0.25, *[0.0625] * 5), PURE, now).jobs == 7


def test_the_rate_is_that_of_the_jobs_so_far() -> None:
    found = forecast(daily(0.25, 0.25), PURE, NOW + timedelta(days=10))
    assert (found.left, found.jobs, found.exhausted) == (0.5, 2, NOW + timedelta(days=20))
    used_up = forecast(daily(0.5, 0.5), PURE, NOW + timedelta(days=10))
    assert (used_up.left, used_up.jobs, used_up.exhausted) == (0.0, 0, NOW + timedelta(days=10))
    assert forecast(daily(0.25), PURE, NOW + timedelta(seconds=59)).exhausted is None
    for_ever = forecast(daily(2.0**-30), PURE, NOW + timedelta(days=365))
    assert for_ever.jobs == 2**30 - 1
    assert for_ever.exhausted is None


def test_where_nothing_was_spent_nothing_is_foreseen() -> None:
    lapsed = [replace(one, state="lapsed") for one in daily(0.5)]
    for entries in ([], lapsed):
        found = forecast(entries, PURE, NOW)
        assert (found.left, found.jobs, found.exhausted) == (1.0, None, None)
    assert forecast([entry(1, Loss.none())], PURE, NOW + timedelta(days=1)).jobs is None


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_what_is_spent_is_rounded_up_and_what_is_left_down(value: float) -> None:
    exact, above, below = Decimal(value), Decimal(up(value)), Decimal(down(value))
    assert exact * (1 - Decimal("2e-9")) <= above <= exact * Decimal("1.001")
    assert exact * Decimal("0.999") <= below <= exact * (1 + Decimal("2e-9"))


@pytest.mark.parametrize(
    ("value", "above", "below"),
    [
        (0.0, "0", "0"),
        (0.5, "0.5", "0.5"),
        (math.nextafter(0.5, 1), "0.5", "0.5"),
        (math.nextafter(0.5, 0), "0.5", "0.5"),
        (0.50001, "0.5001", "0.5"),
        (0.49999, "0.5", "0.4999"),
        (12.3456, "12.35", "12.34"),
        (math.inf, "inf", "inf"),
    ],
)
def test_numbers_are_read_at_a_glance(value: float, above: str, below: str) -> None:
    assert (up(value), down(value)) == (above, below)
