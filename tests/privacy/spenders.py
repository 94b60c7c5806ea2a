"""A process that spends of the ledger and tells, by a pipe, what it takes for durable; it may be killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import secrets
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy as sa

from mpcpriv.privacy.ledger import Ledger
from tests.privacy.budgets import NOW, STUDY, charge, debit, opened

PRICE = 2.0**-20
"""Of one job: thousands fit."""


class Points:
    """Where the process may be killed: before and after every statement, and every commit."""

    def __init__(self, die_at: int) -> None:
        self._left = die_at

    def reached(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def sample(job: str) -> bytes:
    """A fresh release of this job, which ends in a digest of all of it."""
    noise = secrets.token_bytes(1 + secrets.randbelow(20_000))
    return noise + hashlib.sha256(job.encode() + noise).digest()


def whole(job: str, payload: bytes) -> bool:
    """Whether it is a release of this job from its first byte to the last."""
    return payload[-32:] == hashlib.sha256(job.encode() + payload[:-32]).digest()


def _pay(ledger: Ledger, job: str, told: Connection) -> None:
    payload = debit(ledger, job, sample(job))
    told.send(("released", job, hashlib.sha256(payload).hexdigest()))


def spend(url: str, jobs: int, told: Connection, die_at: int = 0) -> None:
    """Takes up what an earlier one left, and then goes on with new jobs."""
    points = Points(die_at)
    with opened(url) as ledger:
        for event in ("before_cursor_execute", "after_cursor_execute", "commit"):
            sa.event.listen(ledger._engine, event, points.reached)
        told.send(("ready", "", ""))
        for entry in ledger.entries():
            if entry.state == "reserved":
                _pay(ledger, entry.job, told)  # as after a restart: with noise drawn anew
        for number in range(jobs):
            job = secrets.token_hex(32)
            # A data set of its own for every other job, so that not all sums are long.
            prices = {name: charge(PRICE) for name in ("all", secrets.token_hex(8))}
            assert ledger.reserve(job, STUDY, prices, NOW) == []
            points.reached()
            told.send(("reserved", job, ""))
            if number % 2:
                ledger.lapse(job)
                points.reached()
                told.send(("lapsed", job, ""))
                continue
            _pay(ledger, job, told)
            points.reached()
            _pay(ledger, job, told)
    told.send(("done", "", ""))


def start(url: str, jobs: int, die_at: int = 0) -> tuple[BaseProcess, Connection]:
    """Such a process, and what it tells."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.privacy.submitters", "tests.privacy.spenders"])
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=spend, args=(url, jobs, told, die_at), daemon=True)
    process.start()
    told.close()
    return process, heard


def everything(heard: Connection) -> list[Any]:
    """What the process has told until it ended; half a message is none."""
    found = []
    try:
        while True:
            found.append(heard.recv())
    except (EOFError, OSError):
        heard.close()
        return found
