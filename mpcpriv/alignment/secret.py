"""The table of two parties' common rows as two halves that add up to it; nobody learns whose rows are in it.

Circuit private set intersection (Pinkas, Schneider, Tkachenko and Yanai, "Efficient Circuit-based PSI with
Linear Communication", EUROCRYPT 2019). The receiver, who has fewer rows, puts each of its identifiers into a
bin of its own, one of three candidates (cuckoo hashing). The sender draws for each bin a tag and a mask, and
puts under (identifier, bin), for all three candidates of each of its identifiers, the bin's tag and its own
columns less the mask into an oblivious key-value store, hidden by a pseudo-random function that the receiver
evaluates on its own (identifier, bin) only (2HashDH, as in `many.py`). What the receiver reads in a bin is
uniformly random, whether the sender has that identifier or not: only both halves together tell. Whoever holds
shares of them compares the tags, and multiplies.

The function is of pairs, and not of identifiers: else the receiver could read one bin at another of its
identifiers, too, and see from equal tags that the sender has both.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpcpriv.alignment import store
from mpcpriv.alignment.group import POINT, Secret, Workers, in_order, pieces
from mpcpriv.alignment.two import gather
from mpcpriv.alignment.wire import receive_table, refuse_repeated, send_table
from mpcpriv.errors import FrameRefused
from mpcpriv.transport.base import Transport

HASHES: Final = 3
"""Candidate bins of an identifier, one in each third of the table."""
SEED: Final = 16
TAG_BITS: Final = 62
"""What two halves compare, so that their difference fits a comparison in 64 bits: a bin that nobody shares
passes for a common one by a chance of 2^-62."""
_KEY_WORDS: Final = 4


@dataclass(frozen=True, repr=False)
class Half:
    """One party's half of the joined table, in which each row is a bin; says nothing by itself.

    Attributes:
        tags: int64 (bins,): both halves add up to 0, exactly, where the bin's row is in common, and where it
            is not to a number of magnitude below 2^62 that is 0 by a chance of 2^-62.
        columns: int64 (bins, width), of both parties, in their order: where the row is in common both halves
            add up to it, modulo 2^64; elsewhere they mean nothing.
    """

    tags: np.ndarray
    columns: np.ndarray


def bins(count: int) -> int:
    """How many there are for a receiver of so many identifiers.

    With so many, the chance that identifiers find no place is below 2^-41 for any number of them, by a union
    bound over sets of bins that are the only candidates of more identifiers than they are (tests compute it).
    """
    return HASHES * _third(count)


def receive(
    transport: Transport,
    peer: int,
    count: int,
    digests: np.ndarray,
    width: int,
    domain: bytes,
    workers: Workers,
) -> tuple[np.ndarray, Half]:
    """The receiver's part.

    Args:
        transport: connects the two.
        peer: the sender's rank.
        count: how many identifiers it announced.
        digests: (rows, 32) uint8, all different.
        width: columns of the sender.
        domain: separates this run's hashes from others'.
        workers: who multiply.

    Returns:
        (rows,), the bin of each row; and the half, of the sender's columns alone.
    """
    name = transport.members[peer]
    seed, place = _placed(digests)
    transport.send(peer, seed)
    asked = _pairs(digests, place)
    blind, unblind = Secret.pair()
    send_table(transport, peer, in_order(lambda d: blind.of(d, domain), pieces(asked), workers))
    height, words = store.height(HASHES * count), 1 + width
    received = receive_table(transport, peer, height, words * store.WORD)
    table = np.ascontiguousarray(gather(received, height, words * store.WORD)).view(np.uint64)
    answers = receive_table(transport, peer, len(digests), POINT)
    points = gather(in_order(lambda p: unblind.times(p, name), answers, workers), len(digests), POINT)
    refuse_repeated(points, name)
    keys, masks = _outputs(asked, points, domain, words)
    read = store.decode(table, keys) ^ masks
    # What stands in a bin of nobody is drawn here: it differs from the sender's tag as what is read does.
    tags = _random(bins(len(digests)), 1)[:, 0]
    columns = np.zeros((len(tags), width), np.uint64)
    tags[place], columns[place] = read[:, 0], read[:, 1:]
    return place, Half(_tag(tags), columns.view(np.int64))


def send(
    transport: Transport,
    peer: int,
    count: int,
    digests: np.ndarray,
    columns: np.ndarray,
    domain: bytes,
    workers: Workers,
) -> Half:
    """The sender's part; its half, of its own columns alone.

    Args:
        peer: the receiver's rank.
        columns: int64 (rows, width).
        transport, count, digests, domain, workers: as in `receive`.
    """
    name = transport.members[peer]
    seed = bytes(transport.recv(peer))
    if len(seed) != SEED:
        raise FrameRefused(name, f"{name} sent {len(seed)} bytes where a seed of {SEED} was due")
    places = _candidates(digests, seed, bins(count) // HASHES)
    rows, place = np.repeat(np.arange(len(digests)), HASHES), places.ravel()
    pairs = _pairs(digests[rows], place)
    secret = Secret.fresh()
    own = gather(in_order(lambda d: secret.of(d, domain), pieces(pairs), workers), len(pairs), POINT)
    drawn = _random(bins(count), 1 + columns.shape[1])
    # A bin's tag and mask are one-time pads of all that is put into it: the receiver reads one of them.
    values = np.concatenate([drawn[place, :1], columns.view(np.uint64)[rows] - drawn[place, 1:]], axis=1)
    keys, masks = _outputs(pairs, own, domain, values.shape[1])
    table = store.encode(keys, values ^ masks)
    send_table(transport, peer, pieces(table.view(np.uint8)))
    received = receive_table(transport, peer, count, POINT)
    answers = gather(in_order(lambda p: secret.times(p, name), received, workers), count, POINT)
    refuse_repeated(answers, name)
    # Points of the receiver's own pairs: it alone can take its blinding away.
    send_table(transport, peer, pieces(answers))
    return Half(-_tag(drawn[:, 0]), drawn[:, 1:].view(np.int64))


def _third(count: int) -> int:
    return -(-count * 9 // 20) + 100


def _placed(digests: np.ndarray) -> tuple[bytes, np.ndarray]:
    """A seed under which each identifier has a bin of its own, and these bins, (rows,).

    A seed under which they have not is drawn anew: the sender learns that, by a chance below 2^-41, of which
    there would have been one.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows = len(digests)
    while True:
        seed = os.urandom(SEED)
        candidates = _candidates(digests, seed, _third(rows))
        starts = np.arange(0, candidates.size + 1, HASHES)
        edges = np.ones(candidates.size, np.int8), candidates.ravel(), starts
        graph = csr_matrix(edges, shape=(rows, bins(rows)))
        # Hopcroft and Karp: it finds a place for all where there is one, whatever the order.
        found = maximum_bipartite_matching(graph, perm_type="column")
        if (found >= 0).all():
            return seed, found.astype(np.int64)


def _candidates(digests: np.ndarray, seed: bytes, third: int) -> np.ndarray:
    """Of each identifier, the bin in each third, (rows, 3) int64."""
    hashed = [
        hashlib.blake2b(digest, digest_size=HASHES * store.WORD, key=seed, person=b"mpcpriv bins v1").digest()
        for digest in _each(digests)
    ]
    words = np.frombuffer(b"".join(hashed), "<u8").reshape(-1, HASHES)
    return (words % np.uint64(third)).astype(np.int64) + third * np.arange(HASHES)


def _pairs(digests: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(rows, 40) uint8: the identifier, then the bin."""
    return np.concatenate([digests, place.astype("<i8")[:, None].view(np.uint8)], axis=1)


def _outputs(
    pairs: np.ndarray, points: np.ndarray, domain: bytes, words: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the pseudo-random function gives: keys (n, 4) for the store, masks (n, words) on its values."""
    start = hashlib.shake_256(b"mpcpriv alignment secret v1" + len(domain).to_bytes(8, "little") + domain)
    found = []
    for pair, point in zip(_each(pairs), _each(points), strict=True):
        one = start.copy()
        one.update(pair + point)
        found.append(one.digest((_KEY_WORDS + words) * store.WORD))
    table = np.frombuffer(b"".join(found), np.uint64).reshape(-1, _KEY_WORDS + words)
    return table[:, :_KEY_WORDS], table[:, _KEY_WORDS:]


def _random(rows: int, words: int) -> np.ndarray:
    return np.frombuffer(bytearray(os.urandom(rows * words * store.WORD)), np.uint64).reshape(rows, words)


def _tag(words: np.ndarray) -> np.ndarray:
    """From 0 to 2^62 - 1."""
    return (words >> np.uint64(64 - TAG_BITS)).astype(np.int64)


def _each(rows: np.ndarray) -> list[bytes]:
    data, width = rows.tobytes(), rows.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]
