"""The analysis that releases a logistic regression with differential privacy, on tables as jobs have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer

import mpcpriv.engine
from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.engine.session import Session
from mpcpriv.errors import UsageError
from tests.protocol.parties import run

mpcpriv.engine.activate()

from mpcpriv.analyses.analysis import Asked, Context  # noqa: E402
from mpcpriv.analyses.outline import Outline  # noqa: E402
from mpcpriv.analyses.private_logistic_regression import ANALYSIS, Parameters  # noqa: E402
from mpcpriv.analyses.table import Table, share  # noqa: E402
from mpcpriv.engine import perturb  # noqa: E402
from mpcpriv.engine.encoding import decode  # noqa: E402
from mpcpriv.engine.private import logistic  # noqa: E402
from mpcpriv.engine.tensor import SharedTensor  # noqa: E402
from mpcpriv.privacy.mechanism import Noise  # noqa: E402

_cancer: Any = load_breast_cancer()
X, Y = _cancer.data[:, :8], _cancer.target.astype(float)
LOW, HIGH = X.min(0) - 1, X.max(0) + 1
NUMBERS = [
    ColumnTerms(name=f"c{i}", type="number", low=float(low), high=float(high))
    for i, (low, high) in enumerate(zip(LOW, HIGH, strict=True))
]
BENIGN = ColumnTerms(name="benign", type="boolean")


def dataset(owner: str, terms: list[ColumnTerms]) -> Dataset:
    return Dataset.model_construct(
        name=f"{owner}-rows", owner=owner, privacy_unit="patient", minimum_rows=1, columns=terms
    )


def shared(s: Session, split: str) -> dict[str, Table]:
    columns = {**{f"c{i}": values for i, values in enumerate(X.T)}, "benign": Y}
    if split == "rows":
        parts = [({k: v[:300] for k, v in columns.items()}), ({k: v[300:] for k, v in columns.items()})]
        terms = [[*NUMBERS, BENIGN]] * 2
    else:
        parts = [{k: columns[k] for k in names} for names in (list(columns)[:5], list(columns)[5:])]
        terms = [NUMBERS[:5], [*NUMBERS[5:], BENIGN]]
    return {
        owner: share(
            Outline.of(dataset(owner, terms[rank]), list(parts[rank]), len(next(iter(parts[rank].values())))),
            parts[rank] if s.rank == rank else None,
            rank,
        )
        for rank, owner in enumerate(("alice", "bob"))
    }


def plain(parameters: Parameters) -> np.ndarray:
    """Clipped gradient descent, in the units of the data."""
    scaled = (2 * X - LOW - HIGH) / (HIGH - LOW)
    x = np.hstack([scaled, np.ones((len(X), 1))])
    lengths, w = np.linalg.norm(x, axis=1), np.zeros(x.shape[1])
    for _ in range(parameters.steps):
        r = (1 / (1 + np.exp(-x @ w)) - Y) * lengths
        w = w - parameters.learning_rate * x.T @ (r.clip(-parameters.clip, parameters.clip) / lengths) / len(
            X
        )
    slopes = w[:-1] * 2 / (HIGH - LOW)
    return np.array([*slopes, w[-1] - slopes @ (LOW + HIGH) / 2])


def trained(s: Session, split: str, parameters: Parameters, noise: Noise | None) -> dict[str, Any]:
    tables = shared(s, split)
    weights: Any = ANALYSIS.run(Context(s.parties, s.rank, s.steps, noise), tables, parameters)["weights"]
    opened = {"weights": decode(weights.reveal(), weights.bits).numpy()}
    asked = Asked(parameters, {name: table.outline for name, table in tables.items()})
    found = dict(ANALYSIS.read(asked, opened))
    intercept: Any = found.pop("intercept")
    coefficients: Any = found["coefficients"]
    return {**found, "coefficients": np.array([*coefficients, intercept])}


def calibrated(parameters: Parameters, parties: int, epsilon: float = 3.0) -> tuple[Noise, float]:
    composition = ANALYSIS.composition(parameters)
    multiplier = composition.multiplier(epsilon, 1e-5)
    assert composition.loss(multiplier).epsilon(1e-5) <= epsilon
    return composition.noise(multiplier, parties, parties - 1), multiplier


@pytest.mark.parametrize(("n", "split"), [(2, "rows"), (3, "rows"), (2, "columns")])
def test_without_noise_it_is_clipped_gradient_descent(
    n: int, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: Any, x: SharedTensor) -> SharedTensor:
        return x

    monkeypatch.setattr(perturb.Ahead, "perturb", silent)
    parameters = Parameters(target="benign", clip=0.5, steps=15, learning_rate=2.0)
    found = run(n, trained, split, parameters, calibrated(parameters, n)[0])[0]
    assert found["features"] == [one.name for one in NUMBERS]
    assert (found["rows"], found["iterations"]) == (len(X), 15)
    expected = plain(parameters)
    spread = np.append((HIGH - LOW) / 2, 1.0)
    assert np.abs((found["coefficients"] - expected)[:-1] * spread[:-1]).max() < 1e-2
    assert (
        (X @ found["coefficients"][:-1] + found["coefficients"][-1] > 0) == (Y > 0)
    ).mean() == pytest.approx(((X @ expected[:-1] + expected[-1] > 0) == (Y > 0)).mean(), abs=0.005)


def test_its_noise_is_that_of_every_party_in_every_step() -> None:
    """From weights of 0, one step: what is not gradient is noise."""
    parameters = Parameters(target="benign", steps=1, learning_rate=1.0)
    noise, multiplier = calibrated(parameters, 2, 1.0)

    def differences(s: Session) -> list[np.ndarray]:
        return [trained(s, "rows", parameters, noise)["coefficients"] for _ in range(40)]

    spread = (HIGH - LOW) / 2
    noisy = np.array([(one - plain(parameters))[:-1] * spread for one in run(2, differences)[0]])
    expected = 2 * (multiplier * parameters.clip / len(X)) ** 2
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], noisy.size) / noisy.size
    assert low < (noisy**2).mean() / expected < high
    assert noise.scale == pytest.approx((multiplier * logistic.sensitivity(1.0)) ** 2, rel=1e-9)
    assert math.sqrt(noise.scale) / 2.0**logistic.BITS == pytest.approx(multiplier, rel=1e-6)


def test_it_tells_at_epsilon_3_nearly_as_much_as_without_noise() -> None:
    parameters = Parameters(target="benign")
    found = run(2, trained, "rows", parameters, calibrated(parameters, 2)[0])[0]["coefficients"]
    expected = plain(Parameters(target="benign", learning_rate=4.0))
    right, ideal = (((X @ w[:-1] + w[-1] > 0) == (Y > 0)).mean() for w in (found, expected))
    assert right > ideal - 0.05


def test_it_releases_nothing_without_noise() -> None:
    with pytest.raises(UsageError, match="without noise"):
        run(2, trained, "rows", Parameters(target="benign"), None)


def test_a_job_cannot_ask_for_what_was_not_agreed_to() -> None:
    with pytest.raises(UsageError, match="noise of 3 parties"):
        run(2, trained, "rows", Parameters(target="benign"), calibrated(Parameters(target="benign"), 3)[0])
