"""Functions of shared tensors that are not CrypTen's own approximations, and random tensors.

What is not defined here or in the classes below (norm, weighted_index, randn ...) is CrypTen's code
running on our arithmetic.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch

from mpcpriv.engine import session
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol import bounded, elementary
from mpcpriv.engine.protocol.compare import land
from mpcpriv.engine.protocol.tournament import tournament
from mpcpriv.engine.tensor.base import Shares
from mpcpriv.engine.tensor.comparison import Comparison
from mpcpriv.errors import Unsupported


class SharedTensor(Comparison):
    """The encrypted tensor: what `crypten.cryptensor` makes once mpcpriv is active."""

    def sigmoid(self) -> Self:
        """1 / (1 + e^-x), off by less than 1e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.sigmoid(session.current(), self.at(FRACTIONAL_BITS)))

    def cos(self) -> Self:
        """cos x, off by less than 1e-4 + 2e-5 abs(x)."""
        return self.cossin()[0]

    def sin(self) -> Self:
        """sin x, off by less than 1e-4 + 2e-5 abs(x)."""
        return self.cossin()[1]

    def erf(self) -> Self:
        """The error function, off by less than 2e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.erf(session.current(), self.at(FRACTIONAL_BITS)))

    def exp(self) -> Self:
        """e^x, to a relative 5e-4 or 2^-15 absolute; 0 below -12, e^30 from 30 on. Eight rounds."""
        return self.of(elementary.exp(session.current(), self.at(FRACTIONAL_BITS)))

    def log(self, input_in_01: bool = False) -> Self:
        """ln x for x >= 2^-16, off by less than 1e-4; -11.78 for x <= 0, 20.1 from 2^29 on. Ten rounds.

        Args:
            input_in_01: no matter here; CrypTen needs to be told.
        """
        return self.of(elementary.log(session.current(), self.at(FRACTIONAL_BITS)))

    def reciprocal(self, input_in_01: bool = False) -> Self:
        """1/x for abs(x) >= 2^-16, to a relative 1e-4 or 2^-15 absolute; 0 for 0. Twelve rounds.

        Args:
            input_in_01: no matter here; CrypTen needs to be told.
        """
        return self.of(elementary.reciprocal(session.current(), self.at(FRACTIONAL_BITS)))

    def sqrt(self) -> Self:
        """The square root, to a relative 1e-4 or 2^-15; 0 for x < 0, 2^14.5 from 2^29 on. Twelve rounds."""
        return self.of(elementary.sqrt(session.current(), self.at(FRACTIONAL_BITS)))

    def inv_sqrt(self) -> Self:
        """1 / sqrt(x) for x >= 2^-16, to a relative 1e-4 or 2^-15; 0 for x <= 0. Twelve rounds."""
        return self.of(elementary.inv_sqrt(session.current(), self.at(FRACTIONAL_BITS)))

    def softmax(self, dim: int) -> Self:
        """As `torch.softmax`, to 1e-4; the maximum is subtracted first."""
        powers = self._below_maximum(dim).exp()
        result: Self = powers * powers.sum(dim, keepdim=True).reciprocal()
        return result

    def log_softmax(self, dim: int) -> Self:
        """As `torch.log_softmax`, to 1e-3; the maximum is subtracted first."""
        logits = self._below_maximum(dim)
        result: Self = logits - logits.exp().sum(dim, keepdim=True).log()
        return result

    def _below_maximum(self, dim: int) -> Self:
        line = self.share.transpose(dim, -1)
        best, _ = tournament(session.current(), line)
        return self.of(self.share - best.unsqueeze(-1).transpose(dim, -1), self.bits)

    def pow(self, p: Any) -> Self:
        """x^p for an integer p, by squaring; negative powers through the reciprocal.

        Raises:
            Unsupported: p is not an integer; `pos_pow` takes any p for positive x.
        """
        if isinstance(p, torch.Tensor) and p.numel() == 1:
            p = p.item()
        if isinstance(p, Shares) or int(p) != p:
            raise Unsupported(f"pow with exponent {p!r}: integers only; pos_pow takes others for positive x")
        p = int(p)
        if p < 0:
            return self.reciprocal().pow(-p)
        if p == 0:
            return self.constant(torch.ones(self.share.shape))
        half = self.pow(p // 2) if p > 1 else None
        if half is None:
            return self.clone()
        return half.square() if p % 2 == 0 else half.square() * self

    def __pow__(self, p: Any) -> Self:
        result: Self = self.pow(p)
        return result

    def __rtruediv__(self, other: Any) -> Self:
        result: Self = self.reciprocal().mul(other)
        return result

    def cossin(self) -> tuple[Self, Self]:
        """cos x and sin x, off by less than 1e-4 + 2e-5 abs(x); seven rounds."""
        cosine, sine = bounded.turn(session.current(), self.mul(1 / (2 * math.pi)).share)
        return self.of(cosine), self.of(sine)

    def tanh(self) -> Self:
        """tanh(x), off by less than 2e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.tanh(session.current(), self.at(FRACTIONAL_BITS)))

    def cuda(self, device: Any = None) -> Self:
        """Not offered, like any device but the CPU.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("cuda(): encrypted tensors live on the CPU; products on CUDA would not be exact")

    @classmethod
    def rand(cls, *sizes: Any, device: Any = None) -> Self:
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
