"""Submitters that come at once, each with its own connection to the ledger, as threads or as processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.privacy.budgets import NOW, STUDY, charge, job, opened

SUBMITTERS = 64
ONE_BUDGET = {"north": 1.0, "south": 1.0}


def submit(url: str, number: int, runs: int, together: Any, report: Callable[[list[int]], None]) -> None:
    """In each run, reserves all of two fresh budgets together with everybody else; reports where it did."""
    won = []
    prices = {name: charge(epsilon) for name, epsilon in ONE_BUDGET.items()}
    try:
        with opened(url) as ledger:
            for run in range(runs):
                fresh = {name: replace(price, period=run) for name, price in prices.items()}
                together.wait()
                if not ledger.reserve(job(run * SUBMITTERS + number), STUDY, fresh, NOW):
                    won.append(run)
    except BaseException:
        together.abort()  # the others are not to wait for this one
        raise
    finally:
        report(won)


def _process(url: str, number: int, runs: int, together: Any, into: Any) -> None:
    submit(url, number, runs, together, into.put)


def threads(url: str, runs: int) -> list[int]:
    """The runs that somebody has won, once for each who did."""
    together = threading.Barrier(SUBMITTERS, timeout=120)
    won: list[int] = []
    all_ = [
        threading.Thread(target=submit, args=(url, number, runs, together, won.extend))
        for number in range(SUBMITTERS)
    ]
    for one in all_:
        one.start()
    for one in all_:
        one.join()
    return won


def processes(url: str, runs: int) -> list[int]:
    """The same, in processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.privacy.submitters"])
    together, into = context.Barrier(SUBMITTERS, timeout=120), context.SimpleQueue()
    all_ = [
        context.Process(target=_process, args=(url, number, runs, together, into), daemon=True)
        for number in range(SUBMITTERS)
    ]
    for one in all_:
        one.start()
    won = [run for _ in all_ for run in into.get()]
    for one in all_:
        one.join()
        assert one.exitcode == 0
    return won
