"""What each operation costs on the wire: rounds and bytes, exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpcpriv.engine.session import Session
from tests.protocol.parties import run

OPERATIONS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "product": (2, lambda x, y: x * y),
    "matrix product": (2, lambda x, y: x @ y.t()),
    "square": (2, lambda x, _: x.square()),
    "product with a public fraction": (1, lambda x, _: x * 0.3),
    "product with a public power of two": (1, lambda x, _: x * 0.25),
    "product with a public integer": (0, lambda x, _: x * 7),
    "product with a public tensor": (1, lambda x, _: x * torch.full((4, 10), 0.3)),
    "product with a comparison": (5, lambda x, y: (x > 0) * y),
    "sum": (0, lambda x, y: x + y - 1),
    "mean": (2, lambda x, _: x.mean()),
    "comparison": (4, lambda x, y: x < y),
    "equality": (4, lambda x, y: x == y),
    "relu": (4, lambda x, _: x.relu()),
    "abs": (4, lambda x, _: x.abs()),
    "sigmoid": (5, lambda x, _: x.sigmoid()),
    "tanh": (5, lambda x, _: x.tanh()),
    "erf": (5, lambda x, _: x.erf()),
    **{
        name: (5, lambda x, _, name=name: getattr(x, name)())
        for name in ("gelu", "silu", "softplus", "mish", "elu")
    },
    "sign": (4, lambda x, _: x.sign()),
    "clamp": (4, lambda x, _: x.clamp(-1, 1)),
    "x / y": (17, lambda x, y: x / y),
    "x to the 0.3": (12, lambda x, _: x**0.3),
    "normal deviates": (7, lambda x, _: x.randn_like()),
    "exp": (8, lambda x, _: x.exp()),
    "fine exp": (7, lambda x, _: x.fine_exp()),
    "fine sigmoid": (5, lambda x, _: x.fine_sigmoid()),
    "log": (10, lambda x, _: x.log()),
    "reciprocal": (12, lambda x, _: x.reciprocal()),
    "sqrt": (12, lambda x, _: x.sqrt()),
    "inv_sqrt": (12, lambda x, _: x.inv_sqrt()),
    "cos": (7, lambda x, _: x.cos()),
    "softmax over 10": (31, lambda x, _: x.softmax(1)),
    "maximum of 10": (9, lambda x, _: x.max(1)),
    "maximum of 2": (5, lambda x, _: x[:, :2].max(1)),
}


@pytest.mark.parametrize("n", [2, 3])
def test_rounds_of_each_operation(n: int) -> None:
    def program(session: Session) -> dict[str, int]:
        import crypten

        crypten.init()
        x, y = (crypten.cryptensor(torch.linspace(-2, 3, 40).view(4, 10), src=src) for src in (0, 1))
        rounds = {}
        for name, (_, operation) in OPERATIONS.items():
            fresh = x.clone(), y.clone()  # none of them is open yet
            before = session.cost.rounds
            operation(*fresh)
            rounds[name] = session.cost.rounds - before
        return rounds

    wanted = {name: rounds for name, (rounds, _) in OPERATIONS.items()}
    assert run(n, program) == [wanted] * n


@pytest.mark.parametrize("n", [2, 3, 4])
def test_rounds_of_sorting(n: int) -> None:
    """A short line takes four rounds, one for each party, and one; the way back of a gradient no four."""

    def program(session: Session) -> list[int]:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.arange(128.0).reshape(2, 64), requires_grad=True)
        before = session.cost.rounds
        result = x.sort(1)[0]
        there = session.cost.rounds
        result.backward(torch.ones(2, 64))
        return [there - before, session.cost.rounds - there]

    assert run(n, program)[0] == [5 + n, 1 + n]


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_rounds_of_argmax(count: int) -> None:
    def program(session: Session) -> int:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.arange(float(count)))
        before = session.cost.rounds
        x.argmax()
        return session.cost.rounds - before

    assert run(2, program)[0] == {10: 9, 100: 19, 1000: 29}[count]


def test_bytes_of_a_comparison() -> None:
    """14 from each party to each other, 60 from the dealer, per element; headers aside."""

    def program(session: Session) -> tuple[int, int]:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.ones(1000))
        sent, dealt = session.cost.sent, session.correlations.received
        x < 0  # noqa: B015
        return session.cost.sent - sent, session.correlations.received - dealt

    results = run(3, program)
    for sent, _ in results:
        assert 0 <= sent - 2 * 14 * 1000 <= 2 * 4 * 256
    assert 0 <= sum(dealt for _, dealt in results) - 60 * 1000 <= 256


STEPS = {
    "SGD": (9, {"lr": 0.1}),
    "SGD with all that it has": (
        9,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
    ),
    "Adam": (26, {"lr": 0.1}),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("rows", [128, 569], ids=["division by a power of two", "by another number"])
def test_rounds_of_a_step_of_logistic_regression(n: int, rows: int) -> None:
    def program(session: Session) -> dict[str, int]:
        import crypten
        from crypten import nn

        crypten.init()
        x = crypten.cryptensor(torch.linspace(-2, 2, rows * 30).view(rows, 30), src=0)
        labels = crypten.cryptensor(torch.ones(rows, 1), src=1)
        rounds = {}
        for name, (_, options) in STEPS.items():
            model = nn.Linear(30, 1).encrypt(src=0).train()
            loss = nn.BCEWithLogitsLoss(skip_forward=True)
            optimiser = getattr(crypten.optim, name.split()[0])(model.parameters(), **options)
            for _ in range(2):
                before = session.cost.rounds
                optimiser.zero_grad()
                loss(model(x), labels).backward()
                optimiser.step()
                rounds[name] = session.cost.rounds - before
        return rounds

    assert run(n, program) == [{name: rounds for name, (rounds, _) in STEPS.items()}] * n


@pytest.mark.parametrize("n", [2, 3])
def test_bytes_of_a_product_whose_operand_stays(n: int) -> None:
    """8 per element of what is not open yet, from each party to each other, besides the truncation's 8."""

    def program(session: Session) -> list[tuple[int, int, int]]:
        import crypten

        crypten.init()
        x, w = crypten.cryptensor(torch.ones(200, 30)), crypten.cryptensor(torch.ones(30, 10))
        costs = []

        def cost(left: Any, right: Any) -> None:
            rounds, sent, dealt = session.cost.rounds, session.cost.sent, session.correlations.received
            left.matmul(right)
            now = session.cost.rounds, session.cost.sent, session.correlations.received
            costs.append((now[0] - rounds, now[1] - sent, now[2] - dealt))

        cost(x, w)
        cost(x, crypten.cryptensor(torch.ones(30, 10)))
        cost(x, w)
        cost(x.t(), crypten.cryptensor(torch.ones(200, 10)))
        cost(w.t(), x.t())
        return costs

    results = run(n, program)
    opened = [6000 + 300, 300, 0, 2000, 0]
    truncated = [2000, 2000, 2000, 300, 2000]
    for costs in results:
        assert [rounds for rounds, _, _ in costs] == [2, 2, 1, 2, 1]
        for (_, sent, _), mine, after in zip(costs, opened, truncated, strict=True):
            assert 0 <= sent - (n - 1) * 8 * (mine + after) <= (n - 1) * 2 * 256
    for i, after in enumerate(truncated):
        dealt = sum(costs[i][2] for costs in results)
        assert 0 <= dealt - 20 * after <= 2 * 256
