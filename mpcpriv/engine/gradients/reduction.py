"""Gradients of sums, means, variances and extremes."""
# ruff: noqa: ARG004

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.protocol.shuffle import placed
from mpcpriv.engine.tensor import SharedTensor


def spread(gradient: Any, shape: Sequence[int], dim: Any, keepdim: bool) -> Any:
    """The gradient by a reduced tensor, with its dimensions back as ones."""
    if not shape or (dim is not None and keepdim):
        return gradient
    places = [d % len(shape) for d in _listed(dim, len(shape))]
    return gradient.reshape([1 if i in places else n for i, n in enumerate(shape)])


def _listed(dim: Any, dims: int) -> list[int]:
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return list(range(dims))
    return [dim] if isinstance(dim, int) else list(dim)


class Sum(Function):
    """CrypTen's takes no several dimensions, and multiplies the gradient by ones."""

    @staticmethod
    def forward(
        ctx: Any, x: SharedTensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None
    ) -> SharedTensor:
        """As `torch.Tensor.sum`."""
        dim = axis if dim is None else dim
        ctx.save_multiple_for_backward((tuple(x.shape), dim, keepdim))
        result: SharedTensor = x.sum() if dim is None else x.sum(dim, keepdim=keepdim)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient, repeated."""
        shape, dim, keepdim = ctx.saved_tensors
        return spread(grad_output, shape, dim, keepdim).expand(shape)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """One everywhere."""
        return (1.0,), 1.0


class Mean(Function):
    """CrypTen's takes no several dimensions, and is 0 for a mean of more than 65,536 elements."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, dim: Any = None, keepdim: bool = False) -> SharedTensor:
        """As `torch.Tensor.mean`."""
        result: SharedTensor = x.mean() if dim is None else x.mean(dim, keepdim=keepdim)
        count = x.nelement() // max(result.nelement(), 1)
        ctx.save_multiple_for_backward((tuple(x.shape), dim, keepdim, count))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient by the number of elements, repeated."""
        shape, dim, keepdim, count = ctx.saved_tensors
        return spread(ctx.times(grad_output, 1 / max(count, 1)), shape, dim, keepdim).expand(shape)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """One by the number of elements."""
        return (1.0 / max(ctx.saved_tensors[3], 1),), 1.0


class Variance(Function):
    """CrypTen's has `unbiased` inverted and ignores `dim` as a keyword (C10)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: SharedTensor,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> SharedTensor:
        """As `torch.Tensor.var`."""
        less = float(unbiased) if correction is None else float(correction)
        result = x.var(dim, keepdim=keepdim, correction=less)
        ctx.save_multiple_for_backward((x, dim, less, keepdim, result.nelement()))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """2 (x - mean) / (n - correction)."""
        x, dim, correction, keepdim, results = ctx.saved_tensors
        centred = x - (x.mean() if dim is None else x.mean(dim, keepdim=True))
        count = x.nelement() // max(results, 1) - correction
        wide = spread(grad_output, x.shape, dim, keepdim)
        return ctx.times(centred.mul(wide), 2 / count if count > 0 else math.nan)


class Cumsum(Function):
    """As CrypTen's, for a tensor without dimensions too."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, dim: int) -> Any:
        """As `torch.Tensor.cumsum`."""
        ctx.save_for_backward(dim)
        return x.cumsum(dim)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The sum from the other end."""
        (dim,) = ctx.saved_tensors
        return grad_output.flip(dim).cumsum(dim).flip(dim) if grad_output.dim() else grad_output


class Trace(Function):
    """CrypTen's shares a public matrix, and fails where it is not square."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """The sum of the diagonal."""
        ctx.save_for_backward(tuple(x.shape))
        return x.trace()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient on the diagonal."""
        (shape,) = ctx.saved_tensors
        return grad_output.mul(torch.eye(*shape, dtype=torch.int64))


class Max(Function):
    """CrypTen's has no gradient unless places are one-hot. Of equal values the first takes it all."""

    @staticmethod
    def of(x: SharedTensor, dim: int, keepdim: bool) -> Any:
        """The extreme, and one-hot where it stands."""
        return x.max(dim, keepdim=keepdim)

    @classmethod
    def forward(
        cls, ctx: Any, x: SharedTensor, dim: int | None = None, keepdim: bool = False, one_hot: bool = True
    ) -> Any:
        """As the tensor's own."""
        if dim is None or x.dim() == 0:
            value, hot = cls.of(x.flatten(), 0, False)
            ctx.save_multiple_for_backward((hot.reshape(x.shape), None, False))
            if dim is None:
                return value
            places = value.reshape(x.shape), hot.reshape(x.shape).mul(int(one_hot))
        else:
            value, hot = cls.of(x, dim, keepdim)
            ctx.save_multiple_for_backward((hot, dim, keepdim))
            numbers = torch.arange(x.size(dim)).reshape(
                [-1 if i == dim % x.dim() else 1 for i in range(x.dim())]
            )
            places = value, hot if one_hot else hot.mul(numbers).sum(dim, keepdim=keepdim)
        ctx.mark_non_differentiable(places[1])
        return places

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient where the extreme stands."""
        hot, dim, keepdim = ctx.saved_tensors
        return spread(grad_output, hot.shape, dim, keepdim).mul(hot)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """One where the extreme stands."""
        return (ctx.saved_tensors[0],), 1.0


class Min(Max):
    """CrypTen's has no gradient unless places are one-hot. Of equal values the first takes it all."""

    @staticmethod
    def of(x: SharedTensor, dim: int, keepdim: bool) -> Any:
        """The extreme, and one-hot where it stands."""
        return x.min(dim, keepdim=keepdim)


class Ranked(Function):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, ranks: Sequence[int], dim: int, descending: bool) -> Any:
        """As the tensor's own."""
        values, places = x.in_order(ranks, dim, descending)
        ctx.save_multiple_for_backward((places, ranks, dim, tuple(x.shape)))
        numbers = x.pick_ranks(places << FRACTIONAL_BITS, ranks, dim, FRACTIONAL_BITS)
        ctx.mark_non_differentiable(numbers)
        return x.pick_ranks(values, ranks, dim, x.bits), numbers

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient where each value stood, which nobody learns: one round for each party, and one."""
        places, ranks, dim, shape = ctx.saved_tensors
        if not math.prod(shape):
            return SharedTensor.of(torch.zeros(shape, dtype=torch.int64), grad_output.bits)
        chosen = grad_output.share.transpose(dim, -1) if shape else grad_output.share
        lines = torch.zeros_like(places)
        lines[:, list(ranks)] = chosen.reshape(len(places), -1)
        back = placed(session.current(), places, lines.unsqueeze(-1))[..., 0]
        if not shape:
            return SharedTensor.of(back.reshape(()), grad_output.bits)
        turned = torch.empty(shape).transpose(dim, -1).shape
        return SharedTensor.of(back.reshape(turned).transpose(dim, -1), grad_output.bits)


REDUCTION = {
    "ranked": Ranked,
    "sum": Sum,
    "mean": Mean,
    "var": Variance,
    "cumsum": Cumsum,
    "trace": Trace,
    "max": Max,
    "min": Min,
}
"""By the name of the method."""
