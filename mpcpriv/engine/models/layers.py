"""Normalisation, pooling and look-up as functions of tensors, plain and encrypted alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpcpriv.engine.models.functions import pair
from mpcpriv.engine.models.kinds import MASKED, Tensor, encrypted, functional
from mpcpriv.engine.models.shapes import pad
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError

# Normalisation


def inverse_root(x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return x.inv_sqrt() if encrypted(x) else x.rsqrt()


def standardise(x: Tensor, eps: float) -> Tensor:
    """x less its mean over the last dimension, divided by its standard deviation there.

    Variances are held in units of 2^-16, as every number is, and eps is rounded to them.
    """
    centred = x - x.mean(-1, keepdim=True)
    spread = centred.square().mean(-1, keepdim=True) + eps
    return centred * inverse_root(spread)


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """As `torch.nn.functional.layer_norm`."""
    size = list(x.size())
    flat = x.reshape([*size[: len(size) - len(shape)], -1])
    result = standardise(flat, eps).reshape(size)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """As `torch.nn.functional.rms_norm`."""
    size = list(x.size())
    flat = x.reshape([*size[: len(size) - len(shape)], -1])
    mean = flat.square().mean(-1, keepdim=True) + (2.0**-23 if eps is None else eps)
    result = (flat * inverse_root(mean)).reshape(size)
    return result if weight is None else result * weight


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """As `torch.nn.functional.group_norm`."""
    size = list(x.size())
    result = standardise(x.reshape([size[0], groups, -1]), eps).reshape(size)
    shape = [1, size[1]] + [1] * (len(size) - 2)
    result = result if weight is None else result * weight.reshape(shape)
    return result if bias is None else result + bias.reshape(shape)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    inverse: Tensor | None = None,
) -> Tensor:
    """As `torch.nn.functional.batch_norm`; `inverse` is 1 / sqrt(variance + eps) where it is known."""
    if not encrypted(x):
        return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    channels = x.size(1)
    weight = SharedTensor.constant(torch.ones(channels)) if weight is None else weight
    bias = SharedTensor.constant(torch.zeros(channels)) if bias is None else bias
    return x.batchnorm(
        weight,
        bias,
        running_mean=mean,
        running_var=variance,
        training=training,
        eps=eps,
        momentum=momentum,
        inv_var=inverse,
    )


# Pooling


def _windows(size: int, kernel: int, stride: int, padding: int, gap: int, ceil: bool) -> tuple[int, int]:
    """How many windows there are along a dimension, and how much must be padded behind for the last."""
    span = gap * (kernel - 1) + 1
    free = size + 2 * padding - span
    count = (-(-free // stride) if ceil else free // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1  # the last window must begin inside the input or its left padding
    return count, max((count - 1) * stride + span - size - padding, 0)


def _as_images(x: Tensor, dims: int) -> tuple[Tensor, bool]:
    """x as (N, C, H, W), and whether it came without N."""
    single = x.dim() == dims + 1
    x = x.unsqueeze(0) if single else x
    return (x.unsqueeze(-2) if dims == 1 else x), single


def _back(x: Tensor, dims: int, single: bool) -> Tensor:
    x = x.squeeze(-2) if dims == 1 else x
    return x.squeeze(0) if single else x


def max_pool(
    x: Tensor,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    dims: int = 2,
) -> Tensor:
    """As torch's max pooling in one or two dimensions; what is padded never wins (C9)."""
    sizes, gaps, pads = pair(kernel, dims), pair(dilation, dims), pair(padding, dims)
    steps = pair(stride, dims) if stride else sizes
    if any(2 * p > k for p, k in zip(pads, sizes, strict=True)):
        raise UsageError(f"max pooling with padding {list(pads)}: at most half of the kernel {list(sizes)}")
    x, single = _as_images(x, dims)
    if dims == 1:
        sizes, steps, pads, gaps = (1, *sizes), (1, *steps), (0, *pads), (1, *gaps)
    sides: list[int] = []
    for size, k, s, p, g in zip(
        reversed(x.size()[-2:]), *map(reversed, (sizes, steps, pads, gaps)), strict=True
    ):
        _, behind = _windows(size, k, s, p, g, ceil_mode)
        sides += [p, behind]
    if sides[::2] != sides[1::2] and any(b > p for p, b in zip(sides[::2], sides[1::2], strict=True)):
        # Uneven padding: below everything that a model computes, above the end of the range.
        x, pads = pad(x, sides, value=MASKED), (0, 0)
    result = functional("max_pool2d", x, sizes, stride=steps, padding=pads, dilation=gaps)
    return _back(result, dims, single)


def avg_pool(
    x: Tensor,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    dims: int = 2,
) -> Tensor:
    """As torch's average pooling in one or two dimensions, by what each window counts (C12)."""
    sizes, pads = pair(kernel, dims), pair(padding, dims)
    steps = pair(stride, dims) if stride else sizes
    x, single = _as_images(x, dims)
    if dims == 1:
        sizes, steps, pads = (1, *sizes), (1, *steps), (0, *pads)
    area = math.prod(sizes)
    sides: list[int] = []
    counts = torch.ones(1, 1, dtype=torch.float64)
    for i in range(2):
        size, k, s, p = x.size(i - 2), sizes[i], steps[i], pads[i]
        count, behind = _windows(size, k, s, p, 1, ceil_mode)
        sides = [p, behind, *sides]
        end = size + p if count_include_pad else size
        begin = [j * s - p for j in range(count)]
        held = [min(b + k, end) - max(b, -p if count_include_pad else 0) for b in begin]
        along = torch.tensor(held, dtype=torch.float64)
        counts = counts * (along.reshape(-1, 1) if i == 0 else along.reshape(1, -1))
    if any(sides):
        x = pad(x, sides)
    result = functional("avg_pool2d", x, sizes, stride=steps)
    if divisor is not None:
        counts = torch.full_like(counts, divisor)
    if bool((counts != area).any()):
        factor = area / counts
        same = bool((factor == factor.flatten()[0]).all())
        result = result * (float(factor.flatten()[0]) if same else factor.to(torch.get_default_dtype()))
    return _back(result, dims, single)


def adaptive_avg_pool(x: Tensor, output: Any, dims: int = 2) -> Tensor:
    """As torch's adaptive average pooling: a public matrix along each dimension that shrinks."""
    wanted: tuple[int | None, ...] = pair(output, dims)  # None leaves a dimension as it is
    for i, count in enumerate(wanted):
        dim = x.dim() - dims + i
        size = x.size(dim)
        if count is None or count == size:
            continue
        if count == 1:
            x = x.mean(dim, keepdim=True)
            continue
        weights = torch.zeros(size, count, dtype=torch.get_default_dtype())
        for j in range(count):
            begin, end = j * size // count, -(-(j + 1) * size // count)
            weights[begin:end, j] = 1 / (end - begin)
        x = x.transpose(dim, -1).matmul(weights).transpose(dim, -1)
    return x


def adaptive_max_pool(x: Tensor, output: Any, dims: int = 2) -> Tensor:
    """As torch's adaptive maximum pooling where the windows are equal.

    Raises:
        Unsupported: the output does not divide the input.
    """
    sizes = tuple(x.size())[-dims:]
    given: tuple[int | None, ...] = pair(output, dims)  # None leaves a dimension as it is
    wanted = [size if count is None else count for size, count in zip(sizes, given, strict=True)]
    if any(size % count for size, count in zip(sizes, wanted, strict=True)):
        raise Unsupported(f"adaptive_max_pool of {list(sizes)} to {wanted}: it must divide evenly")
    kernel = tuple(size // count for size, count in zip(sizes, wanted, strict=True))
    return max_pool(x, kernel, dims=dims)


# Look-up


def embedding(weight: Tensor, index: Tensor) -> Tensor:
    """The rows of `weight` at `index`: public indices, or one-hot vectors in the last dimension.

    Raises:
        UsageError: an encrypted index that is not one-hot over the rows.
    """
    if isinstance(index, torch.Tensor) and not index.is_floating_point():
        if not encrypted(weight):
            return torch.nn.functional.embedding(index, weight)
        return weight.index_select(0, index.flatten()).reshape([*index.shape, weight.size(1)])
    rows = weight.size(0)
    if index.dim() == 0 or index.size(-1) != rows:
        raise UsageError(
            f"an embedding of {rows} rows takes encrypted indices one-hot, of shape (..., {rows}): "
            f"torch.nn.functional.one_hot(index, {rows}); this one has shape {list(index.size())}"
        )
    return index.matmul(weight)
