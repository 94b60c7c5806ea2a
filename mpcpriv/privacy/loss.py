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
    *(1 + eighths / 8 for eighths in range(1, 24)),
    *(quarters / 4 for quarters in range(16, 32)),
    *(halves / 2 for halves in range(16, 32)),
    *map(float, (*range(16, 64), *range(64, 128, 2), *range(128, 512, 4))),
    *(float(sixteenths << doubled) for doubled in range(5, 11) for sixteenths in range(16, 32)),
)
"""Rényi orders. The best of them is within 0.3 % of the best of all for Gaussian and Laplace noise; for steps
on small samples, whose divergence rises steeply at some order, within 2 % for ε from 0.02 up."""

_UNITS: Final = 1 << 40
UNIT: Final = Fraction(1, _UNITS)
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

    def __post_init__(self) -> None:
        if len(self.rdp) != len(ORDERS):
            raise ValueError(f"a loss at {len(self.rdp)} orders, and there are {len(ORDERS)}")
        if min(*self.rdp, self.pure or 0, self.delta) < 0:
            raise ValueError("no part of a loss is negative: what was spent does not come back")

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
        """Of any mechanism of ε-differential privacy.

        None has larger divergences than randomised response (Bun and Steinke, TCC 2016, the proof of
        Proposition 3.3), which answers truly with odds of e^ε.
        """
        likely = 1 / (1 + math.exp(-epsilon))
        return cls.of([_of_two(order, epsilon, epsilon, likely) for order in ORDERS], pure=epsilon)

    @classmethod
    def laplace(cls, epsilon: float, scale: float = math.inf) -> Self:
        """Of Laplace noise of scale b = Δ1 / ε on each coordinate, where one row's l1-norm is at most Δ1.

        Less than `pure_dp` when several add up (Mironov, 2017, Proposition 6, and its like for the discrete
        Laplace). The moments are convex in a coordinate's shift in the exponent and 1 at 0, so that it is
        worst to have all of Δ1 in one coordinate.

        Args:
            epsilon: of pure differential privacy.
            scale: at most b, in grid units, where the noise is discrete; it costs a little more the smaller
                it is. Infinite for noise on the real line.
        """
        divergences = []
        for order in ORDERS:
            if math.isinf(scale):
                likely = order / (2 * order - 1)
            else:
                ratio = math.exp(-1 / scale)
                between = (
                    ratio ** (2 * order - 1) * math.expm1(-1 / scale) / math.expm1((1 - 2 * order) / scale)
                )
                likely = (1 + between) / (1 + ratio)
            divergences.append(_of_two(order, epsilon, epsilon * order / (order - 1), likely))
        return cls.of(divergences, pure=epsilon)

    @classmethod
    def bounded_range(cls, epsilon: float) -> Self:
        """Of a choice by the exponential mechanism, or by the noisy maximum with Gumbel noise.

        Where an option of score s is chosen with odds exp(ε s / 2Δ), or exp(ε s / Δ) where a further row
        moves all scores the same way, privacy losses differ by at most ε between options: ε^2 / 8-zCDP, a
        quarter of what ε-differential privacy alone gives (M. Cesar and R. Rogers, "Bounding,
        Concentrating, and Truncating", ALT 2021; J. Dong, D. Durfee and R. Rogers, ICML 2020). Not of a
        noisy maximum with Laplace or exponential noise: that is `pure_dp`.
        """
        of_any = cls.pure_dp(epsilon)
        narrow = cls.zcdp(epsilon * epsilon / 8)
        return cls(tuple(min(pair) for pair in zip(of_any.rdp, narrow.rdp, strict=True)), of_any.pure)

    @classmethod
    def failure(cls, delta: float) -> Self:
        """Of what fails with a probability of delta at most, and loses nothing otherwise."""
        return cls.of([0.0] * len(ORDERS), pure=0.0, delta=delta)

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
        found = math.inf if self.pure is None else self.pure / _UNITS
        if rest > 0:
            logarithm = math.log(rest)
            for order, divergence in zip(ORDERS, self.rdp, strict=True):
                found = min(found, divergence / _UNITS + _conversion(order, logarithm))
        return math.nextafter(found, math.inf) if found > 0 else 0.0

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
            ValueError: it is of other orders, or negative.
        """
        rdp = tuple(int(one) for one in read["rdp"])
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


def _conversion(order: float, log_delta: float) -> float:
    """What is added to the divergence at an order to have ε at a δ, rounded up.

    Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
    Proposition 12.
    """
    terms = math.log1p(-1 / order), -log_delta / (order - 1), -math.log(order) / (order - 1)
    return sum(terms) + 2.0**-50 * sum(map(abs, terms))


def _of_two(order: float, gain: float, fall: float, likely: float) -> float:
    """The divergence of moment p exp((α-1) gain) + (1-p) exp(-(α-1) fall), rounded up; gain is its limit."""
    rise = (order - 1) * gain
    other = (1 - likely) * math.exp(-(order - 1) * (gain + fall))
    if rise > 1:
        found = max(rise + math.log(likely + other), 0.0) / (order - 1)
    else:
        less_1 = likely * math.expm1(rise) + (1 - likely) * math.expm1(-(order - 1) * fall)
        found = math.log1p(max(less_1, 0.0)) / (order - 1)
    return min(found * (1 + 2.0**-50) + float(UNIT) / 16, gain)


def _up(value: float, unit: Fraction) -> int:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{value!r} is no privacy loss: give a finite number of at least 0")
    return math.ceil(Fraction(value) / unit)
