"""Bilinear maps over Z_2^64 on int64 tensors: products that wrap, exactly, never through floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch.nn import functional

from mpcpriv.errors import UsageError

MapName = Literal["mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]
MAP_NAMES: Final[tuple[MapName, ...]] = (
    "mul",
    "matmul",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
)


@dataclass(frozen=True)
class Bilinear:
    """A bilinear map by name, with the geometry of a convolution where it is one (as in torch)."""

    name: MapName
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The map of two int64 tensors, modulo 2^64.

        Raises:
            UsageError: the shapes do not fit each other.
        """
        try:
            if self.name == "mul":
                return x * y
            if self.name == "matmul":
                return torch.matmul(x, y)
            if self.name in ("conv1d", "conv2d"):
                convolve = functional.conv1d if self.name == "conv1d" else functional.conv2d
                return convolve(
                    x, y, None, self.stride, self.padding, dilation=self.dilation, groups=self.groups
                )
            transpose = (
                functional.conv_transpose1d
                if self.name == "conv_transpose1d"
                else functional.conv_transpose2d
            )
            return transpose(
                x, y, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        except (RuntimeError, IndexError) as error:
            raise UsageError(
                f"{self.name} of shapes {list(x.shape)} and {list(y.shape)}: {str(error).splitlines()[0]}"
            ) from None

    def result_shape(self, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the map of operands of these shapes; nothing is computed.

        Raises:
            UsageError: the shapes do not fit each other.
        """
        try:
            if self.name == "mul":
                return np.broadcast_shapes(x, y)
            if self.name == "matmul":
                return _matmul_shape(x, y)
            return self._convolution_shape(x, y)
        except (ValueError, IndexError):
            raise UsageError(f"{self.name} of shapes {list(x)} and {list(y)}: they do not fit") from None

    def _convolution_shape(self, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
        dims = 1 if self.name.endswith("1d") else 2
        transposed = "transpose" in self.name
        if len(y) != dims + 2 or len(x) not in (dims + 1, dims + 2) or self.groups < 1:
            raise ValueError
        geometry = [self.stride, self.padding, self.dilation, *([self.output_padding] if transposed else [])]
        if any(len(g) != dims for g in geometry) or min(*self.stride, *self.dilation) < 1:
            raise ValueError
        inputs = y[0] if transposed else y[1] * self.groups
        if x[-dims - 1] != inputs or y[0] % self.groups:
            raise ValueError
        sizes = []
        for i in range(dims):
            reach = self.dilation[i] * (y[i + 2] - 1)
            if transposed:
                more = self.output_padding[i]
                size = (x[i - dims] - 1) * self.stride[i] - 2 * self.padding[i] + reach + 1 + more
            else:
                size = (x[i - dims] + 2 * self.padding[i] - reach - 1) // self.stride[i] + 1
            if size < 1:
                raise ValueError
            sizes.append(size)
        channels = y[1] * self.groups if transposed else y[0]
        return (*x[: -dims - 1], channels, *sizes)


def _matmul_shape(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    left = x if len(x) > 1 else (1, *x)
    right = y if len(y) > 1 else (*y, 1)
    if not x or not y or left[-1] != right[-2]:
        raise ValueError
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return (*batch, *left[-2:-1][: len(x) - 1], *right[-1:][: len(y) - 1])
