"""Gradients of operations that pick, repeat, reorder and join elements."""
# ruff: noqa: ARG004

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import crypten
import torch
from crypten.gradients import AutogradFunction

from mpcpriv.engine.tensor import SharedTensor


def unbroadcast(gradient: Any, shape: Sequence[int]) -> Any:
    """Sums over what broadcasting has repeated, back to `shape`."""
    if tuple(gradient.shape) == tuple(shape):
        return gradient
    lead = gradient.dim() - len(shape)
    over = [*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 != gradient.size(lead + i))]
    return (gradient.sum(over) if over else gradient).reshape(tuple(shape))


class Function(AutogradFunction):  # type: ignore[misc]
    """An operation by the name of the method that computes it.

    `backward` gives one gradient per encrypted operand. `by_one` is what it gives for a gradient of ones,
    without computing: values, and one public factor for all of them.
    """

    operation: ClassVar[str] = ""


class Picked(Function):
    """Each element of the result is one of the operand's, which may be there several times or never.

    The gradient of an element is the sum over its places, found by applying the operation to the numbers
    0, 1, 2, ...
    """

    @classmethod
    def forward(cls, ctx: Any, x: SharedTensor, *args: Any, **kwargs: Any) -> Any:
        """The method itself; tensors among the arguments may change before the backward pass."""
        places = None
        if any(isinstance(a, torch.Tensor) for a in _flat((args, tuple(kwargs.values())))):
            places = cls._places(x.shape, args, kwargs)
        ctx.save_multiple_for_backward((tuple(x.shape), args, kwargs, places))
        return getattr(x, cls.operation)(*args, **kwargs)

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> SharedTensor:
        """Adds each gradient where its element came from."""
        shape, args, kwargs, places = ctx.saved_tensors
        if places is None:
            places = cls._places(shape, args, kwargs)
        zeros = torch.zeros(math.prod(shape), dtype=torch.int64)
        added = zeros.index_add(0, places.reshape(-1), grad_output.share.reshape(-1))
        return SharedTensor.of(added.reshape(shape), grad_output.bits)

    @classmethod
    def _places(cls, shape: Sequence[int], args: Any, kwargs: Any) -> torch.Tensor:
        numbers = SharedTensor.of(torch.arange(math.prod(shape)).reshape(tuple(shape)))
        places: torch.Tensor = getattr(numbers, cls.operation)(*args, **kwargs).share
        return places


def _flat(values: Any) -> list[Any]:
    return [v for value in values for v in (_flat(value) if isinstance(value, (tuple, list)) else [value])]


class GetItem(Picked):
    """CrypTen's keeps one gradient of an element that is picked several times."""

    operation = "__getitem__"


class Narrow(Picked):
    """CrypTen's takes a negative dimension for another one."""

    operation = "narrow"


class Take(Picked):
    """CrypTen's keeps one gradient of an element that is picked several times."""

    operation = "take"


class IndexSelect(Picked):
    """CrypTen's shares zeros to start with; here nothing but a local sum is needed."""

    operation = "index_select"


class Gather(Picked):
    """CrypTen's fails where the index is smaller than the tensor."""

    operation = "gather"


class Flip(Picked):
    """CrypTen's takes no dimensions as separate arguments."""

    operation = "flip"


class Roll(Picked):
    """CrypTen's fails without dimensions."""

    operation = "roll"


class Expand(Picked):
    """CrypTen has none."""

    operation = "expand"


class Repeat(Picked):
    """CrypTen has none."""

    operation = "repeat"


class Unfold(Picked):
    """CrypTen has none."""

    operation = "unfold"


class Transpose(Picked):
    """CrypTen's takes no dimensions by name."""

    operation = "transpose"

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> SharedTensor:
        """Its own inverse."""
        _, args, kwargs, _ = ctx.saved_tensors
        result: SharedTensor = getattr(grad_output, cls.operation)(*args, **kwargs)
        return result


class T(Transpose):
    """As CrypTen's."""

    operation = "t"


class Permute(Function):
    """CrypTen's takes no dimensions as separate arguments, and no negative ones."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, *dims: Any) -> Any:
        """As `torch.Tensor.permute`."""
        order = [d % x.dim() for d in _flat(dims)]
        ctx.save_for_backward(order)
        return x.permute(order)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The inverse permutation."""
        (order,) = ctx.saved_tensors
        return grad_output.permute([order.index(i) for i in range(len(order))])


class Reshaped(Function):
    """The same elements in the same order."""

    @classmethod
    def forward(cls, ctx: Any, x: SharedTensor, *args: Any, **kwargs: Any) -> Any:
        """The method itself."""
        ctx.save_for_backward(tuple(x.shape))
        return getattr(x, cls.operation)(*args, **kwargs)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The same elements in the shape of the operand."""
        (shape,) = ctx.saved_tensors
        return grad_output.reshape(shape)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """One everywhere."""
        return (1.0,), 1.0


class View(Reshaped):
    """CrypTen's fails where the gradient's memory is not contiguous."""

    operation = "view"


class Reshape(Reshaped):
    """CrypTen's takes no shape by name."""

    operation = "reshape"


class Flatten(Reshaped):
    """As CrypTen's."""

    operation = "flatten"


class Squeeze(Reshaped):
    """CrypTen's takes a single dimension only."""

    operation = "squeeze"


class Unsqueeze(Reshaped):
    """As CrypTen's."""

    operation = "unsqueeze"


class Clone(Reshaped):
    """As CrypTen's."""

    operation = "clone"


class ShallowCopy(Reshaped):
    """CrypTen has none, and its own global pooling goes through it."""

    operation = "shallow_copy"


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


PICKING = (GetItem, Narrow, Take, IndexSelect, Gather, Flip, Roll, Expand, Repeat, Unfold, Transpose, T)
SHAPING = (View, Reshape, Flatten, Squeeze, Unsqueeze, Clone, ShallowCopy)
STRUCTURE = {
    **{function.operation: function for function in (*PICKING, *SHAPING, IndexAdd, ScatterAdd, Scatter)},
    "permute": Permute,
    "cat": Cat,
    "stack": Stack,
    "pad": Pad,
}
"""By the name of the method."""
