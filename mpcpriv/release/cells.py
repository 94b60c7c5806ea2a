"""Small cells of a table of counts, suppressed on shares before anybody sees them.

A cell of fewer rows than the agreement allows to be shown is suppressed, and where there is one, so is the
smallest of the others (complementary suppression; A. Hundepool et al., "Statistical Disclosure Control",
Wiley 2012, section 4.3): how many rows there are is public, and with the rest of the table it tells how many
are in all suppressed cells together. Of small ones alone that could be all: two cells with none, or with one
row between them. Other tables of the same rows, with fewer columns, may tell more; against that only noise
helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mpcpriv.engine.tensor import SharedTensor

SUPPRESSED: Final = -1
"""What is opened in the place of a suppressed count."""


def suppress(counts: SharedTensor, least: int) -> SharedTensor:
    """Suppresses small counts.

    Args:
        counts: (d,), shared whole numbers below 2^30.
        least: the smallest count that is shown; at least 1. With 1, empty cells are suppressed.

    Returns:
        (d,), the counts, and `SUPPRESSED` where they are not shown.
    """
    kept: Any = counts.ge(least)
    if counts.nelement() > 1:
        some = (1 - kept).sum().ge(1)
        # Those that are suppressed already stand behind all others, whose counts are below 2^30.
        order: Any = counts + (1 - kept) * 2**30
        smallest = order.argmin(one_hot=True)
        kept = kept * (1 - smallest * some)
    result: SharedTensor = kept * (counts + 1) - 1
    return result
