"""A party's rows, as integers that keep a bound on their norm, and the batches that are shared of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor
from mpcpriv.engine.private.participation import capacity, draw
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import RangeError, UsageError


def clipped(rows: np.ndarray, norm: float) -> np.ndarray:
    """Rows on the grid of 2^-16, int64, each of at most this Euclidean norm; longer ones are scaled down.

    Args:
        rows: (n, d), finite float64.
        norm: at least 2^-10.
    """
    directions, lengths = directed(rows)
    # Rounding of float64 is far below the part in 2^40 that is left free.
    free = norm * (1 - 2.0**-40)
    scaled = np.where(lengths > free, directions * free, rows)
    # Towards zero: no row grows.
    found: np.ndarray = np.trunc(scaled * float(1 << FRACTIONAL_BITS)).astype(np.int64)
    return found


def directed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite rows (n, d) as directions of norm 1, or 0, and lengths (n, 1), infinite where float64 ends."""
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    largest[largest == 0] = 1.0
    sizes = np.linalg.norm(rows / largest, axis=1, keepdims=True)  # 0, or from 1 on
    with np.errstate(over="ignore"):
        lengths = largest * sizes
    return rows / largest / np.maximum(sizes, 1.0), lengths


@dataclass(frozen=True)
class Own:
    """What this party has, on the grid.

    Attributes:
        columns: int64 (n, columns), side by side all that is shared of a row; None at a party without rows.
    """

    columns: np.ndarray | None

    def __repr__(self) -> str:
        return "<own rows>"


@dataclass(frozen=True)
class Shape:
    """What is public of everybody's rows.

    Attributes:
        rows: by rank.
        features, targets: numbers of a row; targets is 1 for a yes or no.
    """

    rows: tuple[int, ...]
    features: int
    targets: int

    @property
    def owners(self) -> int:
        """How many parties have rows."""
        return sum(1 for rows in self.rows if rows)

    def places(self, rate: float) -> tuple[int, ...]:
        """By rank, places in a batch."""
        return tuple(capacity(rows, rate) for rows in self.rows)


def read(data: Any, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """A party's features (n, d) and targets (n, classes) as float64, or None for None.

    Raises:
        UsageError: they are not such.
        RangeError: a feature is not finite.
    """
    if data is None:
        return None
    try:
        x, y = (as_tensor(one).to(torch.float64).numpy() for one in data)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "data is (features, targets) of this party's rows, or None where it has none"
        ) from error
    y = y.reshape(len(y), -1) if y.size or len(y) else np.zeros((0, classes))
    if x.ndim != 2 or y.shape != (len(x), classes):
        raise UsageError(
            f"data of shapes {list(x.shape)} and {list(y.shape)}: features are (rows, features), and targets "
            f"(rows, {classes})"
        )
    if not np.isfinite(x).all():
        raise RangeError("a feature is not finite: leave such rows out, or fill them in")
    if not np.isin(y, (0, 1)).all() or (classes > 1 and not (y.sum(axis=1) == 1).all()):
        raise UsageError("targets are 0 or 1; of several classes one is 1 in each row (one-hot)")
    return x, y


def meet(own: tuple[np.ndarray, np.ndarray] | None, classes: int) -> Shape:
    """The numbers of everybody's rows, told to everybody; one round.

    Raises:
        UsageError: the rows have not the same features, or nobody has any.
    """
    s = session.current()
    mine = torch.tensor([0, 0] if own is None else [*own[0].shape], dtype=torch.int64)
    others = [peer for peer in range(s.size) if peer != s.rank]
    # Public: how many rows and features each party has.
    received = s.exchange("rows for private training", dict.fromkeys(others, [mine]), others, like=[mine])
    told = [mine if rank == s.rank else received[rank][0] for rank in range(s.size)]
    rows = tuple(int(one[0]) for one in told)
    widths = {int(one[1]) for one in told if int(one[0])}
    if len(widths) != 1:
        raise UsageError(
            f"the parties' rows have {sorted(widths)} features; all need the same"
            if widths
            else "nobody has a row"
        )
    return Shape(rows, widths.pop(), classes)


def batch(shape: Shape, own: Own, rate: float, widths: Sequence[int]) -> list[SharedTensor]:
    """Shares a new sample of everybody's rows; nothing is sent.

    Args:
        own: this party's.
        rate: of each row to take part.
        widths: the columns of each tensor.

    Returns:
        tensors (places, width), the owners one below the other; rows of zeros where a place stayed free.
    """
    s = session.current()
    pieces = []
    for rank, places in enumerate(shape.places(rate)):
        mine = None
        if rank == s.rank and own.columns is not None:
            filled = np.zeros((places, sum(widths)), dtype=np.int64)
            chosen = draw(shape.rows[rank], rate)
            filled[: len(chosen)] = own.columns[chosen]
            mine = s.given(torch.from_numpy(filled))
        elif rank == s.rank:
            mine = torch.zeros((places, sum(widths)), dtype=torch.int64)
        pieces.append(s.share_input(rank, (places, sum(widths)), mine))
    return [SharedTensor.of(one.contiguous()) for one in torch.split(torch.cat(pieces), list(widths), dim=1)]


def expected(shape: Shape, rate: float) -> float:
    """Rows of a batch on average: what a sum is divided by."""
    return math.fsum(shape.rows) * rate
