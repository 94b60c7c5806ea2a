"""The functions whose errors do not add up over many elements: dense grids, and means over many masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpcpriv.engine

mpcpriv.engine.activate()

import crypten  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from mpcpriv.engine.session import Session  # noqa: E402
from tests.protocol.parties import run  # noqa: E402

FUNCTIONS = {"fine_exp": torch.exp, "fine_sigmoid": torch.sigmoid}


def opened(n: int, name: str, x: torch.Tensor) -> torch.Tensor:
    def program(session: Session) -> Any:
        del session
        return getattr(crypten.cryptensor(x, src=0), name)().get_plain_text()

    found: torch.Tensor = run(n, program, seed=5)[0]
    return found


def on_grid(x: torch.Tensor) -> torch.Tensor:
    return (x * 2**16).round() / 2**16


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(
    ("name", "low", "high", "error"),
    [
        ("fine_exp", -6, 5.99, 3e-5),
        ("fine_exp", -12, 14, 2e-4),
        ("fine_exp", -40, -12, 3e-5),
        ("fine_sigmoid", -40, 40, 3e-5),
    ],
)
def test_on_a_dense_grid(n: int, name: str, low: float, high: float, error: float) -> None:
    x = on_grid(torch.linspace(low, high, 40_000, dtype=torch.float64))
    expected = FUNCTIONS[name](x)
    off = (opened(n, name, x) - expected).abs()
    assert torch.minimum(off, off / expected).max() < error


@pytest.mark.parametrize(("name", "bias"), [("fine_exp", 3e-6), ("fine_sigmoid", 8e-6)])
def test_the_mean_of_many_is_closer(name: str, bias: float) -> None:
    curve: Callable[[torch.Tensor], torch.Tensor] = FUNCTIONS[name]
    points = on_grid(torch.linspace(-4, 4, 41, dtype=torch.float64))
    found = opened(2, name, points.repeat(4000)).reshape(4000, -1).mean(0)
    expected = curve(points)
    assert ((found - expected).abs() / expected.clamp(min=1)).max() < bias


def test_beyond_its_range_it_is_constant() -> None:
    found = opened(2, "fine_exp", torch.tensor([14.25, 15.0, 1000.0]))
    assert (found / torch.exp(torch.tensor(14.25)) - 1).abs().max() < 2e-4
