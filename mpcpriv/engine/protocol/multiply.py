"""Products of shared values: one opening of both masked operands (Beaver, CRYPTO 1991, section 2).

With a, b, c = map(a, b) dealt and d = x - a, e = y - b open,
map(x, y) = map(d, e) + map(d, b) + map(a, e) + c for any bilinear map.
"""

from __future__ import annotations

import torch

from mpcpriv.engine.correlation.product import SquarePair, Triple
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.session import Session


def product(session: Session, bilinear: Bilinear, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Shares of map(x, y) modulo 2^64, untruncated.

    Raises:
        UsageError: the shapes do not fit the map.
    """
    dealt = session.correlations.take(Triple(bilinear, tuple(x.shape), tuple(y.shape)))
    a, b = dealt.masks
    # Safe to open: a and b are uniform and used for this product alone.
    d, e = session.open(f"{bilinear.name}: x - a, y - b", [x - a, y - b])
    # One party adds map(d, e): map(d, b + e) + map(a, e) costs it no third product.
    result = bilinear(d, b + e if session.rank == 0 else b)
    result += bilinear(a, e)
    result += dealt.derived()[0]
    return result


def square(session: Session, x: torch.Tensor) -> torch.Tensor:
    """Shares of x * x modulo 2^64, untruncated; half the opening of a product."""
    dealt = session.correlations.take(SquarePair(tuple(x.shape)))
    (a,) = dealt.masks
    # Safe to open: a is uniform and used for this square alone.
    (d,) = session.open("square: x - a", [x - a])
    result = d * (2 * a + d) if session.rank == 0 else d * (2 * a)
    result += dealt.derived()[0]
    return result
