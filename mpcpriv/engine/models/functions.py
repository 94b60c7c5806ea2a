"""Layers as functions of tensors, plain and encrypted alike, in the operations that both kinds have.

A converted model is checked in plain against the original with these same functions, so what is
written here is what was checked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from crypten.cryptensor import CrypTensor

from mpcpriv.engine.models.kinds import MASKED, Tensor, encrypted, finite, functional
from mpcpriv.engine.models.shapes import chunk, pad
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.engine.tensor.deferred import deferring
from mpcpriv.errors import Unsupported, UsageError


def uniform(shape: Sequence[int]) -> torch.Tensor:
    """Plain uniform numbers in [0, 1), from the operating system."""
    count = math.prod(shape)
    words = np.frombuffer(os.urandom(4 * count), dtype=np.uint32)
    return torch.from_numpy(words / float(1 << 32)).reshape(tuple(shape))


def pair(value: Any, dims: int = 2) -> tuple[int, ...]:
    """One integer per dimension."""
    values = (value,) * dims if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values


# Activations


def clamp(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """x limited to [low, high]; one comparison for both sides."""
    low = None if low is None or low == -math.inf else float(low)
    high = None if high is None or high == math.inf else float(high)
    if low is None and high is None:
        return x
    return x.clamp(low, high)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x above zero, slope times x below."""
    return x.relu() * (1 - slope) + x * slope


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x above zero, weight of its channel times x below."""
    if weight.dim() == 1 and x.dim() > 1:
        weight = weight.reshape([-1] + [1] * (x.dim() - 2))
    positive = x.relu()
    return positive + (x - positive) * weight


def elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """x above zero, alpha (e^x - 1) below."""
    if input_scale == 1:
        result = functional("elu", x, float(alpha))
        return result if scale == 1 else result * scale
    positive = x.relu()
    below = ((x - positive) * input_scale).exp() - 1
    return positive * scale + below * (alpha * scale)


def selu(x: Tensor) -> Tensor:
    """The exponential unit that keeps mean and variance (Klambauer et al., NeurIPS 2017, section 2)."""
    return elu(x, 1.6732632423543772, 1.0507009873554805)


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half of x along a dimension times the sigmoid of the second."""
    left, right = chunk(x, 2, dim)
    return left * right.sigmoid()


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function, or torch's approximation to it."""
    return functional("gelu", x, approximate=approximate)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return functional("silu", x)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta x)) / beta."""
    return functional("softplus", x, float(beta), float(threshold))


def mish(x: Tensor) -> Tensor:
    """x tanh(softplus(x))."""
    return functional("mish", x)


def hardsigmoid(x: Tensor) -> Tensor:
    """x / 6 + 1/2, limited to [0, 1]."""
    return clamp(x + 3, 0, 6) * (1 / 6)


def dropout(x: Tensor, p: float = 0.5, training: bool = True, channels: bool = False) -> Tensor:
    """Zeroes elements (or whole channels) with probability p and scales the rest by 1 / (1 - p).

    Which ones is known to nobody: the parties draw the mask together, encrypted.

    Raises:
        UsageError: p is not a probability.
    """
    if not 0 <= p <= 1:
        raise UsageError(f"dropout with p={p}: a probability is needed")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    shape = [*x.size()[:2], *[1] * (x.dim() - 2)] if channels else list(x.size())
    if encrypted(x):
        with CrypTensor.no_grad():
            kept = SharedTensor.rand(shape) >= p
        return (x * kept) * (1 / (1 - p))
    return x * (uniform(shape) >= p).to(x.dtype) / (1 - p)


# Products


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b."""
    with deferring():
        result = x.matmul(weight.transpose(0, 1) if weight.dim() == 2 else weight)
        return result if bias is None else result + bias


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution over as many dimensions as the kernel has, with torch's strings for padding."""
    dims = weight.dim() - 2
    single = x.dim() == dims + 1
    x = x.unsqueeze(0) if single else x
    steps, gaps = pair(stride, dims), pair(dilation, dims)
    if padding == "same":
        sides: list[int] = []
        for gap, size in zip(reversed(gaps), reversed(weight.size()[2:]), strict=True):
            total = gap * (size - 1)
            sides += [total // 2, total - total // 2]  # torch puts the odd one behind
        pads: tuple[int, ...] = (0,) * dims
        if sides[::2] == sides[1::2]:
            pads = tuple(reversed(sides[::2]))
        else:
            x = pad(x, sides)
    else:
        pads = (0,) * dims if padding == "valid" else pair(padding, dims)
    name = f"conv{dims}d"
    if dims > 2:
        raise Unsupported(f"{name}: convolutions have one or two dimensions here")
    one = dims == 1
    with deferring():
        result = functional(
            name,
            x,
            weight,
            stride=steps[0] if one else steps,
            padding=pads[0] if one else pads,
            dilation=gaps[0] if one else gaps,
            groups=groups,
        )
        if bias is not None:
            result = result + bias.reshape([-1] + [1] * dims)
    return result.squeeze(0) if single else result


def convolve_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of a convolution, as `torch.nn.functional.conv_transpose2d`."""
    dims = weight.dim() - 2
    if dims > 2:
        raise Unsupported(f"conv_transpose{dims}d: convolutions have one or two dimensions here")
    options = {
        "stride": pair(stride, dims),
        "padding": pair(padding, dims),
        "output_padding": pair(output_padding, dims),
        "groups": groups,
        "dilation": pair(dilation, dims),
    }
    result = functional(f"conv_transpose{dims}d", x, weight, **options)
    return result if bias is None else result + bias.reshape([-1] + [1] * dims)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V; a public mask says where attention is allowed."""
    if enable_gqa:
        raise Unsupported("scaled_dot_product_attention with enable_gqa=True")
    scale = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    scores = (query * scale).matmul(key.transpose(-2, -1))
    if is_causal:
        mask = torch.ones(scores.size(-2), scores.size(-1), dtype=torch.bool).tril()
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        scores = choose(mask, scores, MASKED)
    elif mask is not None:
        scores = scores + finite(mask)
    weights = dropout(scores.softmax(-1), dropout_p)
    return weights.matmul(value)


def choose(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition is 1, y elsewhere; the condition public or encrypted."""
    x, y = finite(x), finite(y)
    if isinstance(condition, torch.Tensor):
        if not encrypted(x) and not encrypted(y):
            return torch.where(condition.bool(), x, y)
        kept = condition.to(torch.int64)
        left = x * kept if encrypted(x) or isinstance(x, torch.Tensor) else kept * x
        rest = 1 - kept
        right = y * rest if encrypted(y) or isinstance(y, torch.Tensor) else rest * y
        return left + right if encrypted(left) else right + left
    return condition * (x - y) + y
