"""Shuffling shared rows so that nobody knows how: each party in turn applies a permutation of its own.

A party gets a dealt permutation p and the rows x + a, masked by a dealt uniform a; its share of the
result is p(x + a) less its share of p(a), the others' are less theirs. One round for each party, 8
bytes to it from each other per row and column, and 8 per row. Whoever does not know one of the
permutations sees a uniform one. (Laur, Willemson, Zhang, "Round-Efficient Oblivious Database
Manipulation", ISC 2011, section 3: a permutation by each in turn.)
"""

from __future__ import annotations

import torch

from mpcpriv.engine.correlation.shuffle import Shuffle, arranged
from mpcpriv.engine.session import Session


def shuffle(session: Session, rows: torch.Tensor) -> torch.Tensor:
    """Shares of the rows of each line in a uniformly random order that no party knows.

    Args:
        rows: shares of ring elements, (lines, length, columns).
    """
    for rank in range(session.size):
        rows = _shuffled_by(session, rank, rows)
    return rows


def placed(session: Session, places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Shares of the rows, each at its place: the inverse of gathering them by `places`.

    One round for each party and one more.

    Args:
        places: shares of integers, (lines, length); each of 0 .. length - 1 once in every line.
        rows: shares of ring elements, (lines, length, columns).
    """
    mixed = shuffle(session, torch.cat([places.unsqueeze(-1), rows], -1))
    # Safe to open: numbers that are all there once, in an order that is uniform to whoever looks.
    opened = session.open_to("shuffled places", mixed[..., 0], list(range(session.size)))
    assert opened is not None
    return arranged(mixed[..., 1:], opened.argsort(-1))


def _shuffled_by(session: Session, rank: int, rows: torch.Tensor) -> torch.Tensor:
    dealt = session.correlations.take(Shuffle(*rows.shape))
    mask = dealt.masks[1]
    order, moved = dealt.derived()
    # Safe to open to this one party: a uniform permutation, and rows masked by a uniform dealt value.
    frame = torch.cat([order.unsqueeze(-1), rows + mask], -1)
    opened = session.open_to(f"shuffle by {session.parties[rank]}", frame, [rank])
    if opened is None:
        return -moved
    return arranged(opened[..., 1:], opened[..., 0]) - moved
