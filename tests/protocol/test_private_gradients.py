"""How far one row can move a clipped sum of gradients: searched adversarially on the engine, noise off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402

from mpcpriv.engine.private import logistic, network  # noqa: E402
from mpcpriv.engine.private.network import INPUT_NORM, Network, parts  # noqa: E402
from mpcpriv.engine.private.rows import clipped  # noqa: E402
from mpcpriv.engine.protocol.elementary import scaled_inv_sqrt  # noqa: E402
from mpcpriv.engine.tensor import SharedTensor  # noqa: E402

D = 6


def adversarial(count: int) -> np.ndarray:
    """Rows of `D` numbers: huge, tiny, spikes, all alike, at the edge of what is clipped."""
    generator = np.random.default_rng(1)
    spikes = np.concatenate([np.eye(D) * size for size in (1e-6, 1.0, 1e3, 1e12, 1e300, -1e300)])
    alike = np.array([[size] * D for size in (0.0, 2.0**-16, 1 / 3, 1.0, -7.0, 1e8)])
    lengths = generator.lognormal(0, 4, size=(count, 1))
    return np.concatenate([spikes, alike, generator.normal(size=(count, D)) * lengths])


def norm(found: torch.Tensor) -> float:
    return math.sqrt(sum(int(one) ** 2 for one in found.flatten()))


@pytest.mark.parametrize("length", [2.0**-9, 1.0, 16.0])
def test_rows_are_clipped_to_the_last_unit(length: float) -> None:
    rows = adversarial(2000)
    found = clipped(rows, length)
    squares = [sum(int(one) ** 2 for one in row) for row in found]
    assert max(squares) <= (length * 2**16) ** 2
    assert max(squares) >= ((length * 2**16) - 3) ** 2 * 0.999
    short = np.linalg.norm(rows.clip(-1e100, 1e100), axis=1) < length * 0.999
    assert np.abs(found[short] / 2**16 - rows[short]).max() <= 2.0**-16


def test_a_scaled_root_is_as_exact_as_the_clipping_needs() -> None:
    for scale in (2.0**-4, 0.9, 1.0, 16.0):
        x = torch.logspace(np.log2(scale**2), 28, 20_000, base=2, dtype=torch.float64)
        x = (x * 2**16).ceil() / 2**16

        def root(s: Session, x: torch.Tensor = x, scale: float = scale) -> torch.Tensor:
            share = scaled_inv_sqrt(s, crypten.cryptensor(x, src=0).share, scale, 28)
            opened = SharedTensor.of(share, 28).get_plain_text()
            assert opened is not None
            return opened

        found = run(2, root)[0]
        error = (found - 2.0**-28) / (scale / x.sqrt()) - 1
        assert error.max() < 0.9e-4  # `_ROOT_ERROR`, which only matters upwards
        assert (found / (scale / x.sqrt()) - 1)[x < 2**20].abs().max() < 2e-4


def _logistic(
    s: Session, rows: np.ndarray, y: np.ndarray, weights: torch.Tensor, clip: float
) -> torch.Tensor:
    flat = logistic.prepared(rows, y)
    pieces = torch.split(torch.from_numpy(flat), [D + 1, 1, 1], dim=1)
    shared = [
        SharedTensor.of(s.share_input(0, tuple(one.shape), one if s.rank == 0 else None)) for one in pieces
    ]
    total = logistic.gradient(logistic.Rows(*shared), crypten.cryptensor(weights, src=0), clip)
    assert total.bits == logistic.BITS
    opened = total.reveal()
    assert opened is not None
    return opened


def test_no_row_moves_the_logistic_sum_by_more_than_is_declared() -> None:
    rows, generator = adversarial(12), np.random.default_rng(2)
    y = generator.integers(0, 2, size=(len(rows), 1)).astype(float)

    def each(s: Session) -> list[float]:
        found = []
        for clip, weight in ((1.0, 0.0), (0.37, 1000.0), (3.0, -1000.0)):
            weights = torch.full((D + 1, 1), weight) * torch.linspace(-1, 1, D + 1).sign().reshape(-1, 1)
            for i in range(len(rows)):
                opened = _logistic(s, rows[i : i + 1], y[i : i + 1], weights, clip)
                found.append(norm(opened) / logistic.sensitivity(clip))
        return found

    found = run(2, each, seconds=110)[0]
    assert max(found) <= 1
    assert max(found) > 0.999  # the bound is reached: nothing is given away


@pytest.mark.parametrize("n", [2, 3])
def test_rows_that_are_shared_already_become_directions_no_longer_than_one(n: int) -> None:
    rows = np.clip(adversarial(300), -1, 1)

    def split(s: Session) -> Any:
        x = crypten.cryptensor(torch.from_numpy(rows), src=0)
        found = logistic.split(x, crypten.cryptensor(torch.ones(len(rows)), src=0))
        return found.direction.reveal(), found.length.get_plain_text()

    direction, length = run(n, split)[0]
    norms = np.array([norm(row) for row in direction]) / 2**16
    assert norms.max() <= 1
    assert norms.min() > 0.999
    whole = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    expected = np.linalg.norm(whole, axis=1)
    assert np.abs(length.numpy().flatten() - expected).max() < 1e-3
    assert np.abs(direction.numpy() / 2**16 - whole / expected[:, None]).max() < 1e-3


def _model(hidden: str, outputs: int) -> Any:
    return crypten.nn.Sequential(
        crypten.nn.Linear(D, 5), getattr(crypten.nn, hidden)(), crypten.nn.Linear(5, outputs)
    )


def _weighted(model: Any, spread: float, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.encrypt()


def _present(s: Session, count: int, value: int = 1) -> Any:
    """Integers as shares, 0 fractional bits."""
    whole = torch.full((count, 1), value, dtype=torch.int64)
    return SharedTensor.of(s.share_input(0, (count, 1), whole if s.rank == 0 else None), 0)


def _norms(
    s: Session, hidden: str, outputs: int, rows: np.ndarray, clip: float, spread: float, stretch: float = 1.0
) -> list[float]:
    """Of each row by itself, over what is declared."""
    generator = np.random.default_rng(3)
    model = _weighted(_model(hidden, outputs), spread, 4)
    sums = []
    for row in rows:
        found = Network(list(parts(model)), D, outputs, clip)
        found.factor *= stretch
        x = torch.from_numpy(clipped(row[None], INPUT_NORM))
        y = torch.zeros(1, outputs)
        y[0, generator.integers(outputs)] = 1.0
        shared = SharedTensor.of(s.share_input(0, tuple(x.shape), x if s.rank == 0 else None))
        with crypten.no_grad():
            total = found.gradient(shared, crypten.cryptensor(y, src=0), _present(s, 1))
        assert total.bits == network.BITS
        opened = total.reveal()
        assert opened is not None
        sums.append(norm(opened) / found.sensitivity)
    return sums


@pytest.mark.parametrize(
    ("hidden", "outputs", "spread"), [("Tanh", 1, 3.0), ("ReLU", 3, 1.0), ("ReLU", 1, 1000.0)]
)
def test_no_row_moves_a_networks_sum_by_more_than_is_declared(
    hidden: str, outputs: int, spread: float
) -> None:
    rows = adversarial(4)[::2]
    for clip in (1.0, 0.1):
        found = run(2, _norms, hidden, outputs, rows, clip, spread, seconds=110)[0]
        assert max(found) <= 1
    if spread < 100:
        assert max(found) > 0.99


def test_a_row_that_is_clipped_to_a_thousandth_more_is_found() -> None:
    assert max(run(2, _norms, "Tanh", 1, adversarial(0)[:12], 1.0, 3.0, 1.001)[0]) > 1


@pytest.mark.parametrize("n", [2, 3])
def test_neighbours_differ_by_no_more_than_is_declared(n: int) -> None:
    """The same dealt randomness for both, as whoever compares the two distributions may assume."""
    rows = adversarial(0)[8:20]
    y = torch.from_numpy((np.arange(len(rows)) % 2 == 0).astype(float)).reshape(-1, 1)

    def total(s: Session, without: int | None) -> tuple[torch.Tensor, int]:
        model = _weighted(_model("ReLU", 1), 1.0, 5)
        found = Network(list(parts(model)), D, 1, 1.0)
        x = torch.from_numpy(clipped(rows, INPUT_NORM))
        here = torch.ones((len(rows), 1), dtype=torch.int64)
        if without is not None:
            x[without], here[without] = 0, 0
        mine = s.rank == 0
        shared = SharedTensor.of(s.share_input(0, tuple(x.shape), x if mine else None))
        present = SharedTensor.of(s.share_input(0, tuple(here.shape), here if mine else None), 0)
        with crypten.no_grad():
            gradient = found.gradient(shared, crypten.cryptensor(y, src=0), present)
        opened = gradient.reveal()
        assert opened is not None
        return opened, found.sensitivity

    everybody, bound = run(n, total, None, seed=7)[0]
    again, _ = run(n, total, None, seed=7)[0]
    assert torch.equal(everybody, again)
    moved = [norm(everybody - run(n, total, i, seed=7)[0][0]) for i in range(0, len(rows), 3)]
    assert 0 < max(moved) <= bound
