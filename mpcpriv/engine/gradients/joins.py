"""Gradients of operations that put tensors together, and of padding."""
# ruff: noqa: ARG004

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import crypten
import torch

from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.tensor import SharedTensor


class Cat(Function):
    """CrypTen's counts public tensors as encrypted ones."""

    @staticmethod
    def forward(ctx: Any, tensors: Sequence[Any], dim: int = 0) -> Any:
        """As `torch.cat`."""
        sizes = [(t.size(dim), isinstance(t, SharedTensor)) for t in tensors]
        ctx.save_multiple_for_backward((sizes, dim))
        return crypten.cat(list(tensors), dim=dim)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """Each tensor's part."""
        sizes, dim = ctx.saved_tensors
        parts = grad_output.split([size for size, _ in sizes], dim)
        return [part for part, (_, encrypted) in zip(parts, sizes, strict=True) if encrypted]


class Stack(Function):
    """CrypTen's counts public tensors as encrypted ones."""

    @staticmethod
    def forward(ctx: Any, tensors: Sequence[Any], dim: int = 0) -> Any:
        """As `torch.stack`."""
        ctx.save_multiple_for_backward(([isinstance(t, SharedTensor) for t in tensors], dim))
        return crypten.stack(list(tensors), dim=dim)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """Each tensor's slice."""
        encrypted, dim = ctx.saved_tensors
        return [part for part, kept in zip(grad_output.unbind(dim), encrypted, strict=True) if kept]


class Pad(Function):
    """CrypTen's has its arguments in another order than the method."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, pad: Sequence[int], mode: str = "constant", value: Any = 0) -> Any:
        """As `torch.nn.functional.pad` with a constant."""
        ctx.save_multiple_for_backward((list(pad), isinstance(value, SharedTensor)))
        return x.pad(pad, mode, value)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """What is inside, and for an encrypted constant the sum of what is outside."""
        pad, encrypted = ctx.saved_tensors
        inside = grad_output.pad([-n for n in pad])
        return (inside, grad_output.sum() - inside.sum()) if encrypted else inside


class Added(Function):
    """Elements of one tensor added to another at public places."""

    @classmethod
    def forward(cls, ctx: Any, x: SharedTensor, dim: int, index: torch.Tensor, other: Any) -> Any:
        """The method itself."""
        ctx.save_multiple_for_backward((dim, index.clone(), tuple(other.shape)))
        return getattr(x, cls.operation)(dim, index, other)

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> Any:
        """By the tensor that is added to: unchanged. By what is added: where it went."""
        dim, index, shape = ctx.saved_tensors
        return grad_output, cls.picked(grad_output, dim, index, shape)

    @staticmethod
    def picked(gradient: SharedTensor, dim: int, index: torch.Tensor, shape: Sequence[int]) -> Any:
        """The gradient at the places of `index`, zero for what was not used."""
        gathered = gradient.share.gather(dim, index)
        missing = [(0, n - m) for n, m in zip(shape, gathered.shape, strict=True)]
        sides = [side for pair in reversed(missing) for side in pair]
        return SharedTensor.of(torch.nn.functional.pad(gathered, sides), gradient.bits)


class IndexAdd(Added):
    """CrypTen has none."""

    operation = "index_add"

    @staticmethod
    def picked(gradient: SharedTensor, dim: int, index: torch.Tensor, shape: Sequence[int]) -> Any:
        """The slices at the places of `index`."""
        return gradient.index_select(dim, index)


class ScatterAdd(Added):
    """CrypTen has none."""

    operation = "scatter_add"


class Scatter(Added):
    """CrypTen's fails where the index is smaller than the tensor, and for a public source."""

    operation = "scatter"

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, dim: int, index: torch.Tensor, src: Any) -> Any:
        """As `torch.Tensor.scatter`."""
        ctx.save_multiple_for_backward((dim, index.clone(), tuple(getattr(src, "shape", ()))))
        return x.scatter(dim, index, src)

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> Any:
        """By the tensor: zero where it was overwritten. By what overwrites it: where it went."""
        dim, index, shape = ctx.saved_tensors
        kept = SharedTensor.of(grad_output.share.scatter(dim, index, 0), grad_output.bits)
        return kept, cls.picked(grad_output, dim, index, shape) if shape else None


JOINS = {
    "cat": Cat,
    "stack": Stack,
    "pad": Pad,
    "index_add": IndexAdd,
    "scatter_add": ScatterAdd,
    "scatter": Scatter,
}
"""By the name of the method."""
