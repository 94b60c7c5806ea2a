"""Functions of shared tensors that are not CrypTen's own approximations, and random tensors.

What is not defined here or in the classes below (exp, log, reciprocal, sqrt ...) is CrypTen's code
running on our arithmetic, with CrypTen's ranges: see the table in `mpcpriv/README.md`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import land
from mpcpriv.engine.protocol.spline import Spline, evaluate
from mpcpriv.engine.tensor.comparison import Comparison

_SIGMOID = Spline.fit(lambda x: 1 / (1 + np.exp(-x)), np.linspace(-12, 12, 33), 0.0, 1.0)
_TANH = Spline.fit(np.tanh, np.linspace(-6, 6, 33), -1.0, 1.0)


class SharedTensor(Comparison):
    """The encrypted tensor: what `crypten.cryptensor` makes once mpcpriv is active."""

    def sigmoid(self) -> SharedTensor:
        """1 / (1 + e^-x), off by less than 1e-4 for every x that can be encoded; eight rounds."""
        return self.of(evaluate(session.current(), _SIGMOID, self.at(FRACTIONAL_BITS)))

    def tanh(self) -> SharedTensor:
        """tanh(x), off by less than 2e-4 for every x that can be encoded; eight rounds."""
        return self.of(evaluate(session.current(), _TANH, self.at(FRACTIONAL_BITS)))

    @classmethod
    def rand(cls, *sizes: Any, device: Any = None) -> SharedTensor:
        """Uniform multiples of 2^-16 in [0, 1), known to nobody: every party contributes the bits.

        Args:
            sizes: the shape, as numbers or as one sequence.
            device: None or the CPU.
        """
        s = session.current()
        shape = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
        bits = (*shape, FRACTIONAL_BITS)
        dealt = s.correlations.take(DaBit(bits))
        mine = (s.private_bits(bits) ^ dealt.masks[0]) & 1
        # Safe to open: the bits of all parties together are masked by the daBit, which only the dealer knows.
        (opened,) = s.open("rand: bits", [mine], group="xor")
        landed = land(s, opened, dealt.derived()[0])
        return cls.of((landed << torch.arange(FRACTIONAL_BITS)).sum(-1))
