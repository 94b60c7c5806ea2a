"""Gradients of operations that pick, repeat and reorder elements."""
# ruff: noqa: ARG004

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.tensor import SharedTensor


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


PICKING = (GetItem, Narrow, Take, IndexSelect, Gather, Flip, Roll, Expand, Repeat, Unfold, Transpose, T)
SHAPING = (View, Reshape, Flatten, Squeeze, Unsqueeze, Clone, ShallowCopy)
STRUCTURE = {"permute": Permute, **{function.operation: function for function in (*PICKING, *SHAPING)}}
"""By the name of the method."""
