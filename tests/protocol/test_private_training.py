"""Private training between real parties: without noise it is clipped SGD, and the noise is as promised."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import mpcpriv
import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.privacy.mechanism import Noise
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402

from mpcpriv.engine.perturb import Ahead, perturb  # noqa: E402
from mpcpriv.engine.private import PrivacyEngine  # noqa: E402
from mpcpriv.engine.private import engine as engines  # noqa: E402
from mpcpriv.engine.private import rows as batches  # noqa: E402
from mpcpriv.engine.tensor import SharedTensor  # noqa: E402

D = 4
_generator = np.random.default_rng(0)
X = _generator.normal(size=(24, D)) * _generator.lognormal(0, 1, size=(24, 1))
BINARY = (X[:, 0] + X[:, 1] > 0).astype(float)
CLASSES = np.eye(3)[np.digitize(X[:, 0], [-0.5, 0.5])]
DATA = {"target_epsilon": 2.0, "target_delta": 1e-5}


class Silent(Ahead):
    """No noise."""

    def __init__(self, noise: Noise, size: int, times: int) -> None:
        self.size = size

    def perturb(self, x: SharedTensor) -> SharedTensor:
        assert x.nelement() == self.size
        return x


@contextmanager
def silence() -> Iterator[None]:
    # A fixed multiplier in the place of some seconds of calibration.
    with (
        mock.patch.object(engines, "Ahead", Silent),
        mock.patch.object(engines.Composition, "multiplier", return_value=1.0),
    ):
        yield


def model(kind: str) -> torch.nn.Module:
    torch.manual_seed(5)
    if kind == "logistic":
        return torch.nn.Linear(D, 1)
    hidden, outputs = kind.split("-")
    return torch.nn.Sequential(
        torch.nn.Linear(D, 5), getattr(torch.nn, hidden)(), torch.nn.Linear(5, int(outputs))
    )


def encrypted(plain: torch.nn.Module) -> Any:
    modules = list(plain) if isinstance(plain, torch.nn.Sequential) else [plain]
    made = [
        getattr(crypten.nn, type(one).__name__)(
            *((one.in_features, one.out_features) if isinstance(one, torch.nn.Linear) else ())
        )
        for one in modules
    ]
    found = crypten.nn.Sequential(*made) if isinstance(plain, torch.nn.Sequential) else made[0]
    found.load_state_dict(plain.state_dict())
    return found.encrypt()


def make(s: Session, kind: str, y: np.ndarray, plain: Any = None, **options: Any) -> Any:
    """An engine, and what it makes of a model and everybody's every n-th row."""
    module = encrypted(plain)
    criterion = crypten.nn.CrossEntropyLoss() if kind.endswith("-3") else crypten.nn.BCEWithLogitsLoss()
    own = slice(s.rank, None, s.size)
    settings = {"epochs": 8, "max_grad_norm": 0.5, "data": (X[own], y[own]), **DATA, **options}
    optimizer = crypten.optim.SGD(module.parameters(), lr=settings.pop("lr", 0.8), momentum=0.5)
    engine = PrivacyEngine(collusion=settings.pop("collusion", None))
    return engine, *engine.make_private_with_epsilon(
        module=module, optimizer=optimizer, criterion=criterion, **settings
    )


def weights(module: Any) -> torch.Tensor:
    module.decrypt()
    return torch.cat([one.flatten() for one in module.parameters()]).detach().double()


def clipped_sgd(
    plain: torch.nn.Module, x: np.ndarray, y: np.ndarray, batches: list[np.ndarray], size: float, clip: float
) -> torch.Tensor:
    """Row by row, in float64."""
    plain.double()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.8, momentum=0.5)
    for chosen in batches:
        sums = [torch.zeros_like(one) for one in plain.parameters()]
        for i in chosen:
            plain.zero_grad()
            score, target = plain(torch.from_numpy(x[i : i + 1])), torch.from_numpy(y[i : i + 1])
            loss = (
                torch.nn.functional.cross_entropy(score, target)
                if target.dim() == 2
                else torch.nn.functional.binary_cross_entropy_with_logits(score.flatten(), target)
            )
            loss.backward()
            norm = math.sqrt(sum(float(one.grad.square().sum()) for one in plain.parameters()))
            for total, one in zip(sums, plain.parameters(), strict=True):
                total.add_(one.grad * min(1.0, clip / norm))
        for total, one in zip(sums, plain.parameters(), strict=True):
            one.grad = total / size
        optimizer.step()
    return torch.cat([one.detach().flatten() for one in plain.parameters()])


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("kind", ["logistic", "Tanh-1", "ReLU-3", "Sigmoid-1"])
def test_without_noise_it_is_clipped_sgd(n: int, kind: str) -> None:
    y = CLASSES if kind.endswith("-3") else BINARY

    def train(s: Session, plain: Any) -> torch.Tensor:
        _, module, optimizer, loader = make(s, kind, y, plain)
        for batch in loader:
            optimizer.step(batch)
        return weights(module)

    with silence():
        found = run(n, train, model(kind))[0]
    expected = clipped_sgd(model(kind), X, y, [np.arange(len(X))] * 8, len(X), 0.5)
    assert (found - expected).abs().max() < 1e-2
    assert (found - torch.cat([one.flatten() for one in model(kind).parameters()])).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["logistic", "Tanh-1"])
def test_rows_that_do_not_take_part_count_for_nothing(kind: str) -> None:
    """Two rows of each owner, always the same two; the other places are padded."""

    def train(s: Session, plain: Any) -> torch.Tensor:
        _, module, optimizer, loader = make(s, kind, BINARY, plain, batch_size=6, epochs=1)
        for batch in loader:
            optimizer.step(batch)
        return weights(module)

    with silence(), mock.patch.object(batches, "draw", return_value=np.array([1, 5])):
        found = run(2, train, model(kind))[0]
    expected = clipped_sgd(model(kind), X, BINARY, [np.array([2, 10, 3, 11])] * 4, 6.0, 0.5)
    assert (found - expected).abs().max() < 1e-2


@pytest.mark.parametrize(("n", "collusion"), [(2, None), (3, None), (3, 0), (3, 1)])
def test_the_noise_in_the_weights_is_what_was_promised(n: int, collusion: int | None) -> None:
    """Features of zero have no gradient: their weights are noise and nothing else."""
    columns, rows = 700, 20

    def train(s: Session) -> tuple[torch.Tensor, float]:
        module = crypten.nn.Linear(columns, 1)
        module.weight.data.zero_()
        module.encrypt()
        engine = PrivacyEngine(collusion=collusion)
        own = (np.zeros((rows, columns)), np.ones(rows)) if s.rank == 0 else None
        module, optimizer, loader = engine.make_private_with_epsilon(
            module=module,
            optimizer=crypten.optim.SGD(module.parameters(), lr=1.0),
            criterion=crypten.nn.BCEWithLogitsLoss(),
            data=own,
            epochs=2,
            max_grad_norm=2.0,
            **DATA,
        )
        for batch in loader:
            optimizer.step(batch)
        return weights(module)[:columns], engine.noise_multiplier

    found, multiplier = run(n, train)[0]
    honest = n - (n - 1 if collusion is None else collusion)
    # Of two steps; the noise of the honest parties alone is the promised one.
    expected = 2 * (multiplier * 2.0 / rows) ** 2 * n / honest
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], columns) / columns
    assert low < float(found.square().mean()) / expected < high
    assert stats.kstest(found.numpy() / math.sqrt(expected), "norm").pvalue > 1e-6


def test_noise_is_added_by_each_party_on_the_tensors_own_grid_and_never_twice() -> None:
    noise = Noise("discrete-gaussian", Fraction(400), 3, 0)

    def program(s: Session) -> torch.Tensor:
        x = SharedTensor.of(s.share_input(0, (3000,), torch.full((3000,), 1000) if s.rank == 0 else None), 40)
        noised = perturb(x, noise)
        assert noised.bits == 40
        once = Ahead(noise, 2, 1)
        once.perturb(SharedTensor.constant(torch.zeros(2)))
        with pytest.raises(UsageError, match="none is used twice"):
            once.perturb(SharedTensor.constant(torch.zeros(2)))
        opened = noised.reveal()
        assert opened is not None
        return opened

    rounds = run(3, program)[0] - 1000
    low, high = stats.chi2.ppf([1e-6, 1 - 1e-6], 3000) / 3000
    assert low < float(rounds.double().square().mean()) / noise.variance < high


def test_a_plan_samples_nothing_and_counts_all() -> None:
    costs = []

    def program(plain: Any = None) -> None:
        from mpcpriv.engine import session

        s = session.current()
        before = s.cost.rounds
        _, _, optimizer, loader = make(s, "logistic", BINARY, model("logistic"), batch_size=6)
        for batch in loader:
            optimizer.step(batch)
        costs.append(s.cost.rounds - before)

    with mock.patch.object(engines.Composition, "multiplier", return_value=1.0):
        with mock.patch.object(Noise, "share", side_effect=AssertionError("a plan drew noise")):
            plan = mpcpriv.plan(program, 2)
        costs.clear()
        run(2, lambda s: program())
    assert [plan.rounds] * 2 == costs


def test_nothing_is_opened_but_masked_values() -> None:
    def train(s: Session, plain: Any) -> list[str]:
        _, _, optimizer, loader = make(s, "Tanh-1", BINARY, plain, batch_size=6, epochs=0.5)
        for batch in loader:
            optimizer.step(batch)
        return [name for name in s.cost.opened if name.startswith("open")]

    assert run(2, train, model("Tanh-1")) == [[], []]


def test_epsilon_is_opacus() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import RDPAccountant

    def train(s: Session, plain: Any, size: int) -> tuple[float, float, float, float, float]:
        engine, _, optimizer, loader = make(s, "logistic", BINARY, plain, batch_size=size, epochs=10)
        before = engine.get_epsilon(1e-5)
        for turn, batch in enumerate(loader):
            if turn == 5:
                break
            optimizer.step(batch)
        half = engine.get_epsilon(1e-5)
        for batch in loader:
            optimizer.step(batch)
        with pytest.raises(UsageError, match="that the target epsilon allows are taken"):
            optimizer.step(batch)
        return before, half, engine.get_epsilon(1e-5), engine.noise_multiplier, len(loader)

    size = 12
    before, half, whole, multiplier, steps = run(2, train, model("logistic"), size)[0]
    assert before == 0
    assert whole <= 2.0
    for taken, epsilon in ((5, half), (steps, whole)):
        theirs = RDPAccountant()
        theirs.history = [(multiplier, size / len(X), int(taken))]
        assert epsilon == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


def test_breast_cancer_is_told_nearly_as_well_as_without_noise() -> None:
    table: Any = load_breast_cancer()
    centre, spread = table.data.mean(0), table.data.std(0)  # known beforehand, say: no part of the promise
    x, y = (table.data - centre) / spread, table.target
    seen = np.arange(len(y)) % 4 != 0

    def train(s: Session) -> torch.Tensor:
        own = slice(s.rank, None, s.size)
        module = crypten.nn.Linear(30, 1).encrypt()
        _, module, optimizer, loader = make_cancer(module, x[seen][own], y[seen][own])
        for batch in loader:
            optimizer.step(batch)
        return weights(module)

    def make_cancer(module: Any, x: np.ndarray, y: np.ndarray) -> Any:
        engine = PrivacyEngine()
        return engine, *engine.make_private_with_epsilon(
            module=module,
            optimizer=crypten.optim.SGD(module.parameters(), lr=1.0),
            criterion=crypten.nn.BCEWithLogitsLoss(),
            data=(x, y),
            target_epsilon=3.0,
            target_delta=1e-5,
            epochs=30,
            max_grad_norm=1.0,
        )

    found = run(2, train)[0].numpy()
    ours = float(((x[~seen] @ found[:-1] + found[-1] > 0) == y[~seen]).mean())
    theirs = LogisticRegression().fit(x[seen], y[seen]).score(x[~seen], y[~seen])
    assert ours > theirs - 0.05


def refused(s: Session, change: str) -> None:
    plain = model("Tanh-1")
    options: dict[str, Any] = {}
    y, kind = BINARY, "Tanh-1"
    if change == "layer":
        plain = torch.nn.Sequential(torch.nn.Linear(D, 5), torch.nn.GELU(), torch.nn.Linear(5, 1))
    elif change == "end":
        plain = torch.nn.Sequential(torch.nn.Linear(D, 1), torch.nn.Sigmoid())
    elif change == "width":
        plain = torch.nn.Sequential(torch.nn.Linear(D + 1, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    elif change == "targets":
        y = BINARY * 2
    elif change == "infinite":
        options["data"] = (np.full((2, D), np.inf), np.zeros(2))
    elif change == "batch":
        options["batch_size"] = 25
    elif change == "clip":
        options["max_grad_norm"] = 100.0
    elif change == "rate":
        options["lr"] = 1e6
    elif change == "nobody":
        options["data"] = None
    elif change == "collusion":
        options["collusion"] = 2
    make(s, kind, y, plain, **options)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("layer", "GELU"),
        ("end", "ends with an activation"),
        ("width", "maps 5 numbers to 1; a row has 4 and 1"),
        ("targets", "targets are 0 or 1"),
        ("infinite", "not finite"),
        ("batch", "batch_size=25"),
        ("clip", "max_grad_norm=100"),
        ("rate", "could leave the ring"),
        ("nobody", "nobody has a row"),
        ("collusion", "collusion=2"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: str, text: str) -> None:
    with pytest.raises((UsageError, Unsupported, mpcpriv.RangeError), match=text):
        run(2, refused, change)
