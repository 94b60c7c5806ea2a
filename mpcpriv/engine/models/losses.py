"""Losses as torch's, on encrypted predictions and targets, with torch's reductions."""

from __future__ import annotations

from typing import Any

import torch
from crypten.nn.loss import _Loss
from crypten.nn.module import Module

from mpcpriv.engine.models.functions import softplus
from mpcpriv.engine.models.kinds import Tensor, encrypted
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError


class Loss(_Loss):  # type: ignore[misc]
    """What the losses have in common.

    Args:
        reduction: "mean", "sum", or "none" for a value of each element (or row).
        skip_forward: the loss is not computed (zeros stand for it), its gradient is.

    Raises:
        Unsupported: further arguments of torch's (weight, ignore_index, ...).
    """

    def __init__(self, reduction: str = "mean", skip_forward: bool = False, **further: Any) -> None:
        Module.__init__(self)
        if further:
            raise Unsupported(f"{type(self).__name__} with {', '.join(sorted(further))}")
        if reduction not in ("mean", "sum", "none"):
            raise UsageError(f"reduction={reduction!r}: 'mean', 'sum' or 'none' is needed")
        self.reduction = reduction
        self.skip_forward = skip_forward

    def reduced(self, values: Tensor) -> Tensor:
        """The values as the reduction has them."""
        if self.reduction == "none":
            return values
        return values.mean() if self.reduction == "mean" else values.sum()

    def of_mean(self, mean: Tensor, count: int) -> Tensor:
        """The mean of `count` values, or their sum."""
        return mean if self.reduction == "mean" else mean * count

    def same_shape(self, x: Tensor, y: Tensor) -> None:
        """Refuses a target of another shape, which torch would broadcast."""
        if x.size() != y.size():
            raise UsageError(
                f"{type(self).__name__}: the prediction has shape {list(x.size())}, the target "
                f"{list(y.size())}; they must be the same"
            )


class MSELoss(Loss):
    """(x - y)^2, as `torch.nn.MSELoss`."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of predictions x for targets y, of the same shape."""
        self.same_shape(x, y)
        return self.reduced((x - y).square())


class L1Loss(Loss):
    """abs(x - y), as `torch.nn.L1Loss`."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of predictions x for targets y, of the same shape."""
        self.same_shape(x, y)
        return self.reduced((x - y).abs())


class HuberLoss(Loss):
    """d^2 / 2 for differences d up to delta, delta (abs(d) - delta / 2) above, as `torch.nn.HuberLoss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0, **further: Any) -> None:
        if not delta > 0:
            raise UsageError(f"HuberLoss with delta={delta}: it must be positive")
        super().__init__(reduction, **further)
        self.delta = delta

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of predictions x for targets y, of the same shape."""
        self.same_shape(x, y)
        return self.reduced(self.values(x - y))

    def values(self, difference: Tensor) -> Tensor:
        """The loss of each difference."""
        size = difference.abs()
        excess = (size - self.delta).relu()
        return (size - excess).square() * 0.5 + excess * self.delta


class SmoothL1Loss(HuberLoss):
    """Huber's loss divided by its threshold beta, as `torch.nn.SmoothL1Loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0, **further: Any) -> None:
        if not beta > 0:
            raise UsageError(f"SmoothL1Loss with beta={beta}: it must be positive; L1Loss is for 0")
        super().__init__(reduction, beta, **further)

    def values(self, difference: Tensor) -> Tensor:
        """The loss of each difference."""
        values = super().values(difference)
        return values if self.delta == 1 else values * (1 / self.delta)


class BCELoss(Loss):
    """-(y log x + (1 - y) log(1 - x)), as `torch.nn.BCELoss`; a logarithm is at least -11.78 here.

    `BCEWithLogitsLoss` is both faster and right for every prediction.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of probabilities x for targets y between 0 and 1, of the same shape."""
        self.same_shape(x, y)
        if not encrypted(x):
            return torch.nn.functional.binary_cross_entropy(x, y, reduction=self.reduction)
        if self.reduction == "none":
            return -((1 - x).log() * (1 - y) + x.log() * y)
        mean = x.binary_cross_entropy(y, skip_forward=self.skip_forward)
        return self.of_mean(mean, x.nelement())


class BCEWithLogitsLoss(Loss):
    """log(1 + e^x) - x y, as `torch.nn.BCEWithLogitsLoss`."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of logits x for targets y between 0 and 1, of the same shape."""
        self.same_shape(x, y)
        if not encrypted(x):
            return torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction=self.reduction)
        if self.reduction == "none":
            return softplus(x) - x * y
        mean = x.binary_cross_entropy_with_logits(y, skip_forward=self.skip_forward)
        return self.of_mean(mean, x.nelement())


class OfClasses(Loss):
    """Losses whose encrypted targets are one-hot: a class index cannot be looked up in secret."""

    def class_dimension(self, x: Tensor, y: Tensor) -> int:
        """The dimension of the classes.

        Raises:
            UsageError: the target is not of the prediction's shape.
        """
        dim = 1 if x.dim() > 1 else 0
        if y.size() != x.size() and y.dim() == x.dim() - 1:
            raise UsageError(
                f"{type(self).__name__} takes encrypted targets one-hot, of shape {list(x.size())}: encrypt "
                f"torch.nn.functional.one_hot(y, {x.size(dim)}) in the place of class indices"
            )
        self.same_shape(x, y)
        return dim


class NLLLoss(OfClasses):
    """-sum of y x over the classes, as `torch.nn.NLLLoss` of one-hot targets."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of log-probabilities x for targets y, both of shape (N, C, ...) or (C)."""
        if not encrypted(x):
            return torch.nn.functional.nll_loss(x, y, reduction=self.reduction)
        return self.reduced(-(x * y).sum(self.class_dimension(x, y)))


class CrossEntropyLoss(OfClasses):
    """-sum of y log softmax(x) over the classes, as `torch.nn.CrossEntropyLoss` with probabilities."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of logits x for targets y, both of shape (N, C, ...) or (C); a mean is over all but C."""
        if not encrypted(x):
            return torch.nn.functional.cross_entropy(x, y, reduction=self.reduction)
        dim = self.class_dimension(x, y)
        if self.reduction == "none":
            return -(x.log_softmax(dim) * y).sum(dim)
        mean = x.cross_entropy(y, skip_forward=self.skip_forward)
        return self.of_mean(mean, x.nelement() // x.size(dim))


def public(value: Any) -> SharedTensor:
    """A value that every party holds and may know, as an encrypted tensor: public labels, for example.

    Nothing is sent. The value counts as part of the program: where the parties hold different ones,
    their next message shows it (`Desynchronised`).
    """
    import hashlib

    from mpcpriv.engine import session
    from mpcpriv.engine.encoding import encode

    encoded = encode(value)
    digest = hashlib.sha256(encoded.contiguous().numpy().tobytes()).hexdigest()
    session.current().note(f"public value {digest}", tuple(encoded.shape))
    return SharedTensor.constant(value)
