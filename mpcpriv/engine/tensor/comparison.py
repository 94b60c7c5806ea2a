"""Comparisons of shared tensors and what follows from them: selection, extremes, pooling.

Results are shared integers 0 and 1 that behave as numbers. Comparing costs four rounds whatever the
shape, and nothing is opened but masked values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Self

import crypten
import torch
from crypten.cryptensor import CrypTensor

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS, RING_LIMIT
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.piecewise import RELU, evaluate
from mpcpriv.engine.protocol.tournament import place, tournament
from mpcpriv.engine.tensor.arithmetic import Arithmetic, _geometry
from mpcpriv.errors import Unsupported


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
        kwargs = kwargs or {}
        name = func.__name__
        if name in ("cat", "stack"):
            return getattr(crypten, name)(*args, **kwargs)
        if args and isinstance(args[0], Comparison) and hasattr(args[0], name):
            return getattr(args[0], name)(*args[1:], **kwargs)
        if len(args) == 2 and isinstance(args[1], Comparison) and name in _PUBLIC_LEFT and not kwargs:
            return _PUBLIC_LEFT[name](*args)
        raise Unsupported(f"torch.{name} of an encrypted tensor is not offered")

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

    def _extreme(
        self, dim: int | None, keepdim: bool, one_hot: bool, key: Comparison, *, with_value: bool
    ) -> Any:
        along = -1 if dim is None else dim
        line = key.flatten() if dim is None or key.dim() == 0 else key.transpose(dim, -1)
        best, winners = tournament(session.current(), line.share)
        value = self.of(best.unsqueeze(-1).transpose(along, -1), self.bits)
        if dim is None and with_value:
            return value.squeeze(-1)
        hot = _one_hot(line.share.shape, winners)
        places = self.of(hot, 0) if one_hot else self.of(_index(hot).unsqueeze(-1))
        where = places.transpose(along, -1)
        if dim is None:
            return where.reshape(self._tensor.shape) if one_hot else where.squeeze(-1)
        if not keepdim:
            value = value.squeeze(dim)
            where = where if one_hot else where.squeeze(dim)
        return (value, where) if with_value else where

    def max_pool2d(
        self,
        kernel_size: Any,
        padding: Any = 0,
        stride: Any = None,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """As `torch.nn.functional.max_pool2d`; indices come one-hot within each window.

        Raises:
            Unsupported: `ceil_mode`.
        """
        if ceil_mode:
            raise Unsupported("max_pool2d with ceil_mode=True is not offered")
        (kh, kw), (ph, pw) = _geometry(kernel_size, 2), _geometry(padding, 2)
        (sh, sw), (dh, dw) = _geometry(stride or kernel_size, 2), _geometry(dilation, 2)
        # What is padded loses to every value that can be encoded.
        lowest = -RING_LIMIT if session.current().rank == 0 else 0
        padded = torch.nn.functional.pad(self._tensor, (pw, pw, ph, ph), value=lowest)
        windows = padded.unfold(-2, (kh - 1) * dh + 1, sh).unfold(-2, (kw - 1) * dw + 1, sw)
        windows = windows[..., ::dh, ::dw]
        lines = windows.reshape(*windows.shape[:-2], kh * kw)
        best, winners = tournament(session.current(), lines)
        value = self.of(best, self.bits)
        if not return_indices:
            return value
        return value, self.of(_one_hot(lines.shape, winners).reshape(windows.shape), 0)


def _matmul_public_left(x: torch.Tensor, y: Comparison) -> Any:
    """x @ y by transposition."""
    if y.dim() == 1:
        return y.matmul(x.transpose(-1, -2) if x.dim() > 1 else x)
    flipped = y.transpose(-1, -2)
    return flipped.matmul(x) if x.dim() == 1 else flipped.matmul(x.transpose(-1, -2)).transpose(-1, -2)


_PUBLIC_LEFT: Final[dict[str, Callable[[torch.Tensor, Any], Any]]] = {
    "add": lambda x, y: y.add(x),
    "sub": lambda x, y: y.neg().add(x),
    "mul": lambda x, y: y.mul(x),
    "div": lambda x, y: y.reciprocal().mul(x),
    "matmul": _matmul_public_left,
    "lt": lambda x, y: y.gt(x),
    "le": lambda x, y: y.ge(x),
    "gt": lambda x, y: y.lt(x),
    "ge": lambda x, y: y.le(x),
    "eq": lambda x, y: y.eq(x),
    "ne": lambda x, y: y.ne(x),
}
"""What torch calls when only the right operand is encrypted."""


def _one_hot(shape: tuple[int, ...], winners: list[torch.Tensor]) -> torch.Tensor:
    """Shares of the place of the maximum along the last dimension of this shape."""
    s = session.current()
    if not winners:
        return torch.full(shape, int(s.rank == 0), dtype=torch.int64)
    return place(s, winners, shape[-1])


def _index(hot: torch.Tensor) -> torch.Tensor:
    """Shares of the place of the one, as a fixed-point number."""
    return (hot * torch.arange(hot.shape[-1])).sum(-1) << FRACTIONAL_BITS
