"""Intersection of two parties' identifiers by Diffie-Hellman (Meadows 1986; Huberman, Franklin, Hogg 1999).

Each party has a fresh scalar. It sends the points of its identifiers times its scalar, in an order that
nobody else knows, and multiplies what it receives by its scalar: an identifier of both comes out the same.
Under decisional Diffie-Hellman, in the random oracle model, what a party that follows the protocol receives
can be simulated from its own identifiers, the other's number, and its result.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpcpriv.alignment.group import POINT, Secret, Workers, in_order, pieces
from mpcpriv.alignment.identifiers import as_strings
from mpcpriv.alignment.wire import receive_table, refuse_repeated, secret_order, send_table
from mpcpriv.errors import FrameRefused
from mpcpriv.transport.base import Transport

TAG = 16
"""Bytes of a doubly multiplied point that are compared: 10^6 by 10^6 of them agree by chance once in 2^88."""


class Exchange:
    """One run with one peer.

    Args:
        transport: connects the two.
        peer: its rank.
        digests: (rows, 32) uint8, all different.
        count: how many identifiers the peer announced.
        domain: separates this run's hashes from others'.
        workers: who multiply.
    """

    def __init__(
        self,
        transport: Transport,
        peer: int,
        digests: np.ndarray,
        count: int,
        domain: bytes,
        workers: Workers,
    ) -> None:
        self._transport = transport
        self._peer = peer
        self._name = transport.members[peer]
        self._digests = digests
        self._count = count
        self._domain = domain
        self._workers = workers
        self._secret = Secret.fresh()
        # The peer sees which of our points are in the intersection; not knowing the order, it does not see
        # which rows, nor anything that the order of our table says.
        self._order = secret_order(len(digests))

    def both(self) -> np.ndarray:
        """Both learn the intersection: our rows of it, sorted by what only the two of us can compute."""
        theirs = self._swap()
        self._reply(theirs)
        return self._matched(theirs)

    def receive(self) -> np.ndarray:
        """We alone learn the intersection: our rows of it."""
        return self._matched(self._swap())

    def give(self) -> None:
        """The peer alone learns the intersection."""
        self._reply(self._swap())

    def size(self) -> int:
        """Both learn how large the intersection is."""
        theirs = self._swap()
        # Sorted, the tags have forgotten which of the peer's points, and so which of its rows, they are of.
        self._reply(theirs[np.argsort(as_strings(theirs))])
        return len(np.intersect1d(as_strings(self._answer()), as_strings(theirs)))

    def _swap(self) -> np.ndarray:
        """Sends our points; the tags of the peer's, in the order in which they came."""
        ours = np.empty((len(self._digests), POINT), np.uint8)
        send_table(self._transport, self._peer, self._masked(ours))
        mine = np.sort(as_strings(ours))

        def tags(points: np.ndarray) -> np.ndarray:
            if len(mine):
                values = as_strings(points)
                places = np.searchsorted(mine, values).clip(max=len(mine) - 1)
                if (mine[places] == values).any():
                    raise FrameRefused(self._name, f"{self._name} sent back a point of ours as its own")
            return self._secret.times(points, self._name)[:, :TAG]

        received = receive_table(self._transport, self._peer, self._count, POINT)
        theirs = gather(in_order(tags, received, self._workers), self._count, TAG)
        refuse_repeated(theirs, self._name)
        return theirs

    def _masked(self, ours: np.ndarray) -> Iterator[np.ndarray]:
        done = 0
        shuffled = pieces(self._digests[self._order])
        work = in_order(lambda d: self._secret.of(d, self._domain), shuffled, self._workers)
        for chunk in work:
            ours[done : done + len(chunk)] = chunk
            done += len(chunk)
            yield chunk

    def _reply(self, theirs: np.ndarray) -> None:
        # A tag of the peer's own identifier, under both scalars: what the peer's result is made of.
        send_table(self._transport, self._peer, pieces(theirs))

    def _answer(self) -> np.ndarray:
        received = receive_table(self._transport, self._peer, len(self._digests), TAG)
        ours = gather(received, len(self._digests), TAG)
        refuse_repeated(ours, self._name)
        return ours

    def _matched(self, theirs: np.ndarray) -> np.ndarray:
        _, places, _ = np.intersect1d(
            as_strings(self._answer()), as_strings(theirs), assume_unique=True, return_indices=True
        )
        return self._order[places]


def gather(chunks: Iterator[np.ndarray], rows: int, width: int) -> np.ndarray:
    """The chunks as one (rows, width) uint8 array; the memory grows with what has come, not with `rows`."""
    found = list(chunks)
    return np.concatenate(found) if found else np.empty((rows, width), np.uint8)
