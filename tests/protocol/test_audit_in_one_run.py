"""An audit in one run of what is released: canaries show less than the claimed ε, and more without noise.

The auditor sees the release, and has every party on its side but the first, which has the canaries: it takes
their noise off. Nothing that it scores by depends on how many canaries are in. Gaussian noise shows well less
than its ε, so no test hangs on luck; Laplace noise shows nearly all, and there the confidence is 1 - 1e-6.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import mpcpriv.engine
from mpcpriv import privacy
from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.engine import session
from mpcpriv.engine.session import Session
from mpcpriv.privacy import Guesses
from mpcpriv.privacy.mechanism import Noise
from mpcpriv.release.share import combine
from tests.protocol.job_cases import OWNERS, case, column
from tests.protocol.parties import run
from tests.protocol.test_jobs import run as run_job

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402

from mpcpriv.analyses.analysis import Context  # noqa: E402
from mpcpriv.analyses.outline import Outline  # noqa: E402
from mpcpriv.analyses.private_logistic_regression import ANALYSIS, Parameters  # noqa: E402
from mpcpriv.analyses.table import share  # noqa: E402
from mpcpriv.engine.encoding import decode  # noqa: E402
from mpcpriv.engine.private import PrivacyEngine, logistic  # noqa: E402

DELTA = 1e-5
_cancer: Any = load_breast_cancer()
OTHERS = (_cancer.data - _cancer.data.mean(0)) / _cancer.data.std(0) / 4
TOLD = _cancer.target

Drawn = dict[int, list[np.ndarray]]
"""By rank, what that party drew."""


@contextmanager
def noise(drawn: Drawn, times: float) -> Iterator[None]:
    """Writes down what each party draws, and lets the first add so many times that."""
    genuine, lock = Noise.share, threading.Lock()

    def share(self: Noise, size: int) -> np.ndarray:
        rank, own = session.current().rank, np.asarray(genuine(self, size))
        if rank == 0:
            own = np.rint(own * times).astype(np.int64)
        with lock:
            drawn.setdefault(rank, []).append(own)
        return own

    with mock.patch.object(Noise, "share", share):
        yield


def colluders(drawn: Drawn) -> np.ndarray:
    """The noise of all parties but the first."""
    assert len(drawn) > 1
    assert all(len(own) == 1 for own in drawn.values())
    found: np.ndarray = np.sum([own[0] for rank, own in drawn.items() if rank], axis=0)
    return found


# -- training


def trained(s: Session, included: np.ndarray, epsilon: float, steps: int) -> np.ndarray:
    """Weights of the canaries' features. Each canary has one of its own, long enough to be clipped always.

    One party has the canaries; the others have rows of real people, whose other features they are not.
    """
    canaries = len(included)
    rows = canaries // 2
    x = np.zeros((rows, OTHERS.shape[1] + canaries))
    x[:, : OTHERS.shape[1]] = OTHERS[np.arange(rows) % len(OTHERS)]
    y = TOLD[np.arange(rows) % len(OTHERS)]
    if s.rank == 0:
        x = np.hstack([np.zeros((canaries, OTHERS.shape[1])), 100 * np.eye(canaries)])[included]
        y = np.ones(len(x))
    module = crypten.nn.Linear(x.shape[1], 1)
    module.weight.data.zero_()
    module.bias.data.zero_()
    module.encrypt()
    total = rows * (s.size - 1) + int(included.sum())
    module, optimizer, loader = PrivacyEngine().make_private_with_epsilon(
        module=module,
        # So that a step is the sum of gradients over a number that is always the same.
        optimizer=crypten.optim.SGD(module.parameters(), lr=0.5 * total / rows / s.size),
        criterion=crypten.nn.BCEWithLogitsLoss(),
        data=(x, y),
        target_epsilon=epsilon,
        target_delta=DELTA,
        epochs=steps,
        max_grad_norm=1.0,
    )
    for batch in loader:
        optimizer.step(batch)
    module.decrypt()
    found: np.ndarray = module.weight.detach().numpy().flatten()
    return found[-canaries:]


def training(n: int, canaries: int, epsilon: float, steps: int, guesses: int, times: float) -> Guesses:
    """What an audit of one training finds, half of the guesses being of canaries that are in."""
    included = privacy.toss(canaries)
    drawn: Drawn = {}
    with noise(drawn, times):
        weights = run(n, trained, included, epsilon, steps, seconds=500)[0]
    known = colluders(drawn).reshape(steps, -1)[:, OTHERS.shape[1] : -1].sum(0) / 2.0**logistic.BITS
    # The canaries' gradients are negative: a step moves the weights up, and takes the noise away.
    scores = weights + 0.5 / (canaries // 2 * n) * known
    return privacy.guess(included, scores, inside=guesses // 2, outside=guesses // 2)


@pytest.mark.parametrize("n", [2, 3])
def test_a_training_on_shares_shows_less_of_canaries_than_it_claims_and_more_without_noise(n: int) -> None:
    on, off = (training(n, 1000, 3.0, 3, 200, times) for times in (1.0, 0.0))
    print(f"claimed 3: {on.epsilon(DELTA):.2f} with noise on, {off.epsilon(DELTA):.2f} with noise off")
    assert 0.3 < on.epsilon(DELTA) < 3.0 < off.epsilon(DELTA)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 5.0])
def test_so_does_a_training_with_many_canaries(epsilon: float) -> None:
    on, off, faint = (training(2, 2000, epsilon, 4, 1000, times) for times in (1.0, 0.0, 0.125))
    bounds = [one.epsilon(DELTA) for one in (on, off, faint)]
    print(f"claimed {epsilon}: {bounds[0]:.2f}, with noise off {bounds[1]:.2f}, an eighth {bounds[2]:.2f}")
    assert bounds[0] < epsilon < min(bounds[1:])
    assert bounds[0] > 0 or epsilon < 3  # so little shows of so few


def released(s: Session, included: np.ndarray, noise: Noise, parameters: Parameters) -> np.ndarray:
    """Weights of the analysis' features: one of each canary's, the others of other people's."""
    canaries, others = len(included), OTHERS.shape[1]
    names = [f"c{i}" for i in range(others + canaries)]
    terms = [ColumnTerms(name=name, type="number", low=-1.0, high=1.0) for name in names]
    terms.append(ColumnTerms(name="told", type="boolean"))
    # Every other canary is told to be 1, so that the intercept stays where it is.
    mine = np.hstack([np.zeros((canaries, others)), np.eye(canaries), np.arange(canaries)[:, None] % 2])
    theirs = np.hstack([OTHERS.clip(-1, 1), np.zeros((len(OTHERS), canaries)), TOLD[:, None]])
    inputs = {}
    for rank, (owner, rows) in enumerate((("alice", mine[included]), ("bob", theirs))):
        dataset = Dataset.model_construct(
            name=f"{owner}-rows", owner=owner, privacy_unit="patient", minimum_rows=1, columns=terms
        )
        columns = dict(zip([*names, "told"], rows.T, strict=True))
        outline = Outline.of(dataset, list(columns), len(rows))
        inputs[owner] = share(outline, columns if s.rank == rank else None, rank)
    context = Context(s.parties, s.rank, s.steps, noise)
    weights: Any = ANALYSIS.run(context, inputs, parameters)["weights"]
    found: np.ndarray = decode(weights.reveal(), weights.bits).numpy()
    return found[others:-1]


def test_so_does_the_analysis() -> None:
    canaries, steps, bounds = 800, 3, []
    for times in (1.0, 0.0):
        included = privacy.toss(canaries)
        total = len(OTHERS) + int(included.sum())
        # So that a step is 1 / 500 of the sum of gradients, however many canaries are in.
        parameters = Parameters(target="told", steps=steps, clip=0.5, learning_rate=total / 500)
        composition = ANALYSIS.composition(parameters)
        honest = composition.noise(composition.multiplier(3.0, DELTA), 2, 1)
        drawn: Drawn = {}
        with noise(drawn, times):
            weights = run(2, released, included, honest, parameters)[0]
        known = colluders(drawn).reshape(steps, -1)[:, OTHERS.shape[1] : -1].sum(0) / 2.0**logistic.BITS
        scores = (weights + known / 500) * np.where(np.arange(canaries) % 2, 1, -1)
        bounds.append(privacy.guess(included, scores, inside=100, outside=100).epsilon(DELTA))
    print(f"claimed 3: {bounds[0]:.2f} with noise on, {bounds[1]:.2f} with noise off")
    assert 0.0 < bounds[0] < 3.0 < bounds[1]


# -- queries


def counted(
    folder: Path, mechanism: str, epsilon: float, delta: float, guesses: int, times: float
) -> Guesses:
    """What an audit of a cross-table of 10,000 cells finds, with a canary in each."""
    levels = [str(one) for one in range(100)]
    a, b = np.divmod(np.arange(10_000), 100)
    included = privacy.toss(len(a))
    others = np.random.default_rng(9).integers(0, len(a), (2, 3_000))
    places = dict(zip(OWNERS, (np.flatnonzero(included), *others), strict=True))
    one = case(
        folder,
        {owner: {"a": a[rows].astype(str), "b": b[rows].astype(str)} for owner, rows in places.items()},
        dict.fromkeys(OWNERS, [column(name, a, "category", categories=levels) for name in ("a", "b")]),
        "count-by-category",
        privacy={"mechanism": mechanism},
        release={"epsilon": epsilon, **({"delta": delta} if delta else {})},
        budget={"epsilon": 10.0, "delta": 1e-5, "period_days": 30},
    )
    drawn: Drawn = {}
    with noise(drawn, times):
        reports = run_job(one)
    values, _ = combine(reports[0].layout, [report.share for report in reports])
    scores = values["query"] - colluders(drawn) - 2**14 * np.bincount(others.flatten(), minlength=len(a))
    return privacy.guess(included, scores, inside=guesses // 2, outside=guesses // 2)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_counts_show_less_of_canaries_than_they_claim_and_more_without_noise(
    tmp_path: Path, epsilon: float
) -> None:
    """Without noise so many guesses are right that they refute 8; 9,600 never lack canaries that are in."""
    on = counted(tmp_path, "discrete-gaussian", epsilon, 1e-6, 1_000, 1.0).epsilon(1e-6)
    off = counted(tmp_path, "discrete-gaussian", epsilon, 1e-6, 9_600, 0.0).epsilon(1e-6)
    print(f"claimed {epsilon}: {on:.2f} with noise on, {off:.2f} with noise off")
    assert 0.05 * epsilon < on < epsilon < off


def test_of_laplace_noise_nearly_all_that_is_claimed_shows_and_with_a_fifth_less_noise_more(
    tmp_path: Path,
) -> None:
    on, less = (counted(tmp_path, "discrete-laplace", 2.0, 0.0, 5_000, times) for times in (1.0, 0.8))
    print(f"claimed 2: {on.epsilon(0.0):.2f} with noise on, {less.epsilon(0.0):.2f} with four fifths of it")
    assert 1.5 < on.epsilon(0.0, 1 - 1e-6) < 2.0 < less.epsilon(0.0)
