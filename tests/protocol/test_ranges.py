"""Bounds that are carried along: sound for what is computed, and refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import mpcpriv
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, RangeError, UsageError
from tests.protocol.parties import failures, run

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "from a number": lambda x, _: 3.5 - x,
    "multiply": lambda x, y: x * y,
    "square": lambda x, _: x.square(),
    "power": lambda x, _: x**3,
    "public fraction": lambda x, _: x * -0.3,
    "public integer": lambda x, _: x * -7,
    "public tensor": lambda x, _: x * torch.linspace(-2, 3, 12),
    "matmul": lambda x, y: x @ y.t(),
    "matmul with a public one": lambda x, _: x @ torch.full((12, 2), 0.7),
    "sum": lambda x, _: x.sum(),
    "sum of rows": lambda x, _: x.sum(1),
    "cumulative sum": lambda x, _: x.cumsum(1),
    "mean": lambda x, _: x.mean(),
    "mean of rows": lambda x, _: x.mean(1, keepdim=True),
    "variance": lambda x, _: x.var(),
    "relu": lambda x, _: x.relu(),
    "abs": lambda x, _: x.abs(),
    "sigmoid": lambda x, _: x.sigmoid(),
    "tanh": lambda x, _: x.tanh(),
    "exp": lambda x, _: x.exp(),
    "log": lambda x, _: (x + 9).log(),
    "sqrt": lambda x, _: (x + 9).sqrt(),
    "reciprocal": lambda x, _: (x + 9).reciprocal(),
    "reciprocal about zero": lambda x, _: x.reciprocal(),
    "quotient": lambda x, y: x / (y + 9),
    "sine": lambda x, _: x.sin(),
    "softmax": lambda x, _: x.softmax(1),
    "log softmax": lambda x, _: x.log_softmax(1),
    "gelu": lambda x, _: x.gelu(),
    "silu": lambda x, _: x.silu(),
    "mish": lambda x, _: x.mish(),
    "softplus": lambda x, _: x.softplus(),
    "sorted": lambda x, _: x.sort(1)[0],
    "median": lambda x, _: x.median(1)[0],
    "places of the sorted": lambda x, _: x.sort(1)[1],
    "pooled": lambda x, _: x.view(1, 1, 4, 12).max_pool2d(2),
    "comparison": lambda x, y: x < y,
    "sum of comparisons": lambda x, y: (x < y).sum(),
    "maximum": lambda x, _: x.max(1)[0],
    "place of the maximum": lambda x, _: x.max(1, one_hot=False)[1],
    "index": lambda x, _: x[1:, ::2],
    "transpose": lambda x, _: x.t().reshape(-1),
    "padded": lambda x, _: x.pad((1, 1), value=20),
    "joined": lambda x, y: x.cat([x, y + 30]),
    "where": lambda x, y: x.where(y > 0, y * 2),
    "sum over no dimension, which is all": lambda x, _: x.sum(()),
    "mean of large values": lambda x, _: (x + 2.0**28).mean() - 2.0**28,
    "large values times a number": lambda x, _: (x + 2.0**28) * 0.3 - 0.3 * 2.0**28,
    "logarithm of what has none": lambda x, _: x.log(),
    "inverse root of what has none": lambda x, _: ((x.abs() - x) * 0.01).inv_sqrt(),
    "convolution with fewer terms at the edges": lambda x, _: (
        (x * 0 + 1).view(1, 1, 4, 12).conv2d(torch.ones(1, 1, 3, 3), padding=1)
    ),
    "transposed convolution": lambda x, _: (x + 9).view(1, 1, 4, 12).conv_transpose2d(torch.ones(1, 1, 3, 3)),
    "convolution": lambda x, y: x.view(1, 1, 4, 12).conv2d(y[:2, :3].view(1, 1, 2, 3)),
}


@pytest.mark.parametrize("n", [2, 3])
def test_every_value_lies_in_the_bounds_that_are_carried_along(n: int) -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        ends = torch.linspace(-8, 5, 48).view(4, 12)
        x = crypten.cryptensor(ends, src=0, bound=(-8, 5))
        y = crypten.cryptensor(ends.flip(0, 1) / 2, src=1, bound=4)
        for name, operation in OPERATIONS.items():
            result = operation(x, y)
            values, known = result.get_plain_text(), result.interval
            assert known is not None, name
            assert known.low <= values.min(), f"{name}: {known}, {values.min()}"
            assert values.max() <= known.high, f"{name}: {known}, {values.max()}"

    run(n, program)


EXACT: dict[str, tuple[Callable[[Any, Any], Any], tuple[float, float]]] = {
    "add": (lambda x, y: x + y, (-12, 9)),
    "multiply": (lambda x, y: x * y, (-32, 32)),
    "square": (lambda x, _: x.square(), (0, 64)),
    "matmul": (lambda x, y: x @ y.t(), (-384, 384)),
    "sum": (lambda x, _: x.sum(), (-384, 240)),
    "mean": (lambda x, _: x.mean(), (-8, 5)),
    "relu": (lambda x, _: x.relu(), (0, 5)),
    "comparison": (lambda x, y: x < y, (0, 1)),
}


def test_bounds_are_no_wider_than_they_must_be() -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.zeros(4, 12), src=0, bound=(-8, 5))
        y = crypten.cryptensor(torch.zeros(4, 12), src=1, bound=4)
        for name, (operation, (low, high)) in EXACT.items():
            known = operation(x, y).interval
            assert abs(known.low - low) < 1e-3, name
            assert abs(known.high - high) < 1e-3, name
        assert (crypten.cryptensor(torch.zeros(4, 12), src=0) * y).interval is None

    run(2, program)


OVERFLOWS: dict[str, tuple[float, Callable[[Any], Any]]] = {
    # Just below each of these bounds the same operation is right.
    "mul": (2.0**15, lambda x: x * x),
    "square": (2.0**15, lambda x: x.square()),
    "matmul": (2.0**14, lambda x: x.view(1, 4) @ x.view(4, 1)),
    "matmul by a public one": (2.0**30, lambda x: x.view(2, 2) @ torch.tensor([[0.5], [0.5]]).double()),
    "mul by a public fraction": (2.0**34, lambda x: x * 0.75),
    "mul by a public integer": (2.0**43, lambda x: x * 8),
    "mul by a public tensor": (2.0**29, lambda x: x * torch.tensor(1.5 + 0.5)),
    "add": (2.0**45, lambda x: x + x),
    "sub": (2.0**45, lambda x: x - -x),
    "sum": (2.0**44, lambda x: x.sum()),
    "mean": (2.0**44, lambda x: x.mean()),
    "conv1d": (2.0**14.5, lambda x: torch.conv1d(x.view(1, 1, 4), x[:2].view(1, 1, 2))),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_could_leave_the_ring_is_refused_before_anything_is_sent(name: str) -> None:
    limit, operation = OVERFLOWS[name]

    def program(session: Session) -> None:
        import crypten

        crypten.init()
        fits = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64) * (limit * (1 - 2.0**-9))
        x = crypten.cryptensor(fits, src=0, bound=limit * (1 - 2.0**-9))
        found, wanted = operation(x).get_plain_text(), operation(fits)
        assert torch.allclose(found, wanted.double(), rtol=1e-6), (found, wanted)
        x = crypten.cryptensor(fits, src=0, bound=limit * 1.001)
        before = session.cost.sent, session.cost.rounds, session.correlations.used
        operator = name.partition(" ")[0]
        with pytest.raises(RangeError, match=rf"{operator} of .*could reach .*2\^.* narrower bounds"):
            operation(x)
        assert (session.cost.sent, session.cost.rounds, session.correlations.used) == before

    run(2, program)


def test_an_owner_s_value_outside_its_bound_is_named_to_the_owner() -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        data = torch.tensor([[1.0, 2.0], [3.0, 104.5]])
        if session.rank == 1:
            with pytest.raises(RangeError, match=r"value 104.5 at index \[1, 1\] .* -100 to 100"):
                crypten.cryptensor(data, src=1, bound=100)

    run(2, program)


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf"), 2.0**46, (3, 1), "wide", (1, 2, 3), None])
def test_a_bound_is_a_magnitude_or_two_numbers(bound: Any) -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        if bound is None:
            assert crypten.cryptensor(torch.ones(2), src=0, bound=None).interval is None
            return
        with pytest.raises(UsageError, match="bound="):
            crypten.cryptensor(torch.ones(2), src=0, bound=bound)

    run(2, program)


def test_parties_that_state_different_bounds_are_told_apart() -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        bound = 10 if session.rank == 0 else 11
        crypten.cryptensor(torch.ones(2), src=0, bound=bound).get_plain_text()

    errors = failures([program, program])
    # The first of them to look stops; the other is told.
    assert any(isinstance(e, Desynchronised) and "different history" in str(e) for e in errors[:2]), errors


def test_bounds_do_not_outlive_the_value() -> None:
    def program(session: Session) -> None:
        import crypten

        crypten.init()
        x = crypten.cryptensor(torch.ones(4), src=0, bound=1)
        free = crypten.cryptensor(torch.full((4,), 50.0), src=1)
        copied, written, shared = x.clone(), x.clone(), x.clone()
        copied.copy_(free)
        written[1] = free[0]
        shared.share = free.share
        with crypten.no_grad():
            added = x.clone()
            added += free
        for changed in (copied, written, shared, added):
            assert changed.interval is None
        assert x.interval is not None
        written = x.clone()
        written[1] = 3
        assert written.interval.high == 3

    run(2, program)


def products_of_large_values(bound: float) -> None:
    import crypten

    crypten.init()
    x = crypten.cryptensor(torch.empty(3), src=0, bound=(bound, bound + 1))
    for _ in mpcpriv.steps(3):
        x = x * 8
    (x * x).get_plain_text()


def test_a_plan_refuses_what_could_leave_the_ring_though_nothing_is_there_yet() -> None:
    assert mpcpriv.plan(products_of_large_values, 2, (6.0,)).rounds == 3
    with pytest.raises(RangeError, match=r"mul of \[3\] and \[3\]: values could reach 1.11e\+09.* 2\^30"):
        mpcpriv.plan(products_of_large_values, 2, (64.0,))
