"""Weights and data that stay the same are opened once, in models and their training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.openings import BOTH, LEFT, RIGHT, Watch, numbers, off
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
from crypten import nn  # noqa: E402


def counted(session: Session, step: Callable[[], Any], times: int) -> list[list[str]]:
    watch = Watch(session)
    return [watch.opens(step)[0] for _ in range(times)]


@pytest.mark.parametrize("converted", [True, False])
def test_weights_are_opened_by_the_first_of_several_inputs(converted: bool) -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    inputs = [numbers(4, 6, seed=seed).float() / 8 for seed in range(3)]
    with torch.no_grad():
        wanted = [plain(x) for x in inputs]

    def program(session: Session) -> tuple[list[list[str]], float]:
        if converted:
            model = nn.from_pytorch(plain, torch.zeros(4, 6))
        else:
            model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
            for own, value in zip(model.parameters(), plain.parameters(), strict=True):
                own.data = value.detach().clone()
        model.encrypt(src=0)
        model.eval()
        results: list[Any] = []
        shared = iter([crypten.cryptensor(x, src=1) for x in inputs])
        opened = counted(session, lambda: results.append(model(next(shared))), 3)
        return opened, max(off(result, one) for result, one in zip(results, wanted, strict=True))

    for opened, error in run(2, program):
        assert opened == [[BOTH, BOTH], [LEFT, LEFT], [LEFT, LEFT]]
        assert error < 1e-3


def test_a_training_step_opens_every_value_once() -> None:
    """Of two layers: data and both weights, the activation and its gradient; never data again."""

    def program(session: Session) -> list[list[str]]:
        crypten.init()
        x, y = crypten.cryptensor(numbers(8, 4) / 8, src=0), crypten.cryptensor(numbers(8, 1) / 8, src=1)
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
        model.encrypt()
        model.train()
        optimiser = crypten.optim.SGD(model.parameters(), lr=0.1)

        def step() -> None:
            optimiser.zero_grad()
            (model(x) - y).square().sum().backward()
            optimiser.step()

        return counted(session, step, 3)

    # Forward: x w', h v'; backward: g v (v is open), h' g (both are), x' f (x is, and needs no gradient).
    assert (
        run(2, program)
        == [[[BOTH, BOTH, LEFT, RIGHT], [RIGHT, BOTH, LEFT, RIGHT], [RIGHT, BOTH, LEFT, RIGHT]]] * 2
    )


def test_a_convolution_is_trained_as_in_torch_with_every_value_open_once() -> None:
    images, kernel = numbers(3, 2, 5, 5) / 8, numbers(2, 2, 3, 3, seed=2) / 8

    def program(session: Session) -> tuple[list[str], float]:
        watch = Watch(session)
        x = crypten.cryptensor(images, src=0, requires_grad=True)
        k = crypten.cryptensor(kernel, src=1, requires_grad=True)
        opened, _ = watch.opens(lambda: (z := x.conv2d(k, padding=1)).mul(z.relu()).sum().backward())
        px, pk = (t.clone().requires_grad_() for t in (images, kernel))
        z = functional.conv2d(px, pk, padding=1)
        (z * z.relu()).sum().backward()
        return opened, max(off(x.grad, px.grad), off(k.grad, pk.grad))

    for opened, error in run(2, program):
        # x and k; z and relu(z); relu's gradient; that by z. Then x and the latter are both open.
        assert opened == [BOTH, BOTH, BOTH, LEFT]
        assert error < 5e-2


def test_every_request_of_a_loop_is_foreseen() -> None:
    def program(session: Session) -> tuple[list[int], int]:
        crypten.init()
        x, y = crypten.cryptensor(numbers(8, 4) / 8, src=0), crypten.cryptensor(numbers(8, 1) / 8, src=1)
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
        model.encrypt()
        model.train()
        optimiser = crypten.optim.SGD(model.parameters(), lr=0.1)
        late, genuine = [0] * 12, session.correlations._lookahead.take

        def take(request: Any) -> Any:
            number, first, asked = genuine(request)
            late[turn] += number >= first  # asked for only now
            return number, first, asked

        with mock.patch.object(session.correlations._lookahead, "take", take):
            for turn in range(12):  # noqa: B007
                optimiser.zero_grad()
                (model(x) - y).square().mean().backward()
                optimiser.step()
        return late, session.correlations.asked - session.correlations.used

    for late, in_vain in run(2, program):
        assert late[4:] == [0] * 8
        assert in_vain <= 3 * 64
