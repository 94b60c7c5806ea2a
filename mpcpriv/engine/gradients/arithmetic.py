"""Gradients of sums, products and quotients.

CrypTen computes every gradient of an operation, also by public operands and by data that needs none; here
only what is needed is computed.
"""
# ruff: noqa: ARG004

from __future__ import annotations

import math
from typing import Any

import torch

from mpcpriv.engine.encoding import as_tensor
from mpcpriv.engine.gradients.function import Function, unbroadcast
from mpcpriv.engine.tensor import SharedTensor


def _public(value: Any) -> Any:
    """A number, or a tensor that nobody else holds."""
    return value if isinstance(value, (int, float)) else as_tensor(value).clone()


def operand(value: Any) -> Any:
    return value if isinstance(value, SharedTensor) else _public(value)


def _shape(value: Any) -> tuple[int, ...]:
    return () if isinstance(value, (int, float)) else tuple(value.shape)


def _of_ones(value: Any, result: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """What ones times `value` in the shape of the result make by an operand of `shape`, without a product."""
    if isinstance(value, (int, float)) or _shape(value) == ():
        count = math.prod(result) // max(math.prod(shape), 1)
        if isinstance(value, (int, float)):
            return float(value) * count
        return value.reshape((1,) * len(shape)).expand(shape) * count
    return unbroadcast(value.expand(result), shape)


class Add(Function):
    """CrypTen copies the gradient for each operand."""

    signs = (1, 1)

    @classmethod
    def forward(cls, ctx: Any, x: SharedTensor, other: Any) -> Any:
        """x + other."""
        other = other if isinstance(other, SharedTensor) else as_tensor(other)
        result = cls.of(x, other)
        ctx.save_multiple_for_backward((_shape(x), _shape(other), tuple(result.shape)))
        return result

    @staticmethod
    def of(x: SharedTensor, other: Any) -> Any:
        """x + other."""
        return x.add(other)

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """The gradient itself, with the sign of the operand."""
        found = []
        for needed, shape, sign in zip(ctx.needs, ctx.saved_tensors, cls.signs, strict=False):
            one = unbroadcast(grad_output, shape) if needed else None
            found.append(one if one is None or sign > 0 else one.neg())
        return found

    @classmethod
    def by_one(cls, ctx: Any) -> Any:
        """How often each element was used."""
        *shapes, result = ctx.saved_tensors
        return [_of_ones(sign, result, shape) for shape, sign in zip(shapes, cls.signs, strict=True)], 1.0


class Sub(Add):
    """CrypTen copies the gradient for each operand."""

    signs = (1, -1)

    @staticmethod
    def of(x: SharedTensor, other: Any) -> Any:
        """x - other."""
        return x.sub(other)


class ReverseSub(Add):
    """CrypTen copies the gradient for each operand."""

    signs = (-1, 1)

    @staticmethod
    def of(x: SharedTensor, other: Any) -> Any:
        """other - x."""
        return x.neg().add(other)


class Neg(Function):
    """As CrypTen's."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """-x."""
        return x.neg()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The negative."""
        return grad_output.neg()

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """Minus one."""
        return (-1.0,), 1.0


class Mul(Function):
    """CrypTen's rounds public factors to 32-bit floats, and multiplies for operands that need no gradient."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, other: Any) -> Any:
        """x * other."""
        other = operand(other)
        result = x.mul(other)
        ctx.save_multiple_for_backward((x, other, tuple(result.shape)))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """The gradient times the other operand."""
        x, other, _ = ctx.saved_tensors
        if isinstance(other, (int, float)):
            return [ctx.times(grad_output, other)]
        pairs = zip(ctx.needs, ((other, x), (x, other)), strict=False)
        return [
            unbroadcast(grad_output.mul(by), _shape(of)) if needed else None for needed, (by, of) in pairs
        ]

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """The other operand."""
        x, other, result = ctx.saved_tensors
        pairs = zip(ctx.needs, ((other, x), (x, other)), strict=False)
        return [_of_ones(by, result, _shape(of)) if needed else None for needed, (by, of) in pairs], 1.0


class MatMul(Function):
    """CrypTen's is wrong for vectors times batches, and multiplies for operands that need no gradient."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, other: Any) -> Any:
        """As `torch.matmul`."""
        other = operand(other)
        ctx.save_multiple_for_backward((x, other))
        return x.matmul(other)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """g b' by the left operand, a' g by the right one, with vectors as matrices of one row or column."""
        x, other = ctx.saved_tensors
        left = x.unsqueeze(0) if x.dim() == 1 else x
        right = other.unsqueeze(1) if other.dim() == 1 else other
        gradient = grad_output
        if other.dim() == 1:
            gradient = gradient.unsqueeze(-1)
        if x.dim() == 1:
            gradient = gradient.unsqueeze(-2)
        found: list[Any] = []
        if ctx.needs[0]:
            found.append(unbroadcast(gradient.matmul(right.transpose(-1, -2)), left.shape).reshape(_shape(x)))
        else:
            found.append(None)
        if isinstance(other, SharedTensor) and ctx.needs[1]:
            if right.dim() == 2:  # one product over all rows of the batch
                left = left.reshape(-1, left.size(-1))
                gradient = gradient.reshape(-1, gradient.size(-1))
            by_right = left.transpose(-1, -2).matmul(gradient)
            found.append(unbroadcast(by_right, right.shape).reshape(_shape(other)))
        return found


class Div(Function):
    """CrypTen's gradient by an encrypted divisor has the shape of the result where it was broadcast."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, other: Any) -> Any:
        """x / other."""
        if not isinstance(other, SharedTensor):
            other = _public(other)
            result = x.div(other)
            ctx.save_multiple_for_backward((other, _shape(x), tuple(result.shape)))
            return result
        result = x.div(other)
        ctx.save_multiple_for_backward((other, _shape(x), result))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """g / b by the dividend, -g a / b^2 by the divisor."""
        other, shape, result = ctx.saved_tensors
        if isinstance(other, (int, float)):
            return ctx.times(grad_output, 1 / other)
        if not isinstance(other, SharedTensor):
            return unbroadcast(grad_output.div(other), shape)
        by_dividend = grad_output.div(other)
        by_divisor = unbroadcast(by_dividend.mul(result).neg(), other.shape) if ctx.needs[1] else None
        return unbroadcast(by_dividend, shape), by_divisor

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """1 / b by the dividend, -a / b^2 by the divisor."""
        other, shape, result = ctx.saved_tensors
        if not isinstance(other, SharedTensor):
            inverse = 1 / (other if isinstance(other, (int, float)) else other.to(torch.float64))
            return (_of_ones(inverse, result, shape),), 1.0
        inverse = other.reciprocal()
        by_divisor = unbroadcast(inverse.mul(result).neg(), other.shape) if ctx.needs[1] else None
        return (_of_ones(inverse, tuple(result.shape), shape), by_divisor), 1.0


class ReverseDiv(Function):
    """CrypTen's gradient is that of a result that was not broadcast."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, other: Any) -> Any:
        """other / x for a public dividend."""
        inverse = x.reciprocal()
        result = inverse.mul(other)
        ctx.save_multiple_for_backward((inverse, result))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """-g b / x^2."""
        inverse, result = ctx.saved_tensors
        return unbroadcast(grad_output.mul(result).mul(inverse).neg(), inverse.shape)


ARITHMETIC = {
    "add": Add,
    "sub": Sub,
    "__rsub__": ReverseSub,
    "neg": Neg,
    "mul": Mul,
    "matmul": MatMul,
    "div": Div,
    "__rtruediv__": ReverseDiv,
}
"""By the name of the method."""
