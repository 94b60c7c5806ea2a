"""Losses and optimisers against torch: values, gradients, reductions, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, UsageError
from tests.protocol.parties import failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402


def numbers(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


REAL = (numbers(4, 3), numbers(4, 3, seed=1))
BINARY = (numbers(4, 3, low=0.05, high=0.95), (numbers(4, 3, seed=1) > 0).double())
LOGITS = (numbers(4, 3, low=-20, high=20), BINARY[1])
ONE_HOT = (numbers(5, 4, low=-6, high=6), F.one_hot(torch.tensor([0, 3, 1, 1, 2]), 4).double())
CASES: dict[str, tuple[type, torch.Tensor, torch.Tensor]] = {
    "MSELoss": (nn.MSELoss, *REAL),
    "L1Loss": (nn.L1Loss, *REAL),
    "HuberLoss": (nn.HuberLoss, *REAL),
    "SmoothL1Loss": (nn.SmoothL1Loss, *REAL),
    "BCELoss": (nn.BCELoss, *BINARY),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, *LOGITS),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, *ONE_HOT),
    "CrossEntropyLoss of one row": (nn.CrossEntropyLoss, ONE_HOT[0][:1], ONE_HOT[1][:1]),
    "CrossEntropyLoss of one class row": (nn.CrossEntropyLoss, ONE_HOT[0][0], ONE_HOT[1][0]),
    "CrossEntropyLoss of probabilities": (nn.CrossEntropyLoss, ONE_HOT[0], ONE_HOT[1] * 0.8 + 0.05),
    "CrossEntropyLoss of images": (
        nn.CrossEntropyLoss,
        numbers(2, 3, 2, 2),
        F.one_hot(torch.tensor([[[0, 1], [2, 0]], [[1, 1], [0, 2]]]), 3).permute(0, 3, 1, 2).double(),
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_c11_losses_and_their_gradients_equal_torch(name: str, reduction: str) -> None:
    kind, x, y = CASES[name]
    plain = x.clone().requires_grad_()
    expected = kind(reduction=reduction)(plain, y)
    weights = numbers(*expected.shape, seed=5, low=0.5, high=1.5)
    (expected * weights).sum().backward()

    def program(session: Session) -> Any:
        crypten.init()
        secret = crypten.cryptensor(x, src=0, requires_grad=True)
        loss = getattr(crypten.nn, kind.__name__)(reduction=reduction)(secret, crypten.cryptensor(y, src=1))
        (loss * weights).sum().backward()
        return loss.get_plain_text(), secret.grad.get_plain_text()

    value, gradient = run(2, program)[0]
    assert value.shape == expected.shape
    assert torch.allclose(value, expected.detach(), rtol=1e-3, atol=2e-3)
    assert torch.allclose(gradient, plain.grad, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_negative_logarithm_of_the_right_class_is_torchs(reduction: str) -> None:
    x, one_hot = numbers(4, 3, 2), F.one_hot(torch.tensor([[0, 2], [1, 1], [2, 0], [0, 0]]), 3)
    plain = x.clone().requires_grad_()
    expected = nn.NLLLoss(reduction=reduction)(plain, one_hot.argmax(2))
    expected.sum().backward()

    def program(session: Session) -> Any:
        crypten.init()
        secret = crypten.cryptensor(x, src=0, requires_grad=True)
        loss = crypten.nn.NLLLoss(reduction)(secret, crypten.cryptensor(one_hot.permute(0, 2, 1), src=1))
        loss.sum().backward()
        return loss.get_plain_text(), secret.grad.get_plain_text()

    value, gradient = run(2, program)[0]
    assert torch.allclose(value, expected.detach(), atol=1e-3)
    assert torch.allclose(gradient, plain.grad, atol=1e-3)


@pytest.mark.parametrize(("kind", "name"), [("HuberLoss", "delta"), ("SmoothL1Loss", "beta")])
def test_the_threshold_of_a_huber_loss_is_torchs(kind: str, name: str) -> None:
    x, y = REAL
    expected = getattr(nn, kind)(**{name: 0.4})(x, y)

    def program(session: Session) -> Any:
        crypten.init()
        loss = getattr(crypten.nn, kind)(**{name: 0.4})
        return loss(crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)).get_plain_text()

    assert torch.allclose(run(3, program)[0], expected, atol=1e-3)
    with pytest.raises(UsageError, match=f"{name}=0"):
        getattr(crypten.nn, kind)(**{name: 0})


@pytest.mark.parametrize("name", ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_a_skipped_forward_keeps_the_gradient(name: str) -> None:
    kind, x, y = CASES[name]
    plain = x.clone().requires_grad_()
    kind()(plain, y).backward()

    def program(session: Session) -> Any:
        crypten.init()
        secret = crypten.cryptensor(x, src=0, requires_grad=True)
        getattr(crypten.nn, name)(skip_forward=True)(secret, crypten.cryptensor(y, src=1)).backward()
        return secret.grad.get_plain_text()

    assert torch.allclose(run(2, program)[0], plain.grad, rtol=2e-3, atol=2e-3)


def test_plain_losses_are_torchs() -> None:
    for kind, x, y in CASES.values():
        assert torch.allclose(getattr(crypten.nn, kind.__name__)()(x, y), kind()(x, y))
    indices = torch.tensor([0, 3, 1, 1, 2])
    assert torch.allclose(
        crypten.nn.CrossEntropyLoss()(ONE_HOT[0], indices), nn.CrossEntropyLoss()(ONE_HOT[0], indices)
    )


def test_what_a_loss_refuses() -> None:
    def program(session: Session) -> None:
        crypten.init()
        x = crypten.cryptensor(ONE_HOT[0], src=0)
        with pytest.raises(UsageError, match=r"one_hot\(y, 4\)"):
            crypten.nn.CrossEntropyLoss()(x, crypten.cryptensor(torch.tensor([0, 3, 1, 1, 2]), src=1))
        with pytest.raises(UsageError, match=r"\[5, 4\].*\[4\]"):
            crypten.nn.MSELoss()(x, crypten.cryptensor(torch.ones(4), src=1))

    run(2, program)
    with pytest.raises(UsageError, match="'mean', 'sum' or 'none'"):
        crypten.nn.MSELoss(reduction="median")


@pytest.mark.parametrize("name", ["MSELoss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_s12_plain_labels_are_refused_unless_they_are_public(name: str) -> None:
    kind, x, y = CASES[name]

    def program(session: Session) -> Any:
        crypten.init()
        secret, loss = crypten.cryptensor(x, src=0), getattr(crypten.nn, name)()
        with pytest.raises(UsageError, match=r"crypten\.cryptensor\(tensor, src=RANK\)"):
            loss(secret, y)
        return loss(secret, crypten.public(y)).get_plain_text()

    for value in run(3, program):
        assert torch.allclose(value, kind()(x, y), rtol=1e-3, atol=2e-3)


def test_s12_public_labels_that_differ_stop_the_parties() -> None:
    def program(labels: torch.Tensor) -> Callable[[Session], None]:
        def body(session: Session) -> None:
            crypten.init()
            crypten.public(labels).get_plain_text()

        return body

    found = failures([program(torch.tensor([0.0, 1.0])), program(torch.tensor([1.0, 1.0]))])
    assert any(isinstance(error, Desynchronised) for error in found)


SGD = {
    "plain": {"lr": 0.1},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "dampened": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    "decayed": {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1},
    "nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
}
ADAM = {
    "plain": {"lr": 0.05},
    "decayed": {"lr": 0.05, "weight_decay": 0.1},
    "betas": {"lr": 0.05, "betas": (0.5, 0.8)},
    "eps": {"lr": 0.1, "eps": 0.01},
}
OPTIMISERS = [("SGD", n, o) for n, o in SGD.items()] + [("Adam", n, o) for n, o in ADAM.items()]


@pytest.mark.parametrize(("kind", "name", "options"), OPTIMISERS, ids=[f"{k} {n}" for k, n, _ in OPTIMISERS])
def test_optimisers_follow_torch_for_twenty_steps(kind: str, name: str, options: dict[str, Any]) -> None:
    x, y = numbers(8, 3), numbers(8, 2, seed=2)
    start = numbers(3, 2, seed=3)

    def descend(weight: Any, x: Any, y: Any, optimiser: Any) -> None:
        for _ in range(20):
            optimiser.zero_grad()
            (x.matmul(weight) - y).square().mean().backward()
            optimiser.step()

    plain = start.clone().requires_grad_()
    descend(plain, x, y, getattr(torch.optim, kind)([plain], **options))

    def program(session: Session) -> Any:
        crypten.init()
        weight = crypten.cryptensor(start, src=0, requires_grad=True)
        optimiser = getattr(crypten.optim, kind)([weight], **options)
        descend(weight, crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1), optimiser)
        return weight.get_plain_text()

    away = (run(2, program)[0] - plain.detach()).abs().max()
    assert away < 5e-3, away


@pytest.mark.parametrize(("slopes", "scale"), [((1e-3, -2e-4), 1), ((1e-5, -4e-6), 1 << 14)])
def test_adam_moves_by_small_gradients(slopes: tuple[float, float], scale: int) -> None:
    start = torch.ones(2, dtype=torch.float64)
    slope = torch.tensor(slopes)
    plain = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([plain], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (plain * slope).sum().backward()
        optimiser.step()

    def program(session: Session) -> Any:
        crypten.init()
        weight = crypten.cryptensor(start, src=0, requires_grad=True)
        optimiser = crypten.optim.Adam([weight], lr=0.1, grad_scale=scale)
        for _ in range(3):
            optimiser.zero_grad()
            (weight * (slope * scale)).sum().backward()
            optimiser.step()
        return weight.get_plain_text()

    assert torch.allclose(run(2, program)[0], plain.detach(), atol=2e-2)


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": float("nan")}])
def test_adam_refuses_numbers_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Adam with"):
        crypten.optim.Adam([torch.ones(1)], **options)
