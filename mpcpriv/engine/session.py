"""A party's side of one joint computation: who is there, what is opened, what it cost.

A session belongs to the thread that joined it: the parties must run the same operations in the same
order, and only one thread can promise that.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from mpcpriv.engine.correlation.base import Group, Slot
from mpcpriv.engine.correlation.source import Correlations
from mpcpriv.engine.encoding import as_tensor, encode
from mpcpriv.engine.interval import Interval
from mpcpriv.engine.loop import Line, Progress, Watcher, counted
from mpcpriv.engine.prg import Prg, derive_key, raw
from mpcpriv.errors import Desynchronised, UsageError
from mpcpriv.transport.base import Transport

_NONCE_BYTES = 32
_local = threading.local()


@dataclass
class Cost:
    """What a session has cost this party so far.

    Attributes:
        rounds: times that it waited for messages which every party sent at once.
        sent_to: bytes of openings and collectives to each other party, by rank.
        received: bytes of openings and collectives from the other parties.
        waited: seconds spent waiting for the other parties.
        opened: how often each operation opened something, by name.
    """

    rounds: int = 0
    sent_to: Counter[int] = field(default_factory=Counter)
    received: int = 0
    waited: float = 0.0
    opened: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """Bytes of openings and collectives to the other parties."""
        return self.sent_to.total()


def pair_key(transport: Transport, peer: int, purpose: str) -> bytes:
    """Agrees a fresh key with one peer over their authenticated channel; both contribute 32 bytes."""
    mine = os.urandom(_NONCE_BYTES)
    transport.send(peer, mine)
    theirs = bytes(transport.recv(peer))
    if len(theirs) != _NONCE_BYTES:
        name = transport.members[peer]
        raise Desynchronised(
            name, f"{name} sent {len(theirs)} bytes where a key contribution has {_NONCE_BYTES}"
        )
    low, high = (mine, theirs) if transport.rank < peer else (theirs, mine)
    names = "|".join(transport.members)
    return derive_key(low + high, salt=names.encode(), purpose=f"mpcpriv/v1/{purpose}")


class Session:
    """The parties (all members but the last), the dealer (the last member), and the keys among them.

    Raises:
        UsageError: fewer than two parties.
        PeerError: a member failed during set-up.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.parties = transport.members[:-1]
        self.rank = transport.rank
        if len(self.parties) < 2:
            raise UsageError("a computation needs at least two parties and a dealer")
        self.cost = Cost()
        self._step = 0
        self._history = hashlib.sha256()
        self._zero_index = 0
        self._zero_keys = {
            peer: Prg(pair_key(transport, peer, "zero-share"))
            for peer in range(self.size)
            if peer != self.rank
        }
        dealer = Prg(pair_key(transport, self.size, "dealer"))
        self.correlations = Correlations(transport, dealer)
        self._announced: dict[int, list[bytes]] = defaultdict(list)
        self.deferring = False
        """Whether products stay untruncated for now (`tensor.deferred`)."""
        self.sealed = False
        """Whether tensors may not be opened, as while an analysis runs (`mpcpriv.release` does it)."""
        self.communicator: Any = None
        """CrypTen's communicator, once a program has asked for it."""
        self.progress: Watcher | None = Line(self.rank)
        """Told how far the loops of `steps` are; None for silence."""
        self._loops: list[Progress] = []
        self._private = Prg(os.urandom(16))
        self._private_index = 0

    @property
    def size(self) -> int:
        """The number of parties; the dealer is not one."""
        return len(self.parties)

    def note(self, operation: str, *shapes: tuple[int, ...]) -> None:
        """Binds a step that sends nothing (such as sharing an input) to all that follows."""
        self._history.update(f"{operation} {[tuple(s) for s in shapes]};".encode())

    @property
    def transcript(self) -> str:
        """SHA-256, in hexadecimal, of the operations and shapes so far: the same at all parties."""
        return self._history.hexdigest()

    def zero_share(self, shape: tuple[int, ...], group: Group = "sum") -> torch.Tensor:
        """A fresh share of zero, from a key with *every* other party; nothing is sent.

        Any coalition short of all parties but one sees the others' shares as uniform (Cramer,
        Damgard, Ishai, TCC 2005; all pairs, as in Bonawitz et al., CCS 2017, section 4).
        """
        slot = Slot(shape, torch.int64, group)
        share = torch.zeros(shape, dtype=torch.int64)
        for peer, prg in self._zero_keys.items():
            piece = prg.stream(self._zero_index).tensor(shape)
            if self.rank < peer:
                slot.combine_(share, piece)
            else:
                slot.separate_(share, piece)
        self._zero_index += 1
        return share

    def private_bits(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform int8 that only this party knows."""
        self._private_index += 1
        return self._private.stream(self._private_index).tensor(shape, torch.int8)

    def private_integers(self, draw: Callable[[int], np.ndarray], size: int) -> torch.Tensor:
        """int64 (size,) that only this party knows, from a sampler of its own."""
        return torch.from_numpy(np.array(draw(size), dtype=np.int64, subok=False))

    def encoded(self, value: object, within: Interval | None = None) -> torch.Tensor:
        """This party's own input as ring elements.

        Raises:
            RangeError: a value is not finite or too large, or outside the bounds.
        """
        encoded = encode(value)
        if within is not None:
            within.holds(as_tensor(value))
        return encoded

    def given(self, share: torch.Tensor) -> torch.Tensor:
        """A share that this party brings from elsewhere."""
        return share

    def share_input(self, source: int, shape: tuple[int, ...], value: torch.Tensor | None) -> torch.Tensor:
        """Shares of a ring tensor that the party of rank `source` holds; nothing is sent.

        Args:
            source: the owner's rank.
            shape: known to all.
            value: int64 at the owner; ignored elsewhere.
        """
        self.note(f"input from {self.parties[source]}", shape)
        share = self.zero_share(shape)
        if self.rank == source:
            assert value is not None
            share += value
        return share

    def open(self, operation: str, shares: list[torch.Tensor], group: Group = "sum") -> list[torch.Tensor]:
        """Opens masked values to all parties: one frame to and from each, one round.

        Only what is uniformly masked may be opened here; results leave through `open_to`.

        Args:
            operation: what is being opened; all parties must agree on it, and on all shapes.
            shares: integer tensors; they are combined in `group`.

        Raises:
            Desynchronised: a peer is at another operation, or at the same with other shapes.
            PeerError: a member failed.
        """
        frame = [share.contiguous() for share in shares]
        others = [peer for peer in range(self.size) if peer != self.rank]
        received = self.exchange(operation, dict.fromkeys(others, frame), others, like=frame)
        totals = []
        for i, share in enumerate(frame):
            slot = Slot(tuple(share.shape), share.dtype, group)
            # What was received is ours to change: fresh memory would cost more than the sum.
            total = received[others[0]][i]
            slot.combine_(total, share)
            for peer in others[1:]:
                slot.combine_(total, received[peer][i])
            totals.append(total)
        return totals

    def open_to(
        self, operation: str, share: torch.Tensor, recipients: list[int], group: Group = "sum"
    ) -> torch.Tensor | None:
        """Opens a result to the parties named and to nobody else; None for the others.

        Every share is re-randomised first, so that the shares which a recipient gets are uniform but
        for their sum.
        """
        slot = Slot(tuple(share.shape), torch.int64, group)
        fresh = self.zero_share(slot.shape, group)
        slot.combine_(fresh, share)
        to = [peer for peer in recipients if peer != self.rank]
        mine = self.rank in recipients
        sources = [peer for peer in range(self.size) if peer != self.rank] if mine else []
        received = self.exchange(operation, dict.fromkeys(to, [fresh]), sources, like=[fresh])
        if not mine:
            return None
        total = fresh.clone()  # the transport may still be sending `fresh`
        for (piece,) in received.values():
            slot.combine_(total, piece)
        return total

    def order_seen(self, below: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """What was opened of comparing shuffled values at places `one` with those at `other`; overridden
        where all values are zero, which a shuffle leaves in order.
        """
        del one, other
        return below

    def exchange(
        self,
        operation: str,
        outgoing: dict[int, list[torch.Tensor]],
        sources: list[int],
        like: list[torch.Tensor],
        *,
        joint: bool = True,
    ) -> dict[int, list[torch.Tensor]]:
        """Sends tensors to some peers and receives the like from others, all bound to `operation`.

        Args:
            operation: its name, in words that an error may repeat.
            outgoing: by rank; their memory goes out as it is, later, so nobody may change it any more.
            sources: the ranks to receive from.
            like: tensors of the shapes and dtypes that each source sends.
            joint: every party runs this operation, so it counts as a step of the common history;
                otherwise it concerns two parties only and is bound to its name and shapes.

        Returns:
            by source rank, tensors of the shapes and dtypes of `like`.
        """
        header = self._header(operation, like, joint)
        for peer, tensors in outgoing.items():
            self.transport.send(peer, header, *(raw(t) for t in tensors if t.numel()))
            self.cost.sent_to[peer] += len(header) + sum(t.nbytes for t in tensors)
        began = time.perf_counter()
        received = {peer: self._receive(peer, header, like) for peer in sources}
        self.cost.waited += time.perf_counter() - began
        self.cost.rounds += 1
        self.cost.opened[operation] += 1
        return received

    def _header(self, operation: str, like: list[torch.Tensor], joint: bool) -> bytes:
        """What sender and receiver must agree on, readable, padded to align the tensors behind it."""
        text = (
            operation + " " + ", ".join(f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in like)
        )
        if joint:
            self._step += 1
            self._history.update(self.correlations.history())
            self._history.update(text.encode())
            text = f"step {self._step}: {text}; history {self._history.hexdigest()[:16]}"
        else:
            text += "; between two"
        data = text.encode()
        return data + b" " * (-len(data) % 64)

    def announce(self, operation: str) -> None:
        """Tells the other parties of a step that opens nothing; they read of it before the next frame.

        So who runs another program is noticed while this party waits for the dealer, not after.
        """
        header = self._header(operation, [], joint=True)
        for peer in range(self.size):
            if peer != self.rank:
                self.transport.send(peer, header)
                self.cost.sent_to[peer] += len(header)
                self._announced[peer].append(header)

    def _receive(self, peer: int, header: bytes, like: list[torch.Tensor]) -> list[torch.Tensor]:
        for announced in self._announced.pop(peer, []):
            self._take(peer, announced, [])
        return self._take(peer, header, like)

    def _take(self, peer: int, header: bytes, like: list[torch.Tensor]) -> list[torch.Tensor]:
        message = self.transport.recv(peer)
        self.cost.received += len(message)
        name = self.parties[peer]
        if bytes(message[: len(header)]) != header:
            # Only what stands before the first ';' is a header: what follows may be data.
            said, is_header, _ = bytes(message[:400]).partition(b"; ")
            theirs = said.decode(errors="replace") if is_header else "no frame"
            ours = header.partition(b"; ")[0].decode()
            same = " after a different history" if theirs == ours else ""
            raise Desynchronised(
                name,
                f"{name} is at another operation: {theirs!r}, we are at {ours!r}{same}; run the same program",
            )
        if len(message) != len(header) + sum(t.nbytes for t in like):
            raise Desynchronised(name, f"{name} sent {len(message)} bytes for {header.decode().strip()!r}")
        tensors, offset = [], len(header)
        for t in like:
            piece = torch.empty(0, dtype=t.dtype)
            if t.numel():
                piece = torch.frombuffer(message, dtype=t.dtype, count=t.numel(), offset=offset)
            tensors.append(piece.reshape(t.shape))
            offset += t.nbytes
        return tensors

    def steps(self, turns: int, name: str = "steps") -> Iterator[int]:
        """0 .. `turns` - 1, for a loop that all parties run alike: see `mpcpriv.engine.steps`.

        Raises:
            UsageError: `turns` is no whole number, or negative.
        """
        return self._steps(counted(turns), name)

    def _steps(self, turns: int, name: str) -> Iterator[int]:
        self.note(f"steps {turns}")
        loop = self.correlations.loop(turns)
        progress = Progress(name, turns)
        self._loops.append(progress)
        try:
            for turn in range(turns):
                self.correlations.turn(loop)
                yield turn
                progress.done = turn + 1
                if progress.done < turns:
                    self._tell()
        finally:
            # Nothing here may change what is asked or sent: after a `break` Python decides when it runs.
            progress.over = True
            if progress in self._loops:
                self._tell()
                self._loops.remove(progress)

    @contextmanager
    def watched(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Progress of work that is no loop of `steps`.

        Args:
            name: what it does, in words.

        Yields:
            what is to be told how much is done, of how much.
        """
        progress = Progress(name, 1)
        self._loops.append(progress)

        def told(done: int, turns: int) -> None:
            progress.done, progress.turns = done, turns
            self._tell()

        try:
            yield told
        finally:
            progress.over = True
            self._tell()
            self._loops.remove(progress)

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(tuple(self._loops))

    def close(self) -> None:
        """Ends normally and leaves the thread without a session."""
        if getattr(_local, "session", None) is self:
            _local.session = None
        self.transport.close()

    def __repr__(self) -> str:
        return f"Session({self.parties[self.rank]}, rank {self.rank} of {self.size})"


Kind = TypeVar("Kind", bound=Session)


def joined() -> bool:
    """Whether this thread has a session."""
    return getattr(_local, "session", None) is not None


def current() -> Session:
    """The session of this thread.

    Raises:
        UsageError: there is none.
    """
    session: Session | None = getattr(_local, "session", None)
    if session is None:
        raise UsageError("no parties are connected: run this program with `mpcpriv launch -n 3 PROGRAM`")
    return session


def join(transport: Transport, kind: type[Kind]) -> Kind:
    """Opens this thread's session over a connected transport whose last member is the dealer.

    Args:
        transport: connected.
        kind: `Session`, or what counts in its place (`engine.rehearsal`).

    Raises:
        UsageError: the thread has a session already, or there are fewer than two parties.
        PeerError: a member failed.
    """
    if joined():
        raise UsageError("this thread has a session already; close it first")
    session = kind(transport)
    _local.session = session
    return session
