"""Optimisers: all parameters of a group move together, in the rounds of one.

The parameters' gradients are laid end to end; what is linear in them is computed in one frame.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import crypten
import torch
from crypten.optim.optimizer import Optimizer

from mpcpriv.engine.models.kinds import Tensor, encrypted
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.engine.tensor.arithmetic import combine
from mpcpriv.errors import UsageError

_SCALE: Final = 8
"""Adam holds gradients times two to this, so that squares of small ones do not vanish below 2^-16."""


class _Together(Optimizer):  # type: ignore[misc]
    """Moves the parameters that have a gradient and a like state as one vector."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], at_least_zero: Sequence[str]) -> None:
        for name in at_least_zero:
            if not defaults[name] >= 0:
                raise UsageError(
                    f"{type(self).__name__} with {name}={defaults[name]}: it must not be negative"
                )
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; what `closure` returns."""
        loss = None
        if closure is not None:
            with crypten.enable_grad():
                loss = closure()
        with crypten.no_grad(), torch.no_grad():
            for group in self.param_groups:
                alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        state = self.state[id(parameter)]
                        alike[encrypted(parameter), state.get("step", 0), *sorted(state)].append(parameter)
                for parameters in alike.values():
                    self._move(parameters, group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As torch's: what is held of each parameter, by its number."""
        numbers = {id(parameter): i for i, parameter in enumerate(self._parameters())}
        found: dict[str, Any] = super().state_dict()
        return {**found, "state": {numbers[key]: dict(held) for key, held in self.state.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what another optimiser held of as many parameters of the same sizes, in this order.

        Raises:
            UsageError: it was of other parameters.
        """
        groups, state = state_dict["param_groups"], state_dict["state"]
        parameters = self._parameters()
        alike = [len(g["params"]) for g in groups] == [len(g["params"]) for g in self.param_groups]
        if not alike or any(
            not isinstance(one, int) and one.nelement() != parameters[number].nelement()
            for number, held in state.items()
            for one in held.values()
        ):
            raise UsageError("the state of an optimiser of other parameters cannot be loaded")
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        self.state = defaultdict(dict, {id(parameters[number]): dict(held) for number, held in state.items()})

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[id(parameter)] for parameter in parameters]
        sizes = [parameter.nelement() for parameter in parameters]
        held = {
            key: torch.cat([state[key] for state in states])
            for key, value in states[0].items()
            if not isinstance(value, int)
        }
        turn = states[0].get("step", 0) + 1
        values, gradients = (
            torch.cat([one.flatten() for one in ones])
            for ones in ([p.detach() for p in parameters], [p.grad for p in parameters])
        )
        moved, kept = self._moved(values, gradients, held, {**group, "turn": turn})
        for parameter, value in zip(parameters, moved.split(sizes), strict=True):
            parameter.copy_(value.reshape(tuple(parameter.shape)))
        for state in states:
            state["step"] = turn
        for key, value in kept.items():
            for state, piece in zip(states, value.split(sizes), strict=True):
                state[key] = piece

    def _moved(
        self, x: Tensor, gradient: Tensor, held: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Where the parameters go, and what to hold until the next turn: `group["turn"]`, counted from 1."""
        raise NotImplementedError


class SGD(_Together):
    """As `torch.optim.SGD`; one round a step with any of its options."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        grad_threshold: float | None = None,
    ) -> None:
        """As torch's, but for one argument, which is CrypTen's.

        Args:
            params, lr, momentum, dampening, weight_decay, nesterov: as torch's.
            grad_threshold: elements of a gradient that reach this magnitude count as zero (six rounds).

        Raises:
            UsageError: a number out of its range.
        """
        if nesterov and (momentum <= 0 or dampening != 0):
            raise UsageError("SGD with nesterov=True needs a momentum, and no dampening")
        self.grad_threshold = grad_threshold
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov}, ("lr", "momentum", "weight_decay"))

    def _moved(
        self, x: Tensor, gradient: Tensor, held: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x - lr (g + decay x), or with the momentum's buffer b' = m b + (1 - dampening) (g + decay x)."""
        if self.grad_threshold is not None:
            gradient = gradient * (gradient.abs() < self.grad_threshold)
        rate, momentum = group["lr"], group["momentum"]
        slope = [(gradient, 1.0), (x, group["weight_decay"])]
        if not momentum:
            return _sums([(x, 1.0), *_times(slope, -rate)])[0], {}
        if "momentum" in held:
            buffer = [(held["momentum"], momentum), *_times(slope, 1 - group["dampening"])]
        else:
            buffer = slope
        step = [*slope, *_times(buffer, momentum)] if group["nesterov"] else buffer
        moved, kept = _sums([(x, 1.0), *_times(step, -rate)], buffer)
        return moved, {"momentum": kept}


class Adam(_Together):
    """As `torch.optim.Adam` (Kingma, Ba, "Adam", ICLR 2015, algorithm 1); 18 rounds a step.

    A gradient must stay below 128 in magnitude; one below 2^-16 counts as zero (see `grad_scale`). The
    averages are held with the correction for their start in them, which needs no division:
    m_t = m_(t-1) + (g - m_(t-1)) (1 - beta) / (1 - beta^t). With an eps below 2^-24 the root and the
    reciprocal are one function of twelve rounds, and eps is left out; with another, 12 rounds more.
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
        if not all(0 <= beta < 1 for beta in betas):
            raise UsageError(f"Adam with betas={betas}: both must be in [0, 1)")
        if not grad_scale > 0:
            raise UsageError(f"Adam with grad_scale={grad_scale}: it must be positive")
        self.grad_scale = grad_scale
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options, ("lr", "eps", "weight_decay"))

    def _moved(
        self, x: Tensor, gradient: Tensor, held: dict[str, Tensor], group: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x - lr m / (sqrt(v) + eps), all times the scale that gradients are held with."""
        scale = max(float(1 << _SCALE), self.grad_scale)
        scaled = _scaled(gradient, scale / self.grad_scale)
        if group["weight_decay"]:
            (scaled,) = _sums([(scaled, 1.0), (x, group["weight_decay"] * scale)])
        new = {"first": scaled, "second": scaled.square()}
        if held:
            weights = [(1 - beta) / (1 - beta ** group["turn"]) for beta in group["betas"]]
            rows = [
                [(held[key], 1.0), (new[key] - held[key], weight)]
                for key, weight in zip(("first", "second"), weights, strict=True)
            ]
            new = dict(zip(("first", "second"), _sums(*rows), strict=True))
        eps = group["eps"] * scale
        if not encrypted(x):
            inverse = 1 / (new["second"].sqrt() + eps)
        elif eps < 2.0**-16:
            inverse = new["second"].inv_sqrt()
        else:
            inverse = (new["second"].sqrt() + eps).reciprocal()
        return x - new["first"] * inverse * group["lr"], new


Term = tuple[Tensor, float]


def _sums(*rows: Sequence[Term]) -> list[Tensor]:
    """Linear combinations, in one round where they are encrypted."""
    wanted = [[(x, number) for x, number in row if number] for row in rows]
    if encrypted(rows[0][0][0]):
        return combine(*wanted)
    return [sum(x * number for x, number in row) for row in wanted]


def _times(terms: Sequence[Term], number: float) -> list[Term]:
    return [(x, factor * number) for x, factor in terms]


def _scaled(gradient: Tensor, factor: float) -> Tensor:
    """A gradient times the factor; a power of two uses its additional fractional bits."""
    power = int(factor).bit_length() - 1
    if encrypted(gradient) and factor == 1 << power:
        wide = gradient.at(max(gradient.bits, 16 + power))
        return SharedTensor.of(wide, max(gradient.bits, 16 + power) - power)
    return gradient * factor
