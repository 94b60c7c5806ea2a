"""Random tensors that nobody knows have the distribution they say, at fixed seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats

import mpcpriv.engine
from mpcpriv.engine.protocol.chance import _tail
from mpcpriv.engine.session import Session
from tests.protocol.parties import run
from tests.protocol.uniformity import LEAST

mpcpriv.engine.activate()

import crypten  # noqa: E402


def drawn(n: int, seed: int, draw: Callable[[], Any]) -> torch.Tensor:
    def program(session: Session) -> torch.Tensor:
        crypten.init()
        result: torch.Tensor = draw().get_plain_text()
        return result

    value: torch.Tensor = run(n, program, seed=seed)[0]
    return value


@pytest.mark.parametrize("n", [2, 3])
def test_normal_deviates_are_normal(n: int) -> None:
    found = drawn(n, 5, lambda: crypten.randn(200, 500)).flatten()
    assert float(stats.kstest(found.numpy(), "norm").pvalue) > LEAST
    assert float(stats.normaltest(found.numpy()).pvalue) > LEAST
    # Tails: of 100,000, 270 lie beyond three standard deviations and 6 beyond four.
    assert float(stats.binomtest(int((found.abs() > 3).sum()), len(found), 0.0026998).pvalue) > LEAST
    assert float(stats.binomtest(int((found.abs() > 4).sum()), len(found), 6.334e-5).pvalue) > LEAST
    assert float(found.abs().max()) < 5.04
    assert not torch.equal(found, drawn(n, 6, lambda: crypten.randn(100_000)))


def test_the_quantile_function_is_right_at_each_of_its_values() -> None:
    """In plain: the polynomials of `normal`, at all 2^20 integers, exactly as the ring computes them."""
    function = _tail()
    x = torch.arange(1 << 20)
    piece = torch.bucketize(x, torch.tensor(function.thresholds), right=True)
    table = torch.from_numpy(function.pieces[0].view("int64"))[piece]
    value = table[:, -1].clone()
    for k in range(table.shape[1] - 2, -1, -1):
        value = value * x + table[:, k]
    expected = torch.from_numpy(stats.norm.isf((x.double() + 0.5).numpy() / 2**21))
    assert float((value.double() / 2**59 - expected).abs().max()) < 3e-4


def test_shapes_and_likeness() -> None:
    def program(session: Session) -> list[tuple[int, ...]]:
        crypten.init()
        x = crypten.cryptensor(torch.zeros(2, 3))
        made = [crypten.randn((4, 1)), crypten.rand(3), torch.rand_like(x), torch.randn_like(x)]
        return [tuple(one.shape) for one in (*made, crypten.randn(0, 2))]

    assert run(2, program)[0] == [(4, 1), (3,), (2, 3), (2, 3), (0, 2)]


CHANCES = torch.tensor([0.0, 2.0**-16, 0.25, 0.5, 0.9, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("public", [True, False])
def test_bernoulli_has_the_chances_it_is_given(public: bool) -> None:
    chances = CHANCES.expand(20_000, -1)
    found = drawn(
        2,
        7,
        lambda: crypten.bernoulli(chances) if public else torch.bernoulli(crypten.cryptensor(chances, src=1)),
    )
    assert set(found.unique().tolist()) == {0.0, 1.0}
    counts = found.sum(0).int().tolist()
    assert counts[0] == 0
    assert counts[-1] == 20_000
    for count, chance in zip(counts[1:-1], CHANCES[1:-1].tolist(), strict=True):
        assert float(stats.binomtest(count, 20_000, chance).pvalue) > LEAST


def test_dropout_drops_with_its_chance_and_scales_the_rest() -> None:
    found = drawn(2, 8, lambda: torch.nn.functional.dropout(crypten.cryptensor(torch.ones(20_000)), 0.25))
    kept = found != 0
    assert float((found[kept] - 4 / 3).abs().max()) < 1e-4
    assert float(stats.binomtest(int(kept.sum()), 20_000, 0.75).pvalue) > LEAST


def test_a_weighted_index_is_one_hot_always_and_drawn_by_weight() -> None:
    weights = torch.tensor([0.1, 0.0, 0.6, 0.29999], dtype=torch.float64)
    lines = weights.expand(10_000, -1)
    found = drawn(2, 9, lambda: crypten.cryptensor(lines).weighted_index(1))
    assert torch.equal(found.sum(1), torch.ones(10_000, dtype=torch.float64))
    assert float(found.min()) == 0
    assert found[:, 1].sum() == 0
    expected = weights[[0, 2, 3]] / weights.sum() * 10_000
    assert float(stats.chisquare(found.sum(0)[[0, 2, 3]], expected).pvalue) > LEAST
