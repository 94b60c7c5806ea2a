"""`crypten.nn`'s layers with torch's arguments, parameters, names and results (C9, C10, C12).

CrypTen's own differ from torch's in their arguments, compute something else (dropout, pooling), keep a
plain inverse of the running variance (batch normalisation), or are missing. Here torch's own class reads
the arguments and draws the initial parameters, and each layer is one of the functions that converted
models run, too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import crypten
import torch
from crypten.nn.module import Module

from mpcpriv.engine.models import functions as f
from mpcpriv.engine.models import layers
from mpcpriv.engine.models.kinds import Tensor, encrypted
from mpcpriv.errors import Unsupported, UsageError


class Layer(Module):  # type: ignore[misc]
    """As the class of torch.nn of that name.

    Attributes:
        options: torch's public attributes of such a layer, by name.
    """

    ONLY: ClassVar[dict[str, Any]] = {
        "padding_mode": "zeros", "return_indices": False, "padding_idx": None, "max_norm": None,
        "scale_grad_by_freq": False, "track_running_stats": False,
    }  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Of torch's arguments.

        Raises:
            UsageError: torch refuses them.
            Unsupported: they ask for what is not offered here.
        """
        super().__init__()
        name = type(self).__name__
        try:
            twin = getattr(torch.nn, name)(*args, **kwargs)
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise UsageError(f"crypten.nn.{name}: {error}") from None
        self.options = SimpleNamespace(
            **{key: value for key, value in vars(twin).items() if not key.startswith("_")}
        )
        for key, allowed in self.ONLY.items():
            value = getattr(self.options, key, allowed)
            if value != allowed:
                raise Unsupported(f"crypten.nn.{name} with {key}={value!r} is not offered")
        for key, parameter in twin.named_parameters():
            self.register_parameter(key, parameter.detach().clone())
        for key, buffer in twin.named_buffers():
            if buffer.is_floating_point():  # not the counter of batches
                self.register_buffer(key, buffer.clone())

    def held(self, name: str) -> Tensor | None:
        """A parameter or buffer, None where the layer has none of that name."""
        found = self._parameters.get(name)
        return self._buffers.get(name) if found is None else found


class BatchNorm(Layer):
    """Batch normalisation, whose 1 / sqrt(running variance + eps) is computed once for as long as it stays.

    The party that encrypts it computes it in plain, where small variances keep their digits.
    """

    ONLY: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inverse: Tensor | None = None
        super().__init__(*args, **kwargs)
        if self.options.momentum is None:
            raise Unsupported(f"crypten.nn.{type(self).__name__} with momentum=None")

    def forward(self, x: Tensor) -> Tensor:
        """x of shape (N, C, ...) normalised over all but C."""
        names = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (self.held(name) for name in names)
        training = self.training or variance is None
        if training:
            self._inverse = None
        elif self._inverse is None and encrypted(variance):
            with crypten.no_grad():
                self._inverse = (variance + self.options.eps).inv_sqrt()
        return layers.batch_norm(
            x, weight, bias, mean, variance, training, self.options.momentum, self.options.eps, self._inverse
        )

    def encrypt(self, mode: bool = True, src: int = 0) -> BatchNorm:
        """As CrypTen's."""
        if mode == self.encrypted:
            return self
        variance = self.held("running_var")
        root = None
        if mode and variance is not None:
            root = (variance.to(torch.float64) + self.options.eps).clamp(min=2.0**-32).rsqrt()
        super().encrypt(mode, src=src)
        self._inverse = None if root is None else crypten.cryptensor(root, src=src)
        return self

    def forget(self) -> None:
        """The buffers have changed."""
        self._inverse = None

    def set_buffer(self, name: str, buffer: Any) -> None:
        """As CrypTen's."""
        self.forget()
        super().set_buffer(name, buffer)


class Dropout(Layer):
    """Dropout with a mask that nobody knows; the identity in evaluation."""

    CHANNELS: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        """x with some elements, or whole channels, zeroed while training."""
        return f.dropout(x, self.options.p, self.training, channels=self.CHANNELS)


class DropoutNd(Dropout):
    """The same of whole channels; CrypTen's name for what the two below share."""

    CHANNELS = True


class Dropout2d(DropoutNd):
    """As `torch.nn.Dropout2d`."""


class Dropout3d(DropoutNd):
    """As `torch.nn.Dropout3d`."""


def _convolution(m: Layer, x: Tensor) -> Tensor:
    o = m.options
    return f.convolve(x, m.weight, m.held("bias"), o.stride, o.padding, o.dilation, o.groups)


def _transposed(m: Layer, x: Tensor) -> Tensor:
    o = m.options
    return f.convolve_transposed(
        x, m.weight, m.held("bias"), o.stride, o.padding, o.output_padding, o.groups, o.dilation
    )


def _max_pool(dims: int) -> Callable[[Layer, Tensor], Tensor]:
    def pool(m: Layer, x: Tensor) -> Tensor:
        o = m.options
        return layers.max_pool(x, o.kernel_size, o.stride, o.padding, o.dilation, o.ceil_mode, dims)

    return pool


def _average_pool(dims: int) -> Callable[[Layer, Tensor], Tensor]:
    def pool(m: Layer, x: Tensor) -> Tensor:
        o = m.options
        divisor = getattr(o, "divisor_override", None)
        return layers.avg_pool(
            x, o.kernel_size, o.stride, o.padding, o.ceil_mode, o.count_include_pad, divisor, dims
        )

    return pool


def _instance_norm(m: Layer, x: Tensor) -> Tensor:
    o = m.options
    return layers.group_norm(x, o.num_features, m.held("weight"), m.held("bias"), o.eps)


_FUNCTIONS: Final[dict[str, Callable[[Any, Tensor], Tensor]]] = {
    # products, look-up
    "Linear": lambda m, x: f.linear(x, m.weight, m.held("bias")),
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "ConvTranspose1d": _transposed,
    "ConvTranspose2d": _transposed,
    "Embedding": lambda m, x: layers.embedding(m.weight, x),
    # normalisation
    "LayerNorm": lambda m, x: layers.layer_norm(
        x, m.options.normalized_shape, m.held("weight"), m.held("bias"), m.options.eps
    ),
    "RMSNorm": lambda m, x: layers.rms_norm(x, m.options.normalized_shape, m.held("weight"), m.options.eps),
    "GroupNorm": lambda m, x: layers.group_norm(
        x, m.options.num_groups, m.held("weight"), m.held("bias"), m.options.eps
    ),
    "InstanceNorm1d": _instance_norm,
    "InstanceNorm2d": _instance_norm,
    # pooling
    "MaxPool1d": _max_pool(1),
    "MaxPool2d": _max_pool(2),
    "AvgPool1d": _average_pool(1),
    "AvgPool2d": _average_pool(2),
    "AdaptiveAvgPool1d": lambda m, x: layers.adaptive_avg_pool(x, m.options.output_size, 1),
    "AdaptiveAvgPool2d": lambda m, x: layers.adaptive_avg_pool(x, m.options.output_size, 2),
    "AdaptiveMaxPool1d": lambda m, x: layers.adaptive_max_pool(x, m.options.output_size, 1),
    "AdaptiveMaxPool2d": lambda m, x: layers.adaptive_max_pool(x, m.options.output_size, 2),
    # activations
    "ELU": lambda m, x: f.elu(x, m.options.alpha),
    "SELU": lambda _, x: f.selu(x),
    "CELU": lambda m, x: f.elu(x, m.options.alpha, 1.0, 1 / m.options.alpha),
    "GELU": lambda m, x: f.gelu(x, m.options.approximate),
    "SiLU": lambda _, x: f.silu(x),
    "Mish": lambda _, x: f.mish(x),
    "Tanh": lambda _, x: x.tanh(),
    "Softplus": lambda m, x: f.softplus(x, m.options.beta, m.options.threshold),
    "Softsign": lambda _, x: x / (x.abs() + 1),
    "LogSigmoid": lambda _, x: -f.softplus(-x),
    "LeakyReLU": lambda m, x: f.leaky_relu(x, m.options.negative_slope),
    "PReLU": lambda m, x: f.prelu(x, m.weight),
    "ReLU6": lambda _, x: f.clamp(x, 0, 6),
    "Hardtanh": lambda m, x: f.clamp(x, m.options.min_val, m.options.max_val),
    "Hardsigmoid": lambda _, x: f.hardsigmoid(x),
    "Hardswish": lambda _, x: x * f.hardsigmoid(x),
    "GLU": lambda m, x: f.glu(x, m.options.dim),
    "Identity": lambda _, x: x,
}
"""By torch's name, what a layer computes."""


def _layer(name: str, function: Callable[[Any, Tensor], Tensor]) -> type[Layer]:
    return type(name, (Layer,), {"forward": function, "__doc__": f"As `torch.nn.{name}`."})


MODULES: Final[dict[str, type[Layer]]] = {
    **{name: _layer(name, function) for name, function in _FUNCTIONS.items()},
    **{
        name: type(name, (BatchNorm,), {"__doc__": f"As `torch.nn.{name}`."})
        for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
    },
    "Dropout": Dropout,
    "DropoutNd": DropoutNd,
    "Dropout2d": Dropout2d,
    "Dropout3d": Dropout3d,
}
"""By their names in `crypten.nn`."""


def missing(name: str) -> Any:
    """What `crypten.nn` says of a name that it does not have.

    Raises:
        AttributeError: always; with the way out, where torch has it.
    """
    way = ""
    if isinstance(getattr(torch.nn, name, None), type):
        way = f": write the model in torch and convert it with crypten.nn.from_pytorch, if it knows {name}"
    raise AttributeError(f"crypten.nn has no {name}{way}", name=name, obj=crypten.nn)
