"""Comparisons of shared tensors and what follows from them: selection, extremes, pooling.

Results are shared integers 0 and 1 that behave as numbers. Comparing costs four rounds whatever the
shape, and nothing is opened but masked values.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from crypten.cryptensor import CrypTensor

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.piecewise import RELU, evaluate
from mpcpriv.engine.protocol.tournament import place, tournament
from mpcpriv.engine.tensor import torch_names
from mpcpriv.engine.tensor.arithmetic import Arithmetic


class Comparison(Arithmetic):
    """Ordering of values below 2^45 in magnitude."""

    def _ltz(self) -> Self:
        """[x < 0]"""
        return self.of(below(session.current(), self.untruncated[0], [0])[..., 0], 0)

    def lt(self, y: Any) -> Self:
        """[x < y]"""
        return self._minus(y)._ltz()

    def gt(self, y: Any) -> Self:
        """[x > y]"""
        return self._minus(y).neg()._ltz()

    def ge(self, y: Any) -> Self:
        """[x >= y]"""
        return self.lt(y).neg().add(1)

    def le(self, y: Any) -> Self:
        """[x <= y]"""
        return self.gt(y).neg().add(1)

    def eq(self, y: Any) -> Self:
        """[x = y], exactly, in units of 2^-16: one comparison with two thresholds."""
        under = below(session.current(), self._minus(y).share, [0, 1])
        return self.of(under[..., 1] - under[..., 0], 0)

    def ne(self, y: Any) -> Self:
        """[x != y]"""
        return self.eq(y).neg().add(1)

    def _minus(self, y: Any) -> Self:
        """x - y, not followed by autograd: a comparison has no gradient."""
        with CrypTensor.no_grad():
            difference: Self = self.sub(y).detach()
        return difference

    __lt__ = lt
    __gt__ = gt
    __ge__ = ge
    __le__ = le
    __eq__ = eq
    __ne__ = ne
    __hash__ = Arithmetic.__hash__

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Lets torch's functions take an encrypted tensor, and a public one stand on the left of it.

        Raises:
            Unsupported: a function that the encrypted tensor does not have.
        """
        return torch_names.call(func.__name__, args, kwargs or {})

    def relu(self) -> Self:
        """max(x, 0), exactly; four rounds."""
        return self.relu_and_slope()[0]

    def relu_and_slope(self) -> tuple[Self, Self]:
        """max(x, 0) and [x >= 0], in four rounds together."""
        value, slope = evaluate(session.current(), RELU, *self.untruncated)
        return self.of(value, self.bits), self.of(slope, 0)

    def abs(self) -> Self:
        """The magnitude, exactly; four rounds."""
        return self.relu().mul(2).sub(self.detach())

    def sign(self) -> Self:
        """1, 0 or -1, as torch; four rounds."""
        under = below(session.current(), self._tensor, [0, 1])
        positive = int(session.current().rank == 0) - under.sum(-1)
        return self.of(positive, 0)

    def maximum(self, y: Any) -> Any:
        """The larger of each two, as `torch.maximum`; four rounds. Of equal ones y gets the gradient."""
        return (self - y).relu() + y

    def minimum(self, y: Any) -> Any:
        """The smaller of each two, as `torch.minimum`; four rounds. Of equal ones this gets the gradient."""
        return self - (self - y).relu()

    def where(self, condition: Any, y: Any) -> Self:
        """`self` where `condition` is 1, else `y`; the condition public or shared, 0 or 1."""
        if isinstance(condition, torch.Tensor):
            chosen = condition.to(torch.int64)
            picked: Self = self * chosen + y * (1 - chosen)
        else:
            picked = condition * (self - y) + y
        return picked

    def max(self, dim: int | None = None, keepdim: bool = False, one_hot: bool = True) -> Any:
        """The largest value; along `dim` also where it stands (one-hot, or as an index).

        Of equal values the first counts. Nine rounds for up to ten values, 29 for up to a thousand.
        """
        return self._extreme(dim, keepdim, one_hot, self, with_value=True)

    def argmax(self, dim: int | None = None, keepdim: bool = False, one_hot: bool = True) -> Any:
        """Where the largest value stands, one-hot or as an index; of equal values the first."""
        return self._extreme(dim, keepdim, one_hot, self, with_value=False)

    def min(self, dim: int | None = None, keepdim: bool = False, one_hot: bool = True) -> Any:
        """The smallest value; along `dim` also where it stands. As `max` in all else."""
        result = self._extreme(dim, keepdim, one_hot, -self, with_value=True)
        return -result if dim is None else (-result[0], result[1])

    def argmin(self, dim: int | None = None, keepdim: bool = False, one_hot: bool = True) -> Any:
        """Where the smallest value stands. As `argmax` in all else."""
        return self._extreme(dim, keepdim, one_hot, -self, with_value=False)

    def amax(self, dim: Any = (), keepdim: bool = False) -> Any:
        """The largest value over some or all dimensions; of equal values the first gets the gradient."""
        return _over(self, "max", dim, keepdim)

    def amin(self, dim: Any = (), keepdim: bool = False) -> Any:
        """The smallest value over some or all dimensions. As `amax` in all else."""
        return _over(self, "min", dim, keepdim)

    def _extreme(
        self, dim: int | None, keepdim: bool, one_hot: bool, key: Comparison, *, with_value: bool
    ) -> Any:
        along = -1 if dim is None else dim
        line = key.flatten() if dim is None or key.dim() == 0 else key.transpose(dim, -1)
        best, winners = tournament(session.current(), line.share)
        value = self.of(best.unsqueeze(-1).transpose(along, -1), self.bits)
        if dim is None and with_value:
            return value.squeeze(-1)
        hot = place_of(line.share.shape, winners)
        places = self.of(hot, 0) if one_hot else self.of(_index(hot).unsqueeze(-1))
        where = places.transpose(along, -1)
        if dim is None:
            return where.reshape(self._tensor.shape) if one_hot else where.squeeze(-1)
        if not keepdim:
            value = value.squeeze(dim)
            where = where if one_hot else where.squeeze(dim)
        return (value, where) if with_value else where


def _over(x: Any, extreme: str, dim: Any, keepdim: bool) -> Any:
    """One dimension after the other, or all at once."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    if not x.dim():
        return x.clone()
    if not dims or len({d % x.dim() for d in dims}) == x.dim():
        result = getattr(x, extreme)()
        return result.reshape([1] * x.dim()) if keepdim else result
    for d in sorted({d % x.dim() for d in dims}, reverse=True):
        x = getattr(x, extreme)(d, keepdim=keepdim)[0]
    return x


def place_of(shape: tuple[int, ...], winners: list[torch.Tensor]) -> torch.Tensor:
    """Shares of the place of the maximum along the last dimension of this shape."""
    s = session.current()
    if not winners:
        return torch.full(shape, int(s.rank == 0), dtype=torch.int64)
    return place(s, winners, shape[-1])


def _index(hot: torch.Tensor) -> torch.Tensor:
    """Shares of the place of the one, as a fixed-point number."""
    return (hot * torch.arange(hot.shape[-1])).sum(-1) << FRACTIONAL_BITS
