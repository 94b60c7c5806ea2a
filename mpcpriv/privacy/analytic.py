"""The Gaussian mechanism in closed form: its δ at an ε to full precision, in every regime.

B. Balle and Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8:
noise of standard deviation z times the sensitivity is (ε, δ)-differentially private just if Φ(1/2z - εz) -
e^ε Φ(-1/2z - εz) <= δ. Either term may overflow or be rounded to nothing, and their difference cancels; the
same number is an integral of what is never negative, and that is what is computed here.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt

_NODES: Final = 160
_REACH: Final = 12.0
"""Beyond so many standard deviations lies less than exp(-70) of the integral."""
_SLACK: Final = 2.0**-40
"""More than the relative error of the quadrature, which is near 1e-14."""


def log_delta(multiplier: float, epsilon: float) -> float:
    """The logarithm of the least δ, rounded up; at most 0.

    Args:
        multiplier: z > 0, the standard deviation of the noise over the sensitivity.
        epsilon: at least 0.
    """
    # With s = 1/2z - εz: δ = φ(s) ∫_0^∞ exp(st - t²/2) (1 - exp(-t/z)) dt, which is the expectation of
    # (1 - exp(ε - L))+ over the privacy loss L ~ N(1/2z², 1/z²).
    shift = 0.5 / multiplier - epsilon * multiplier
    low = max(0.0, shift - _REACH)
    high = shift + _REACH if shift > 0 else _REACH / max(1.0, -shift / (_REACH / 2))
    nodes, weights = _gauss_legendre()
    at = low + (high - low) * nodes
    exponent = shift * at - at * at / 2
    top = float(exponent.max())
    mass = float(np.sum(weights * np.exp(exponent - top) * -np.expm1(-at / multiplier))) * (high - low)
    found = top - shift * shift / 2 - 0.5 * math.log(2 * math.pi) + math.log(mass)
    # The rounding of the shift itself counts as many times as its square is steep.
    slack = _SLACK + 2.0**-50 * abs(shift) * (0.5 / multiplier + epsilon * multiplier)
    return min(found + slack, 0.0)


@functools.cache
def _gauss_legendre() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes and weights for the interval from 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2
