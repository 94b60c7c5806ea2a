"""The ledger against a dictionary: whatever is called in whatever order, both say the same."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mpcpriv.privacy.ledger import Charge, Ledger, NotReserved, total
from mpcpriv.privacy.loss import Allowance, Loss
from tests.privacy.budgets import END, NOW, debit, job, opened, prepared

JOBS = st.integers(0, 2)
PRICES = st.dictionaries(
    st.tuples(st.sampled_from(["north", "south"]), st.integers(0, 1)), st.integers(0, 5), max_size=2
).filter(lambda prices: len({dataset for dataset, _ in prices}) == len(prices))
BUDGET = 8
_studies = itertools.count()


class Spending(RuleBasedStateMachine):
    """In eighths of pure ε, of which every budget has eight."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.study = f"study-{next(_studies)}"  # its own, so that no table need be emptied
        self.start = int(self.study.split("-")[1]) * 100
        self.state: dict[int, str] = {}
        self.prices: dict[int, dict[tuple[str, int], int]] = {}
        self.payloads: dict[int, bytes] = {}
        self.opening = opened(self.url)
        self.ledger: Ledger = self.opening.__enter__()

    def teardown(self) -> None:
        self.opening.__exit__(None, None, None)

    def name(self, number: int) -> str:
        return job(self.start + number)

    def known(self, number: int) -> int:
        """One of the jobs that were reserved, if there is any: about others there is little to find."""
        return sorted(self.state)[number % len(self.state)] if self.state else number

    def spent(self, budget: tuple[str, int], *states: str) -> int:
        return sum(
            prices.get(budget, 0) for number, prices in self.prices.items() if self.state[number] in states
        )

    @rule(number=JOBS, prices=PRICES)
    def reserve(self, number: int, prices: dict[tuple[str, int], int]) -> None:
        charges = {
            dataset: Charge(Loss.pure_dp(eighths / 8), Allowance(BUDGET / 8, 0), period, END)
            for (dataset, period), eighths in prices.items()
        }
        now = NOW + timedelta(seconds=number)
        reasons = self.ledger.reserve(self.name(number), self.study, charges, now)
        if self.state.get(number) in {"reserved", "debited"}:
            assert bool(reasons) == (prices != self.prices[number])
            return
        full = sorted(
            dataset
            for (dataset, period), eighths in prices.items()
            if self.spent((dataset, period), "reserved", "debited") + eighths > BUDGET
        )
        assert [reason.split()[3] for reason in reasons] == full
        if not full:
            self.state[number], self.prices[number] = "reserved", prices

    @rule(number=JOBS)
    def reserve_the_same(self, number: int) -> None:
        if self.state.get(number) in {"reserved", "debited"}:
            self.reserve(number, self.prices[number])

    @rule(number=JOBS, payload=st.binary(max_size=20), rolled_back=st.booleans())
    def debit(self, number: int, payload: bytes, rolled_back: bool) -> None:
        number = self.known(number)
        if self.state.get(number) not in {"reserved", "debited"}:
            with pytest.raises(NotReserved):
                debit(self.ledger, self.name(number), payload)
            return
        first = self.payloads.get(number, payload)
        if rolled_back:
            with self.ledger._engine.begin() as connection:
                assert self.ledger.debit(connection, self.name(number), "0" * 64, payload) == first
                connection.rollback()
            return
        assert debit(self.ledger, self.name(number), payload) == first
        self.state[number], self.payloads[number] = "debited", first

    @rule(number=JOBS)
    def lapse(self, number: int) -> None:
        number = self.known(number)
        self.ledger.lapse(self.name(number))
        if self.state.get(number) == "reserved":
            self.state[number] = "lapsed"

    @precondition(lambda self: self.state)
    @rule()
    def restart(self) -> None:
        self.teardown()
        self.opening = opened(self.url)
        self.ledger = self.opening.__enter__()

    @invariant()
    def both_say_the_same(self) -> None:
        entries = self.ledger.entries(self.study)
        found = {
            (entry.job, entry.dataset, entry.period): (entry.state, entry.loss, entry.counts)
            for entry in entries
        }
        assert found == {
            (self.name(number), dataset, period): (
                self.state[number],
                Loss.pure_dp(eighths / 8),
                self.state[number] != "lapsed",
            )
            for number, prices in self.prices.items()
            for (dataset, period), eighths in prices.items()
        }
        for budget in itertools.product(["north", "south"], [0, 1]):
            dataset, period = budget
            held = self.ledger.spent(self.study, dataset, period)
            assert held.pure == self.spent(budget, "reserved", "debited") << 37
            assert held.pure <= BUDGET << 37
            paid = self.ledger.spent(self.study, dataset, period, reserved=False)
            assert paid.pure == self.spent(budget, "debited") << 37
            assert held == total(
                entry.loss
                for entry in entries
                if entry.counts and (entry.dataset, entry.period) == (dataset, period)
            )
        for number in self.state:
            assert self.ledger.payload(self.name(number)) == self.payloads.get(number)


def check(url: str, examples: int) -> None:
    prepared(url)
    machine = type("Spending", (Spending,), {"url": url})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )


def test_the_ledger_does_what_a_dictionary_does(url: str) -> None:
    check(url, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ledger_does_what_a_dictionary_does_for_long(url: str) -> None:
    check(url, 500)
