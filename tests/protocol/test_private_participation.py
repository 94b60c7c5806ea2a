"""Who takes part in a step of private training, and whether there are places for them."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from scipy import stats

import mpcpriv.engine

mpcpriv.engine.activate()

from mpcpriv.engine.private import participation  # noqa: E402
from mpcpriv.engine.private.participation import RARE_BITS, capacity, draw, overflow  # noqa: E402


@pytest.mark.parametrize("rows", [1, 10, 200, 5000, 100_000])
@pytest.mark.parametrize("rate", [1e-3, 0.02, 0.1, 0.5, 0.97])
def test_places_are_short_less_often_than_promised_and_not_many_more_than_needed(
    rows: int, rate: float
) -> None:
    places = capacity(rows, rate)
    assert stats.binom.sf(places, rows, rate) <= 2.0**-RARE_BITS
    needed = stats.binom.isf(2.0**-RARE_BITS, rows, rate)
    assert places <= min(rows, needed + 4 + 0.05 * needed)


def test_all_rows_have_a_place_when_all_take_part() -> None:
    assert capacity(7, 1.0) == 7
    assert draw(7, 1.0).tolist() == list(range(7))
    assert overflow(1000, 1.0) == 0


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_each_row_takes_part_at_the_rate_and_by_itself(rate: float) -> None:
    rows, draws = 50, 4000
    taken = np.zeros((draws, rows))
    for one in taken:
        one[draw(rows, rate)] = 1
    counts = taken.sum(axis=0)
    assert (
        stats.chisquare(
            np.stack([counts, draws - counts]).T,
            [[draws * rate, draws * (1 - rate)]] * rows,
            axis=None,
            ddof=rows - 1,
        ).pvalue
        > 1e-6
    )
    size = taken.sum(axis=1).var(ddof=1) / (rows * rate * (1 - rate))  # of independent coins
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], draws - 1) / (draws - 1)
    assert low * 0.97 < size < high * 1.03


def test_more_rows_than_places_are_left_out() -> None:
    with mock.patch.object(participation.os, "urandom", return_value=bytes(8 * 1000)):
        chosen = draw(1000, 0.1)
    assert chosen.tolist() == list(range(capacity(1000, 0.1)))


def test_the_chance_of_it_is_far_below_any_delta() -> None:
    assert 0 < overflow(10**4, 0.1) < 1e-8
