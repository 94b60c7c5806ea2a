"""Products of shared values: one opening of masked operands (Beaver, CRYPTO 1991, section 2).

With a, b, c = map(a, b) dealt and d = x - a, e = y - b open,
map(x, y) = map(d, e) + map(d, b) + map(a, e) + c for any bilinear map.
"""

from __future__ import annotations

import torch
from numba import njit

from mpcpriv.engine.correlation.base import Again
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.protocol.operand import Opening, Operand
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session


def product(
    session: Session, bilinear: Bilinear, x: torch.Tensor | Operand, y: torch.Tensor | Operand
) -> torch.Tensor:
    """Shares of map(x, y) modulo 2^64, untruncated.

    One round in which every party sends what is not open yet: x - a, y - b, or both; none if both are.

    Args:
        x, y: shares, which are opened; or operands, which are opened once.

    Raises:
        UsageError: the shapes do not fit the map.
    """
    left, right = (v if isinstance(v, Operand) else Operand(v) for v in (x, y))
    correlations, place = session.correlations, session.correlations.used
    of_x, of_y = left.value.again(correlations), right.value.again(correlations)
    if of_x is None and left.value is right.value:
        of_y = Again(0, 0)
    request = Triple(
        bilinear,
        tuple(left.share.shape),
        tuple(right.share.shape),
        Mask(left.order, of_x),
        Mask(right.order, of_y),
    )
    dealt = correlations.take(request)
    fresh = [
        (name, operand, mask, slot)
        for slot, (name, operand, mask, known) in enumerate(
            zip(("x - a", "y - b"), (left, right), dealt.masks, (of_x, of_y), strict=True)
        )
        if known is None
    ]
    if fresh:
        # Safe to open: each mask is uniform, drawn for this value and this opening, and used for no other
        # opening, ever (see `operand`).
        opened = session.open(
            f"{bilinear.name}: {', '.join(name for name, *_ in fresh)}",
            [operand.in_order - mask for _, operand, mask, _ in fresh],
        )
        if len(opened) == 2:  # they lie in one message, which the smaller one must not keep alive
            smaller = int(opened[1].numel() < opened[0].numel())
            if 2 * opened[smaller].numel() < opened[1 - smaller].numel():
                opened[smaller] = opened[smaller].clone()
        for (_, operand, _, slot), masked in zip(fresh, opened, strict=True):
            operand.value.opening = Opening(correlations.token, masked, place, slot)
    else:
        session.announce(f"{bilinear.name}: nothing to open")
    for slot, operand in enumerate((left, right)):
        assert operand.value.opening is not None
        operand.value.opening.place, operand.value.opening.slot = place, slot
    a, b = request.x_mask.of_operand(dealt.masks[0]), request.y_mask.of_operand(dealt.masks[1])
    d, e = left.masked(), right.masked()
    if bilinear.name == "mul" and a.shape == b.shape:
        result = torch.empty(a.shape, dtype=torch.int64)
        flat = [t.reshape(-1).numpy() for t in (a, b, dealt.derived()[0], d, e, result)]
        _combine(flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], session.rank == 0)
        return result
    # One party adds map(d, e): map(d, b + e) + map(a, e) costs it no third product.
    result = bilinear(d, b + e if session.rank == 0 else b)
    result += bilinear(a, e)
    result += dealt.derived()[0]
    return result


@njit(cache=True, nogil=True)
def _combine(a, b, c, d, e, result, first):  # type: ignore[no-untyped-def]
    for i in range(result.shape[0]):
        result[i] = d[i] * (b[i] + e[i] if first else b[i]) + a[i] * e[i] + c[i]


def square(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of x * x modulo 2^64, untruncated; half the opening of a product."""
    dealt = session.correlations.take(SquarePair(tuple(x.shape)))
    (a,) = dealt.masks
    # Safe to open: a is uniform and used for this square alone.
    (d,) = session.open("square: x - a", [x - a])
    result = d * (2 * a + d) if session.rank == 0 else d * (2 * a)
    result += dealt.derived()[0]
    return result
