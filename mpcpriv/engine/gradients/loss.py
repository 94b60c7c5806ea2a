"""Losses and their gradients: means over elements, divided after everything else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import crypten
import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.protocol.piecewise import Piecewise, Polynomial, evaluate, fit, polynomial
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import UsageError

_BITS: Final = 60
"""Fractional bits of what is bounded by 1, before truncation."""


class Loss(Function):
    """A mean over n elements whose gradients are `parts(...) / n`.

    CrypTen's divides each element by n first, which rounds a residual of 569 rows to two digits, and then
    multiplies by the gradient of the loss itself, which is one.
    """

    @classmethod
    def parts(cls, ctx: Any) -> list[Any]:
        """n times the gradient by each operand, None where it is not needed."""
        raise NotImplementedError

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """The parts times the gradient, divided last."""
        factor = 1 / max(ctx.saved_tensors[0], 1)
        scaled = ctx.times(grad_output, factor)
        return [None if part is None else scaled.mul(part) for part in cls.parts(ctx)]

    @classmethod
    def by_one(cls, ctx: Any) -> Any:
        """The parts, and 1 / n."""
        return cls.parts(ctx), 1 / max(ctx.saved_tensors[0], 1)


def _same_shape(name: str, x: SharedTensor, target: Any) -> None:
    if tuple(x.shape) != tuple(target.shape):
        raise UsageError(f"{name}: prediction of shape {list(x.shape)}, target of {list(target.shape)}")


def _skipped() -> SharedTensor:
    """A loss that nobody computes: only its gradient is wanted."""
    return SharedTensor.constant(0.0)


class BinaryCrossEntropy(Loss):
    """CrypTen's has no gradient by the target."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, target: Any, skip_forward: bool = False) -> Any:
        """As `torch.nn.functional.binary_cross_entropy`."""
        _same_shape("binary_cross_entropy", x, target)
        ctx.save_multiple_for_backward((target.nelement(), x, target))
        if skip_forward:
            return _skipped()
        one, other = crypten.stack([x, 1 - x]).log()
        return ((one - other) * target + other).mean().neg()

    @classmethod
    def parts(cls, ctx: Any) -> list[Any]:
        """(1 - t) / (1 - p) - t / p by the probability, ln(1 - p) - ln p by the target."""
        _, x, target = ctx.saved_tensors
        found: list[Any] = [None, None]
        both = crypten.stack([x, 1 - x])
        if ctx.needs[0]:
            positive, negative = both.reciprocal() * _stacked(target)
            found[0] = negative - positive
        if isinstance(target, SharedTensor) and ctx.needs[1]:
            one, other = both.log()
            found[1] = other - one
        return found[: len(ctx.needs)]


def _stacked(target: Any) -> Any:
    return (
        torch.stack([target, 1 - target])
        if isinstance(target, torch.Tensor)
        else crypten.stack([target, 1 - target])
    )


class BinaryCrossEntropyWithLogits(Loss):
    """CrypTen's takes the logarithm of a rounded sigmoid: 11.8 at most, whatever the logit."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, target: Any, skip_forward: bool = False) -> Any:
        """As `torch.nn.functional.binary_cross_entropy_with_logits`: max(x, 0) - t x + ln(1 + e^-abs(x))."""
        _same_shape("binary_cross_entropy_with_logits", x, target)
        if skip_forward:
            ctx.save_multiple_for_backward((target.nelement(), x, target, x.sigmoid()))
            return _skipped()
        s = session.current()
        found = evaluate(s, _logistic(), x.at(FRACTIONAL_BITS))
        small = truncate(s, [(found[:2], _BITS - FRACTIONAL_BITS)])[0]
        probability, log = SharedTensor.of(small[0]), SharedTensor.of(small[1])
        ctx.save_multiple_for_backward((target.nelement(), x, target, probability))
        return (SharedTensor.of(found[2]) + log - x * target).mean()

    @classmethod
    def parts(cls, ctx: Any) -> list[Any]:
        """sigmoid(x) - t by the logit, -x by the target."""
        _, x, target, probability = ctx.saved_tensors
        found: list[Any] = [None, None]
        if ctx.needs[0]:
            found[0] = probability - target
        if isinstance(target, SharedTensor) and ctx.needs[1]:
            found[1] = -x
        return found[: len(ctx.needs)]


@cache
def _logistic() -> Piecewise:
    """1 / (1 + e^-x) and ln(1 + e^-abs(x)) with 60 fractional bits, and max(x, 0); errors below 1e-4."""
    above = (0.23, 0.7, 1.35, 2.07, 2.72, 3.42, 4.26, 5.35, 6.99, 9.8)
    thresholds = [round(k * 2**FRACTIONAL_BITS) for k in (*(-k for k in reversed(above)), 0.0, *above)]

    def pieces(function: Callable[[np.ndarray], np.ndarray], high: float) -> list[Polynomial]:
        fitted = [polynomial([0.0], 0, _BITS)]
        for left, right in itertools.pairwise(thresholds):
            middle = (left + right) // 2
            low, top = (2.0**-FRACTIONAL_BITS * edge for edge in (2 * middle - right, right))
            fitted.append(polynomial(fit(function, low, top, 2), middle, _BITS))
        return [*fitted, polynomial([high], 0, _BITS)]

    sigmoid = pieces(lambda x: 1 / (1 + np.exp(-x)), 1.0)
    log = pieces(lambda x: np.log1p(np.exp(-np.abs(x))), 0.0)
    relu: list[Polynomial] = [[0] if t <= 0 else [0, 1] for t in (*thresholds, 1)]
    return Piecewise.of(thresholds, sigmoid, log, relu)


class CrossEntropy(Loss):
    """CrypTen's divides by the classes where the batch has one row, and takes a rounded logarithm (C11)."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, target: Any, skip_forward: bool = False) -> Any:
        """As `torch.nn.functional.cross_entropy` with probabilities (such as one-hot labels) for targets.

        Classes are in dimension 1, or in the only one.
        """
        _same_shape("cross_entropy", x, target)
        dim = 1 if x.dim() > 1 else 0
        count = max(x.nelement() // max(x.size(dim), 1), 1)
        logits = x - x.max(dim, keepdim=True)[0]
        powers = logits.exp()
        total = powers.sum(dim, keepdim=True)
        log_total = None if skip_forward and not _needs_target(ctx) else total.log()
        ctx.save_multiple_for_backward((count, target, powers, total, logits, log_total))
        if skip_forward or log_total is None:
            return _skipped()
        return ((logits - log_total) * target).sum().neg().mul(1 / count)

    @classmethod
    def parts(cls, ctx: Any) -> list[Any]:
        """softmax(x) - t by the logits, -log_softmax(x) by the target."""
        _, target, powers, total, logits, log_total = ctx.saved_tensors
        found: list[Any] = [None, None]
        if ctx.needs[0]:
            found[0] = powers * total.reciprocal() - target
        if isinstance(target, SharedTensor) and ctx.needs[1]:
            found[1] = log_total - logits
        return found[: len(ctx.needs)]


def _needs_target(ctx: Any) -> bool:
    needs = getattr(ctx, "needs", [])
    return len(needs) > 1 and needs[1]


LOSSES = {
    "binary_cross_entropy": BinaryCrossEntropy,
    "binary_cross_entropy_with_logits": BinaryCrossEntropyWithLogits,
    "cross_entropy": CrossEntropy,
}
"""By the name of the method."""
