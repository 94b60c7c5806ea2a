"""Privacy loss as integers: what a release costs, summed exactly, and held against what may be spent.

A loss is an upper bound on a mechanism's Rényi divergences at fixed orders (I. Mironov, "Rényi Differential
Privacy", CSF 2017), rounded up to whole units. Losses of mechanisms that are chosen one after the other, each
in view of what came before, add up order by order; to stop as soon as no order would stay within what its
own conversion allows is a valid filter (M. Lécuyer, "Practical Privacy Filters and Odometers with Rényi
Differential Privacy", 2021, Theorem 1). Pure differential privacy is the order of infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

ORDERS: Final[tuple[float, ...]] = (
    *(1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875),
    *(2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5),
    *(float(whole << doubled) for doubled in range(12) for whole in range(8, 16)),
)
"""Rényi orders: the best of them is within 1 % of the best of all for ε from 1e-3 up."""

UNIT: Final = Fraction(1, 1 << 40)
"""Of a divergence, in nats."""
DELTA_UNIT: Final = Fraction(1, 1 << 100)
"""Of a probability of failure."""


@dataclass(frozen=True)
class Loss:
    """An upper bound on the privacy loss of a mechanism, or of several.

    Attributes:
        rdp: by order, in `UNIT`s.
        pure: ε of pure differential privacy in `UNIT`s; None where there is none.
        delta: the probability, in `DELTA_UNIT`s, with which nothing of this holds.
    """

    rdp: tuple[int, ...]
    pure: int | None
    delta: int = 0

    @classmethod
    def none(cls) -> Self:
        """Of a release that depends on nobody."""
        return cls((0,) * len(ORDERS), 0)

    @classmethod
    def of(cls, divergences: Sequence[float], pure: float | None = None, delta: float = 0.0) -> Self:
        """From divergences at `ORDERS`, in nats, rounded up.

        Raises:
            ValueError: one is negative or not finite, or they are too few.
        """
        if len(divergences) != len(ORDERS):
            raise ValueError(f"{len(divergences)} divergences, and there are {len(ORDERS)} orders")
        return cls(
            tuple(_up(one, UNIT) for one in divergences),
            None if pure is None else _up(pure, UNIT),
            _up(delta, DELTA_UNIT),
        )

    @classmethod
    def zcdp(cls, rho: float) -> Self:
        """Of ρ-zCDP: ρ α at each order (Bun and Steinke, TCC 2016, Definition 1.1)."""
        return cls.of([rho * order for order in ORDERS])

    @classmethod
    def pure_dp(cls, epsilon: float) -> Self:
        """Of ε-differential privacy, which is ε^2 / 2-zCDP (Bun and Steinke, TCC 2016, Proposition 1.4)."""
        return cls.of([min(epsilon, epsilon * epsilon * order / 2) for order in ORDERS], pure=epsilon)

    def __add__(self, other: Self) -> Self:
        pure = None if self.pure is None or other.pure is None else self.pure + other.pure
        rdp = tuple(one + another for one, another in zip(self.rdp, other.rdp, strict=True))
        return type(self)(rdp, pure, self.delta + other.delta)

    def __mul__(self, times: int) -> Self:
        pure = None if self.pure is None else self.pure * times
        return type(self)(tuple(one * times for one in self.rdp), pure, self.delta * times)

    def epsilon(self, delta: float) -> float:
        """The least ε, rounded up, for which (ε, delta)-differential privacy holds by this; inf if none."""
        rest = Fraction(delta) - self.delta * DELTA_UNIT
        if rest < 0:
            return math.inf
        # Pure losses are compared exactly: an allowance of 1 covers a loss of 1.
        found = math.inf if self.pure is None else _float_up(self.pure * UNIT)
        if rest > 0:
            for order, divergence in zip(ORDERS, self.rdp, strict=True):
                converted = divergence / UNIT.denominator + conversion(order, float(rest))
                found = min(found, math.nextafter(converted, math.inf))
        return max(found, 0.0)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; integers as text, since JSON's end at 2^53."""
        return {
            "rdp": [str(one) for one in self.rdp],
            "pure": None if self.pure is None else str(self.pure),
            "delta": str(self.delta),
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            ValueError: it is of other orders.
        """
        rdp = tuple(int(one) for one in read["rdp"])
        if len(rdp) != len(ORDERS):
            raise ValueError(f"a loss at {len(rdp)} orders, and there are {len(ORDERS)}")
        return cls(rdp, None if read["pure"] is None else int(read["pure"]), int(read["delta"]))


@dataclass(frozen=True)
class Allowance:
    """How much may be spent.

    Attributes:
        epsilon, delta: of differential privacy, in all; a delta of 0 allows pure mechanisms only.
    """

    epsilon: float
    delta: float

    def covers(self, total: Loss) -> bool:
        """Whether all that was spent and is to be spent stays within it."""
        return total.epsilon(self.delta) <= self.epsilon

    def left(self, spent: Loss) -> float:
        """ε that is not spent yet, at this delta; 0 where nothing is."""
        return max(self.epsilon - spent.epsilon(self.delta), 0.0)


def conversion(order: float, delta: float) -> float:
    """What is added to the divergence at an order to have ε at delta.

    Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
    Proposition 12.
    """
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _float_up(value: Fraction) -> float:
    nearest = float(value)
    return nearest if nearest >= value else math.nextafter(nearest, math.inf)


def _up(value: float, unit: Fraction) -> int:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{value!r} is no privacy loss: give a finite number of at least 0")
    return math.ceil(Fraction(value) / unit)
