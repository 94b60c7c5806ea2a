"""Gradients of powers, roots and the reciprocal."""
# ruff: noqa: ARG004

from __future__ import annotations

from typing import Any

import torch

from mpcpriv.engine.gradients.arithmetic import operand
from mpcpriv.engine.gradients.function import Function, unbroadcast
from mpcpriv.engine.tensor import SharedTensor


class Square(Function):
    """As CrypTen's."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """x * x."""
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """2 x g."""
        (x,) = ctx.saved_tensors
        return grad_output.mul(x).mul(2)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """2 x."""
        (x,) = ctx.saved_tensors
        return (x,), 2.0


class Pow(Function):
    """CrypTen's changes what it saved, and computes x^p as x^(p - 1) x even where p is 0 or below."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, p: Any) -> Any:
        """x^p by the tensor's own pow."""
        if isinstance(p, torch.Tensor) and p.numel() == 1:
            p = p.item()
        if isinstance(p, (int, float)) and p < 0 and int(p) == p:
            inverse = x.reciprocal()
            result = inverse.pow(-p)
            ctx.save_multiple_for_backward((inverse, p, result))
        else:
            result = x.pow(p)
            ctx.save_multiple_for_backward((x, p, None))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """p x^(p - 1) g."""
        x, p, result = ctx.saved_tensors
        if result is not None:
            return result.mul(x).mul(grad_output).mul(p)
        if p == 0:
            return grad_output.mul(0)
        return grad_output if p == 1 else grad_output.mul(x.pow(p - 1)).mul(p)


class PosPow(Function):
    """CrypTen's changes what it saved, and has no gradient by an encrypted exponent."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, p: Any) -> Any:
        """As the tensor's own."""
        if isinstance(p, torch.Tensor) and p.numel() == 1:
            p = p.item()
        if isinstance(p, (int, float)):
            ctx.save_multiple_for_backward((x, p, None))
            return x.pow(p)
        p = operand(p)
        log = x.log()
        result = log.mul(p).exp()
        ctx.save_multiple_for_backward((log, p, result))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """p x^(p - 1) g, and x^p ln x g by an encrypted exponent."""
        x, p, result = ctx.saved_tensors
        if result is None:
            return grad_output.mul(x.pow(p - 1)).mul(p) if p else grad_output.mul(0)
        by_base = unbroadcast(x.mul(p - 1).exp().mul(p).mul(grad_output), x.shape)
        if not isinstance(p, SharedTensor) or not ctx.needs[1]:
            return by_base
        return by_base, unbroadcast(result.mul(x).mul(grad_output), p.shape)


class Reciprocal(Function):
    """CrypTen's squares 1 / x first, which leaves the range for a small x."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, input_in_01: bool = False) -> Any:
        """1 / x."""
        result = x.reciprocal()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """-g / x^2."""
        (result,) = ctx.saved_tensors
        return grad_output.mul(result).mul(result).neg()


class Sqrt(Function):
    """CrypTen's changes what it saved."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """The square root."""
        ctx.save_for_backward(x)
        return x.sqrt()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """1 / (2 sqrt(x)); 0 for x = 0."""
        (x,) = ctx.saved_tensors
        return grad_output.mul(x.inv_sqrt()).mul(0.5)


class InvSqrt(Function):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """1 / sqrt(x)."""
        result = x.inv_sqrt()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """-1 / (2 x sqrt(x))."""
        (result,) = ctx.saved_tensors
        return grad_output.mul(result).mul(result).mul(result).mul(-0.5)


POWERS = {
    "square": Square,
    "pow": Pow,
    "pos_pow": PosPow,
    "reciprocal": Reciprocal,
    "sqrt": Sqrt,
    "inv_sqrt": InvSqrt,
}
"""By the name of the method."""
