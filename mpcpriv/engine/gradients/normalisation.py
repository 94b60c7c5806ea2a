"""The gradient of batch normalisation."""

from __future__ import annotations

from typing import Any

from mpcpriv.engine.gradients.function import Function
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import UsageError


class BatchNorm(Function):
    """CrypTen's relies on its inverted variance, and stores the biased one (C10, C12).

    Ioffe, Szegedy, "Batch Normalization", ICML 2015, algorithm 1 and section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: SharedTensor,
        weight: SharedTensor,
        bias: SharedTensor,
        running_mean: Any = None,
        running_var: Any = None,
        training: bool = False,
        eps: float = 1e-05,
        momentum: float = 0.1,
        inv_var: Any = None,
    ) -> SharedTensor:
        """As `torch.nn.functional.batch_norm` on (N, C, ...), with running statistics updated in place.

        Raises:
            UsageError: not training, and there are no running statistics.
        """
        over = [d for d in range(x.dim()) if d != 1]
        shape = [x.size(1) if d == 1 else 1 for d in range(x.dim())]
        if training:
            mean, variance = x.mean(over), x.var(over, unbiased=False)
            if running_mean is not None and running_var is not None:
                count = x.nelement() // x.size(1)
                unbiased = variance * (count / max(count - 1, 1))
                running_mean.set(running_mean * (1 - momentum) + mean * momentum)
                running_var.set(running_var * (1 - momentum) + unbiased * momentum)
        elif running_mean is None or running_var is None:
            raise UsageError("batchnorm outside training needs running_mean and running_var")
        else:
            mean, variance = running_mean, running_var
        shifted: Any = variance + eps
        scale = shifted.inv_sqrt() if training or inv_var is None else inv_var
        scale = scale.reshape(shape)
        normalised = (x - mean.reshape(shape)) * scale
        ctx.save_multiple_for_backward((normalised, weight.reshape(shape), scale, training))
        result: SharedTensor = normalised * weight.reshape(shape) + bias.reshape(shape)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: SharedTensor) -> tuple[SharedTensor, SharedTensor, SharedTensor]:
        """By x, weight and bias."""
        normalised, weight, scale, training = ctx.saved_tensors
        over = [d for d in range(grad_output.dim()) if d != 1]
        by_weight = (grad_output * normalised).sum(over)
        by_bias = grad_output.sum(over)
        by_normalised = grad_output * weight
        if training:
            along = normalised * (by_normalised * normalised).mean(over, keepdim=True)
            by_normalised = by_normalised - by_normalised.mean(over, keepdim=True) - along
        return by_normalised * scale, by_weight, by_bias
