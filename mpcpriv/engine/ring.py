"""Bilinear maps over Z_2^64 on int64 tensors: products that wrap, exactly, never through floats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

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
        """The shape of the map of operands of these shapes; nothing is computed."""
        return _result_shape(self, x, y)


@lru_cache(maxsize=4096)
def _result_shape(bilinear: Bilinear, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    meta = bilinear(*(torch.empty(shape, dtype=torch.int64, device="meta") for shape in (x, y)))
    return tuple(meta.shape)
