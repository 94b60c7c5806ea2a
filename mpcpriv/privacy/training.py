"""What a training is made of, as far as privacy goes, and the noise of each of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mpcpriv.errors import UsageError
from mpcpriv.privacy.accounting import training_loss, training_multiplier
from mpcpriv.privacy.loss import Loss
from mpcpriv.privacy.mechanism import Noise

LEAST: Final = 256
"""Of a party's σ, in units of the grid. From there on the sum of discrete Gaussians is one but for a factor
within 1e-300000 of 1 (Kairouz, Liu and Steinke, ICML 2021, Lemma 12), and by the same summation formula of
Poisson's no moment of a likelihood ratio is further from the continuous Gaussian's: less than losses are
rounded up by."""


@dataclass(frozen=True)
class Composition:
    """Steps, each of which adds noise to a sum over a sample of the rows.

    Attributes:
        rate: of each row to take part in a step, independently and in secret; 1: all rows do, always.
        steps: how many.
        l2: the largest Euclidean norm of one row's part of the sum, in units of the sum's grid.
    """

    rate: float
    steps: int
    l2: int

    def multiplier(self, epsilon: float, delta: float) -> float:
        """The least σ / l2 for which all steps together cost no more than (epsilon, delta).

        Raises:
            UsageError: an argument is out of its range.
        """
        return training_multiplier(epsilon, delta, self.rate, self.steps)

    def loss(self, multiplier: float) -> Loss:
        """What all steps cost together with this σ / l2."""
        return training_loss(multiplier, self.rate, self.steps)

    def noise(self, multiplier: float, parties: int, collusion: int) -> Noise:
        """What each party adds in each step: the honest ones' together has σ = multiplier l2.

        Raises:
            UsageError: that is too little for the grid.
        """
        scale = Fraction(multiplier) ** 2 * self.l2**2 / (parties - collusion)
        if scale < LEAST**2:
            raise UsageError("the noise of a step is too little for the grid: ask for less epsilon")
        return Noise("discrete-gaussian", scale, parties, collusion)
