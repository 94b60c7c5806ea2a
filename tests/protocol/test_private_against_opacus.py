"""Private training on shares tells as much as Opacus does on the pooled rows, at equal (ε, δ)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402

from mpcpriv.engine.private import PrivacyEngine  # noqa: E402

RUNS = 5
SETTINGS = {"target_delta": 1e-5, "epochs": 10, "max_grad_norm": 1.0}
_cancer: Any = load_breast_cancer()
X, Y = (_cancer.data - _cancer.data.mean(0)) / _cancer.data.std(0), _cancer.target
SEEN = np.arange(len(Y)) % 4 != 0


def accuracy(weights: np.ndarray) -> float:
    return float(((X[~SEEN] @ weights[:-1] + weights[-1] > 0) == Y[~SEEN]).mean())


def ours(s: Session, epsilon: float) -> list[float]:
    found = []
    own = slice(s.rank, None, s.size)
    for _ in range(RUNS):
        module = crypten.nn.Linear(30, 1).encrypt()
        module, optimizer, loader = PrivacyEngine().make_private_with_epsilon(
            module=module,
            optimizer=crypten.optim.SGD(module.parameters(), lr=0.5),
            criterion=crypten.nn.BCEWithLogitsLoss(),
            data=(X[SEEN][own], Y[SEEN][own]),
            target_epsilon=epsilon,
            batch_size=61,
            **SETTINGS,
        )
        for batch in loader:
            optimizer.step(batch)
        module.decrypt()
        found.append(accuracy(torch.cat([one.flatten() for one in module.parameters()]).detach().numpy()))
    return found


def opacus(epsilon: float) -> list[float]:
    from opacus import PrivacyEngine as Opacus

    found = []
    rows = torch.utils.data.TensorDataset(
        torch.from_numpy(X[SEEN]).float(), torch.from_numpy(Y[SEEN]).float()
    )
    for _ in range(RUNS):
        plain = torch.nn.Linear(30, 1)
        module, optimizer, loader = Opacus(accountant="rdp").make_private_with_epsilon(
            module=plain,
            optimizer=torch.optim.SGD(plain.parameters(), lr=0.5),
            data_loader=torch.utils.data.DataLoader(rows, batch_size=61),
            target_epsilon=epsilon,
            **SETTINGS,
        )
        for _ in range(int(SETTINGS["epochs"])):
            for x, y in loader:
                optimizer.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(module(x).flatten(), y).backward()
                optimizer.step()
        found.append(accuracy(torch.cat([one.flatten() for one in plain.parameters()]).detach().numpy()))
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_it_tells_as_much_as_opacus_on_the_pooled_rows(epsilon: float) -> None:
    """Both parties' noise is in ours, that of one in theirs: the price of trusting nobody else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.mean(opacus(epsilon))
    found = np.mean(run(2, ours, epsilon, seconds=300)[0])
    print(f"epsilon {epsilon}: {found:.3f} on shares, {theirs:.3f} by Opacus")
    assert found > theirs - 0.02
