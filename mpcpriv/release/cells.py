"""Counts of rows on shares, before anybody sees them: small ones suppressed, all of them rounded.

Without noise, a cell of fewer rows than the agreement allows to be shown is suppressed, and where there is
one, so is the smallest of the others (complementary suppression; A. Hundepool et al., "Statistical Disclosure
Control", Wiley 2012, section 4.3): how many rows there are is public, and with the rest of the table it tells
how many are in all suppressed cells together. Of small ones alone that could be all: two cells with none, or
with one row between them. Other tables of the same rows, with fewer columns, may tell more; against that only
noise helps.

Rounding is conventional, to the nearest multiple of a base (op. cit., chapter 5), each count by itself. So
the same count is the same multiple each time, and asking again tells nothing; rounding up or down by chance
would average out. Tables that differ by a row mostly round alike, but not always.

With noise, cells below a threshold are suppressed. The noise protects what is shown and what is not alike;
the threshold is there for the reader (see `mpcpriv.analyses.query.Query.spurious`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from mpcpriv.engine.session import Session
    from mpcpriv.engine.tensor import SharedTensor

SUPPRESSED: Final = -1
"""What is opened in the place of a suppressed count."""
_ROOM: Final = 61
"""A product has so many bits, so that truncation can take it."""


def suppress(counts: SharedTensor, least: int, shown: SharedTensor | None = None) -> SharedTensor:
    """Suppresses small counts.

    Args:
        counts: (d,), shared whole numbers below 2^30.
        least: the smallest count that is shown; at least 1. With 1, empty cells are suppressed.
        shown: (d,), what is shown of them; the counts themselves if None.

    Returns:
        (d,), what is shown, and `SUPPRESSED` where nothing is.
    """
    kept: Any = counts.ge(least)
    if counts.nelement() > 1:
        some = (1 - kept).sum().ge(1)
        # Those that are suppressed already stand behind all others, whose counts are below 2^30.
        order: Any = counts + (1 - kept) * 2**30
        smallest = order.argmin(one_hot=True)
        kept = kept * (1 - smallest * some)
    result: SharedTensor = kept * ((counts if shown is None else shown) + 1) - 1
    return result


def rounded(session: Session, counts: torch.Tensor, base: int, most: int) -> torch.Tensor:
    """Counts rounded to the nearest multiple of a base, half of it up; exactly, in five rounds.

    A count and half a base is divided by the base: by a product with 2^k / base, truncated, which lacks no
    more of the quotient than a public bound and has one too many at most; then by comparing the remainder
    with the few multiples of the base that it may still hold.

    Args:
        session: of this party.
        counts: (d,), shares of integers from 0 to `most`.
        base: at least 2.
        most: up to 2^30 two multiples are compared with; up to 2^35, with a base of 32 or more, 66 at most.

    Returns:
        (d,), shares of multiples of `base`.
    """
    from mpcpriv.engine.protocol.compare import below
    from mpcpriv.engine.protocol.truncate import truncate

    shifted = counts + base // 2 if session.rank == 0 else counts
    top = most + base // 2
    bits = _ROOM - (top // base + 1).bit_length()
    # As 2^bits / base is rounded down, the product lacks top / 2^bits at most; truncation may add one.
    (quotient,) = truncate(session, [(shifted * ((1 << bits) // base), bits)])
    quotient = quotient - 1 if session.rank == 0 else quotient
    missing = (top >> bits) + 2
    remainder = shifted - quotient * base
    too_large = below(session, remainder, [base * times for times in range(1, missing + 1)])
    # Each threshold that the remainder is not below is one base more.
    whole: torch.Tensor = (quotient - too_large.sum(-1)) * base
    return whole + missing * base if session.rank == 0 else whole


def above(session: Session, sums: torch.Tensor, threshold: int, unit: int) -> torch.Tensor:
    """Sums that reach a threshold, and `SUPPRESSED` rows in the place of others; exactly, in five rounds.

    Args:
        session: of this party.
        sums: (d,), shares of integers below 2^61 in magnitude.
        threshold: the least that is shown; below 2^61.
        unit: what one row counts for.
    """
    from mpcpriv.engine.protocol.compare import below
    from mpcpriv.engine.protocol.multiply import product
    from mpcpriv.engine.ring import Bilinear

    low = below(session, sums, [threshold])[..., 0]
    over = sums - SUPPRESSED * unit if session.rank == 0 else sums
    # A product of integers, which nothing truncates.
    return sums - product(session, Bilinear("mul"), low, over)
