"""Small cells of a table of counts, suppressed or pooled on shares before anybody sees them.

A cell of fewer rows than the agreement allows to be shown is suppressed, and where there is one, so is the
smallest of the others (complementary suppression; A. Hundepool et al., "Statistical Disclosure Control",
Wiley 2012, section 4.3): how many rows there are is public, and with the rest of the table it tells how many
are in all suppressed cells together. Of small ones alone that could be all: two cells with none, or with one
row between them. Other tables of the same rows, with fewer columns, may tell more; against that only noise
helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mpcpriv.engine.tensor import SharedTensor

SUPPRESSED: Final = -1
"""What is opened in the place of a suppressed count."""


def shown(counts: SharedTensor, least: int) -> SharedTensor:
    """Which counts may be shown.

    Args:
        counts: (d,), shared whole numbers below 2^31, which may be off by a unit of 2^-16; or (d, k), of each
            its count and others that are told with it, and must be as large.
        least: the smallest count that is shown; at least 1. With 1, empty cells are suppressed.

    Returns:
        (d,), 1 or 0.
    """
    kept: Any = counts.ge(least - 0.5)
    if counts.dim() > 1:
        kept = kept.sum(1).ge(counts.shape[1] - 0.5)
        counts = counts[:, 0]
    if counts.nelement() > 1:
        some: Any = (1 - kept).sum().ge(0.5)
        # Those that are suppressed already stand behind all others, whose counts are below 2^31.
        order: Any = counts + (1 - kept) * 2**31
        smallest: Any = order.argmin(one_hot=True)
        kept = kept * (1 - smallest * some)
    result: SharedTensor = kept
    return result


def suppress(counts: SharedTensor, least: int) -> SharedTensor:
    """The counts, (d,), and `SUPPRESSED` where they are not shown: see `shown`."""
    kept: Any = shown(counts, least)
    result: SharedTensor = kept * (counts + 1) - 1
    return result


def suppress_groups(
    table: SharedTensor, least: int, grid: int = 1, counts: SharedTensor | None = None
) -> SharedTensor:
    """Suppresses what is about groups of few rows.

    Args:
        table: (groups, k), shared: of each group first its count, as a multiple of `grid`, then sums over its
            rows. With 0 fractional bits, all stays exact.
        least: see `shown`.
        grid: a power of two, at most 2^16.
        counts: (groups,), what is held against `least`, where the table has other counts, rounded ones.

    Returns:
        the same, and `SUPPRESSED` times the grid, and zeros behind it, where a group is not shown.
    """
    import torch

    sizes: Any = table[:, 0] if counts is None else counts
    kept: Any = shown(sizes if grid == 1 else _ungridded(sizes, grid), least)
    hidden = torch.zeros(1, table.shape[1], dtype=torch.int64)
    hidden[0, 0] = grid * -SUPPRESSED
    some: Any = table
    result: SharedTensor = kept.unsqueeze(1) * (some + hidden) - hidden
    return result


def pool(counts: SharedTensor, least: int, steps: Callable[[int, str], Iterator[int]]) -> SharedTensor:
    """Adds up the counts of each line from left to right until they are large enough to be shown.

    What is left at the end of a line goes to its last pool. A line whose total is small is suppressed, and
    with it the smallest other line: see `shown`. Where a pool ends is shown, and so is that at least one
    of its rows is there.

    Args:
        counts: (lines, d), shared whole numbers, which may be off by a unit; lines below 2^30.
        least: the smallest count that is shown; at least 2.
        steps: counts the turns of a loop (`mpcpriv.steps`).

    Returns:
        (lines, d), the counts, each where its pool ends, and 0 elsewhere; `SUPPRESSED` throughout where a
        line is. About 6 rounds for each of the d.
    """
    from mpcpriv.engine.tensor import SharedTensor

    counts = counts.clone()
    # Interval arithmetic does not see that what is taken from a pool was in it.
    counts.interval = None
    held: Any = counts[:, 0] * 0
    held.interval = None
    width = counts.shape[1]
    pools: dict[int, Any] = {}
    ends: dict[int, Any] = {}

    def close(held: Any, place: int) -> Any:
        held = held + counts[:, place]
        ends[place] = held.ge(least - 0.5)
        pools[place] = ends[place] * held
        return held - pools[place]

    # The first is not a turn: it comes after other things than the later ones.
    held = close(held, 0)
    for place in steps(width - 1, "pooling small counts"):
        held = close(held, place + 1)
    # A plan takes one turn for many: what it left out is like the first.
    ended: Any = SharedTensor.stack([ends.get(place, ends[0]) for place in range(width)], dim=1)
    pooled: Any = SharedTensor.stack([pools.get(place, pools[0]) for place in range(width)], dim=1)
    later: Any = ended.sum(1, keepdim=True) - ended.cumsum(1)
    whole: Any = pooled + ended * later.lt(0.5) * held.unsqueeze(1)
    kept: Any = shown(counts.sum(1), least)
    result: SharedTensor = kept.unsqueeze(1) * (whole + 1) - 1
    return result


def _ungridded(counts: SharedTensor, grid: int) -> SharedTensor:
    from mpcpriv.engine.encoding import FRACTIONAL_BITS
    from mpcpriv.engine.tensor import SharedTensor

    return SharedTensor.of(counts.at(0) * (2**FRACTIONAL_BITS // grid))
