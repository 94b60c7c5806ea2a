"""Private training for programs, in Opacus' words: `PrivacyEngine().make_private_with_epsilon(...)`.

DP-SGD (M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Algorithm 1): each step takes a
Poisson sample of the rows, sums their clipped gradients, adds Gaussian noise, and steps. Rows, gradients,
losses and weights stay shared; every party adds noise of its own to the sum, so nobody knows the noise.
Noise is added before the sum is truncated, on the grid on which each row's part is bounded as an integer,
so no rounding has to be argued away.

Against whom: neighbours are tables of which one has a row more, their number being public. The promise
holds for each row against all parties but its owner, as far as at most `collusion` of them put their noise
together, and against whoever sees the opened weights. Parties and dealer follow the protocol
(`mpcpriv/README.md`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import crypten
import numpy as np
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.perturb import Ahead
from mpcpriv.engine.private import logistic, rows
from mpcpriv.engine.private import network as networks
from mpcpriv.engine.private.logistic import Rows
from mpcpriv.engine.private.network import INPUT_NORM, WEIGHT_LIMIT, Network
from mpcpriv.engine.private.participation import overflow
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.privacy.accounting import training_loss
from mpcpriv.privacy.loss import ORDERS, Loss
from mpcpriv.privacy.training import Composition

Batch = tuple[SharedTensor, ...]
_TAIL: Final = 16.0
"""Standard deviations that no noise exceeds, but with a chance below 2^-180."""
_ROOM: Final = 2.0**17
"""Sums of gradients stay below it: they have 32 fractional bits, and a factor of 12 is to come."""


class _Logistic:
    """`Linear` with one output under `BCEWithLogitsLoss`: `logistic.py`."""

    bits = logistic.BITS

    def __init__(self, linear: Any, features: int, clip: float) -> None:
        if tuple(linear.weight.size()) != (1, features) or linear.held("bias") is None:
            raise UsageError(f"the model is to be Linear({features}, 1) with a bias, as the rows are")
        self._linear = linear
        self.widths = (features + 1, 1, 1)
        self.sensitivity = logistic.sensitivity(clip)
        self._clip = clip

    def prepared(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return logistic.prepared(x, y)

    def parameters(self) -> list[Any]:
        return [self._linear.weight, self._linear.bias]

    def gradient(self, batch: Batch) -> SharedTensor:
        weights = SharedTensor.cat([one.detach().flatten() for one in self.parameters()]).reshape(-1, 1)
        return logistic.gradient(Rows(*batch), weights, self._clip).flatten()


class _Network:
    """Anything else: `network.py`."""

    def __init__(self, network: Network, features: int, targets: int) -> None:
        self.bits = networks.BITS
        self.widths = (features, targets, 1)
        self.sensitivity = network.sensitivity
        self.parameters = network.parameters
        self._gradient = network.gradient

    def prepared(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        y = y.astype(np.int64) << FRACTIONAL_BITS
        return np.concatenate([rows.clipped(x, INPUT_NORM), y, np.ones((len(x), 1), np.int64)], axis=1)

    def gradient(self, batch: Batch) -> SharedTensor:
        x, y, present = batch
        return self._gradient(x, y, SharedTensor.of(present.share, 0))


@dataclass
class _Plan:
    """What all parts of one private training share."""

    model: _Logistic | _Network
    shape: rows.Shape
    own: rows.Own
    rate: float
    steps: int
    multiplier: float
    noise: Ahead
    taken: int = 0

    def loss(self, steps: int) -> Loss:
        """Of so many steps."""
        if not steps:
            return Loss.none()
        rare = overflow(self.shape.owners * steps, self.rate)
        return training_loss(self.multiplier, self.rate, steps) + Loss.of([0.0] * len(ORDERS), delta=rare)


class PrivateLoader:
    """Batches of all owners' rows, as many as the budget has steps; each row takes part by its own coin."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._whole: Batch | None = None

    def __len__(self) -> int:
        return self._plan.steps

    def __iter__(self) -> Iterator[Batch]:
        plan = self._plan
        for _ in session.current().steps(plan.steps - plan.taken, "private training"):
            yield self._batch()

    def _batch(self) -> Batch:
        plan = self._plan
        if plan.rate < 1:
            return tuple(rows.batch(plan.shape, plan.own, plan.rate, plan.model.widths))
        if self._whole is None:  # its masked values are opened once and stay
            self._whole = tuple(rows.batch(plan.shape, plan.own, 1.0, plan.model.widths))
        return self._whole


class PrivateOptimizer:
    """An optimiser whose gradients are clipped row by row, summed, and perturbed."""

    def __init__(self, optimizer: Any, plan: _Plan) -> None:
        self._optimizer, self._plan = optimizer, plan

    def step(self, batch: Batch) -> None:
        """One step. There is no loss to compute and no `backward`: the gradient follows from the batch.

        Args:
            batch: from the loader.

        Raises:
            UsageError: the steps that the target allows are taken.
        """
        plan = self._plan
        if plan.taken >= plan.steps:
            raise UsageError(f"all {plan.steps} steps that the target epsilon allows are taken")
        plan.taken += 1
        with crypten.no_grad(), torch.no_grad():
            noised = plan.noise.perturb(plan.model.gradient(batch))
            # From here on all is computed from what is private already.
            wide = SharedTensor.of(noised.at(logistic.BITS), logistic.BITS)
            mean = wide.mul(1 / rows.expected(plan.shape, plan.rate))
            parameters = plan.model.parameters()
            sizes = [one.nelement() for one in parameters]
            for parameter, gradient in zip(parameters, mean.split(sizes), strict=True):
                parameter.grad = gradient.reshape(tuple(parameter.size()))
            self._optimizer.step()
            _cut(parameters)
            for parameter in parameters:
                parameter.grad = None


class PrivacyEngine:
    """Makes a model's training private, and says what it has cost."""

    def __init__(self, *, collusion: int | None = None) -> None:
        """Of this thread's session.

        Args:
            collusion: so many parties may put their noise together; by default all but one, so each party
                adds all the noise that is needed.

        Raises:
            UsageError: not between 0 and the number of parties less one.
        """
        parties = session.current().size
        self._collusion = parties - 1 if collusion is None else collusion
        if not 0 <= self._collusion < parties:
            raise UsageError(f"collusion={collusion}: between 0 and {parties - 1}")
        self._plan: _Plan | None = None

    def make_private_with_epsilon(
        self,
        *,
        module: Any,
        optimizer: Any,
        criterion: Any,
        data: Any,
        target_epsilon: float,
        target_delta: float,
        epochs: float,
        max_grad_norm: float,
        batch_size: int | None = None,
    ) -> tuple[Any, PrivateOptimizer, PrivateLoader]:
        """Chooses the noise so that all epochs together cost (target_epsilon, target_delta); one round.

        All parties call it alike, each with its own rows:

            engine = PrivacyEngine()
            model, optimizer, loader = engine.make_private_with_epsilon(
                module=model, optimizer=optimizer, criterion=crypten.nn.BCEWithLogitsLoss(), data=(x, y),
                target_epsilon=1.0, target_delta=1e-5, epochs=20, max_grad_norm=1.0, batch_size=64,
            )
            for batch in loader:
                optimizer.step(batch)
            model.decrypt()

        Args:
            module: encrypted, drawn without the data: `crypten.nn.Linear`, or `Sequential` of `Linear` and
                Tanh, Sigmoid, ReLU (cut off at 8), ReLU6 or Hardtanh between them.
            optimizer: of all its parameters, from `crypten.optim`.
            criterion: `crypten.nn.BCEWithLogitsLoss` for one output and targets 0 or 1, `CrossEntropyLoss`
                for several and one-hot targets; their means.
            data: this party's (features, targets) in plain, or None. A network's rows are cut to a norm of
                16.
            target_epsilon, target_delta: of all steps together.
            epochs: how often each row takes part on average.
            max_grad_norm: what each row's gradient is clipped to.
            batch_size: rows of a step on average; all rows by default.

        Raises:
            UsageError: something does not fit, and what.
            Unsupported: a model or criterion of another kind.
        """
        if self._plan is not None:
            raise UsageError("one PrivacyEngine accounts for one training; make another")
        if not (target_epsilon > 0 and 0 < target_delta < 1 and epochs > 0 and max_grad_norm > 0):
            raise UsageError(
                "target_epsilon, target_delta, epochs and max_grad_norm are above 0, the delta below 1"
            )
        binary = type(criterion).__name__ == "BCEWithLogitsLoss"
        if not binary and type(criterion).__name__ != "CrossEntropyLoss":
            raise Unsupported(
                f"private training with {type(criterion).__name__}: BCEWithLogitsLoss or CrossEntropyLoss"
            )
        if getattr(criterion, "reduction", "mean") != "mean":
            raise Unsupported("private training with another reduction of the loss than its mean")
        if not getattr(module, "encrypted", False):
            raise UsageError("the model is not encrypted: call model.encrypt() first")
        parts = list(networks.parts(module))
        targets = 1 if binary else networks.outputs(parts)
        own = rows.read(data, targets)
        shape = rows.meet(own, targets)
        model: _Logistic | _Network
        if binary and len(parts) == 1:
            model = _Logistic(parts[0], shape.features, max_grad_norm)
        else:
            model = _Network(Network(parts, shape.features, targets, max_grad_norm), shape.features, targets)
        _same(optimizer, model.parameters())
        total = sum(shape.rows)
        if batch_size is not None and not 1 <= batch_size <= total:
            raise UsageError(f"batch_size={batch_size}: between 1 and the number of all rows, {total}")
        rate = 1.0 if batch_size is None else batch_size / total
        steps = math.ceil(epochs / rate)
        rare = overflow(shape.owners * steps, rate)
        if rare >= target_delta / 10:
            raise UsageError(f"target_delta={target_delta}: at least {10 * rare:.1g} for so many steps")
        composition = Composition(rate, steps, model.sensitivity)
        multiplier = composition.multiplier(target_epsilon, target_delta - 2 * rare)
        noise = composition.noise(multiplier, session.current().size, self._collusion)
        largest = (
            sum(shape.places(rate)) * max_grad_norm + _TAIL * math.sqrt(noise.variance) / 2.0**model.bits
        )
        if largest >= _ROOM or largest / rows.expected(shape, rate) * _rate(optimizer) >= _ROOM:
            raise UsageError(
                "sums of gradients, or steps, could leave the ring: lower max_grad_norm, lr or batch_size"
            )
        prepared = rows.Own(None if own is None or not len(own[0]) else model.prepared(*own))
        size = sum(one.nelement() for one in model.parameters())
        session.current().note(f"private training rate {rate} steps {steps} clip {max_grad_norm}")
        with crypten.no_grad():
            _cut(model.parameters())
        plan = _Plan(model, shape, prepared, rate, steps, multiplier, Ahead(noise, size, steps))
        self._plan = plan
        return module, PrivateOptimizer(optimizer, plan), PrivateLoader(plan)

    def loss(self) -> Loss:
        """What the steps that were taken have cost."""
        return self._made.loss(self._made.taken)

    def get_epsilon(self, delta: float) -> float:
        """ε at this δ, of the steps that were taken."""
        return self.loss().epsilon(delta)

    @property
    def noise_multiplier(self) -> float:
        """The standard deviation of the noise that counts, over max_grad_norm."""
        return self._made.multiplier

    @property
    def _made(self) -> _Plan:
        if self._plan is None:
            raise UsageError("call make_private_with_epsilon first")
        return self._plan


def _cut(parameters: list[Any]) -> None:
    """Cuts all parameters to ±`WEIGHT_LIMIT`, so that no product with one leaves the ring; four rounds."""
    flat = SharedTensor.cat([one.detach().flatten() for one in parameters])
    kept = flat.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT).split([one.nelement() for one in parameters])
    for parameter, value in zip(parameters, kept, strict=True):
        parameter.copy_(value.reshape(tuple(parameter.size())))


def _same(optimizer: Any, parameters: list[Any]) -> None:
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    if held != {id(one) for one in parameters}:
        raise UsageError(
            "the optimiser is to move all parameters of the model and no others; make it after encrypt()"
        )


def _rate(optimizer: Any) -> float:
    return max(
        float(group["lr"]) / (1 - float(group.get("momentum", 0.0))) for group in optimizer.param_groups
    )
