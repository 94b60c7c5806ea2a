"""Parties and a dealer as threads of this process, over the in-process transport.

    results = run(3, program, argument)      # program(session, argument) at three parties
    sight = Sight()                          # what each member sent and received, message by message
    run(3, program, sight=sight, seed=7)     # the same keys every time

The tests' only door to the engine's randomness is `seed`: it stands in for the operating system in the
threads of one run, so that a statistical test gives the same verdict every time.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

import mpcpriv.engine
from mpcpriv.transport.base import Buffer, Limits, Traffic, Transport
from mpcpriv.transport.memory import MemoryHub

NAMES = ("alice", "bob", "carol", "dave", "erin")
LIMITS = Limits(wait=60.0)

Program = Callable[..., Any]

torch.set_num_threads(1)  # the parties are threads already


class Sight:
    """Everything that travelled in one run.

    Attributes:
        received: by (receiver, sender), the messages in order.
        sent: by (sender, receiver), the messages in order.
    """

    def __init__(self) -> None:
        self.received: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self.sent: dict[tuple[int, int], list[bytes]] = defaultdict(list)

    def frames(self, receiver: int, sender: int) -> list[Frame]:
        """What one party received from another, the key contribution left out."""
        return [Frame(message) for message in self.received[receiver, sender][1:]]

    def from_party(self, sender: int, operation: str, parties: int) -> list[Frame]:
        """What a party sent to all others in operations of this name, in order."""
        receiver = (sender + 1) % parties
        return [frame for frame in self.frames(receiver, sender) if frame.operation == operation]


_TENSORS = rb"[a-z]+\d*\[[^\]]*\](?:, [a-z]+\d*\[[^\]]*\])*"
_HEADER = re.compile(
    rb"step \d+: (.*?) (%b)?; history [0-9a-f]{16} *$|(.*?) (%b); between two *$" % (_TENSORS, _TENSORS)
)


class Frame:
    """One frame between parties: the operation's name and the tensors."""

    def __init__(self, message: bytes) -> None:
        end = 64
        while True:  # a header is text, padded with blanks to a multiple of 64 bytes
            match = _HEADER.match(message[:end])
            if match and (match[1] or not message.startswith(b"step ")):
                break
            end += 64
            assert end <= len(message) + 64, "no header found"
        self.operation = (match[1] or match[3]).decode()
        self.tensors: list[torch.Tensor] = []
        for name, dims in re.findall(r"([a-z]+\d*)\[([^\]]*)\]", (match[2] or match[4] or b"").decode()):
            dtype, shape = getattr(torch, name), [int(d) for d in dims.split(",") if d.strip()]
            count = torch.Size(shape).numel()
            data = bytearray(message[end : end + count * dtype.itemsize])
            piece = torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
            self.tensors.append(piece.reshape(shape))
            end += len(data)
        assert end == len(message)


class Observed(Transport):
    """A transport that writes down what goes through it."""

    def __init__(self, inner: Transport, sight: Sight) -> None:
        self.inner, self.sight = inner, sight
        self.members, self.rank, self.limits = inner.members, inner.rank, inner.limits

    def send(self, dst: int, *parts: Buffer) -> None:
        self.sight.sent[self.rank, dst].append(b"".join(bytes(part) for part in parts))
        self.inner.send(dst, *parts)

    def recv(self, src: int) -> memoryview:
        message = self.inner.recv(src)
        self.sight.received[self.rank, src].append(bytes(message))
        return message

    def close(self) -> None:
        self.inner.close()

    def abort(self, reason: str) -> None:
        self.inner.abort(reason)

    def traffic(self, peer: int) -> Traffic:
        return self.inner.traffic(peer)


_entropy = threading.local()


@contextmanager
def chosen_randomness() -> Iterator[None]:
    """`os.urandom` answers from the thread's own seed where it has one."""
    genuine = os.urandom

    def urandom(count: int) -> bytes:
        seed = getattr(_entropy, "seed", None)
        if seed is None:
            return genuine(count)
        _entropy.calls += 1
        return hashlib.shake_256(f"{seed}/{_entropy.calls}".encode()).digest(count)

    with mock.patch("os.urandom", urandom):
        yield


def outcomes(
    members: list[Program],
    *,
    seed: int | None = None,
    sight: Sight | None = None,
    seconds: float = 90.0,
    limits: Limits = LIMITS,
) -> tuple[list[Any], list[int]]:
    """Runs `members[rank](transport)` on one thread each.

    Returns:
        by rank, what each returned or the exception it raised; and who failed, the first one first.
    """
    mpcpriv.engine.activate()
    hub = MemoryHub([*NAMES[: len(members) - 1], "dealer"], limits=limits)
    results: list[Any] = [None] * len(members)
    failed: list[int] = []

    def body(rank: int) -> None:
        if seed is not None:
            _entropy.seed, _entropy.calls = f"{seed}/{rank}", 0
        endpoint = hub.endpoints[rank]
        try:
            results[rank] = members[rank](endpoint if sight is None else Observed(endpoint, sight))
            endpoint.close()
        except BaseException as error:  # noqa: BLE001 - it is handed to the test
            results[rank] = error
            failed.append(rank)
            endpoint.abort(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=body, args=(rank,), daemon=True) for rank in range(len(members))]
    deadline = time.monotonic() + seconds
    with chosen_randomness():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        late = [thread for thread in threads if thread.is_alive()]
        if late:
            frames = sys._current_frames()
            where = "\n".join("".join(traceback.format_stack(frames[t.ident])[-4:]) for t in late if t.ident)
            for endpoint in hub.endpoints:
                endpoint.vanish()
            for thread in late:
                thread.join(10)
            raise AssertionError(f"members still run after {seconds} s:\n{where}")
    return results, failed


def party(program: Program, *args: Any) -> Program:
    """A member that joins as a party and runs `program(session, *args)`."""

    def member(transport: Transport) -> Any:
        session = mpcpriv.engine.join(transport)
        result = program(session, *args)
        session.close()
        return result

    return member


def run(n: int, program: Program, *args: Any, **options: Any) -> list[Any]:
    """`program(session, *args)` at n parties with a dealer: what each party returned, by rank.

    Args:
        options: as `outcomes` takes them.

    Raises:
        BaseException: what the first member to fail raised.
        AssertionError: they did not end in time.
    """
    results, failed = outcomes([party(program, *args)] * n + [mpcpriv.engine.deal], **options)
    if failed:
        raise results[failed[0]]
    return results[:n]


def failures(programs: list[Program], **options: Any) -> list[BaseException | None]:
    """What each party, then the dealer, raised; every party runs its own program."""
    results, failed = outcomes([*map(party, programs), mpcpriv.engine.deal], **options)
    return [results[rank] if rank in failed else None for rank in range(len(results))]
