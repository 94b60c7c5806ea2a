"""What every transport has in common: inboxes, outboxes, and what happens when a member ends or fails.

A `Mesh` holds one `Link` per peer and knows no network. An implementation carries packets: it takes a
link's outgoing packets from `Mesh.packets` and hands the incoming ones to `Mesh.pump`, each on a thread.

A link's life, by what happens to it:

    happens                     before      after       effect here
    hello agreed                waiting     open        messages flow
    FINISH received             open        finished    no more sending; `recv` raises PeerFinished at last
    ABORT received              open        ended       the transport fails: PeerAborted
    bad frame received          open        ended       the transport fails: FrameRefused
    stream broke                open        ended       the transport fails: PeerGone
    stream ended                finished    ended       nothing: this is the normal end

When the transport fails, each peer is at once told who is to blame and why (ABORT), so the first cause
reaches everybody, under the culprit's name, whichever way it comes. The first failure stays; later ones are
its echoes.
"""

from __future__ import annotations

import copy
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Final

from mpcpriv.errors import (
    PeerAborted,
    PeerError,
    PeerFinished,
    PeerGone,
    PeerLate,
    UsageError,
)
from mpcpriv.transport.base import Buffer, Limits, Traffic, Transport
from mpcpriv.transport.frame import (
    MAX_CHUNK,
    Abort,
    Finish,
    FrameReader,
    FrameWriter,
    Message,
    one_line,
    wire_size,
)
from mpcpriv.types import PartyId

FAREWELL: Final = 1.5
"""Seconds that the word of a failure has to reach the peers before the connections are cut."""


_OVERHEAD: Final = 512
"""Bytes that an unread message takes besides its body: empty ones fill an inbox, too."""


class _Stop:
    """In an outbox: look at `Link.halted`."""


class _Finish:
    """In an outbox: everything before it was the last."""


_Item = tuple[memoryview, ...] | _Stop | _Finish


class Link:
    """One peer's stream, seen from here. Everything but the queues is guarded by the mesh's lock.

    Attributes:
        peer: the peer's name.
        rank: the peer's rank.
        outbox: what is to be sent, in order; unbounded, since `send` does not wait.
        opened: the hello is agreed.
        finished: the peer has ended normally.
        ended: nothing more comes from the peer.
        broken: the stream is known to be dead although its end has not been read yet.
        halted: nothing more of the outbox goes out.
        farewell: culprit and reason of the abort that goes out instead.
    """

    def __init__(self, peer: PartyId, rank: int, lock: threading.Lock) -> None:
        self.peer = peer
        self.rank = rank
        self.outbox: SimpleQueue[_Item] = SimpleQueue()
        self.inbox: deque[memoryview] = deque()
        self.unread = 0
        self.traffic = Traffic()
        self.arrived = threading.Condition(lock)
        self.room = threading.Condition(lock)
        self.over = threading.Event()
        self.writer: FrameWriter | None = None
        self.reader: FrameReader | None = None
        self.opened = self.finished = self.ended = self.broken = self.halted = False
        self.farewell: tuple[str, str] | None = None

    def silent(self) -> bool:
        """Whether nothing more of the outbox is to go out; set by other threads meanwhile."""
        return self.halted

    def halt(self, farewell: tuple[str, str] | None = None) -> None:
        """Stops sending; with the mesh's lock held."""
        if not self.halted:
            self.halted = True
            self.farewell = farewell
        self.outbox.put(_Stop())


class Mesh(Transport):
    """A transport but for the carrying of packets.

    Args:
        members: all names, in the order of rank.
        rank: our own rank.
        limits: the bounds to enforce.

    Raises:
        UsageError: the members are fewer than two or not distinct, or a limit makes no sense.
    """

    def __init__(self, members: Sequence[PartyId], rank: int, limits: Limits) -> None:
        if len(members) < 2 or len(set(members)) != len(members):
            raise UsageError(f"members {', '.join(members)}: two or more, each name once")
        if not 1 <= limits.chunk <= MAX_CHUNK:
            raise UsageError(f"limits.chunk {limits.chunk}: 1 to {MAX_CHUNK} bytes")
        if min(limits.message, limits.inbox) < 1 or min(limits.connect, limits.wait, limits.keepalive) <= 0:
            raise UsageError("limits: every one must be above zero")
        self.members = tuple(members)
        self.rank = rank
        self.limits = limits
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # a link opened or ended, or all failed
        self._links = {
            other: Link(name, other, self._lock) for other, name in enumerate(self.members) if other != rank
        }
        self._failure: PeerError | None = None
        self._excuse: PeerError | None = None  # the last error of one `recv` alone
        self._over = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, rank {self.rank} of {len(self.members)})"

    # The interface.

    def send(self, dst: int, *parts: Buffer) -> None:
        link = self.link(dst)
        views = tuple(_flat(part) for part in parts)
        length = sum(map(len, views))
        if length > self.limits.message:
            raise UsageError(f"a message of {length} bytes: the limit is {self.limits.message}")
        with self._lock:
            self._check()
            if link.finished:
                return  # it no longer wants anything, and cannot be told apart from one about to finish
            link.traffic.messages_sent += 1
            link.traffic.bytes_sent += wire_size(length, self.limits.chunk)
            link.outbox.put(views)

    def recv(self, src: int) -> memoryview:
        link = self.link(src)
        deadline: float | None = None
        with self._lock:
            while True:
                self._check()
                if link.inbox:
                    message = link.inbox.popleft()
                    if link.unread >= self.limits.inbox:
                        link.room.notify_all()
                    link.unread -= len(message) + _OVERHEAD
                    return message
                if link.finished:
                    self._excuse = PeerFinished(
                        link.peer, f"{link.peer} ended its program while we still expected a message from it"
                    )
                    raise copy.copy(self._excuse)
                now = time.monotonic()
                deadline = now + self.limits.wait if deadline is None else deadline
                if now >= deadline:
                    self._excuse = PeerLate(
                        link.peer, f"{link.peer} is connected but sent nothing for {self.limits.wait:g} s"
                    )
                    raise copy.copy(self._excuse)
                link.arrived.wait(deadline - now)

    def traffic(self, peer: int) -> Traffic:
        link = self.link(peer)
        with self._lock:
            return copy.copy(link.traffic)

    def close(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            failed = self._failure is not None
            for link in self._links.values():
                link.outbox.put(_Finish())
            self._wake()
            # A peer that lives but reads slowly may take its time; a dead one ends its link by itself.
            self._changed.wait_for(self._all_ended, FAREWELL if failed else self.limits.wait)
        self._hang_up()

    def abort(self, reason: str) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._failure is None:
                # The caller ends because of what it was told: then its cause is ours, too.
                excuse = self._excuse
                blamed = excuse.peer if excuse is not None and str(excuse) in reason else self.name
                self._tell(blamed, one_line(reason))
            self._wake()
            self._changed.wait_for(self._all_ended, FAREWELL)
        self._hang_up()

    # What an implementation calls.

    @abstractmethod
    def _hang_up(self) -> None:
        """Cuts whatever is still connected; returns soon; may be called again, and from any thread."""

    def open_link(self, link: Link, writer: FrameWriter, reader: FrameReader) -> bool:
        """The hello is agreed. Returns False if that comes too late."""
        with self._lock:
            if self._over or self._failure is not None:
                return False
            link.writer, link.reader, link.opened = writer, reader, True
            self._changed.notify_all()
            return True

    def packets(self, link: Link) -> Iterator[bytes]:
        """Everything that goes out to the peer of an open link, until we or it ends; waits for more."""
        writer = link.writer
        if writer is None:
            raise RuntimeError("packets of a link that is not open")
        while not link.silent():
            item = link.outbox.get()
            if isinstance(item, _Stop):
                continue
            if isinstance(item, _Finish):
                yield writer.finish()
                return
            pieces = writer.message(item)
            # A piece that is made is numbered, so it must go out: ask before making it.
            while not link.silent() and (packet := next(pieces, None)) is not None:
                yield packet
        if link.farewell is not None:
            yield writer.abort(*link.farewell)

    def pump(self, link: Link, packets: Iterable[bytes]) -> None:
        """Takes what comes from the peer of an open link, to its end; `packets` may raise PeerError."""
        reader = link.reader
        if reader is None:
            raise RuntimeError("pump of a link that is not open")
        error: PeerError = PeerGone(
            link.peer,
            f"{link.peer} is gone: the connection broke (it crashed, was stopped or lost its network)",
        )
        try:
            for packet in packets:
                if self._deaf():
                    continue  # drained, so that the stream can come to its end
                event = reader.feed(packet)
                if isinstance(event, Message):
                    self._arrive(link, event.body)
                elif isinstance(event, Finish):
                    with self._lock:
                        link.finished = True
                        link.halt()
                        link.arrived.notify_all()
                elif isinstance(event, Abort):
                    self.fail(_aborted(link.peer, event), event.reason)
        except PeerError as cause:
            error = cause
        finally:
            # Whatever ended the stream but a FINISH, a bug of ours included, is a failure.
            if not link.finished:
                self.fail(error)
            self._end(link)

    def _arrive(self, link: Link, body: memoryview) -> None:
        with self._lock:
            link.inbox.append(body)
            link.unread += len(body) + _OVERHEAD
            link.traffic.messages_received += 1
            link.traffic.bytes_received += wire_size(len(body), self.limits.chunk)
            link.arrived.notify()
            # Not reading is what slows the sender: the network's flow control does the rest.
            while link.unread >= self.limits.inbox and not link.broken and not self._deaf():
                link.room.wait()

    def _deaf(self) -> bool:
        return self._over or self._failure is not None

    def broke(self, link: Link) -> None:
        """The stream is dead; what it still holds may be read."""
        with self._lock:
            link.broken = True
            link.room.notify_all()

    def _end(self, link: Link) -> None:
        with self._lock:
            link.ended = True
            link.halt()
            link.over.set()
            self._changed.notify_all()

    def fail(self, error: PeerError, reason: str | None = None) -> None:
        """Ends everything because of `error`; the peers get `reason`, or else its text, and its culprit."""
        with self._lock:
            if self._over or self._failure is not None:
                return
            self._failure = error
            self._tell(error.peer, one_line(reason or str(error)))
            self._wake()
        # The one who called us may never call again; its peers are let go all the same.
        timer = threading.Timer(FAREWELL, self._hang_up)
        timer.daemon = True
        timer.start()

    def _tell(self, culprit: str, reason: str) -> None:
        for link in self._links.values():
            link.halt((culprit, reason))

    def _wake(self) -> None:
        for link in self._links.values():
            link.arrived.notify_all()
            link.room.notify_all()
        self._changed.notify_all()

    def _all_ended(self) -> bool:
        return all(link.ended or not link.opened for link in self._links.values())

    def _check(self) -> None:
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._over:
            raise UsageError("this transport is closed")

    def link(self, rank: int) -> Link:
        link = self._links.get(rank)
        if link is None:
            what = "this member itself" if rank == self.rank else "no member"
            raise UsageError(f"rank {rank} is {what}: the members are {', '.join(self.members)}")
        return link


def _flat(part: Buffer) -> memoryview:
    view = memoryview(part)
    if not view.nbytes:
        return memoryview(b"")
    if not view.c_contiguous:
        raise UsageError("a part of a message must lie in one piece in memory")
    return view.cast("B")


def _aborted(sender: str, word: Abort) -> PeerAborted:
    if word.culprit == sender:
        return PeerAborted(sender, f"{sender} stopped: {word.reason}")
    return PeerAborted(word.culprit, f"{sender} stopped because of {word.culprit}: {word.reason}")
