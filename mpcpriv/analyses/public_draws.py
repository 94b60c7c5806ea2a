"""Numbers that look random and are public: everybody who knows the name gets the same.

For choices and simulations in which nothing is secret. They are SHAKE-256 (FIPS 202) of a name; what is
secret never comes from here.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Between 0 and 1, neither of which is reached."""
    words = hashlib.shake_256(name.encode()).digest(8 * math.prod(shape))
    found: np.ndarray = ((np.frombuffer(words, dtype="<u8") >> 12) + 0.5) * 2.0**-52
    return found.reshape(shape)


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of mean 0 and variance 1."""
    from scipy import special

    found: np.ndarray = special.ndtri(uniform(name, shape))
    return found
