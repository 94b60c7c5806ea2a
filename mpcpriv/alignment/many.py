"""Intersection of three or more parties' identifiers, in which no two parties' intersection shows.

A star (Kolesnikov, Matania, Pinkas, Rosulek and Trieu, "Practical Multi-party Private Set Intersection from
Symmetric-Key Techniques", CCS 2017, section 5): for each identifier the parties have pseudo-random shares of
zero from keys between pairs. Each party other than the first puts its share, for its identifiers only, into
an oblivious key-value store, hidden by a pseudo-random function that the first can evaluate on its own
identifiers only (2HashDH; Jarecki, Kiayias and Krawczyk 2014). The first reads one value per identifier from
each store; they sum to zero where all parties have the identifier. Where one has not, what is read is
uniformly random, also from the stores of those who have it: their shares lack the missing one's.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

import numpy as np

from mpcpriv.alignment import store
from mpcpriv.alignment.group import POINT, Secret, Workers, in_order, pieces
from mpcpriv.alignment.identifiers import as_strings
from mpcpriv.alignment.two import TAG, gather
from mpcpriv.alignment.wire import receive_table, refuse_repeated, secret_order, send_table
from mpcpriv.errors import FrameRefused
from mpcpriv.transport.base import Transport

KEY: Final = 32
COUNT: Final = 8


def exchange_keys(transport: Transport, peers: list[int]) -> dict[int, bytes]:
    """A fresh key with each peer; the one of the lower rank draws it."""
    keys = {peer: os.urandom(KEY) for peer in peers if peer > transport.rank}
    for peer, key in keys.items():
        transport.send(peer, key)
    for peer in peers:
        if peer < transport.rank:
            key = bytes(transport.recv(peer))
            if len(key) != KEY:
                name = transport.members[peer]
                raise FrameRefused(name, f"{name} sent {len(key)} bytes where a key of {KEY} was due")
            keys[peer] = key
    return keys


def zero_shares(digests: np.ndarray, keys: list[bytes]) -> np.ndarray:
    """This party's share of zero for each identifier, (n, 2) uint64; the parties' xor to zero."""
    total = np.zeros((len(digests), 2), np.uint64)
    for key in keys:
        total ^= _words([hashlib.blake2b(d, digest_size=TAG, key=key).digest() for d in _rows(digests)], 2)
    return total


class Outputs:
    """What the pseudo-random function of one party gives for identifiers, from their multiplied points.

    Attributes:
        keys: (n, 4) uint64, for `store`.
        masks: (n, 2) uint64, on the values in the store.
        tags: (n, 16) uint8, by which the first party names identifiers of the intersection to that party.
    """

    def __init__(self, digests: np.ndarray, points: np.ndarray, domain: bytes, party: str) -> None:
        start = hashlib.sha512(b"mpcpriv alignment output v1" + party.encode() + b"\0" + domain)
        found = []
        for digest, point in zip(_rows(digests), _rows(points), strict=True):
            one = start.copy()
            one.update(digest + point)
            found.append(one.digest())
        words = _words(found, 8)
        self.keys, self.masks = words[:, :4], words[:, 4:6]
        self.tags = np.ascontiguousarray(words[:, 6:]).view(np.uint8)


def first(
    transport: Transport,
    others: dict[int, int],
    digests: np.ndarray,
    domain: bytes,
    workers: Workers,
    *,
    tell: bool,
) -> np.ndarray:
    """The first party's part.

    Args:
        transport: connects the parties.
        others: by rank, how many identifiers the party announced.
        digests: (rows, 32) uint8, all different.
        domain: separates this run's hashes from others'.
        workers: who multiply.
        tell: whether the others learn the intersection.

    Returns:
        its rows in the intersection, in a random order that is the same at all.
    """
    keys = exchange_keys(transport, list(others))
    digests_order = secret_order(len(digests))
    shuffled = digests[digests_order]
    blind, unblind = Secret.pair()
    for chunk in in_order(lambda d: blind.of(d, domain), pieces(shuffled), workers):
        for peer in others:
            transport.send(peer, chunk.tobytes())
    total = zero_shares(shuffled, [keys[peer] for peer in others])
    tags: dict[int, np.ndarray] = {}
    for peer, count in others.items():
        name = transport.members[peer]
        table = gather(
            receive_table(transport, peer, store.height(count), store.VALUE), store.height(count), store.VALUE
        )
        answers = receive_table(transport, peer, len(digests), POINT)

        def opened(points: np.ndarray, name: str = name) -> np.ndarray:
            return unblind.times(points, name)

        points = gather(in_order(opened, answers, workers), len(digests), POINT)
        refuse_repeated(points, name)
        outputs = Outputs(shuffled, points, domain, name)
        total ^= store.decode(np.ascontiguousarray(table).view(np.uint64), outputs.keys) ^ outputs.masks
        if tell:
            tags[peer] = outputs.tags
    places = np.flatnonzero(~total.any(axis=1))
    for peer, own in tags.items():
        # The peer has these identifiers, as has everybody; their order is that of our secret shuffle.
        transport.send(peer, len(places).to_bytes(COUNT, "little"))
        send_table(transport, peer, pieces(own[places]))
    return digests_order[places]


def other(
    transport: Transport,
    centre: int,
    counts: dict[int, int],
    digests: np.ndarray,
    domain: bytes,
    workers: Workers,
    *,
    told: bool,
) -> np.ndarray | None:
    """Any other party's part: its rows in the intersection, in the same order as all, if it is told.

    Args:
        centre: the rank of the first party.
        counts: by rank, how many identifiers each peer announced.
        told: as the first party's `tell`; the rest is as there.
    """
    keys = exchange_keys(transport, list(counts))
    name = transport.members[centre]
    secret = Secret.fresh()
    points = gather(in_order(lambda d: secret.of(d, domain), pieces(digests), workers), len(digests), POINT)
    outputs = Outputs(digests, points, domain, transport.name)
    values = zero_shares(digests, list(keys.values())) ^ outputs.masks
    # The masks make all values uniform to whoever has not asked for these identifiers; see `store`.
    table = store.encode(outputs.keys, values)
    send_table(transport, centre, pieces(table.view(np.uint8)))
    received = receive_table(transport, centre, counts[centre], POINT)
    answers = gather(in_order(lambda p: secret.times(p, name), received, workers), counts[centre], POINT)
    refuse_repeated(answers, name)
    # Points of the first party's own identifiers: it alone can take its blinding away.
    send_table(transport, centre, pieces(answers))
    return _told(transport, centre, outputs.tags, counts[centre]) if told else None


def _told(transport: Transport, centre: int, own: np.ndarray, most: int) -> np.ndarray:
    name = transport.members[centre]
    message = transport.recv(centre)
    count = int.from_bytes(message, "little") if len(message) == COUNT else -1
    if not 0 <= count <= min(most, len(own)):
        raise FrameRefused(name, f"{name} announced an intersection larger than a set, or none at all")
    tags = gather(receive_table(transport, centre, count, TAG), count, TAG)
    refuse_repeated(tags, name)
    if not count:
        return np.empty(0, np.int64)
    order = np.argsort(as_strings(own))
    ranked = as_strings(own)[order]
    places = np.searchsorted(ranked, as_strings(tags)).clip(max=len(own) - 1)
    if (ranked[places] != as_strings(tags)).any():
        raise FrameRefused(name, f"{name} named an identifier that is not ours as common")
    rows: np.ndarray = order[places]
    return rows


def _rows(table: np.ndarray) -> list[bytes]:
    data, width = table.tobytes(), table.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]


def _words(rows: list[bytes], words: int) -> np.ndarray:
    return np.frombuffer(b"".join(rows), np.uint64).reshape(-1, words)
