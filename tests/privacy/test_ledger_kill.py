"""SIGKILL of whoever writes in the ledger, at every write and at any moment: no debit is lost or doubled."""

from __future__ import annotations

import hashlib
import random
import signal
import time
from collections import defaultdict

import pytest
import sqlalchemy as sa

from mpcpriv.privacy import ledger as module
from mpcpriv.privacy.ledger import total
from tests.privacy.budgets import STUDY, charge, opened, prepared
from tests.privacy.spenders import PRICE, everything, start, whole


class Witness:
    """Hears what all processes told, and holds the ledger against it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reserved: set[str] = set()
        self.lapsed: set[str] = set()
        self.released: defaultdict[str, set[str]] = defaultdict(set)
        self.done = False

    def hear(self, messages: list[tuple[str, str, str]]) -> None:
        self.done = False
        for word, job, digest in messages:
            if word == "released":
                self.released[job].add(digest)
            elif word in {"reserved", "lapsed"}:
                getattr(self, word).add(job)
            self.done = word == "done"

    def check(self) -> None:
        with opened(self.url) as ledger:
            with ledger._engine.begin() as connection:
                rows = connection.execute(sa.select(module._releases)).all()
            entries = ledger.entries()
            spent = ledger.spent(STUDY, "all", 0)
        kept = {row.job: row for row in rows}
        assert len(kept) == len(rows)
        assert self.reserved <= kept.keys(), "a reservation is lost"
        for job, row in kept.items():
            assert (row.state == "debited") == (row.payload is not None)
            assert row.payload is None or whole(job, bytes(row.payload)), "half a release"
        for job, digests in self.released.items():
            assert kept[job].state == "debited", "a debit is lost"
            assert digests == {hashlib.sha256(kept[job].payload).hexdigest()}, "a second release for a debit"
        for job in self.lapsed:
            assert kept[job].state == "lapsed"
        charged = defaultdict(list)
        for entry in entries:
            charged[entry.job].append(entry.dataset)
        assert charged.keys() == kept.keys()
        assert all(len(names) == 2 for names in charged.values()), "charged in part"
        counted = [entry.loss for entry in entries if entry.counts and entry.dataset == "all"]
        assert len(counted) == sum(row.state != "lapsed" for row in rows)
        assert spent == total(counted) == charge(PRICE).loss * len(counted)

    def run(self, jobs: int, die_at: int = 0) -> int | None:
        process, heard = start(self.url, jobs, die_at)
        self.hear(everything(heard))
        process.join()
        return process.exitcode


def test_a_kill_at_every_write_loses_and_doubles_nothing(url: str) -> None:
    prepared(url)
    witness = Witness(url)
    killed = 0
    # Each one takes up what the one before left, and so is killed in that as well.
    while witness.run(2, die_at=killed + 1) == -signal.SIGKILL:
        killed += 1
        assert not witness.done
        witness.check()
    assert witness.run(1) == 0
    assert witness.done
    witness.check()
    assert killed > 30, killed
    with opened(url) as ledger:
        assert {entry.state for entry in ledger.entries()} == {"debited", "lapsed"}


def kill_at_any_moment(url: str, times: int) -> None:
    prepared(url)
    witness = Witness(url)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for turn in range(times):
        process, heard = start(url, 10**6)
        messages = [heard.recv() for _ in range(chance.randrange(2, 9))]
        time.sleep(chance.expovariate(1 / 0.01))
        process.kill()
        witness.hear(messages + everything(heard))
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"seed {seed}, turn {turn}"
        if turn % 5 == 4:
            witness.check()
    assert witness.run(1) == 0
    witness.check()
    assert len(witness.released) >= times // 2
    with opened(url) as ledger:
        assert "reserved" not in {entry.state for entry in ledger.entries()}


def test_a_kill_at_any_moment_loses_and_doubles_nothing(url: str) -> None:
    kill_at_any_moment(url, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_hundred_kills_lose_and_double_nothing(url: str) -> None:
    kill_at_any_moment(url, 300)
