"""Kills one process of a running job, any one, at any moment: the others name it and end within seconds."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mpcpriv.party.launch import start
from mpcpriv.party.program import Dealer, Function, Program
from mpcpriv.party.supervisor import GRACE_SECONDS, Group
from mpcpriv.types import PartyId

PARTIES = ("alice", "bob", "carol")
MEMBERS = (*PARTIES, "dealer")

STARTING_SECONDS = 60.0
"""How long the members may take to be connected, on a busy machine."""

JOB_SECONDS = 3.0
"""The kill falls somewhere in this time after all are connected."""


def multiply_for_ever() -> None:
    """A job that uses the dealer and all parties without a pause."""
    import crypten

    crypten.init()
    x = crypten.cryptensor([[0.5] * 64] * 64, src=0)
    while True:
        x = (x @ x) * 0.03125
        (x > 0).sum().get_plain_text()


@contextmanager
def killed_at(group: Group, victim: int, delay: float) -> Iterator[list[float]]:
    """Kills the member of rank `victim`, `delay` seconds after all are connected; yields when it did."""
    moments: list[float] = []

    def kill() -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline:
            if all(member.stage == "connected" for member in group.members):
                break
            time.sleep(0.02)
        time.sleep(delay)
        moments.append(time.monotonic())
        os.kill(group.members[victim].process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield moments
    finally:
        thread.join()


def kill_one(seed: int) -> None:
    choice = random.Random(seed)
    victim, delay = choice.randrange(len(MEMBERS)), choice.uniform(0, JOB_SECONDS)
    programs: list[Program] = [Function(multiply_for_ever)] * len(PARTIES)
    with (
        start(tuple(map(PartyId, MEMBERS)), [*programs, Dealer()], None) as group,
        killed_at(group, victim, delay) as moments,
    ):
        group.wait()
        took = time.monotonic() - moments[0]
    name = MEMBERS[victim]
    said = {member.name: member.failure.summary if member.failure else "" for member in group.members}
    assert group.cause().name == name, said
    assert said[PartyId(name)] == "killed by SIGKILL"
    for other in set(MEMBERS) - {name}:
        assert f"{name} is gone" in said[PartyId(other)], said
    assert took < GRACE_SECONDS, f"the others took {took:.1f} s to end: {said}"
    for member in group.members:
        with pytest.raises(ProcessLookupError):
            os.kill(member.process.pid, 0)


# The seeds name the victim and the moment, so that a failure can be repeated.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("warm_workers")
def test_the_others_name_whoever_is_killed_and_end(seed: int) -> None:
    kill_one(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_the_others_name_whoever_is_killed_and_end_every_time(seed: int) -> None:
    kill_one(seed)
