"""Optimisers that CrypTen does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import crypten
import torch
from crypten.optim.optimizer import Optimizer

from mpcpriv.engine.models.kinds import Tensor, encrypted
from mpcpriv.errors import UsageError

_SCALE: Final = float(1 << 8)
"""Gradients are held times this, so that squares of small ones do not vanish below 2^-16."""


class Adam(Optimizer):  # type: ignore[misc]
    """As `torch.optim.Adam` (Kingma, Ba, "Adam", ICLR 2015, algorithm 1), on encrypted parameters.

    A gradient must stay below 128 in magnitude; one below 2^-16 counts as zero (see `grad_scale`).
    The averages are
    held with the correction for their start in them, which needs no division:
    m_t = m_(t-1) + (g - m_(t-1)) (1 - beta) / (1 - beta^t). With an eps below 2^-24 the root and the
    reciprocal are one function of twelve rounds, and eps is left out.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        grad_scale: float = 1.0,
    ) -> None:
        """As torch's, but for one argument.

        Args:
            params, lr, betas, eps, weight_decay: as torch's.
            grad_scale: the loss was multiplied by this before `backward`, which keeps more digits of
                small gradients; steps are as without it. Gradients so scaled stay below 2^15.

        Raises:
            UsageError: a number out of its range.
        """
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise UsageError(f"Adam with {name}={value}: it must not be negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise UsageError(f"Adam with betas={betas}: both must be in [0, 1)")
        if not grad_scale > 0:
            raise UsageError(f"Adam with grad_scale={grad_scale}: it must be positive")
        self.grad_scale = grad_scale
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; what `closure` returns."""
        loss = None
        if closure is not None:
            with crypten.enable_grad():
                loss = closure()
        with crypten.no_grad(), torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        held = max(_SCALE, self.grad_scale)
        factor = held / self.grad_scale
        scaled = parameter.grad * (int(factor) if factor.is_integer() else factor)
        if group["weight_decay"]:
            scaled = scaled + parameter * (group["weight_decay"] * held)
        state = self.state[id(parameter)]
        state["step"] = state.get("step", 0) + 1
        first, second = (
            _average(state.get(key), value, beta, state["step"])
            for key, value, beta in (
                ("first", scaled, group["betas"][0]),
                ("second", scaled.square(), group["betas"][1]),
            )
        )
        state["first"], state["second"] = first, second
        eps = group["eps"] * held
        if not encrypted(second):
            inverse = 1 / (second.sqrt() + eps)
        elif eps < 2.0**-16:
            inverse = second.inv_sqrt()
        else:
            inverse = (second.sqrt() + eps).reciprocal()
        parameter.sub_(first * inverse * group["lr"])


def _average(before: Tensor | None, value: Tensor, beta: float, step: int) -> Tensor:
    if before is None:
        return value
    return before + (value - before) * ((1 - beta) / (1 - beta**step))
