"""Losses and their gradients: means over elements, divided after everything else."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import crypten
import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor
from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.gradients.graph import HEADROOM
from mpcpriv.engine.protocol.bounded import BITS, ERROR, scaled_sigmoid
from mpcpriv.engine.protocol.piecewise import Limited, Piecewise, evaluate, limited, rectifier
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.engine.tensor.arithmetic import scaled
from mpcpriv.errors import UsageError


class Loss(Function):
    """A mean over n elements whose gradients are `parts(...) / n`; n is the first tensor saved.

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
    """CrypTen's takes the logarithm of a rounded sigmoid: 11.8 at most, whatever the logit.

    The residual that the gradient needs is divided by n where that costs nothing: the sigmoid's pieces
    hold the factor, and the target is multiplied beside their truncation.
    """

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, target: Any, skip_forward: bool = False) -> Any:
        """As `torch.nn.functional.binary_cross_entropy_with_logits`: max(x, 0) - t x + ln(1 + e^-abs(x))."""
        _same_shape("binary_cross_entropy_with_logits", x, target)
        count = max(target.nelement(), 1)
        # The gradient by the target is not the residual: with it, everything is divided later.
        divisor = count if _needs_target(ctx) else 1 << min(HEADROOM, (count - 1).bit_length())
        scale = divisor / count
        smaller = -math.floor(math.log2(scale))
        pieces = (scaled_sigmoid if skip_forward else _logistic)(scale * (1 << smaller))
        found = evaluate(session.current(), pieces, *x.argument)
        secret = isinstance(target, SharedTensor)
        values = [(found[0], BITS - FRACTIONAL_BITS + smaller)]
        values += [] if skip_forward else [(found[1], BITS - FRACTIONAL_BITS)]
        values += scaled(target, -scale) if secret else []
        probability, *others = map(SharedTensor.of, truncate(session.current(), values))
        log = _skipped() if skip_forward else others.pop(0)
        residual = sum(others, probability) if secret else probability - as_tensor(target).double() * scale
        ctx.save_multiple_for_backward((divisor, x, residual))
        return log if skip_forward else (SharedTensor.of(found[2]) + log - x * target).mean()

    @classmethod
    def parts(cls, ctx: Any) -> list[Any]:
        """sigmoid(x) - t by the logit, -x by the target."""
        _, x, residual = ctx.saved_tensors
        return [residual if ctx.needs[0] else None, -x if _needs_target(ctx) else None][: len(ctx.needs)]


@cache
def _logistic(scale: float) -> Piecewise:
    """scale / (1 + e^-x) and ln(1 + e^-abs(x)) with `BITS` fractional bits, and max(x, 0); off by 1e-4."""
    sigmoid = Limited(lambda x: scale / (1 + np.exp(-x)), 0.0, scale)
    log = Limited(lambda x: np.log1p(np.exp(-np.abs(x))), 0.0, 0.0)
    thresholds, pieces = limited([sigmoid, log], degree=3, bits=BITS, error=ERROR, through=[0])
    return Piecewise.of(thresholds, *pieces, rectifier(thresholds))


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
