"""Random encrypted tensors, known to nobody: every party contributes the bits."""

from __future__ import annotations

from typing import Any, Self

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol import chance
from mpcpriv.engine.tensor.comparison import Comparison


class Chance(Comparison):
    """Random tensors and random choices."""

    @classmethod
    def rand(cls, *sizes: Any, device: Any = None) -> Self:
        """Uniform multiples of 2^-16 in [0, 1); one round.

        Args:
            sizes: the shape, as numbers or as one sequence.
            device: None or the CPU.
        """
        drawn = chance.bits(session.current(), (*_shape(sizes), FRACTIONAL_BITS))
        return cls.of((drawn << torch.arange(FRACTIONAL_BITS)).sum(-1))

    @classmethod
    def randn(cls, *sizes: Any, device: Any = None) -> Self:
        """Standard normal deviates up to 5.03 in magnitude; seven rounds. Arguments as of `rand`."""
        return cls.of(chance.normal(session.current(), _shape(sizes)))

    def rand_like(self) -> Self:
        """As `rand`, in the shape of this tensor."""
        return self.rand(tuple(self.shape))

    def randn_like(self) -> Self:
        """As `randn`, in the shape of this tensor."""
        return self.randn(tuple(self.shape))

    def bernoulli(self) -> Self:
        """1 with the probability that each element gives, else 0: exact in units of 2^-16; five rounds."""
        return self.gt(self.rand(tuple(self.shape)))

    def weighted_index(self, dim: int | None = None) -> Any:
        """One-hot along `dim`, each place with a chance in proportion to its weight; weights sum up to 2^14.

        The last place also takes what rounding leaves beyond the sum.
        """
        if dim is None:
            return self.detach().flatten().weighted_index(0).reshape(self.shape)
        sums = self.detach().cumsum(dim)
        last = sums.narrow(dim, sums.size(dim) - 1, 1)
        above = sums.narrow(dim, 0, sums.size(dim) - 1).gt(self.rand(tuple(last.shape)) * last)
        ones = self.constant(torch.ones(tuple(last.shape), dtype=torch.int64), 0)
        reached = self.cat([above, ones], dim)
        return reached - self.cat([ones.sub(1), above], dim)


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
