"""Processes of one machine as parties: what they return, how they fail, and that none is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import mpcpriv
from mpcpriv.errors import UsageError
from mpcpriv.party.launch import start
from mpcpriv.party.pipe import INSIDE, unpack
from mpcpriv.party.supervisor import Group
from mpcpriv.transport.base import Transport
from mpcpriv.types import PartyId

NAMES = ("alice", "bob", "dealer")
SECRET = "4711"


@dataclass(frozen=True)
class Greet:
    """Sends each other member a greeting; returns what came. Needs no engine, so it starts fast."""

    def load(self) -> None: ...

    def run(self, transport: Transport) -> object:
        others = [rank for rank in range(len(transport.members)) if rank != transport.rank]
        for rank in others:
            transport.send(rank, f"{transport.name} to {transport.members[rank]}".encode())
        heard = [bytes(transport.recv(rank)).decode() for rank in others]
        print(f"heard {len(heard)}")
        transport.close()
        return heard


@dataclass(frozen=True)
class Listen(Greet):
    """Waits for a message that never comes."""

    def run(self, transport: Transport) -> object:
        return bytes(transport.recv(1 if transport.rank != 1 else 0))


@dataclass(frozen=True)
class Compute(Greet):
    """Computes without looking at the network."""

    def run(self, transport: Transport) -> object:
        while True:
            time.sleep(0.1)


@dataclass(frozen=True)
class Raise(Greet):
    def run(self, transport: Transport) -> object:
        raise ValueError(f"the salary is {SECRET}")


@dataclass(frozen=True)
class Kill(Greet):
    """Dies as if the machine's memory had run out."""

    def run(self, transport: Transport) -> object:
        os.kill(os.getpid(), signal.SIGKILL)
        return None


@dataclass(frozen=True)
class Leave(Greet):
    def run(self, transport: Transport) -> object:
        raise SystemExit(3)


@dataclass(frozen=True)
class FailToLoad(Greet):
    def load(self) -> None:
        raise ImportError("no module named pandas")


@dataclass(frozen=True)
class ReturnLambda(Greet):
    def run(self, transport: Transport) -> object:
        super().run(transport)
        return lambda: None


@dataclass(frozen=True)
class ReturnMuch(Greet):
    def run(self, transport: Transport) -> object:
        super().run(transport)
        return bytes([transport.rank]) * 8_000_000


def run(programs: Sequence[Any]) -> Group:
    with start(tuple(map(PartyId, NAMES)), programs, None) as group:
        group.wait()
    for member in group.members:
        with pytest.raises(ProcessLookupError):
            os.kill(member.process.pid, 0)
    return group


def words(group: Group) -> dict[str, str]:
    return {member.name: member.failure.summary if member.failure else "" for member in group.members}


def echoes(reason: str) -> set[str]:
    """What a member may say of bob's failure: it hears of it from bob, or first from another one."""
    relayed = {f"{name} stopped because of bob: {reason}" for name in ("alice", "dealer")}
    return {f"bob stopped: {reason}"} | relayed


def test_what_the_programs_return_comes_back_by_rank(capfd: pytest.CaptureFixture[str]) -> None:
    group = run([Greet()] * 3)
    values = [unpack(member.value or b"") for member in group.members]
    assert values[0] == ["bob to alice", "dealer to alice"]
    assert values[2] == ["alice to dealer", "bob to dealer"]
    assert words(group) == dict.fromkeys(NAMES, "")
    lines = [line for line in capfd.readouterr().out.splitlines() if line]
    assert sorted(lines) == ["alice  | heard 2", "bob    | heard 2", "dealer | heard 2"]


def test_large_results_come_back() -> None:
    group = run([ReturnMuch()] * 3)
    assert [unpack(m.value or b"") for m in group.members] == [bytes([rank]) * 8_000_000 for rank in range(3)]


def test_an_exception_shows_its_traceback_once_and_its_type_alone_to_the_peers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    group = run([Listen(), Raise(), Listen()])
    assert group.cause().name == "bob"
    said = words(group)
    assert said["bob"] == f"ValueError: the salary is {SECRET}"
    assert said["alice"] in echoes("ValueError")
    assert said["dealer"] in echoes("ValueError")
    lines = capfd.readouterr().err.splitlines()
    assert sum("Traceback" in line for line in lines) == 1
    assert all(line.startswith("bob ") for line in lines if "Traceback" in line or SECRET in line)
    assert f"alice  | {said['alice']}" in lines
    assert not [line for line in lines if "run_member" in line], "our own frames say nothing to the user"


def test_when_a_process_is_killed_the_others_name_it_and_end() -> None:
    began = time.monotonic()
    group = run([Listen(), Kill(), Listen()])
    assert time.monotonic() - began < 10
    assert group.cause().name == "bob"
    said = words(group)
    assert said["bob"] == "killed by SIGKILL"
    assert "bob is gone" in said["alice"]
    assert "bob is gone" in said["dealer"]


def test_whoever_computes_on_is_told_to_stop(capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    group = run([Compute(), Raise(), Compute()])
    assert time.monotonic() - began < 10
    said = words(group)
    assert said["alice"] in echoes("ValueError")
    assert said["dealer"] in echoes("ValueError")
    assert f"alice  | {said['alice']}" in capfd.readouterr().err.splitlines()


def test_a_status_other_than_zero_is_a_failure() -> None:
    group = run([Listen(), Leave(), Listen()])
    assert words(group)["bob"] == "the program exited with status 3"
    assert words(group)["alice"] in echoes("SystemExit")


def test_a_member_that_cannot_start_stops_the_others_at_once() -> None:
    began = time.monotonic()
    group = run([Greet(), FailToLoad(), Greet()])
    assert time.monotonic() - began < 3
    assert group.cause().name == "bob"
    assert words(group)["bob"] == "ImportError: no module named pandas"
    assert all(words(group).values())


def test_a_value_that_cannot_travel_is_an_error_that_says_so() -> None:
    group = run([Greet(), ReturnLambda(), Greet()])
    assert "returned a function, which cannot leave its process" in words(group)["bob"]


def crypten_sum(numbers: list[float]) -> dict[str, object]:
    import crypten

    crypten.init()
    rank = crypten.communicator.get().get_rank()
    shares = [crypten.cryptensor([numbers[rank]], src=source) for source in range(3)]
    total = shares[0] + shares[1] + shares[2]
    return {"rank": rank, "sum": total.get_plain_text().item(), "inside": os.environ[INSIDE]}


def fail_at_bob() -> None:
    if os.environ[INSIDE] == "bob":
        raise RuntimeError("out of luck")
    import crypten

    crypten.init()
    crypten.cryptensor([1.0], src=1).get_plain_text()


@pytest.mark.usefixtures("warm_workers")
def test_a_function_runs_at_every_party_with_crypten_ready() -> None:
    results = mpcpriv.launch(crypten_sum, parties=3, args=([1.5, 2.0, 4.25],))
    assert [result["rank"] for result in results] == [0, 1, 2]
    assert [result["inside"] for result in results] == ["alice", "bob", "carol"]
    assert [result["sum"] for result in results] == [7.75] * 3


@pytest.mark.usefixtures("warm_workers")
def test_a_failure_is_an_exception_that_names_the_party() -> None:
    with pytest.raises(mpcpriv.PartyFailed, match="bob failed: RuntimeError: out of luck") as caught:
        mpcpriv.launch(fail_at_bob, parties=2)
    assert caught.value.peer == "bob"
    assert "fail_at_bob" in "".join(caught.value.__notes__)
    assert caught.value.failures["alice"] in echoes("RuntimeError")


@pytest.mark.parametrize("parties", [1, 0, -3, 17, True, 2.0, "3"])
def test_a_number_of_parties_that_makes_no_sense_is_refused(parties: Any) -> None:
    with pytest.raises(UsageError, match=f"parties = {parties!r}: "):
        mpcpriv.launch(crypten_sum, parties=parties)


def test_a_function_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="use a function at the top level of a module"):
        mpcpriv.launch(lambda: 1, parties=2)


def test_a_launch_inside_a_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSIDE, "alice")
    with pytest.raises(UsageError, match=r"inside alice.*__main__"):
        mpcpriv.launch(crypten_sum)
