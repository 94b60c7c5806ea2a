"""Sixty-four submitters at once against a budget for one: one gets it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from mpcpriv.privacy.ledger import NotReserved
from mpcpriv.privacy.loss import Loss
from tests.privacy import submitters
from tests.privacy.budgets import NOW, STUDY, charge, debit, job, opened, prepared
from tests.privacy.submitters import ONE_BUDGET, SUBMITTERS


def race(url: str, run_all: Callable[[str, int], list[int]], runs: int) -> None:
    prepared(url)
    assert sorted(run_all(url, runs)) == list(range(runs)), "one wins each run"
    with opened(url) as ledger:
        assert len(ledger.entries()) == runs * len(ONE_BUDGET)
        for run in range(runs):
            for name, epsilon in ONE_BUDGET.items():
                assert ledger.spent(STUDY, name, run) == Loss.pure_dp(epsilon)


@pytest.mark.parametrize(
    "run_all", [submitters.threads, pytest.param(submitters.processes, marks=pytest.mark.slow)]
)
def test_of_submitters_at_once_one_gets_the_budget(
    url: str, run_all: Callable[[str, int], list[int]]
) -> None:
    race(url, run_all, 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("run_all", [submitters.threads, submitters.processes])
def test_of_submitters_at_once_one_gets_the_budget_a_thousand_times(
    url: str, run_all: Callable[[str, int], list[int]]
) -> None:
    race(url, run_all, 1000)


def at_once(*calls: Callable[[], None]) -> None:
    start = threading.Barrier(len(calls), timeout=60)

    def run(call: Callable[[], None]) -> None:
        start.wait()
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_same_job_reserved_at_once_is_charged_once(url: str) -> None:
    prepared(url)
    with opened(url) as one, opened(url) as other:
        for number in range(20):
            found: list[list[str]] = []
            name = job(number)
            price = {"north": charge(0.5, period=number), "south": charge(0.5, period=number)}
            calls = [
                lambda ledger=ledger, price=price, name=name, found=found: found.append(
                    ledger.reserve(name, STUDY, price, NOW)
                )
                for ledger in (one, other) * 4
            ]
            at_once(*calls)
            assert found == [[]] * 8
            assert one.spent(STUDY, "north", number) == Loss.pure_dp(0.5)
        assert len(one.entries()) == 40


def test_of_debits_at_once_all_release_the_bytes_of_one(url: str) -> None:
    prepared(url)
    with opened(url) as one, opened(url) as other:
        for number in range(20):
            name = job(number)
            one.reserve(name, STUDY, {"north": charge(0.5, period=number)}, NOW)
            released: list[bytes] = []
            calls = [
                lambda ledger=ledger, sample=bytes([sample]), name=name, released=released: released.append(
                    debit(ledger, name, sample)
                )
                for sample, ledger in enumerate((one, other) * 4)
            ]
            at_once(*calls)
            assert len(released) == 8
            assert len(set(released)) == 1
            assert one.payload(name) == released[0]


def test_a_debit_and_a_lapse_at_once_agree(url: str) -> None:
    prepared(url)
    with opened(url) as one, opened(url) as other:
        for number in range(40):
            name = job(number)
            one.reserve(name, STUDY, {"north": charge(1.0, period=number)}, NOW)
            released: list[bytes] = []

            def pay(name: str = name, released: list[bytes] = released) -> None:
                with suppress(NotReserved):
                    released.append(debit(one, name, b"x"))

            at_once(pay, lambda name=name: other.lapse(name))
            assert (one.payload(name) == b"x") == bool(released)
            others = one.reserve(job(1000 + number), STUDY, {"north": charge(1.0, period=number)}, NOW)
            assert bool(others) == bool(released)


def test_more_than_one_fits_where_there_is_room(url: str) -> None:
    prepared(url)
    with opened(url) as ledger:
        won: list[int] = []

        def submit(number: int) -> None:
            if not ledger.reserve(job(number), STUDY, {"north": charge(0.125, delta=0)}, NOW):
                won.append(number)

        at_once(*(lambda number=number: submit(number) for number in range(SUBMITTERS // 2)))
        assert len(won) == 8
        assert ledger.spent(STUDY, "north", 0) == Loss.pure_dp(0.125) * 8
