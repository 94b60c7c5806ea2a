"""What the engine asks of a network: ordered, authenticated messages between the members of one job.

A *member* is a party or the dealer. Members stand in a fixed order (the order of the cluster file,
later of the agreement), and a member's *rank* is its place in that order. An implementation derives
the rank of a peer from the peer's certificate, never from what the peer says.

Failure is shared: as soon as any member is known to be gone, has aborted or has broken the
protocol, every waiting or later `send` and `recv` of this member raises that `PeerError`, so that
nobody waits for an answer that cannot come. A member that *finished* (`close`) harms only those
who still expect something from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from mpcpriv.types import PartyId

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Limits:
    """Bounds that a transport enforces on its peers.

    Attributes:
        message: the longest message that is sent or accepted, in bytes.
        chunk: the longest piece of a message on the wire, in bytes.
        inbox: received but unread bytes per peer beyond which reading pauses, so that the
            network's flow control slows the sender (one message may exceed it: it is let in whole).
        connect: seconds within which all members must be connected.
        wait: seconds that `recv` waits for a live but silent peer.
        keepalive: seconds between liveness probes; a peer that answers none for as long is gone.
    """

    message: int = 1 << 30
    chunk: int = 1 << 20
    inbox: int = 256 << 20
    connect: float = 60.0
    wait: float = 600.0
    keepalive: float = 4.0


@dataclass
class Traffic:
    """Bytes and messages on the wire with one peer, headers included."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0


class Transport(ABC):
    """Point-to-point messages between this member and every other one, in order, each exactly once."""

    members: tuple[PartyId, ...]
    rank: int
    limits: Limits

    @property
    def name(self) -> PartyId:
        """This member's own name."""
        return self.members[self.rank]

    @abstractmethod
    def send(self, dst: int, *parts: Buffer) -> None:
        """Queues one message, the concatenation of `parts`, for the member of rank `dst`.

        Returns without waiting for the peer. The caller must not change the buffers afterwards:
        they are not copied.

        Raises:
            UsageError: `dst` is this member or no member, or the message exceeds `limits.message`.
            PeerError: some member failed.
        """

    @abstractmethod
    def recv(self, src: int) -> memoryview:
        """Returns the next message from the member of rank `src`, whole; the memory is the caller's.

        Raises:
            UsageError: `src` is this member or no member.
            PeerLate: nothing came within `limits.wait` seconds.
            PeerFinished: the peer closed and everything it sent has been read.
            PeerError: some member failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends normally: what was queued is delivered, then the peers are told that we finished."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Ends because of a failure: each peer gets `PeerAborted` with `reason` (one line, no data)."""

    @abstractmethod
    def traffic(self, peer: int) -> Traffic:
        """What has gone to and come from the member of rank `peer` so far."""
