"""Order of shared values, ascending and stable, by comparisons whose results nobody can read anything from.

Short lines: every pair is compared at once, which gives each value its rank; rows and ranks are shuffled
and the ranks opened (four rounds, one for each party, one more).

Long lines: values are shuffled first, and then compared in the open, quicksort with several pivots at
once (Hamada, Kikuchi, Ikarashi, Chida, Takahashi, "Practically Efficient Multi-party Sorting Protocols
from Comparison Sort Algorithms", ICISC 2012, section 4). With all values different, a uniformly shuffled
line has a uniformly random order, whatever the values are; so a value's key is it and its place. One
round more hides from the dealer, who knows the shuffle, what is compared with what. Five rounds for each
of the log_16 n or so levels, where the levels of a sorting network for 10,000 values cost five hundred.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from mpcpriv.engine.correlation.shuffle import arranged
from mpcpriv.engine.prg import KEY_BYTES, Prg
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.piecewise import Piecewise, evaluate
from mpcpriv.engine.protocol.shuffle import placed, shuffle
from mpcpriv.engine.session import Session

SHORT: Final = 64
"""The longest line that is sorted by all pairs."""
_PIVOTS: Final = 15
_SMALL: Final = 32
"""A part of a long line that is finished by all pairs."""
_AT_ONCE: Final = 1 << 21
"""Comparisons in one batch: 126 MB from the dealer."""


def order(
    session: Session, x: torch.Tensor, ranks: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of each line in ascending order, and of the places (integers) where its values stood.

    See `order_with`.
    """
    numbers = torch.arange(x.shape[1]).expand(*x.shape) * int(session.rank == 0)
    values, rows = order_with(session, x, numbers.unsqueeze(-1), ranks)
    return values, rows[..., 0]


def order_with(
    session: Session, x: torch.Tensor, rows: torch.Tensor, ranks: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of each line in ascending order, and of rows that go with its values, in the same order.

    Of equal values the first comes first. In lines longer than `SHORT`, of length n, values from
    2^(61 - b) in magnitude on count as equal to it, b being the bit length of n - 1.

    Args:
        x: shares of ring elements in [-2^61, 2^61), (lines, length).
        rows: shares of ring elements, (lines, length, columns).
        ranks: of what ranks the values are wanted; elsewhere any others stand. All by default.
    """
    lines, length = x.shape
    numbers = torch.arange(length).expand(lines, length) * int(session.rank == 0)
    if x.numel() == 0 or length == 1:
        return x, rows
    rows = torch.cat([x.unsqueeze(-1), rows], -1)
    if length <= SHORT:
        rows = placed(session, _ranks(session, x), rows)
        return rows[..., 0], rows[..., 1:]
    bits = (length - 1).bit_length()
    most = 1 << (61 - bits)
    near = Piecewise.of([1 - most, most], [[-most], [0, 1], [most - 1]])
    key = (evaluate(session, near, x)[0] << bits) + numbers
    rows = _known_to_parties(session, shuffle(session, torch.cat([key.unsqueeze(-1), rows], -1)))
    wanted = np.zeros(length, dtype=bool)
    wanted[list(range(length) if ranks is None else ranks)] = True
    found = _in_the_open(session, rows[..., 0].contiguous(), wanted)
    rows = arranged(rows, torch.from_numpy(found))
    return rows[..., 1], rows[..., 2:]


def _known_to_parties(session: Session, rows: torch.Tensor) -> torch.Tensor:
    """The rows in an order that every party knows and the dealer does not. One round.

    The dealer dealt the permutations of the shuffle, and sees how many comparisons follow, which depends on
    the sizes of the parts: with this they are those of an order that is uniform to it, too.
    """
    # Safe to open: fresh random bytes, for this alone; the dealer sees no traffic of the parties.
    (key,) = session.open("order: a common key", [session.private_bits((KEY_BYTES,))], group="xor")
    keys = Prg(key.numpy().tobytes()).stream(0).tensor((rows.shape[0], rows.shape[1]))
    return arranged(rows, keys.argsort(-1))


def _ranks(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of how many values of the line come before each; of equal values the first does."""
    length = x.shape[-1]
    first, second = torch.triu_indices(length, length, offset=1)
    stays = below(session, x[:, first] - x[:, second], [1])[..., 0]
    goes = (1 - stays) if session.rank == 0 else -stays
    return torch.zeros_like(x).index_add_(1, second, stays).index_add_(1, first, goes)


@dataclass(frozen=True)
class _Parts:
    """Parts of lines that are not sorted yet, all of one size.

    Attributes:
        start: (M,) where each part begins in the final order, all lines one after the other.
        members: (M, size) what stands there.
    """

    start: np.ndarray
    members: np.ndarray

    @property
    def pivots(self) -> int:
        """How many of the first members are compared with all; in a small part every one."""
        size = self.members.shape[1]
        return size if size <= _SMALL else _PIVOTS

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Which members are compared: each pivot with all behind it."""
        return np.triu_indices(self.pivots, 1, self.members.shape[1])


def _in_the_open(session: Session, keys: torch.Tensor, wanted: np.ndarray) -> np.ndarray:
    """The order of shuffled keys that are all different, (lines, length); right at the wanted ranks.

    Args:
        keys: shares of ring elements in [-2^61, 2^61), (lines, length).
        wanted: bool (length,).
    """
    lines, length = keys.shape
    flat = keys.reshape(-1)
    result = np.arange(lines * length)
    needed = np.concatenate([[0], np.cumsum(np.tile(wanted, lines))])
    parts = [_Parts(np.arange(lines) * length, result.reshape(lines, length).copy())]
    while parts:
        one = np.concatenate([p.members[:, p.pairs[0]].reshape(-1) for p in parts])
        other = np.concatenate([p.members[:, p.pairs[1]].reshape(-1) for p in parts])
        less = _compared(session, flat, one, other)
        left: dict[int, list[tuple[int, np.ndarray]]] = {}
        for part in parts:
            count = part.members.shape[0] * len(part.pairs[0])
            for start, members in _divided(part, less[:count], result):
                if needed[start + len(members)] > needed[start]:
                    left.setdefault(len(members), []).append((start, members))
            less = less[count:]
        parts = [
            _Parts(np.array([start for start, _ in found]), np.stack([members for _, members in found]))
            for _, found in sorted(left.items())
        ]
    return result.reshape(lines, length) - (np.arange(lines) * length)[:, None]


def _compared(session: Session, keys: torch.Tensor, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each pair, whether the one is below the other, open."""
    results = []
    for begin in range(0, len(one), _AT_ONCE):
        chosen = slice(begin, begin + _AT_ONCE)
        difference = keys[torch.from_numpy(one[chosen])] - keys[torch.from_numpy(other[chosen])]
        # Safe to open: the order of different keys is uniformly random after a shuffle that no party knows.
        opened = session.open_to(
            "order of shuffled keys", below(session, difference, [0])[..., 0], list(range(session.size))
        )
        assert opened is not None
        results.append(session.order_seen(opened.numpy().astype(bool), one[chosen], other[chosen]))
    return np.concatenate(results)


def _divided(part: _Parts, less: np.ndarray, result: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Writes the parts as far as they are in order into the result; returns what lies between pivots."""
    count, size = part.members.shape
    one, other = part.pairs
    pivots = part.pivots
    under = np.zeros((count, pivots, size), dtype=bool)  # whether a pivot is below a member
    under[:, one, other] = less.reshape(count, -1)
    among = other < pivots
    under[:, other[among], one[among]] = ~under[:, one[among], other[among]]
    rank = 2 * under.sum(1) + (np.arange(size) < pivots)  # a pivot comes last of what is not above it
    arrangement = np.argsort(rank, axis=1, kind="stable")
    members = np.take_along_axis(part.members, arrangement, 1)
    result[part.start[:, None] + np.arange(size)] = members
    if pivots == size:
        return []
    found = []
    sorted_rank = np.take_along_axis(rank, arrangement, 1)
    for start, line, ranks in zip(part.start, members, sorted_rank, strict=True):
        edges = np.flatnonzero(np.diff(ranks, prepend=-1, append=-1))
        found += [
            (int(start + begin), line[begin:end])
            for begin, end in itertools.pairwise(edges)
            if end - begin > 1
        ]
    return found
