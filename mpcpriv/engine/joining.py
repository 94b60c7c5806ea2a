"""Shares of the table of two parties' common rows, of which nobody knows whose rows are in it.

The two find halves of it among themselves (`alignment.halve`). Each shares its half with all parties; the
sum of the tags is compared with zero, in four rounds, and the bit is multiplied with the columns, exactly, in
one: rows that are not in common are rows of zeros.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpcpriv.alignment import Half, Identifiers, costs, halve
from mpcpriv.alignment.secret import bins
from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Desynchronised, UsageError
from mpcpriv.transport.base import Buffer, Traffic, Transport


@dataclass(frozen=True)
class Joined:
    """A joined table, on shares.

    Attributes:
        present: (bins,), 1 where a row is in common, else 0; how many bins there are follows from the number
            of identifiers of whom has fewer.
        columns: (bins, width), those of the first owner, then the other's; 0 where `present` is 0.
    """

    present: SharedTensor
    columns: SharedTensor


def join_secretly(
    identifiers: Identifiers | None = None,
    columns: Any = None,
    *,
    job: bytes,
    owners: tuple[int, int] = (0, 1),
    threads: int | None = None,
) -> Joined:
    """Joins the rows of two parties by their identifiers, on shares; all parties call it at once.

    Everybody learns how many identifiers and columns each owner has. Nobody learns who is in common, or how
    many are: `present.sum()` is a secret, too. Nine rounds: numbers, three among the owners, comparing and
    multiplying. A bin passes for a common row by a chance of 2^-62 each.

    Args:
        identifiers: an owner's keys, by the rules that both use; None at other parties.
        columns: an owner's numbers of the same rows, (rows, width), of magnitude below 2^46.
        job: 1 to 64 bytes that no other run has; the same at all.
        owners: the ranks of those who have rows.
        threads: that compute at once; by default one for each core that this process may use.

    Raises:
        UsageError: the arguments do not fit each other.
        RangeError: a value is not finite or too large.
        Unsupported: PyNaCl is not installed.
        PeerError: some member failed, or an owner aligns by other rules.
    """
    s = session.current()
    if len(set(owners)) != 2 or not all(0 <= one < s.size for one in owners):
        raise UsageError(f"owners {owners!r}: two of the ranks 0 to {s.size - 1}")
    if (s.rank in owners) != (identifiers is not None and columns is not None):
        raise UsageError("identifiers and columns are given by the two owners, and by nobody else")
    own = None if columns is None else s.encoded(columns)
    if own is not None and (own.dim() != 2 or len(own) != len(identifiers or ())):
        raise UsageError(f"columns of shape {list(own.shape)}: (rows, width), a row for each identifier")
    counts, widths = zip(*_shapes(s, owners, own), strict=True)
    half = None
    if own is not None and identifiers is not None:
        half = halve(
            Counting(s),
            identifiers,
            own.numpy(),
            job=job,
            widths=widths,
            parties=[s.parties[one] for one in owners],
            threads=threads,
        )
    s.cost.rounds += costs.rounds(2)
    return joined(s, owners, half, min(counts), sum(widths))


def joined(s: Session, owners: Sequence[int], half: Half | None, rows: int, width: int) -> Joined:
    """The table whose halves the owners have, in five rounds.

    Args:
        s: of this party.
        owners: their ranks.
        half: an owner's; None at others.
        rows: how many identifiers the receiver has.
        width: columns of both together, with 16 fractional bits.

    Raises:
        UsageError: the half is of another table.
    """
    size = bins(rows)
    if half is not None and half.columns.shape != (size, width):
        raise UsageError(
            f"half of a table of {list(half.columns.shape)}, and all parties were told {[size, width]}: the "
            "other owner told them of other rows than it aligned"
        )
    tags, columns = torch.zeros(size, dtype=torch.int64), torch.zeros((size, width), dtype=torch.int64)
    for owner in owners:
        mine = half if s.rank == owner else None
        tags += s.share_input(owner, (size,), None if mine is None else _given(s, mine.tags))
        columns += s.share_input(owner, (size, width), None if mine is None else _given(s, mine.columns))
    # Magnitudes are below 2^62, as a comparison needs it. Equal: below 1 and not below 0.
    under = below(s, tags, [0, 1])
    present = under[..., 1] - under[..., 0]
    # A product of ring elements with 0 or 1 is exact, and takes what means nothing to 0.
    kept = product(s, Bilinear("mul"), present.unsqueeze(1), columns) if columns.numel() else columns
    return Joined(SharedTensor.of(present, 0), SharedTensor.of(kept, FRACTIONAL_BITS))


def _given(s: Session, values: np.ndarray) -> torch.Tensor:
    return s.given(torch.from_numpy(np.ascontiguousarray(values)))


def _shapes(s: Session, owners: Sequence[int], own: torch.Tensor | None) -> list[tuple[int, int]]:
    """Rows and columns of each owner, told to everybody; one round."""
    mine = torch.tensor([0, 0] if own is None else list(own.shape), dtype=torch.int64)
    others = [peer for peer in range(s.size) if peer != s.rank]
    # Public: how many rows and columns each owner has.
    received = s.exchange("rows to join", dict.fromkeys(others, [mine]), others, like=[mine])
    found = []
    for owner in owners:
        told = mine if owner == s.rank else received[owner][0]
        rows, width = (int(one) for one in told)
        if rows < 0 or width < 0:
            name = s.parties[owner]
            raise Desynchronised(name, f"{name} announces a table of {rows} rows and {width} columns")
        found.append((rows, width))
    return found


class Counting(Transport):
    """The transport of a session, whose cost what goes over it is added to."""

    def __init__(self, s: Session) -> None:
        inner = s.transport
        self.members, self.rank, self.limits = inner.members, inner.rank, inner.limits
        self._inner, self._cost = inner, s.cost

    def send(self, dst: int, *parts: Buffer) -> None:
        self._cost.sent_to[dst] += sum(map(len, parts))
        self._inner.send(dst, *parts)

    def recv(self, src: int) -> memoryview:
        began = time.perf_counter()
        message = self._inner.recv(src)
        self._cost.waited += time.perf_counter() - began
        self._cost.received += len(message)
        return message

    def close(self) -> None:
        self._inner.close()

    def abort(self, reason: str) -> None:
        self._inner.abort(reason)

    def traffic(self, peer: int) -> Traffic:
        return self._inner.traffic(peer)
