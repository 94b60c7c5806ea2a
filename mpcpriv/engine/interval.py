"""Public bounds on secret values, carried along with them (interval arithmetic: Moore, 1966, chapter 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor
from mpcpriv.errors import RangeError, UsageError

LIMIT_BITS: Final = 62 - FRACTIONAL_BITS
_LIMIT: Final = 2.0**LIMIT_BITS

Bound = float | Sequence[float]
"""A magnitude b, for [-b, b]; or the two ends."""


@dataclass(frozen=True)
class Interval:
    """Every element of a tensor lies in [low, high], which everybody may know."""

    low: float
    high: float

    @staticmethod
    def stated(bound: Bound) -> Interval:
        """What the caller of `crypten.cryptensor` states.

        Raises:
            UsageError: neither a magnitude nor two numbers in order, or 2^46 or more.
        """
        try:
            low, high = (-bound, bound) if isinstance(bound, (int, float)) else map(float, bound)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if not -_LIMIT < low <= high < _LIMIT:
            raise UsageError(
                f"bound={bound!r}: a magnitude below 2^{LIMIT_BITS}, or two such numbers (low, high) in order"
            )
        return Interval(float(low), float(high))

    @staticmethod
    def of_public(value: Any) -> Interval | None:
        """The least interval of a public number or tensor; None where it holds what cannot be encoded."""
        tensor = as_tensor(value)
        if tensor.numel() == 0:
            return Interval(0.0, 0.0)
        low, high = map(float, tensor.to(torch.float64).aminmax())
        return Interval(low, high) if -_LIMIT < low <= high < _LIMIT else None

    def holds(self, values: torch.Tensor) -> None:
        """Checks a party's own values.

        Raises:
            RangeError: one lies outside.
        """
        outside = ~((values >= self.low) & (values <= self.high))
        if bool(outside.any()):
            index = tuple(int(i) for i in outside.nonzero()[0])
            raise RangeError(
                f"value {values[index].item()!r} at index {list(index)} is outside the bound stated for it, "
                f"{self.low:g} to {self.high:g}; clip the data, or state another bound"
            )

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return self + -other

    def __mul__(self, other: Interval) -> Interval:
        ends = [x * y for x in (self.low, self.high) for y in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def square(self) -> Interval:
        """Of x * x for one x."""
        ends = (self.low * self.low, self.high * self.high)
        return Interval(0.0 if self.low <= 0 <= self.high else min(ends), max(ends))

    def times(self, count: float) -> Interval:
        """Of a sum of `count` values."""
        return Interval(self.low * count, self.high * count)

    def joined(self, other: Interval) -> Interval:
        """The least interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def met(self, other: Interval) -> Interval:
        """What lies in both, which are known to hold the same value."""
        return Interval(min(max(self.low, other.low), self.high), max(min(self.high, other.high), self.low))

    def widened(self, by: float) -> Interval:
        """For a result that is off by at most `by`."""
        return Interval(self.low - by, self.high + by)
