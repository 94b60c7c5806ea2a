"""A sum over rows of vectors of whole numbers: what can be released with differential privacy.

Each owner computes its own rows' contributions and clips them, in the clear, before anything is shared;
from there on nothing but additions happens until the noise is in. So how much one row can change the sum is
known beforehand, in whole numbers, from the clipping alone, whatever `contributions` returns of that row.
That it returns of each row what follows from this row and from no other cannot be seen from what it returns:
it is part of the code that all members agree to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from mpcpriv.analyses.analysis import Answer
from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy.mechanism import Sensitivity

_HELD: Final = 1 << 22
"""Numbers of contributions that are held at once."""
_GRIDS: Final = [1 << bits for bits in range(17)]
"""Up to the fixed-point grid, on which small counts are suppressed."""
_MOST: Final = 1 << 62
"""No sum over rows may reach this: noise comes on top, in 64 bits."""


@dataclass(frozen=True)
class Noised:
    """What was opened of a query.

    Attributes:
        values: int64 (d,), the sums with their noise.
        deviation: of the noise in each, its standard deviation; 0 where it was released without.
        threshold: the least noised sum that is shown; in the place of smaller ones is -1 row. None where all
            are.
    """

    values: np.ndarray
    deviation: float
    threshold: int | None = None


@dataclass(frozen=True)
class Grouped:
    """Contributions of rows that fall into one of several groups each: nothing but zeros to all others.

    Attributes:
        groups: int64 (rows,), of each row its group.
        values: int64 (rows, k), what it contributes to the k sums of this group.
    """

    groups: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Query:
    """The sum over all rows of d whole numbers each.

    Attributes:
        low, high: int64 (d,): each number of a row is clipped to these.
        contributions: of one owner's columns (by name, (rows,) each) the numbers, int64 (rows, d), or
            `Grouped`; columns that others own are not there, and what depends on them is 0. Row i of them
            follows from row i alone: it is given some rows at a time, and must not centre, rank or scale by
            what it finds in them.
        read: what the recipients are told of it.
        l1, l2_squared: the most that a row's numbers may have as a norm, where that is less than `low` and
            `high` allow; a row beyond it counts as zeros.
        groups: into how many groups rows fall, where each contributes to the sums of one only: then the d
            sums are the k of the first group, the k of the second, and so on; `contributions` are `Grouped`.
            What a row can change, and what it costs to sum it, does not grow with the groups. None where
            there are none.
        grid: what one row counts for, a power of two, where each sum (with groups, the first of each group)
            is a number of rows; small ones are then suppressed in a release without noise, and with them all
            sums of the group, or all are rounded, as agreed. None where they are not numbers of rows.
        choose: whether nothing is released but the place of the largest noised sum, of equal ones the first:
            see `mpcpriv.release.choice`. `read` gets the place instead of sums.
        spurious: in a release with noise, show only sums that reach a threshold: the least for which, if no
            row counted anywhere, any sum would be shown with this probability at most. None shows all.

    Raises:
        UsageError: the grid is none, or the sums are not equally many for each group, or a probability is not
            between 0 and 1, or of sums that are no counts.
        RangeError: the bounds are so wide that the norm of a row could leave 64 bits.
    """

    low: np.ndarray
    high: np.ndarray
    contributions: Callable[[Mapping[str, np.ndarray]], np.ndarray | Grouped]
    read: Callable[[Noised], Answer]
    l1: int | None = None
    l2_squared: int | None = None
    groups: int | None = None
    grid: int | None = None
    choose: bool = False
    spurious: float | None = None

    def __post_init__(self) -> None:
        if self.grid is not None and self.grid not in _GRIDS:
            raise UsageError(f"a grid of {self.grid}; it is a power of two, at most {max(_GRIDS)}")
        if self.groups is not None and (self.groups < 1 or self.size % self.groups):
            raise UsageError(f"{self.size} sums of {self.groups} groups; each group has equally many")
        if self.spurious is not None and not (0 < self.spurious < 1 and self.counts):
            raise UsageError(f"spurious: {self.spurious}; it is between 0 and 1, and about numbers of rows")
        # Or the sum of a row's magnitudes could wrap, and pass for a small one.
        if max(map(sum, self._largest)) >= _MOST:
            raise RangeError("the numbers of a row may add up to 2^62 or more; clip them to less")

    @cached_property
    def _largest(self) -> list[list[int]]:
        """By group, the largest magnitudes that a row may contribute; without groups, all sums are one.

        Python's integers: squares of 2^32 and more must not wrap.
        """
        ends = zip(map(int, self.low), map(int, self.high), strict=True)
        largest = [max(abs(low), abs(high)) for low, high in ends]
        return [largest[start : start + self.block] for start in range(0, self.size, self.block)]

    @property
    def size(self) -> int:
        """How many sums there are."""
        return len(self.low)

    @property
    def block(self) -> int:
        """To how many of them a row contributes."""
        return self.size // (self.groups or 1)

    @property
    def counts(self) -> bool:
        """Whether each sum is a number of rows, and nothing else is released."""
        return self.grid is not None and (self.groups is None or self.block == 1)

    def sensitivity(self) -> Sensitivity:
        """The largest norms of what one row contributes; where one is chosen, how far one sum can move."""
        return self._sensitivity

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        groups = self._largest
        l1, linf = max(map(sum, groups)), max(map(max, groups))
        l2_squared = max(sum(one * one for one in group) for group in groups)
        if self.l1 is not None:
            l1, linf = min(l1, self.l1), min(linf, self.l1)
            # Of whole numbers up to linf whose magnitudes add up to l1, the squares add up to linf * l1.
            l2_squared = min(l2_squared, linf * l1)
        if self.l2_squared is not None:
            l2_squared = min(l2_squared, self.l2_squared)
            linf = min(linf, math.isqrt(l2_squared))
        if self.choose:
            # Where a row can only add, all sums move the same way; else one may fall as another rises.
            linf *= 1 if (self.low >= 0).all() else 2
            return Sensitivity(linf, linf**2, linf)
        return Sensitivity(l1, l2_squared, linf)

    def fits(self, rows: int) -> None:
        """Whether the sum over so many rows, of all owners together, stays within the ring.

        Raises:
            RangeError: it does not.
        """
        if rows * self.sensitivity().linf >= _MOST:
            raise RangeError(
                f"a sum over {rows} rows of up to {self.sensitivity().linf} each leaves the ring"
            )

    def total(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The sum over one owner's rows, int64 (d,), of contributions that are clipped here.

        Raises:
            UsageError: `contributions` does not return (rows, d) whole numbers, or `Grouped` ones.
            RangeError: the sum could leave the ring.
        """
        rows = len(next(iter(columns.values())))
        self.fits(rows)
        total = np.zeros((self.block, self.groups or 1), dtype=np.int64)
        chunk = max(_HELD // self.block, 1)
        for start in range(0, rows, chunk):
            part = {name: values[start : start + chunk] for name, values in columns.items()}
            found = self._checked(self.contributions(part), min(chunk, rows - start))
            if isinstance(found, Grouped):
                clipped = self._clipped(found.values, found.groups)
                for place in range(self.block):
                    np.add.at(total[place], found.groups, clipped[:, place])
            else:
                total[:, 0] += self._clipped(found).sum(0)
        return total.T.flatten()

    def _checked(self, found: np.ndarray | Grouped, rows: int) -> np.ndarray | Grouped:
        values = found.values if isinstance(found, Grouped) else found
        expected = (rows, self.block)
        if isinstance(found, Grouped) != (self.groups is not None):
            raise UsageError("the analysis contributes to groups where it declares none, or the reverse")
        if values.shape != expected or values.dtype != np.int64:
            raise UsageError(
                f"the analysis contributes {values.dtype} {values.shape}; declared is int64 {expected}"
            )
        if isinstance(found, Grouped):
            groups, most = found.groups, self.groups or 0
            if groups.shape != (rows,) or groups.dtype != np.int64:
                raise UsageError(
                    f"the analysis names groups as {groups.dtype} {groups.shape}; declared is int64 ({rows},)"
                )
            # Below 0 it would count from the end.
            if rows and not (groups.min() >= 0 and groups.max() < most):
                raise UsageError(f"the analysis contributes to a group that is none of the {most} declared")
        return found

    def _clipped(self, found: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        low, high = self.low.reshape(-1, self.block), self.high.reshape(-1, self.block)
        alike = bool((low == low[0]).all() and (high == high[0]).all())
        places = slice(0, 1) if alike or groups is None else groups
        clipped = np.clip(found, low[places], high[places])
        if self.l1 is not None:
            clipped = clipped * (np.abs(clipped).sum(1) <= self.l1)[:, None]
        if self.l2_squared is not None:
            # Python's integers: squares of 2^32 and more must not wrap.
            norms = np.square(clipped.astype(object)).sum(1)
            clipped = clipped * (norms <= self.l2_squared).astype(np.int64)[:, None]
        result: np.ndarray = clipped
        return result
