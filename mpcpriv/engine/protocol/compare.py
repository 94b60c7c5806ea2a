"""Comparison of shared values with public thresholds, for any number of parties, in four rounds.

With c = x + r opened, [x < t] is the sign of (c - t) - r, that is
msb(c - t) + msb(r) + [low 63 bits of c - t  <  low 63 bits of r]  (mod 2), and one opened c serves
any number of thresholds. The last bracket is looked up digit by digit in the dealt one-hot shares
of r and folded twice: see `correlation.comparison`. Rounds: open c; the first folds; the second;
the daBit that lands the bit in sum shares.

The same c truncates x by k bits, too: with 2^62 added as in `protocol.truncate`, x / 2^k is public for a
given c but for one of two dealt bases, and which of them the top bit of c says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from mpcpriv.engine.correlation.comparison import SELECT_EQ, SELECT_LT, ThresholdMask
from mpcpriv.engine.correlation.truncation import LOW_63
from mpcpriv.engine.session import Session


@dataclass(frozen=True)
class Compared:
    """What `compare` leaves for its callers, of N values and K thresholds.

    Attributes:
        c: public, (N,), with x = c - r; truncated, where that was asked for.
        r: shares of r, (N,).
        powers: shares of r^2 .. r^degree, (N, degree - 1).
        opened: [x < t] + d (mod 2), open, (N, K).
        landing: shares of d, d r, .. d r^degree, (N, K, degree + 1).
    """

    c: torch.Tensor
    r: torch.Tensor
    powers: torch.Tensor
    opened: torch.Tensor
    landing: torch.Tensor


def below(session: Session, x: torch.Tensor, thresholds: list[int]) -> torch.Tensor:
    """Shares of [x < t] for each public t: integers 0 or 1, in shape `(*x.shape, len(thresholds))`.

    Args:
        x: shares of ring elements in [-2^62, 2^62).
        thresholds: ring elements in the same range; x - t must not leave [-2^63, 2^63).
    """
    shape = (*x.shape, len(thresholds))
    if x.numel() == 0 or not thresholds:
        return torch.zeros(shape, dtype=torch.int64)
    done = compare(session, x, thresholds, degree=0)
    return land(session, done.opened, done.landing[..., 0]).reshape(shape)


def compare(
    session: Session, x: torch.Tensor, thresholds: list[int], degree: int, shift: int = 0
) -> Compared:
    """The four rounds of a comparison; `land` or `piecewise` make something of it.

    Args:
        x: as for `below`; at least one element.
        thresholds: as for `below`; at least one.
        degree: the highest power of x that a bit will be multiplied with.
        shift: bits by which x is truncated; it is x / 2^shift, then, that is compared and has powers.
    """
    request = ThresholdMask(x.numel(), len(thresholds), degree, shift)
    dealt = session.correlations.take(request)
    r, bits = dealt.masks
    offset = 1 << 62 if shift else 0
    thresholds = [(t << shift) + offset for t in thresholds]
    hidden = x.reshape(-1) + r
    if session.rank == 0:
        hidden += offset
    # Safe to open: r is uniform and used for this value alone.
    (c,) = session.open("compare: x + r", [hidden])

    hot, powers, landing, words = dealt.derived()
    bits_u, words_u = bits.numpy().view(np.uint64), words.numpy().view(np.uint32)
    size = (request.elements, request.thresholds)
    shifted = np.subtract.outer(
        c.numpy().view(np.uint64), np.array([t % (1 << 64) for t in thresholds], np.uint64)
    )

    masked, kept = np.empty(size, np.uint32), np.empty(size, np.uint8)
    _look_up(shifted, hot.numpy().view(np.uint64), bits_u, masked, kept)
    # Safe to open: every bit is masked by a fresh dealt bit.
    (opened,) = session.open("compare: first folds", [torch.from_numpy(masked.view(np.int32))], group="xor")

    masked_2, kept_2 = np.empty(size, np.uint8), np.empty(size, np.uint8)
    _fold_first(opened.numpy().view(np.uint32), words_u, kept, bits_u, masked_2, kept_2, SELECT_EQ, SELECT_LT)
    # Safe to open: as above, with the mask of the second layer.
    (opened_2,) = session.open(
        "compare: second fold", [torch.from_numpy(masked_2.view(np.int8))], group="xor"
    )

    first = session.rank == 0
    flipped = np.empty(size, np.uint8)
    fold = opened_2.numpy().view(np.uint8)
    _fold_second(fold, words_u, kept_2, bits_u, shifted, first, flipped, SELECT_LT)
    # Safe to open: the result's bit is masked by the daBit.
    (bit,) = session.open("compare: daBit", [torch.from_numpy(flipped.view(np.int8))], group="xor")
    if shift:
        c, powers, landing = _truncated(c, powers, landing, shift)
        r, powers = powers[:, 0], powers[:, 1:]
    return Compared(c, r, powers, bit, landing)


def _truncated(
    c: torch.Tensor, powers: torch.Tensor, landing: torch.Tensor, shift: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is public of x / 2^shift, and the powers and products of the base that goes with it.

    x / 2^k = ((c mod 2^63) >> k) - 2^(62 - k) - ((r mod 2^63) >> k) + w 2^(63 - k) with w = msb(c) + msb(r)
    (mod 2): the last two are - base 0 where msb(c) = 0, else 2^(63 - k) - base 1.
    """
    top = c < 0
    high = ((c & LOW_63) >> shift) + (top.to(torch.int64) << (63 - shift)) - (1 << (62 - shift))
    degree = powers.shape[2]
    one, other = landing[..., 1 : 1 + degree], landing[..., 1 + degree :]
    chosen = torch.where(top[:, None, None], other, one)
    base = torch.where(top[:, None], powers[:, 1], powers[:, 0])
    return high, base, torch.cat([landing[..., :1], chosen], -1)


def land(session: Session, opened: torch.Tensor, dabit: torch.Tensor) -> torch.Tensor:
    """Sum shares of b from the opened b + d (mod 2) and sum shares of d: b = o + d - 2 o d."""
    o = opened.to(torch.int64)
    share = dabit * (1 - 2 * o)
    return share + o if session.rank == 0 else share


@njit(cache=True, nogil=True, inline="always")
def _parity(x):  # type: ignore[no-untyped-def]
    x ^= x >> np.uint32(16)
    x ^= x >> np.uint32(8)
    x ^= x >> np.uint32(4)
    return (np.uint32(0x6996) >> (x & np.uint32(15))) & np.uint32(1)


@njit(cache=True, nogil=True)
def _look_up(c, hot, bits, masked, kept):  # type: ignore[no-untyped-def]
    for i in range(c.shape[0]):
        for k in range(c.shape[1]):
            eq, lt = np.uint32(0), np.uint32(0)
            low = c[i, k] & np.uint64(0x7FFFFFFFFFFFFFFF)
            for j in range(16):
                digit = (low >> np.uint64(4 * j)) & np.uint64(15)
                lane = np.uint32((hot[i, j >> 2] >> np.uint64(16 * (j & 3))) & np.uint64(0xFFFF))
                above = lane >> np.uint32(digit)
                eq |= (above & np.uint32(1)) << np.uint32(j)
                lt |= _parity(above >> np.uint32(1)) << np.uint32(j)
            word, keep = np.uint32(0), np.uint32(0)
            for g in range(4):
                fold = ((eq >> np.uint32(4 * g)) & np.uint32(15)) | (
                    ((lt >> np.uint32(4 * g)) & np.uint32(7)) << np.uint32(4)
                )
                word |= fold << np.uint32(7 * g)
                keep |= ((lt >> np.uint32(4 * g + 3)) & np.uint32(1)) << np.uint32(g)
            masked[i, k] = word ^ np.uint32(bits[i, k] & np.uint64(0xFFFFFFF))
            kept[i, k] = keep


@njit(cache=True, nogil=True)
def _fold_first(opened, words, kept, bits, masked, kept_2, select_eq, select_lt):  # type: ignore[no-untyped-def]
    for i in range(opened.shape[0]):
        for k in range(opened.shape[1]):
            eq, lt = np.uint32(0), np.uint32(kept[i, k])
            for g in range(4):
                d = (opened[i, k] >> np.uint32(7 * g)) & np.uint32(127)
                eq |= _parity(words[i, k, g] & select_eq[d]) << np.uint32(g)
                lt ^= _parity(words[i, k, g] & select_lt[d]) << np.uint32(g)
            fold = eq | ((lt & np.uint32(7)) << np.uint32(4))
            masked[i, k] = fold ^ np.uint32((bits[i, k] >> np.uint64(28)) & np.uint64(127))
            kept_2[i, k] = lt >> np.uint32(3)


@njit(cache=True, nogil=True)
def _fold_second(opened, words, kept, bits, c, first, flipped, select_lt):  # type: ignore[no-untyped-def]
    for i in range(opened.shape[0]):
        for k in range(opened.shape[1]):
            word = words[i, k, 4]
            bit = (
                np.uint32(kept[i, k])
                ^ _parity(word & select_lt[opened[i, k] & np.uint8(127)])
                ^ (word >> np.uint32(30))
            )
            bit ^= np.uint32((bits[i, k] >> np.uint64(35)) & np.uint64(1))
            if first:
                bit ^= np.uint32(c[i, k] >> np.uint64(63))
            flipped[i, k] = bit & np.uint32(1)
