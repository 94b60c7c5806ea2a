"""Gradients of functions of single elements, and of softmax."""
# ruff: noqa: ARG004

from __future__ import annotations

import math
from typing import Any, Final

import crypten
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS, encode
from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.protocol import rectifiers
from mpcpriv.engine.protocol.piecewise import Piecewise, evaluate
from mpcpriv.engine.protocol.rectifiers import Rectifier
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.engine.tensor.activations import check_softplus, gelu_form
from mpcpriv.errors import Unsupported, UsageError

_POSITIVE: Final = Piecewise.of([1], [[0], [0, 1]], [[0], [1]])
"""max(x, 0) and [x > 0], as torch has the slope."""
_MAGNITUDE: Final = Piecewise.of([0, 1], [[0, -1], [0], [0, 1]], [[-1], [0], [1]])
"""abs(x), and the sign with 0 for 0."""


def _value_and_slope(function: Piecewise, x: SharedTensor) -> tuple[SharedTensor, SharedTensor]:
    value, slope = evaluate(session.current(), function, x.share)
    return SharedTensor.of(value, x.bits), SharedTensor.of(slope, 0)


class Sloped(Function):
    """An operation that saves its slope."""

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient times the slope."""
        (slope,) = ctx.saved_tensors
        return grad_output.mul(slope)

    @staticmethod
    def by_one(ctx: Any) -> Any:
        """The slope."""
        return (ctx.saved_tensors[0],), 1.0


class ReLU(Sloped):
    """CrypTen compares and then multiplies; one piecewise function gives the value and the slope."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """max(x, 0), with the slope 0 at 0 as in torch."""
        value, slope = _value_and_slope(_POSITIVE, x)
        ctx.save_for_backward(slope)
        return value


class Abs(Sloped):
    """CrypTen multiplies by the sign, and its slope at 0 is 1."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """The magnitude, with the slope 0 at 0 as in torch."""
        value, slope = _value_and_slope(_MAGNITUDE, x)
        ctx.save_for_backward(slope)
        return value


def _clamped(x: SharedTensor, low: Any, high: Any, *, inclusive: bool) -> tuple[SharedTensor, SharedTensor]:
    """x held between public bounds, and the slope: 1 inside, and on the bounds if they are inclusive."""
    for bound in (low, high):
        if bound is not None and not isinstance(bound, (int, float)):
            raise Unsupported("clamp between tensors is not offered: bounds are public numbers")
    if low is None and high is None:
        raise UsageError("clamp needs a lower or an upper bound")
    ends = [
        None if b is None or math.isinf(b) else int(encode(float(b)).item()) for b in (low, high)
    ]  # an infinite bound is none
    wide = SharedTensor.of(x.at(FRACTIONAL_BITS))
    first, last = ends
    if first is not None and last is not None and first >= last:
        return wide.mul(0).add(float(high)), SharedTensor.of(torch.zeros_like(wide.share), 0)
    thresholds: list[int] = []
    values: list[list[int]] = [[0, 1]]
    slopes: list[list[int]] = [[1]]
    if first is not None:
        thresholds.append(first if inclusive else first + 1)
        values.insert(0, [first])
        slopes.insert(0, [0])
    if last is not None:
        thresholds.append(last + 1 if inclusive else last)
        values.append([last])
        slopes.append([0])
    if not thresholds:
        return wide, SharedTensor.constant(torch.ones(tuple(x.shape), dtype=torch.int64), 0)
    if len(thresholds) == 2 and thresholds[0] >= thresholds[1]:  # no value lies strictly between
        return _clamped(x, low, high, inclusive=True)
    return _value_and_slope(Piecewise.of(thresholds, values, slopes), wide)


class Clamp(Sloped):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, min: Any = None, max: Any = None) -> Any:  # noqa: A002
        """As `torch.clamp` with public numbers, exactly; four rounds."""
        value, slope = _clamped(x, min, max, inclusive=True)
        ctx.save_for_backward(slope)
        return value


class HardTanh(Sloped):
    """CrypTen's takes other names for the bounds than the method, and several comparisons."""

    @staticmethod
    def forward(
        ctx: Any,
        x: SharedTensor,
        min_val: float = -1,
        max_val: float = 1,
        *,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> Any:
        """As `torch.nn.functional.hardtanh`, exactly; four rounds."""
        low = min_val if min_value is None else min_value
        high = max_val if max_value is None else max_value
        value, slope = _clamped(x, low, high, inclusive=False)
        ctx.save_for_backward(slope)
        return value


class ReLU6(Sloped):
    """CrypTen's compares twice."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """As `torch.nn.functional.relu6`, exactly; four rounds."""
        value, slope = _clamped(x, 0, 6, inclusive=False)
        ctx.save_for_backward(slope)
        return value


class LeakyReLU(Function):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, negative_slope: float = 0.01) -> Any:
        """As `torch.nn.functional.leaky_relu`; five rounds."""
        value, slope = _value_and_slope(_POSITIVE, x)
        ctx.save_multiple_for_backward((slope, negative_slope))
        return x.mul(negative_slope).add(value.mul(1 - negative_slope))

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """1 above 0, the slope below."""
        slope, negative = ctx.saved_tensors
        return grad_output.mul(slope).mul(1 - negative).add(grad_output.mul(negative))


class Rectified(Sloped):
    """CrypTen has none: the value and the slope of one evaluation."""

    @staticmethod
    def of(x: SharedTensor, function: Rectifier, ctx: Any) -> SharedTensor:
        """The value; the slope is kept."""
        value, slope = x.rectified_with_slope(function)
        ctx.save_for_backward(slope)
        return value


class GELU(Rectified):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, approximate: str = "none") -> Any:
        """As `torch.nn.functional.gelu`."""
        return Rectified.of(x, gelu_form(approximate), ctx)


class SiLU(Rectified):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """As `torch.nn.functional.silu`."""
        return Rectified.of(x, rectifiers.SILU, ctx)


class Mish(Rectified):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """As `torch.nn.functional.mish`."""
        return Rectified.of(x, rectifiers.MISH, ctx)


class Softplus(Rectified):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, beta: float = 1.0, threshold: float = 20.0) -> Any:
        """As `torch.nn.functional.softplus`; beta is no factor of the slope."""
        check_softplus(beta, threshold)
        value = Rectified.of(x if beta == 1 else x.mul(beta), rectifiers.SOFTPLUS, ctx)
        return value if beta == 1 else value.div(beta)


class ELU(Rectified):
    """CrypTen has none."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, alpha: float = 1.0) -> Any:
        """As `torch.nn.functional.elu`; with another alpha than 1, five rounds more."""
        value = Rectified.of(x, rectifiers.ELU, ctx)
        if alpha == 1:
            return value
        positive, above = _value_and_slope(_POSITIVE, x)
        (slope,) = ctx.saved_tensors
        ctx.context = []
        ctx.save_for_backward((slope - above).mul(alpha) + above)
        return (value - positive).mul(alpha) + positive


class Sign(Function):
    """CrypTen's is 1 at 0."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """1, 0 or -1."""
        return x.sign()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """Zero."""
        return grad_output.mul(0)


class Erf(Function):
    """CrypTen's squares inputs of any size, which wraps."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """The error function."""
        ctx.save_for_backward(x)
        return x.erf()

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """2 / sqrt(pi) e^(-x^2), with x held between -4 and 4, where that is 0 already."""
        (x,) = ctx.saved_tensors
        near, _ = _clamped(x, -4, 4, inclusive=True)
        return grad_output.mul(near.square().neg().exp()).mul(2 / math.sqrt(math.pi))


class Cos(Function):
    """CrypTen's changes what it saved."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """cos x."""
        cosine, sine = x.cossin()
        ctx.save_for_backward(sine)
        return cosine

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """-sin x."""
        (sine,) = ctx.saved_tensors
        return grad_output.mul(sine).neg()


class Sin(Function):
    """CrypTen's changes what it saved."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor) -> Any:
        """sin x."""
        cosine, sine = x.cossin()
        ctx.save_for_backward(cosine)
        return sine

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """cos x."""
        (cosine,) = ctx.saved_tensors
        return grad_output.mul(cosine)


class Softmax(Function):
    """CrypTen's is 0 for a dimension of one, where it is right, and for no dimension at all."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, dim: int) -> Any:
        """As `torch.softmax`."""
        result = x.softmax(dim)
        ctx.save_multiple_for_backward((result, dim))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """p (g - sum(p g))."""
        probabilities, dim = ctx.saved_tensors
        weighted = probabilities.mul(grad_output)
        return weighted - probabilities.mul(weighted.sum(dim, keepdim=True))


class LogSoftmax(Function):
    """CrypTen's is 0 for a tensor without dimensions only by accident."""

    @staticmethod
    def forward(ctx: Any, x: SharedTensor, dim: int) -> Any:
        """As `torch.log_softmax`."""
        result = x.log_softmax(dim)
        ctx.save_multiple_for_backward((result, dim))
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """g - p sum(g)."""
        result, dim = ctx.saved_tensors
        return grad_output - result.exp().mul(grad_output.sum(dim, keepdim=True))


class Dropout(Function):
    """CrypTen draws the mask from a public generator where there is a gradient, and drops in evaluation."""

    channels = False

    @classmethod
    def forward(
        cls, ctx: Any, x: SharedTensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Any:
        """As `torch.nn.functional.dropout`; the mask is known to nobody."""
        if not 0 <= p <= 1:
            raise UsageError(f"dropout with p={p}: a probability is needed")
        if inplace:
            raise Unsupported("dropout with inplace=True is not offered: use its result")
        if not training or p == 0:
            ctx.save_for_backward(None)
            return x.clone()
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if cls.channels else tuple(x.shape)
        if p == 1:
            kept, factor = torch.zeros(shape, dtype=torch.int64), 1.0
        else:
            kept, factor = crypten.rand(shape) >= p, 1 / (1 - p)
        ctx.save_multiple_for_backward((kept, factor))
        return x.mul(kept).mul(factor)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient of what was kept."""
        kept, *factor = ctx.saved_tensors
        return grad_output if kept is None else grad_output.mul(kept).mul(factor[0])


class FeatureDropout(Dropout):
    """Whole channels; else as `Dropout`."""

    channels = True


FUNCTIONS = {
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "softplus": Softplus,
    "elu": ELU,
    "relu": ReLU,
    "abs": Abs,
    "clamp": Clamp,
    "clip": Clamp,
    "hardtanh": HardTanh,
    "relu6": ReLU6,
    "leaky_relu": LeakyReLU,
    "sign": Sign,
    "erf": Erf,
    "cos": Cos,
    "sin": Sin,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
    "dropout": Dropout,
    "_feature_dropout": FeatureDropout,
}
"""By the name of the method."""
