"""What the parties of an alignment say to each other: the terms, then tables of bytes in chunks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpcpriv.alignment.group import CHUNK
from mpcpriv.alignment.identifiers import as_strings
from mpcpriv.errors import FrameRefused, PeerRefused
from mpcpriv.transport.base import Transport

MOST: Final = 1 << 26
"""Identifiers of one party: what a peer announces must not fill the memory."""
_TERMS_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Terms:
    """What all parties must have been given alike; public.

    Attributes:
        mode: see `align`.
        recipient: its name, where there is one.
        parties: their names, in order.
        job: hexadecimal, what tells this run from others.
        rules: of each key column.
        columns: in mode "secret", how many each party brings along; else none.
    """

    mode: str
    recipient: str | None
    parties: tuple[str, ...]
    job: str
    rules: tuple[tuple[str, ...], ...]
    columns: tuple[int, ...] = ()

    def encode(self) -> dict[str, object]:
        """As JSON has it."""
        said: dict[str, object] = {"columns": list(self.columns)} if self.columns else {}
        return said | {
            "protocol": "mpcpriv alignment v1",
            "mode": self.mode,
            "recipient": self.recipient,
            "parties": list(self.parties),
            "job": self.job,
            "rules": [list(names) for names in self.rules],
        }

    def said(self, count: int) -> bytes:
        """The announcement of a party with so many identifiers."""
        return json.dumps(self.encode() | {"count": count}).encode()

    def domain(self) -> bytes:
        """What separates the hashes of this run from all others'."""
        return json.dumps(self.encode(), sort_keys=True).encode()


def agree(transport: Transport, peers: Sequence[int], terms: Terms, count: int) -> dict[int, int]:
    """Tells the peers our terms and how many identifiers we have; theirs, by rank.

    Raises:
        PeerRefused: a peer has other terms; the message names which.
        FrameRefused: what a peer says is no announcement.
    """
    said = terms.said(count)
    for peer in peers:
        transport.send(peer, said)
    return {peer: _heard(transport.members[peer], transport.recv(peer), terms) for peer in peers}


def _heard(peer: str, message: memoryview, terms: Terms) -> int:
    try:
        found = json.loads(bytes(message)) if len(message) <= _TERMS_BYTES else None
    except (ValueError, RecursionError):
        found = None
    ours = terms.encode()
    if not isinstance(found, dict) or found.keys() != ours.keys() | {"count"}:
        raise FrameRefused(peer, f"{peer} announced no alignment where one was expected")
    count = found.pop("count")
    other = [name for name, value in ours.items() if found[name] != value]
    if other:
        raise PeerRefused(peer, f"{peer} aligns under another {', '.join(other)}; give all parties the same")
    if type(count) is not int or not 0 <= count <= MOST:
        raise FrameRefused(peer, f"{peer} announced a number of identifiers that is not from 0 to {MOST}")
    return count


def send_table(transport: Transport, peer: int, chunks: Iterable[np.ndarray]) -> None:
    """Sends a table's chunks of `CHUNK` rows, as `receive_table` expects them."""
    for chunk in chunks:
        transport.send(peer, chunk.tobytes())


def receive_table(transport: Transport, peer: int, rows: int, width: int) -> Iterator[np.ndarray]:
    """The chunks of a table with so many rows, each (at most `CHUNK`, width) uint8.

    Raises:
        FrameRefused: a chunk is not as long as was announced.
    """
    name = transport.members[peer]
    for start in range(0, rows, CHUNK):
        expected = min(CHUNK, rows - start)
        message = transport.recv(peer)
        if len(message) != expected * width:
            raise FrameRefused(
                name,
                f"{name} sent {len(message)} bytes where {expected} rows of {width} bytes of the announced "
                f"{rows} were due",
            )
        yield np.frombuffer(message, np.uint8).reshape(-1, width)


def refuse_repeated(rows: np.ndarray, peer: str) -> None:
    """Raises FrameRefused where two rows of what a peer sent are equal: identifiers are all different."""
    ordered = np.sort(as_strings(rows))
    if (ordered[1:] == ordered[:-1]).any():
        raise FrameRefused(peer, f"{peer} sent a value twice; identifiers are all different")


def secret_order(rows: int) -> np.ndarray:
    """A uniformly random permutation, from the operating system's randomness."""
    keys = np.frombuffer(os.urandom(16 * rows), np.uint64).reshape(2, rows)
    return np.lexsort((keys[0], keys[1]))
