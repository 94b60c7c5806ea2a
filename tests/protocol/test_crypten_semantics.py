"""CrypTen's programs compute what torch computes: numbers, views, autograd, training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.session import Session
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402

UNIT = 2.0**-16
X = torch.tensor([[1.5, -2.0, 0.25], [-0.75, 3.0, -1.25]], dtype=torch.float64)

Expression = Callable[[Any], Any]


def values_of(n: int, expressions: list[Expression], x: torch.Tensor = X) -> list[torch.Tensor]:
    def program(session: Session) -> list[Any]:
        crypten.init()
        a = crypten.cryptensor(x, src=0)
        return [expression(a).get_plain_text() for expression in expressions]

    results = run(n, program)
    for other in results[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[0], other, strict=True))
    return results[0]


AS_TORCH: dict[str, Expression] = {
    "a comparison times a half": lambda x: (x > 0) * 0.5,
    "half a comparison": lambda x: 0.5 * (x > 0),
    "the mean of a comparison": lambda x: (
        (x > 0).mean() if not isinstance(x, torch.Tensor) else (x > 0) * 1.0
    ),
    "a comparison plus a fraction": lambda x: (x > 0) + 0.25,
    "a fraction minus a comparison": lambda x: 0.25 - (x > 0) * 1,
    "a comparison times values": lambda x: (x > 0) * x,
    "a comparison divided": lambda x: (x > 0) / 4,
    "comparisons multiplied": lambda x: (x > 0) * (x < 2),
    "a sum of comparisons": lambda x: (x > 0).sum(0),
    "a comparison compared": lambda x: (x > 0) * 1 > 0.5,
    "integers": lambda x: x * 3 - 2,
    "a tensor of integers": lambda x: x * torch.tensor([1, -2, 3]),
    "a negative": lambda x: -x,
    "from a number": lambda x: 1 - x,
    "a public tensor": lambda x: x + torch.tensor([0.5, 0.25, -1.0]),
    "minus a public tensor": lambda x: x - torch.tensor([0.5, 0.25, -1.0]),
    "broadcasting a public tensor": lambda x: x.reshape(2, 1, 3) + torch.ones(4, 1),
    "abs": lambda x: x.abs(),
    "sign": lambda x: x.sign(),
    "relu": lambda x: x.relu(),
    "a power": lambda x: x**3,
    "sum": lambda x: x.sum(1, keepdim=True),
    "mean": lambda x: x.mean(0),
    "transpose": lambda x: x.t().reshape(-1),
    "an index": lambda x: x[1, :2],
    "a mask": lambda x: x[torch.tensor([True, False])],
    "cumsum": lambda x: x.cumsum(1),
    "flip": lambda x: x.flip(0),
    "variance": lambda x: x.var(0),
}


@pytest.mark.parametrize("n", [2, 3])
def test_expressions_equal_torch(n: int) -> None:
    found = values_of(n, list(AS_TORCH.values()))
    for (name, expression), result in zip(AS_TORCH.items(), found, strict=True):
        expected = (X > 0).double().mean() if name.startswith("the mean of") else expression(X).double()
        assert result.shape == expected.shape, name
        assert float((result - expected).abs().max()) < 16 * UNIT, name


def test_where_takes_public_and_shared_conditions() -> None:
    public = torch.tensor([[True, False, True], [False, False, True]])
    found = values_of(
        2,
        [
            lambda x: crypten.where(x > 0, x, -x),
            lambda x: crypten.where(public, x, x * 2),
            lambda x: x.where(x > 0, x * 0),
        ],
    )
    expected = [X.abs(), torch.where(public, X, 2 * X), X.relu()]
    for result, wanted in zip(found, expected, strict=True):
        assert float((result - wanted).abs().max()) <= 2 * UNIT


def test_joining_encrypted_and_plain_tensors() -> None:
    found = values_of(
        2,
        [
            lambda x: crypten.cat([x, x * 2], dim=1),
            lambda x: crypten.stack([x, x], dim=-1),
            lambda x: crypten.cat([x, crypten.cryptensor(torch.ones(1, 3), src=1)]),
        ],
    )
    expected = [torch.cat([X, 2 * X], 1), torch.stack([X, X], -1), torch.cat([X, torch.ones(1, 3)])]
    assert all(torch.equal(result, wanted) for result, wanted in zip(found, expected, strict=True))
    assert torch.equal(crypten.cat([X, X], dim=1), torch.cat([X, X], 1))


def test_writing_to_a_tensor_leaves_its_views_and_copies_alone() -> None:
    def program(session: Session) -> list[Any]:
        crypten.init()
        with crypten.no_grad():
            x = crypten.cryptensor(X, src=0)
            row, flat, alias, copied = x[0], x.reshape(-1), x.shallow_copy(), x.clone()
            share = x.share.clone()
            memory = x.share
            x[0] += 1
            x[1, 2] = 7.5
            x += 1
            x *= 2
            changed = x.clone()
            kept = crypten.cryptensor(torch.zeros(2, 3), src=0)
            kept.copy_(x)
            x -= 5
            x.add_(1.25)
            assert torch.equal(memory, share)
            return [t.get_plain_text() for t in (row, flat, alias, copied, changed, kept, x)]

    written = X.clone()
    written[0] += 1
    written[1, 2] = 7.5
    written = (written + 1) * 2
    expected = [X[0], X.reshape(-1), X, X, written, written, written - 3.75]
    for result in run(2, program):
        for found, wanted in zip(result, expected, strict=True):
            assert float((found - wanted).abs().max()) <= 2 * UNIT


def test_writing_a_fraction_into_a_comparison_keeps_it() -> None:
    def program(session: Session) -> Any:
        crypten.init()
        with crypten.no_grad():
            bits = crypten.cryptensor(X, src=0) > 0
            bits[0, 1] = 0.5
            return bits.get_plain_text()

    expected = (X > 0).double()
    expected[0, 1] = 0.5
    assert torch.equal(run(2, program)[0], expected)


def test_an_input_is_not_an_alias_of_the_secret() -> None:
    def program(session: Session) -> Any:
        crypten.init()
        mine = X.clone()
        x = crypten.cryptensor(mine, src=0)
        mine.zero_()
        opened = x.get_plain_text()
        opened.add_(5)
        return x.get_plain_text()

    assert torch.equal(run(2, program)[0], X)


# Autograd.


def values(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients_agree(
    n: int,
    inputs: dict[str, torch.Tensor],
    shared: Callable[..., Any],
    plain: Callable[..., torch.Tensor],
    tolerance: float = 1e-3,
) -> None:
    """The value of a scalar function and its gradients by every input, against torch."""

    def program(session: Session) -> tuple[Any, list[Any]]:
        crypten.init()
        given = {
            name: crypten.cryptensor(value, src=k % n, requires_grad=True)
            for k, (name, value) in enumerate(inputs.items())
        }
        result = shared(**given)
        result.backward()
        return result.get_plain_text(), [tensor.grad.get_plain_text() for tensor in given.values()]

    followed = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    expected = plain(**followed)
    expected.backward()
    value, gradients = run(n, program)[0]
    assert abs(value.item() - expected.item()) < tolerance
    for (name, tensor), gradient in zip(followed.items(), gradients, strict=True):
        assert tensor.grad is not None
        assert gradient.shape == tensor.grad.shape, name
        assert float((gradient - tensor.grad).abs().max()) < tolerance, name


PARTIES = pytest.mark.parametrize("n", [2, 3])


@PARTIES
def test_gradients_of_products_and_sums(n: int) -> None:
    gradients_agree(
        n,
        {"x": values((3, 4), 1), "w": values((4, 2), 2), "b": values((2,), 3)},
        lambda x, w, b: (x.matmul(w) + b).square().sum(),
        lambda x, w, b: (x.matmul(w) + b).square().sum(),
    )


@PARTIES
def test_gradients_of_a_regression(n: int) -> None:
    gradients_agree(
        n,
        {"x": values((6, 3), 4), "w": values((3, 1), 5), "y": values((6, 1), 6)},
        lambda x, w, y: crypten.nn.MSELoss()(x.matmul(w), y.detach()) + y.sum() * 0,
        lambda x, w, y: functional.mse_loss(x.matmul(w), y.detach()) + y.sum() * 0,
    )


@PARTIES
@pytest.mark.parametrize("loss", ["BCELoss", "BCEWithLogitsLoss"])
def test_gradients_of_binary_cross_entropy(n: int, loss: str) -> None:
    labels = (values((8, 1), 7) > 0).float()

    def shared(x: Any) -> Any:
        target = crypten.cryptensor(labels, src=1)
        return getattr(crypten.nn, loss)()(x.sigmoid() if loss == "BCELoss" else x, target)

    gradients_agree(
        n,
        {"x": values((8, 1), 8)},
        shared,
        lambda x: getattr(nn, loss)()(x.sigmoid() if loss == "BCELoss" else x, labels),
    )


@PARTIES
def test_gradients_of_relu_and_max_pool(n: int) -> None:
    gradients_agree(
        n,
        {"x": values((2, 1, 4, 4), 9)},
        lambda x: (x.relu() - 0.3 * x).max_pool2d(2).square().sum(),
        lambda x: functional.max_pool2d(x.relu() - 0.3 * x, 2).square().sum(),
    )


@PARTIES
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1}])
def test_gradients_of_a_convolution(n: int, geometry: dict[str, int]) -> None:
    gradients_agree(
        n,
        {"x": values((2, 2, 5, 5), 10) * 0.3, "k": values((3, 2, 3, 3), 11) * 0.3},
        lambda x, k: x.conv2d(k, **geometry).square().sum(),
        lambda x, k: functional.conv2d(x, k, **geometry).square().sum(),
    )


@PARTIES
def test_gradients_of_sigmoid_and_tanh(n: int) -> None:
    gradients_agree(
        n,
        {"x": values((10,), 12)},
        lambda x: (x.sigmoid() * x.tanh()).sum(),
        lambda x: (x.sigmoid() * x.tanh()).sum(),
    )


def test_autograd_of_one_party_does_not_switch_off_another_s() -> None:
    def program(session: Session) -> bool:
        crypten.init()
        x = crypten.cryptensor(torch.ones(2), src=0, requires_grad=True)
        if session.rank == 0:
            with crypten.no_grad():
                session.open("meet", [torch.zeros(1).long()])
                session.open("part", [torch.zeros(1).long()])
                return bool((x + 1).requires_grad)
        session.open("meet", [torch.zeros(1).long()])
        result = bool((x + 1).requires_grad)
        session.open("part", [torch.zeros(1).long()])
        return result

    assert run(2, program) == [False, True]


# Training.


@PARTIES
def test_ten_steps_of_sgd_with_momentum_follow_torch(n: int) -> None:
    features, weights = values((40, 5), 13), values((5, 1), 14)
    labels = ((features @ weights) > 0).float()

    def program(session: Session) -> tuple[list[float], list[Any]]:
        crypten.init()
        x, y = crypten.cryptensor(features, src=0), crypten.cryptensor(labels, src=1)
        model = crypten.nn.Linear(5, 1)
        for parameter in model.parameters():
            parameter.data.fill_(0.1)
        model.encrypt(src=0)
        model.train()
        loss_of = crypten.nn.BCEWithLogitsLoss()
        optimizer = crypten.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.get_plain_text()))
        return losses, [parameter.get_plain_text() for parameter in model.parameters()]

    plain = nn.Linear(5, 1)
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 0.1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(plain(features), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    found, parameters = run(n, program)[0]
    assert found == pytest.approx(losses, abs=2e-3)
    for mine, theirs in zip(parameters, plain.parameters(), strict=True):
        assert float((mine - theirs.detach()).abs().max()) < 5e-3


def test_a_small_network_s_outputs_and_gradients_equal_torch_s() -> None:
    plain = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 3 * 3, 2)
    )
    for k, parameter in enumerate(plain.parameters()):
        parameter.data.copy_(values(tuple(parameter.shape), 20 + k) * 0.3)
    images, targets = values((4, 1, 6, 6), 30), values((4, 2), 31)

    def program(session: Session) -> tuple[Any, list[Any]]:
        crypten.init()
        layers = crypten.nn
        model = layers.Sequential(
            layers.Conv2d(1, 3, 3, padding=1),
            layers.ReLU(),
            layers.MaxPool2d(2),
            layers.Flatten(),
            layers.Linear(3 * 3 * 3, 2),
        )
        for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        model.encrypt(src=0)
        model.train()
        output = model(crypten.cryptensor(images, src=0))
        layers.MSELoss()(output, crypten.cryptensor(targets, src=1)).backward()
        return output.get_plain_text(), [parameter.grad.get_plain_text() for parameter in model.parameters()]

    output, gradients = run(2, program)[0]
    expected = plain(images)
    functional.mse_loss(expected, targets).backward()
    assert float((output - expected.detach()).abs().max()) < 1e-3
    for gradient, parameter in zip(gradients, plain.parameters(), strict=True):
        assert parameter.grad is not None
        assert float((gradient - parameter.grad).abs().max()) < 1e-3


def test_changing_loops_are_computed_right_whatever_was_foreseen() -> None:
    """A program whose loop changes course after the dealer was asked ahead."""

    def program(session: Session) -> tuple[list[float], int, int]:
        crypten.init()
        x = crypten.cryptensor(torch.tensor([1.5, -2.0]), src=0)
        results = []
        for k in range(12):
            y = x * x + x
            if k >= 8:
                y = y * (x > 0)
            if k == 10:
                y = y[:1] * 0.1
            results += y.get_plain_text().tolist()
        return results, session.correlations.used, session.correlations.asked

    results, used, asked = run(3, program)[1]
    plain: list[float] = []
    for k in range(12):
        pair = [3.75, 2.0]
        if k >= 8:
            pair = [3.75, 0.0]
        plain += [0.375] if k == 10 else pair
    assert results == pytest.approx(plain, abs=2e-4)
    assert asked > used, "something was foreseen in vain, or this shows nothing"
