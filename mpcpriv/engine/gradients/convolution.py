"""Gradients of convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.engine.tensor.pooling import mean_factors
from mpcpriv.errors import UsageError

Geometry = tuple[int, ...]


def _each(value: Any, dims: int) -> Geometry:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if not all(isinstance(v, int) for v in values):
        raise UsageError(f"{value!r}: an integer, or {dims} of them, are needed")
    return values if len(values) == dims else values * dims


def _batched(x: Any, dims: int) -> Any:
    return x.unsqueeze(0) if x.dim() == dims + 1 else x


class Convolution(Function):
    """CrypTen's refuses most groups, and sums kernels only after rounding each image's."""

    dims: ClassVar[int] = 2

    @classmethod
    def forward(
        cls,
        ctx: Any,
        x: SharedTensor,
        kernel: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        """As `torch.nn.functional.conv1d` or `conv2d`, without bias."""
        geometry = [_each(value, cls.dims) for value in (stride, padding, dilation)]
        ctx.save_multiple_for_backward((x, kernel, *geometry, groups))
        convolve = getattr(x, f"conv{cls.dims}d")
        return convolve(kernel, stride=geometry[0], padding=geometry[1], dilation=geometry[2], groups=groups)

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """A transposed convolution by the input, a convolution of the input by the kernel."""
        x, kernel, stride, padding, dilation, groups = ctx.saved_tensors
        dims = cls.dims
        found: list[Any] = [None, None]
        if ctx.needs[0]:
            sizes = tuple(grad_output.shape[-dims:])
            least = _transposed_sizes(sizes, tuple(kernel.shape[-dims:]), stride, padding, dilation)
            missing = tuple(n - m for n, m in zip(x.shape[-dims:], least, strict=True))
            found[0] = getattr(grad_output, f"conv_transpose{dims}d")(
                kernel,
                stride=stride,
                padding=padding,
                output_padding=missing,
                groups=groups,
                dilation=dilation,
            )
        if isinstance(kernel, SharedTensor) and ctx.needs[1]:
            size = tuple(kernel.shape[-dims:])
            found[1] = by_kernel(x, grad_output, size, stride, padding, dilation, groups)
        return found


def _transposed_sizes(
    sizes: Geometry, kernel: Geometry, stride: Geometry, padding: Geometry, dilation: Geometry
) -> list[int]:
    """What a transposed convolution makes of these sizes without output padding."""
    return [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]


def by_kernel(
    x: Any,
    gradient: Any,
    size: Geometry,
    stride: Geometry,
    padding: Geometry,
    dilation: Geometry,
    groups: int,
) -> Any:
    """The gradient by a convolution's kernel: images take the place of channels, stride that of dilation.

    Args:
        x: what is convolved, (N, groups C, ...), or without N.
        gradient: by the result, (N, groups D, ...), or without N.
        size: of the kernel.

    Returns:
        (groups D, C, ...size).
    """
    dims = len(size)
    x, gradient = _batched(x, dims), _batched(gradient, dims)
    images, sizes = x.size(0), tuple(x.shape[2:])
    grouped = x.reshape(images, groups, -1, *sizes)
    order = (2, 1, 0, *range(3, dims + 3))
    swapped = grouped.permute(order).reshape(-1, groups * images, *sizes)
    found = getattr(swapped, f"conv{dims}d")(
        gradient.transpose(0, 1), stride=dilation, padding=padding, dilation=stride, groups=groups
    )
    for dim, n in enumerate(size):
        found = found.narrow(dim + 2, 0, n)
    return found.transpose(0, 1)


class TransposedConvolution(Function):
    """CrypTen has none."""

    dims: ClassVar[int] = 2

    @classmethod
    def forward(
        cls,
        ctx: Any,
        x: SharedTensor,
        kernel: Any,
        bias: None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        """As `torch.nn.functional.conv_transpose1d` or `conv_transpose2d`, without bias."""
        stride, padding, dilation = (_each(value, cls.dims) for value in (stride, padding, dilation))
        ctx.save_multiple_for_backward((x, kernel, stride, padding, dilation, groups))
        transpose = getattr(x, f"conv_transpose{cls.dims}d")
        outputs = _each(output_padding, cls.dims)
        return transpose(
            kernel,
            bias,
            stride=stride,
            padding=padding,
            output_padding=outputs,
            groups=groups,
            dilation=dilation,
        )

    @classmethod
    def backward(cls, ctx: Any, grad_output: SharedTensor) -> list[Any]:
        """A convolution of the gradient: by the input with the kernel, by the kernel with the input."""
        x, kernel, stride, padding, dilation, groups = ctx.saved_tensors
        dims = cls.dims
        found: list[Any] = [None, None]
        if ctx.needs[0]:
            by_input = getattr(grad_output, f"conv{dims}d")(
                kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
            )
            for dim in range(-dims, 0):
                by_input = by_input.narrow(dim, 0, x.size(dim))
            found[0] = by_input
        if isinstance(kernel, SharedTensor) and ctx.needs[1]:
            size = tuple(kernel.shape[-dims:])
            found[1] = by_kernel(grad_output, x, size, stride, padding, dilation, groups)
        return found


class Conv1d(Convolution):
    """Over one dimension."""

    dims = 1


class ConvTranspose1d(TransposedConvolution):
    """Over one dimension."""

    dims = 1


def _gathered(
    parts: torch.Tensor, shape: Sequence[int], stride: Geometry, padding: Geometry, dilation: Geometry
) -> torch.Tensor:
    """Adds windows (..., H', W', h, w) into the image that they were taken from."""
    (oh, ow, kh, kw), (sh, sw) = parts.shape[-4:], stride
    (ph, pw), (dh, dw) = padding, dilation
    # The last windows may end before the padded image does, or behind it.
    height = max(shape[-2] + 2 * ph, sh * (oh - 1) + dh * (kh - 1) + 1)
    width = max(shape[-1] + 2 * pw, sw * (ow - 1) + dw * (kw - 1) + 1)
    padded = torch.zeros((*shape[:-2], height, width), dtype=torch.int64)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
            columns = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
            padded[..., rows, columns] += parts[..., i, j]
    return padded[..., ph : ph + shape[-2], pw : pw + shape[-1]]


class AvgPool2d(Function):
    """CrypTen's drops `ceil_mode`, and divides each window's gradient by a rounded number."""

    @staticmethod
    def forward(
        ctx: Any,
        x: SharedTensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        """As `torch.nn.functional.avg_pool2d`."""
        kernel, strides, pads = (_each(value, 2) for value in (kernel_size, stride or kernel_size, padding))
        how = (ceil_mode, count_include_pad, divisor_override)
        factor, _ = mean_factors(tuple(x.shape[-2:]), kernel, strides, pads, *how)
        ctx.save_multiple_for_backward((tuple(x.shape), kernel, strides, pads, factor))
        return x.avg_pool2d(kernel, strides, pads, *how)

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """Each window's part of its gradient."""
        shape, kernel, stride, padding, factor = ctx.saved_tensors
        part = grad_output.mul(factor) if isinstance(factor, torch.Tensor) else ctx.times(grad_output, factor)
        windows = part.share[..., None, None].expand(*part.shape, *kernel)
        return SharedTensor.of(_gathered(windows, shape, stride, padding, (1, 1)), part.bits)


class MaxPool2d(Function):
    """CrypTen's refuses uneven padding, and loses gradients at the edge."""

    @staticmethod
    def forward(
        ctx: Any,
        x: SharedTensor,
        kernel_size: Any,
        padding: Any = 0,
        stride: Any = None,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """As the tensor's own."""
        geometry = [_each(value, 2) for value in (stride or kernel_size, padding, dilation)]
        value, hot = x.max_pool2d(
            kernel_size,
            padding=geometry[1],
            stride=geometry[0],
            dilation=geometry[2],
            ceil_mode=ceil_mode,
            return_indices=True,
        )
        ctx.save_multiple_for_backward((tuple(x.shape), hot, *geometry))
        if not return_indices:
            return value
        ctx.mark_non_differentiable(hot)
        return value, hot

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> Any:
        """The gradient where each window's maximum stands."""
        shape, hot, stride, padding, dilation = ctx.saved_tensors
        parts = grad_output.reshape(*grad_output.shape, 1, 1).mul(hot)
        return SharedTensor.of(_gathered(parts.share, shape, stride, padding, dilation), parts.bits)


CONVOLUTION = {
    "conv1d": Conv1d,
    "conv2d": Convolution,
    "conv_transpose1d": ConvTranspose1d,
    "conv_transpose2d": TransposedConvolution,
    "avg_pool2d": AvgPool2d,
    "max_pool2d": MaxPool2d,
}
"""By the name of the method."""
