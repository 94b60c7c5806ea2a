"""What a member is told of its budgets is what its ledger counts, also where a version moves the periods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv import analyses
from mpcpriv.agreement.model import Agreement
from mpcpriv.party.budgets import Account, accounts
from mpcpriv.party.state import State
from mpcpriv.privacy.ledger import Charge
from mpcpriv.privacy.loss import Loss
from mpcpriv.release import charges
from tests.unit.agreements import OWNERS, agreement, dataset, job, sign_all

START = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
STUDY, DATA = "breast-cancer", "alice-patients"


def version(number: int, days: int, start: datetime = START, epsilon: float = 8.0) -> Agreement:
    datasets: list[dict[str, Any]] = [dataset(owner) for owner in OWNERS]
    datasets[0]["budget"] = {"epsilon": epsilon, "delta": 0.0, "period_days": days}
    return agreement(
        version=number,
        datasets=datasets,
        privacy={"unnoised": True, "mechanism": "discrete-laplace", "minimum_cohort": 50},
        valid_from=start,
        valid_until=start + 900 * DAY,
    )


class Member:
    """Its state, and jobs by number."""

    def __init__(self, state: State) -> None:
        self.state, self.jobs = state, 0

    def agree(self, terms: Agreement) -> None:
        self.state.add_agreement(terms.digest(), terms.id, terms.version, sign_all(terms).to_bytes())

    def price(self, terms: Agreement, now: datetime, epsilon: float = 1.0) -> dict[str, Charge]:
        inputs = [{"dataset": DATA, "columns": ["stage"]}]
        asked = job(inputs=inputs, release={"recipients": ["alice"], "epsilon": epsilon})
        return dict(charges(terms, asked, analyses.find("count-by-category"), now))

    def reserve(self, terms: Agreement, now: datetime, epsilon: float = 1.0) -> list[str]:
        self.jobs += 1
        return self.state.ledger.reserve(f"{self.jobs:064x}", terms.id, self.price(terms, now, epsilon), now)

    def spend(self, terms: Agreement, now: datetime, epsilon: float = 1.0) -> None:
        assert self.reserve(terms, now, epsilon) == []
        with self.state._engine.begin() as connection:
            self.state.ledger.debit(connection, f"{self.jobs:064x}", "d" * 64, b"released")

    def told(self, now: datetime) -> dict[int, Account]:
        return {one.period: one for one in accounts(self.state, now, STUDY, DATA)}


@pytest.fixture
def member() -> Iterator[Member]:
    state = State("sqlite://")
    yield Member(state)
    state.close()


def test_a_period_that_overlaps_an_old_one_has_what_was_spent_there(member: Member) -> None:
    old, new = version(3, 30), version(4, 20)
    member.agree(old)
    member.spend(old, START + 35 * DAY, 2.0)  # in days 30 to 60
    member.spend(old, START + 5 * DAY, 0.5)  # in days 0 to 30
    member.agree(new)
    now = START + 45 * DAY  # in days 40 to 60 of the new one, its third
    member.reserve(new, now, 1.0)
    found = member.told(now)
    assert (found[2].spent, found[2].reserved) == (2.0, 1.0)
    assert (found[2].since, found[2].until) == (START + 40 * DAY, START + 60 * DAY)
    assert [one.running for one in found[2].readings] == [2.0, 3.0]
    # The old periods stay what they were.
    assert (found[1].spent, found[1].since, found[1].until) == (2.0, None, START + 60 * DAY)
    assert (found[0].spent, found[0].since, found[0].until) == (0.5, None, START + 30 * DAY)


def test_what_ended_as_the_period_began_is_not_in_it(member: Member) -> None:
    old, new = version(3, 40), version(4, 20)
    member.agree(old)
    member.spend(old, START + 5 * DAY)
    member.agree(new)
    assert member.told(START + 40 * DAY)[2].spent == 0.0
    assert member.told(START + 40 * DAY - timedelta(seconds=1))[1].spent == 1.0
    assert member.reserve(new, START + 40 * DAY, 8.0) == []


def test_the_present_period_has_the_ends_of_the_newest_version(member: Member) -> None:
    """Also where all that was spent in it was spent under the old one, in a period of the same number."""
    old, new = version(3, 30), version(4, 365)
    member.agree(old)
    member.spend(old, START + 5 * DAY)
    member.agree(new)
    (found,) = member.told(START + 100 * DAY).values()
    assert (found.period, found.spent) == (0, 1.0)
    assert (found.since, found.until) == (START, START + 365 * DAY)
    member.agree(version(5, 20, START - 10 * DAY))
    found = member.told(START + 15 * DAY)[1]  # days 10 to 30
    assert (found.spent, found.since, found.until) == (1.0, START + 10 * DAY, START + 30 * DAY)


days = st.integers(1, 80)
LEFT = 1 / 64


@settings(max_examples=40, deadline=None)
@given(days, days, st.integers(-30, 30), st.lists(st.integers(0, 200), max_size=4), days)
def test_what_is_told_to_be_left_can_be_spent_and_no_more(
    first: int, second: int, moved: int, at: list[int], now: int
) -> None:
    member = Member(State("sqlite://"))
    old, new = version(3, first), version(4, second, START + moved * DAY)
    member.agree(old)
    for day in sorted(at):
        member.spend(old, START + day * DAY)
    member.agree(new)
    moment = START + (max(at, default=0) + now) * DAY
    charge = member.price(new, moment)[DATA]
    told = member.told(moment)[charge.period]
    left = 8.0 - told.spent
    assert told.reserved == 0
    assert told.forecast.left == left
    assert member.reserve(new, moment, left + LEFT) != []
    assert member.reserve(new, moment, left) == []
    member.state.close()


def test_of_another_agreement_or_data_set_nothing_is_told(member: Member) -> None:
    member.agree(version(3, 30))
    member.spend(version(3, 30), START + DAY)
    assert accounts(member.state, START, "other") == []
    assert accounts(member.state, START, STUDY, "bob-patients") == []
    (found,) = accounts(member.state, START + DAY)
    assert (found.agreement, found.dataset, found.spent) == (STUDY, DATA, 1.0)
    assert found.readings[0].entry.loss == Loss.pure_dp(1.0)
