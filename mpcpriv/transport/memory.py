"""Members as threads of one process: no network, but the same frames, checks and failures as on one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from mpcpriv.errors import UsageError
from mpcpriv.transport.base import Limits
from mpcpriv.transport.frame import JOB_BYTES, FrameReader, FrameWriter, epoch
from mpcpriv.transport.hello import Hello, encode_hello
from mpcpriv.transport.mesh import Mesh
from mpcpriv.types import PartyId

Tap = Callable[[int, int, bytes], Iterable[bytes]]
"""Called with (sender's rank, receiver's rank, packet) for each packet; returns what is delivered instead."""


class MemoryTransport(Mesh):
    """One member's end; made by `MemoryHub`."""

    def __init__(self, hub: MemoryHub, members: Sequence[PartyId], rank: int, limits: Limits) -> None:
        super().__init__(members, rank, limits)
        self._hub = hub

    def vanish(self) -> None:
        """Dies without a word, as if the process were killed: the peers get `PeerGone`."""
        with self._lock:
            self._over = True
            self._wake()
        self._hang_up()

    def let_go(self, rank: int) -> None:
        """Sends nothing more to the member of that rank, and waits for nothing in order to read on."""
        link = self.link(rank)
        with self._lock:
            link.halt()
        self.broke(link)

    def _hang_up(self) -> None:
        self._hub.cut(self.rank)


class MemoryHub:
    """Connects members within one process.

    Args:
        names: the members, in the order of rank.
        limits: every member's limits.
        tap: sees, and may change, drop or repeat, every packet; for tests.

    Attributes:
        endpoints: one connected transport per member, by rank; each is for a thread of its own.
    """

    def __init__(self, names: Sequence[str], *, limits: Limits | None = None, tap: Tap | None = None) -> None:
        members = [PartyId(name) for name in names]
        if not members:
            raise UsageError("a hub without members")
        limits = limits or Limits()
        self._tap = tap
        self.endpoints = tuple(MemoryTransport(self, members, rank, limits) for rank in range(len(members)))
        hellos = [Hello("memory", bytes(JOB_BYTES)) for _ in members]
        pairs = list(itertools.combinations(range(len(members)), 2))
        for low, high in pairs:
            stream = epoch(encode_hello(hellos[low]), encode_hello(hellos[high]))
            for here, there in ((low, high), (high, low)):
                endpoint = self.endpoints[here]
                writer = FrameWriter(here, hellos[here].job, stream, limits.chunk)
                reader = FrameReader(members[there], there, members, hellos[there].job, stream, limits)
                endpoint.open_link(endpoint.link(there), writer, reader)
        for low, high in pairs:
            for here, there in ((low, high), (high, low)):
                # The receiver pulls: while it does not read, nothing more is sent, as with flow control.
                receiver = self.endpoints[there]
                threading.Thread(
                    target=receiver.pump,
                    args=(receiver.link(here), self._carry(here, there)),
                    name=f"memory {here}-{there}",
                    daemon=True,
                ).start()

    def cut(self, rank: int) -> None:
        """Breaks every stream of one member, both ways."""
        for other, endpoint in enumerate(self.endpoints):
            if other != rank:
                self.endpoints[rank].let_go(other)
                endpoint.let_go(rank)

    def _carry(self, here: int, there: int) -> Iterator[bytes]:
        sender = self.endpoints[here]
        for packet in sender.packets(sender.link(there)):
            if self._tap is None:
                yield packet
            else:
                yield from self._tap(here, there, packet)
