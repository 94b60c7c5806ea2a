"""How much noise a release needs, and what each party adds of it.

A release is one vector of integers, a sum over rows; each computing party adds its own noise to its share. Up
to `collusion` of the parties may know their own noise and take it off again, so only that of the others, the
honest ones, counts. Two data sets are neighbours when one has one row more; the number of rows is public.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final, Literal

from mpcpriv.errors import RangeError, UsageError
from mpcpriv.privacy.accounting import EPSILON_MAX, discrete_sum_rho, training_multiplier
from mpcpriv.privacy.discrete import laplace_tail
from mpcpriv.privacy.loss import Loss
from mpcpriv.privacy.noise import SCALE_LIMIT, Drawn, discrete_gaussian, discrete_laplace, one_sided_geometric

Kind = Literal["discrete-gaussian", "discrete-laplace", "one-sided-geometric"]
"""The last one for choices only: it hides which of several sums is the largest, and not the sums."""
_KINDS: Final = ("discrete-gaussian", "discrete-laplace", "one-sided-geometric")

SIGMA_FLOOR: Final = 2
"""The least σ of one party in grid units: below it the sum of discrete Gaussians is too unlike one."""


@dataclass(frozen=True)
class Sensitivity:
    """The largest norms that one row's contribution to the released vector can have, in grid units.

    Attributes:
        l1: the sum of magnitudes.
        l2_squared: the sum of squares.
        linf: the largest magnitude.

    Raises:
        UsageError: one is not an integer of at least 1, or they are no norms of the same vectors.
    """

    l1: int
    l2_squared: int
    linf: int

    def __post_init__(self) -> None:
        for name in ("l1", "l2_squared", "linf"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"sensitivity {name}: {value!r} is no integer of at least 1 in grid units")
        if self.linf > self.l1 or self.linf**2 > self.l2_squared:
            raise UsageError(
                f"sensitivity: an entry of {self.linf} has more than the given l1 of {self.l1} or squared l2 "
                f"of {self.l2_squared}; give norms that hold for the same rows"
            )


@dataclass(frozen=True)
class Noise:
    """The noise of one release: as much at each party, whoever of them colludes.

    Attributes:
        kind: the distribution of one party's noise.
        scale: of one party, in grid units: its σ² (discrete Gaussian) or its b (the others). Drawn with
            the next float above σ or b, so with a little more and never with less.
        parties: how many add noise.
        collusion: how many of them may take theirs off again; fewer than all.

    Raises:
        UsageError: the collusion is not between 0 and parties - 1, or σ is below 2.
        RangeError: the noise does not fit 64 bits.
    """

    kind: Kind
    scale: Fraction
    parties: int
    collusion: int

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UsageError(f"noise: {self.kind!r} is none of {', '.join(_KINDS)}")
        if not 0 <= self.collusion < self.parties:
            raise UsageError(
                f"noise: {self.collusion} of {self.parties} parties collude; at least one must not"
            )
        if not self.scale > 0:
            raise UsageError(f"noise: a scale of {float(self.scale):g} grid units; give more than 0")
        gaussian = self.kind == "discrete-gaussian"
        if self.scale > (Fraction(SCALE_LIMIT) ** 2 if gaussian else SCALE_LIMIT):
            raise RangeError(
                "noise: it does not fit 64 bits; use a coarser grid, clip rows to less, or ask for more "
                "epsilon"
            )
        if gaussian and self.scale < SIGMA_FLOOR**2:
            raise UsageError(
                f"noise: a discrete Gaussian of σ = {math.sqrt(self.scale):.3g} grid units at each party is "
                f"refused, the least is {SIGMA_FLOOR}; use a finer grid, ask for less epsilon, or take "
                "discrete-laplace"
            )

    @property
    def honest(self) -> int:
        """How many parties' noise counts."""
        return self.parties - self.collusion

    @property
    def variance(self) -> float:
        """Of the sum of all parties' noise, in grid units squared; none of them subtracted."""
        if self.kind == "discrete-gaussian":
            # From σ = 2 on, the discrete Gaussian has variance σ² to 1e-30 (Canonne et al. 2020, section 2).
            return float(self.parties * self.scale)
        half = math.sinh(min(1 / (2 * float(self.scale)), 350.0))
        one_sided = 1 / (4 * half * half)
        return self.parties * one_sided * (1 if self.kind == "one-sided-geometric" else 2)

    def exceeded(self, chance: float) -> int:
        """A number that all parties' noise together reaches with at most this chance, one noised number's.

        The least for discrete Laplace noise. Discrete Gaussians are subgaussian (Canonne et al. 2020): for a
        sum of them it is what that bound gives, which is more than the least by less than half.

        Args:
            chance: between 0 and 1.

        Raises:
            UsageError: the noise is one-sided; no sum is released with that.
        """
        if self.kind == "one-sided-geometric":
            raise UsageError("noise: of a choice only the place is released, which has no threshold")
        if self.kind == "discrete-gaussian":
            return math.ceil(math.sqrt(2 * self.parties * self.scale * -math.log(chance)))
        scale = rounded_up(self.scale)
        few, enough = 0, 1
        while laplace_tail(scale, self.parties, enough) > chance:
            few, enough = enough, 2 * enough
        while enough - few > 1:
            half = (few + enough) // 2
            few, enough = (half, enough) if laplace_tail(scale, self.parties, half) > chance else (few, half)
        return enough

    def share(self, size: int) -> Drawn:
        """This party's own noise for a vector of this size: fresh at each call, to be added once."""
        if self.kind == "discrete-gaussian":
            return discrete_gaussian(root_up(self.scale), size)
        draw = one_sided_geometric if self.kind == "one-sided-geometric" else discrete_laplace
        return draw(rounded_up(self.scale), size)

    def loss(self, sensitivity: Sensitivity, dimension: int) -> Loss:
        """What a release of this many numbers costs with it.

        The discrete Gaussian by the bound for sums of them (Kairouz, Liu and Steinke, "The Distributed
        Discrete Gaussian Mechanism", ICML 2021, Proposition 14); of discrete Laplace noise one honest
        party's. Of one-sided noise what the choice of the largest costs that is made with it.
        """
        if self.kind == "one-sided-geometric":
            return Loss.pure_dp(rounded_up(sensitivity.l1 / self.scale))
        if self.kind == "discrete-gaussian":
            return Loss.zcdp(_sum_rho(self, sensitivity, dimension))
        at_most = math.nextafter(float(self.scale), 0)
        return Loss.laplace(rounded_up(sensitivity.l1 / self.scale), at_most)


def calibrate(
    kind: Kind,
    epsilon: float,
    delta: float,
    sensitivity: Sensitivity,
    dimension: int,
    parties: int,
    collusion: int,
) -> Noise:
    """The least noise for one release of (epsilon, delta); its loss is never above `calibrate_loss`.

    Args:
        kind: a discrete Gaussian: σ is the L2 sensitivity times the multiplier for which `calibrate_loss`
            keeps within epsilon, over the honest parties together, and larger where the bound for their sum
            needs it. Discrete Laplace and one-sided: b is the L1 sensitivity over epsilon, at every party;
            delta plays no part.
        epsilon: above 0, at most `EPSILON_MAX`.
        delta: above 0 and below 1; but for the discrete Gaussian 0 does.
        sensitivity: of the vector.
        dimension: how many numbers are released.
        parties, collusion: as in `Noise`.

    Raises:
        UsageError: one is out of its range, or σ of one party is below 2 grid units.
        RangeError: the noise does not fit 64 bits.
    """
    _check(kind, epsilon, delta)
    if dimension < 1:
        raise UsageError(f"noise: a release of {dimension} numbers; give at least 1")
    if kind != "discrete-gaussian":
        least = sensitivity.l1 / Fraction(epsilon)
        return Noise(kind, Fraction(rounded_up(_fitting(least, Fraction(SCALE_LIMIT)))), parties, collusion)
    multiplier = _multiplier(epsilon, delta)
    rho = _rho(multiplier)
    honest = max(parties - collusion, 1)
    least = Fraction(multiplier) ** 2 * sensitivity.l2_squared / honest
    sigma = root_up(_fitting(least, Fraction(SCALE_LIMIT) ** 2))
    step = 2.0**-52
    while True:
        # σ is a float, so that what is drawn is what is accounted for.
        noise = Noise(kind, Fraction(sigma) ** 2, parties, collusion)
        if _sum_rho(noise, sensitivity, dimension) <= rho:
            return noise
        sigma *= 1 + step
        step *= 2


def calibrate_loss(kind: Kind, epsilon: float, delta: float) -> Loss:
    """What one release of (epsilon, delta) is charged, whatever its sensitivity.

    Raises:
        UsageError: epsilon or delta is out of its range, see `calibrate`.
    """
    _check(kind, epsilon, delta)
    if kind != "discrete-gaussian":
        return Loss.pure_dp(epsilon)
    return Loss.zcdp(_rho(_multiplier(epsilon, delta)))


@cache
def _multiplier(epsilon: float, delta: float) -> float:
    """Some per cent above `gaussian_multiplier`: so much that the ledger, which adds up divergences, charges
    epsilon and no more. A job that asks for all of a budget can then have it.
    """
    return training_multiplier(epsilon, delta, rate=1.0, steps=1)


def _rho(multiplier: float) -> float:
    """Of zCDP, of a Gaussian (Bun and Steinke, TCC 2016, Proposition 1.6)."""
    return 1 / (2 * multiplier * multiplier)


def _sum_rho(noise: Noise, sensitivity: Sensitivity, dimension: int) -> float:
    return discrete_sum_rho(noise.scale, noise.honest, sensitivity.l2_squared, sensitivity.l1, dimension)


def _check(kind: Kind, epsilon: float, delta: float) -> None:
    if kind not in _KINDS:
        raise UsageError(f"noise: {kind!r} is none of {', '.join(_KINDS)}")
    if not 0 < epsilon <= EPSILON_MAX:
        raise UsageError(f"epsilon: {epsilon!r}; give a number above 0, at most {EPSILON_MAX:g}")
    if not 0 <= delta < 1 or (delta == 0 and kind == "discrete-gaussian"):
        raise UsageError(f"delta: {delta!r}; give a number above 0 and below 1; without a Gaussian 0 does")


def _fitting(scale: Fraction, limit: Fraction) -> Fraction:
    """The scale, or one that `Noise` refuses as well: a float may not hold what is far above the limit."""
    return min(scale, limit * 2)


def rounded_up(value: Fraction) -> float:
    """The least float that is not below."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def root_up(value: Fraction) -> float:
    """The least float whose square is not below."""
    root = math.sqrt(value)
    while Fraction(root) ** 2 < value:
        root = math.nextafter(root, math.inf)
    while Fraction(below := math.nextafter(root, 0)) ** 2 >= value:
        root = below
    return root
