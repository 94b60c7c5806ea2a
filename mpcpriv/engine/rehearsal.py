"""A program run on nothing, so that its cost is known before anything is shared.

All parties run it, as threads or processes, and say to each other what they would say. But every input
is zeros of its shape, nothing is random, the dealer is asked for nothing, and what a result would open
to is zeros. So what is counted is what `Session` itself counts.
"""

from __future__ import annotations

import copy
import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from mpcpriv.engine.correlation.base import Correlation, Group, owner
from mpcpriv.engine.correlation.source import Correlations, Dealt, correction_header
from mpcpriv.engine.costs import Outlay, Plan
from mpcpriv.engine.dealer import deal
from mpcpriv.engine.encoding import as_tensor
from mpcpriv.engine.interval import Interval
from mpcpriv.engine.prg import KEY_BYTES, Prg
from mpcpriv.engine.session import Session, join
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import PeerAborted, PeerFinished, PeerLate, UsageError
from mpcpriv.transport.base import Buffer, Limits, Traffic, Transport
from mpcpriv.types import PartyId, local_members

_CLOSED, _ABORTED = object(), object()


def plan(program: Callable[..., object], parties: int = 3, args: Sequence[object] = ()) -> Plan:
    """See `mpcpriv.engine.plan`."""
    members = local_members(parties)
    stage = _Stage(members)
    outlays: list[Outlay] = [Outlay()] * parties
    failures: list[BaseException] = []

    def act(rank: int) -> None:
        end = stage.ends[rank]
        try:
            if rank == parties:
                deal(end)
            else:
                session = rehearse(end)
                program(*args)
                outlays[rank] = session.outlay()
                session.close()
            end.close()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            failures.append(error)
            end.abort(type(error).__name__)

    threads = [threading.Thread(target=act, args=(rank,), daemon=True) for rank in range(parties + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Plan.of(members[:-1], outlays)


def warm() -> None:
    """Compiles what numba compiles on first use, or loads it: seconds that the others need not wait for."""

    def everything_compiled() -> None:
        x = SharedTensor.constant(torch.zeros(2))
        _ = x < 0, x.sigmoid(), x * x.clone()

    plan(everything_compiled, 2)


def rehearse(transport: Transport) -> Rehearsal:
    """Opens this thread's session over a connected transport, as `session.join`, for a rehearsal.

    Raises:
        UsageError: the thread has a session already, or there are fewer than two parties.
        PeerError: a member failed.
    """
    return join(transport, Rehearsal)


class Rehearsal(Session):
    """A session in which everything secret is zero, and the dealer is asked for nothing."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self.correlations: Blanks = Blanks(transport)
        self.progress = None

    def encoded(self, value: object, within: Interval | None = None) -> torch.Tensor:
        del within
        return torch.zeros(as_tensor(value).shape, dtype=torch.int64)

    def given(self, share: torch.Tensor) -> torch.Tensor:
        # Nothing masks what is opened in a rehearsal, so no share of anything may take part in it.
        return torch.zeros_like(share)

    def zero_share(self, shape: tuple[int, ...], group: Group = "sum") -> torch.Tensor:
        del group
        return torch.zeros(shape, dtype=torch.int64)

    def private_bits(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int8)

    def private_integers(self, draw: Callable[[int], np.ndarray], size: int) -> torch.Tensor:
        del draw
        return torch.zeros(size, dtype=torch.int64)

    def open_to(
        self, operation: str, share: torch.Tensor, recipients: list[int], group: Group = "sum"
    ) -> torch.Tensor | None:
        opened = super().open_to(operation, share, recipients, group)
        return None if opened is None else torch.zeros_like(opened)

    def order_seen(self, below: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        # As if they had been shuffled: what a sort costs depends on the order, and zeros have its worst.
        del below
        # However many are drawn, the first are the same: it is one order in all rounds.
        size = 1 + int(max(one.max(initial=0), other.max(initial=0)))
        shuffled = np.frombuffer(hashlib.shake_256(b"an order").digest(8 * size), dtype="<u8")
        result: np.ndarray = shuffled[one] < shuffled[other]
        return result

    def _steps(self, turns: int, name: str) -> Iterator[int]:
        del name
        self.note(f"steps {turns}")
        skipped = max(turns - 3, 0)
        for turn in (0, 1, turns - 1) if skipped else range(turns):
            cost, blanks, step = copy.deepcopy(self.cost), self.correlations.spent(), self._step
            yield turn
            if turn == 1 and skipped:
                self._repeat(skipped, cost, step)
                self.correlations.repeat(skipped, blanks)

    def _repeat(self, times: int, before: Any, step: int) -> None:
        """Counts what came after `before` so many times more."""
        now = self.cost
        now.rounds += times * (now.rounds - before.rounds)
        now.received += times * (now.received - before.received)
        for counts, earlier in ((now.sent_to, before.sent_to), (now.opened, before.opened)):
            _repeat(counts, earlier, times)
        self._step += times * (self._step - step)  # it stands in every header

    def outlay(self) -> Outlay:
        """What this party has spent so far."""
        return Outlay(
            rounds=self.cost.rounds,
            sent_to=dict(self.cost.sent_to),
            operations=dict(self.cost.opened),
            dealt=dict(self.correlations.dealt),
            dealt_to=dict(self.correlations.dealt_to),
        )


class Blanks(Correlations):
    """Correlated randomness that is all zeros: counted, and not asked for.

    Attributes:
        dealt: bytes of corrections, by kind.
        dealt_to: bytes of corrections, by the rank of the party that would get them.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, Prg(bytes(KEY_BYTES)))  # nothing is drawn from it
        self._parties: Final = len(transport.members) - 1
        self.dealt: Counter[str] = Counter()
        self.dealt_to: Counter[int] = Counter()

    def take(self, request: Correlation) -> Dealt:
        self.admit(request)
        size = len(correction_header(request, self.used)) + request.dealt_bytes
        self.dealt[request.kind] += size
        self.dealt_to[owner(self.used, self._parties)] += size
        self.log(self.used, request)
        self.used += 1
        return Blank(request)

    def spent(self) -> tuple[int, Counter[str], Counter[int]]:
        """What has been counted so far, for `repeat`."""
        return self.used, self.dealt.copy(), self.dealt_to.copy()

    def repeat(self, times: int, before: tuple[int, Counter[str], Counter[int]]) -> None:
        """Counts what came after `before` so many times more: each time for other parties, in their turn."""
        used, dealt, dealt_to = before
        length, parties = self.used - used, self._parties
        for rank, size in (self.dealt_to - dealt_to).items():
            for k in range(1, min(times, parties) + 1):
                self.dealt_to[(rank + k * length) % parties] += size * len(range(k, times + 1, parties))
        _repeat(self.dealt, dealt, times)
        self.used += times * length


class Blank(Dealt):
    """Shares of one correlation, all zeros."""

    def __init__(self, request: Correlation) -> None:
        self._request = request
        self.masks = tuple(torch.zeros(slot.shape, dtype=slot.dtype) for slot in request.masks())

    def derived(self) -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros(slot.shape, dtype=slot.dtype) for slot in self._request.derived())


def _repeat(counts: Counter[Any], before: Counter[Any], times: int) -> None:
    for key, count in (counts - before).items():
        counts[key] += times * count


class _Stage:
    """Members as threads of this process, with a queue for each pair and direction."""

    def __init__(self, members: tuple[PartyId, ...]) -> None:
        everybody = range(len(members))
        self.queues: dict[tuple[int, int], queue.SimpleQueue[Any]] = {
            (here, there): queue.SimpleQueue() for here in everybody for there in everybody
        }
        self.ends = [_End(self, members, rank) for rank in everybody]


class _End(Transport):
    """One member's end of the stage."""

    def __init__(self, stage: _Stage, members: tuple[PartyId, ...], rank: int) -> None:
        self._stage, self.members, self.rank, self.limits = stage, members, rank, Limits()
        self._over = False

    def send(self, dst: int, *parts: Buffer) -> None:
        if sum(map(len, parts)) > self.limits.message:
            raise UsageError(f"a message may have {self.limits.message} bytes; split the operation")
        self._stage.queues[self.rank, dst].put(bytearray().join(parts))

    def recv(self, src: int) -> memoryview:
        name = self.members[src]
        try:
            message = self._stage.queues[src, self.rank].get(timeout=self.limits.wait)
        except queue.Empty:
            raise PeerLate(name, f"{name} sent nothing") from None
        if message is _CLOSED:
            raise PeerFinished(name, f"{name} has finished")
        if message is _ABORTED:
            raise PeerAborted(name, f"{name} stopped")
        return memoryview(message)

    def close(self) -> None:
        self._end(_CLOSED)

    def abort(self, reason: str) -> None:
        del reason
        self._end(_ABORTED)

    def _end(self, word: object) -> None:
        if not self._over:
            self._over = True
            for other in range(len(self.members)):
                self._stage.queues[self.rank, other].put(word)

    def traffic(self, peer: int) -> Traffic:
        del peer
        return Traffic()
