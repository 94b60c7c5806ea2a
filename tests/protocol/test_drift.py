"""A hundred epochs of encrypted training stay beside the plain run, at every step: no drift, no NaN.

The encrypted run is opened after each step and compared with torch in float64, which started from the same
parameters and never hears of it: what either of them rounds adds up over the whole run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402

EPOCHS = 100
NEAR = 1e-2


@dataclass(frozen=True)
class Training:
    """A model, its data and how it descends.

    Attributes:
        data: a data set of scikit-learn, standardised by column.
        hidden: units between the features and the outputs; 0 for none.
        loss: a loss of torch.nn and of crypten.nn.
        optimiser: one of torch.optim and of crypten.optim, with its options.
        batch: rows of a step, in order; all rows if 0.
        rows: how many of the data are used, at most.
        scale: Adam's `grad_scale`, with which it sees smaller gradients, where the run is encrypted.
    """

    data: str
    hidden: int
    loss: str
    optimiser: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 0
    rows: int = 10_000
    scale: int = 1

    def tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and labels, shuffled: the labels are one column of 0 and 1, or one-hot."""
        from sklearn import datasets

        x, classes = getattr(datasets, f"load_{self.data}")(return_X_y=True)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[: self.rows]
        features, target = torch.tensor(x)[order], torch.tensor(classes)[order]
        features = (features - features.mean(0)) / features.std(0).clamp(min=1e-3)
        labels = target.reshape(-1, 1) if self.loss == "BCEWithLogitsLoss" else nn.functional.one_hot(target)
        return features, labels.double()

    def model(self, layers: Any) -> Any:
        """Of torch.nn, or of crypten.nn."""
        features, labels = self.tables()
        if not self.hidden:
            return layers.Linear(features.shape[1], labels.shape[1])
        return layers.Sequential(
            layers.Linear(features.shape[1], self.hidden),
            layers.ReLU(),
            layers.Linear(self.hidden, labels.shape[1]),
        )

    def steps(
        self, model: Any, x: Any, y: Any, layers: Any, optimisers: Any, scale: int = 1
    ) -> Iterator[tuple[Any, list[Any]]]:
        """The loss of each step, and the parameters after it."""
        loss_of = getattr(layers, self.loss)()
        scaled = {} if scale == 1 else {"grad_scale": scale}
        optimiser = getattr(optimisers, self.optimiser)(model.parameters(), **self.options, **scaled)
        batch = self.batch or len(x)
        for _ in range(EPOCHS):
            for start in range(0, len(x), batch):
                optimiser.zero_grad()
                loss = loss_of(model(x[start : start + batch]), y[start : start + batch])
                (loss * scale).backward()
                optimiser.step()
                yield loss, list(model.parameters())


def away(training: Training, n: int) -> tuple[list[float], list[float]]:
    """By step, how far the parameters and the loss of n parties are from the plain run's."""
    x, y = training.tables()
    torch.manual_seed(2)
    plain = training.model(nn).double()
    start = copy.deepcopy(list(plain.parameters()))
    expected = [
        (loss.detach(), [p.detach().clone() for p in parameters])
        for loss, parameters in training.steps(plain, x, y, nn, torch.optim)
    ]
    assert expected[-1][0] < expected[0][0] / 2, "the plain run learns"
    models = [training.model(crypten.nn) for _ in range(n)]

    def program(session: Session) -> tuple[list[float], list[float]]:
        crypten.init()
        model = models[session.rank]
        for parameter, value in zip(model.parameters(), start, strict=True):
            parameter.data = value.detach().clone()
        model.encrypt(src=0)
        model.train()
        features, labels = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=n - 1)
        far: tuple[list[float], list[float]] = [], []
        taken = training.steps(model, features, labels, crypten.nn, crypten.optim, training.scale)
        for (loss, parameters), (plain_loss, values) in zip(taken, expected, strict=True):
            found = torch.cat([p.get_plain_text().flatten() for p in parameters])
            far[0].append(float((found - torch.cat([v.flatten() for v in values])).abs().max()))
            far[1].append(float((loss.get_plain_text() - plain_loss).abs().max()))
        return far

    return run(n, program, seconds=500)[0]


RUNS = {
    "logistic regression": Training("breast_cancer", 0, "BCEWithLogitsLoss", "SGD", {"lr": 0.5}),
    "logistic regression, momentum": Training(
        "breast_cancer", 0, "BCEWithLogitsLoss", "SGD", {"lr": 0.1, "momentum": 0.9}
    ),
    "logistic regression, mini-batches": Training(
        "breast_cancer", 0, "BCEWithLogitsLoss", "SGD", {"lr": 0.05}, batch=64
    ),
    "perceptron": Training("wine", 16, "CrossEntropyLoss", "SGD", {"lr": 0.1}),
    "perceptron, momentum": Training("wine", 16, "CrossEntropyLoss", "SGD", {"lr": 0.05, "momentum": 0.9}),
    "perceptron, mini-batches": Training("wine", 16, "CrossEntropyLoss", "SGD", {"lr": 0.05}, batch=60),
    "perceptron of digits": Training("digits", 32, "CrossEntropyLoss", "SGD", {"lr": 0.2}, rows=600),
    "logistic regression, Adam": Training("breast_cancer", 0, "BCEWithLogitsLoss", "Adam", {"lr": 0.02}),
    "perceptron, Adam": Training("wine", 16, "CrossEntropyLoss", "Adam", {"lr": 0.01}, scale=256),
}
QUICK = ("logistic regression",)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS]
)
def test_a_hundred_epochs_stay_beside_the_plain_run(name: str, n: int) -> None:
    parameters, losses = away(RUNS[name], n)
    assert len(parameters) == len(losses) >= EPOCHS
    # Each for itself: a NaN is not below anything, and `max` may pass over it.
    assert all(distance < NEAR for distance in parameters), max(parameters)
    assert all(distance < NEAR for distance in losses), max(losses)
