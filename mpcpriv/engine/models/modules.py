"""Layers that CrypTen's `nn` lacks or gets wrong, with torch's parameters and names (C9, C10, C12)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from crypten.nn.module import Module

from mpcpriv.engine.models import functions, layers
from mpcpriv.engine.models.kinds import Tensor
from mpcpriv.errors import UsageError


class Function(Module):  # type: ignore[misc]
    """A layer without parameters."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options


class Dropout(Function):
    """As `torch.nn.Dropout`, with a mask that nobody knows; the identity in evaluation (C10)."""

    CHANNELS = False

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:  # noqa: ARG002 - never in place
        if not 0 <= p <= 1:
            raise UsageError(f"dropout with p={p}: a probability is needed")
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x with some elements zeroed while training."""
        return functions.dropout(x, self.p, self.training, channels=self.CHANNELS)


class DropoutNd(Dropout):
    """As `torch.nn.Dropout2d`: whole channels."""

    CHANNELS = True


class Normalisation(Module):  # type: ignore[misc]
    """What layer and group normalisation share: a weight and a bias of some shape."""

    def __init__(self, shape: Sequence[int], eps: float, affine: bool, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.register_parameter("weight", torch.ones(*shape))
        if affine and bias:
            self.register_parameter("bias", torch.zeros(*shape))

    def affine(self) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias, where there are any."""
        held = dict(self.named_parameters(recurse=False))
        return held.get("weight"), held.get("bias")


class LayerNorm(Normalisation):
    """As `torch.nn.LayerNorm`."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        super().__init__(shape, eps, elementwise_affine, bias)
        self.normalized_shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """x normalised over its last dimensions."""
        return layers.layer_norm(x, self.normalized_shape, *self.affine(), self.eps)


class GroupNorm(Normalisation):
    """As `torch.nn.GroupNorm`."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_channels % num_groups:
            raise UsageError(f"GroupNorm: {num_channels} channels do not make {num_groups} equal groups")
        super().__init__((num_channels,), eps, affine)
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        """x of shape (N, C, ...) normalised over groups of channels."""
        return layers.group_norm(x, self.num_groups, *self.affine(), self.eps)


class Embedding(Module):  # type: ignore[misc]
    """As `torch.nn.Embedding`, for one-hot input of shape (..., num_embeddings)."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        initial = torch.nn.Embedding(num_embeddings, embedding_dim)
        self.register_parameter("weight", initial.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """The rows that x points at."""
        return layers.embedding(self.weight, x)


class Pool(Function):
    """A window that slides, with torch's arguments."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(ceil_mode=ceil_mode, **options)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding


class MaxPool2d(Pool):
    """As `torch.nn.MaxPool2d`: what is padded never wins (C9)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """The largest of each window."""
        return layers.max_pool(x, self.kernel_size, self.stride, self.padding, **self.options)


class AvgPool2d(Pool):
    """As `torch.nn.AvgPool2d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        options = {"count_include_pad": count_include_pad, "divisor": divisor_override}
        super().__init__(kernel_size, stride, padding, ceil_mode, **options)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each window."""
        return layers.avg_pool(x, self.kernel_size, self.stride, self.padding, **self.options)


class AdaptiveAvgPool2d(Function):
    """As `torch.nn.AdaptiveAvgPool2d`."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Means of as many windows as the output has places."""
        return layers.adaptive_avg_pool(x, self.output_size)


class Tanh(Function):
    """As `torch.nn.Tanh`."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh(x)."""
        return x.tanh()


class GELU(Function):
    """As `torch.nn.GELU`."""

    def forward(self, x: Tensor) -> Tensor:
        """x times the normal distribution function."""
        return functions.gelu(x)


class SiLU(Function):
    """As `torch.nn.SiLU`."""

    def forward(self, x: Tensor) -> Tensor:
        """x sigmoid(x)."""
        return functions.silu(x)


class Softplus(Function):
    """As `torch.nn.Softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        if not (beta > 0 and math.isfinite(beta)):
            raise UsageError(f"Softplus with beta={beta}: it must be positive")
        super().__init__(beta=beta, threshold=threshold)

    def forward(self, x: Tensor) -> Tensor:
        """log(1 + e^(beta x)) / beta."""
        return functions.softplus(x, **self.options)


class LeakyReLU(Function):
    """As `torch.nn.LeakyReLU`."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:  # noqa: ARG002
        super().__init__(slope=negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """x above zero, a fraction of it below."""
        return functions.leaky_relu(x, **self.options)
