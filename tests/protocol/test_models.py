"""Layers of `crypten.nn` against torch's, in evaluation and in training, and encrypted training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import UsageError
from tests.protocol.parties import run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402
import crypten.optim  # noqa: E402

IMAGE = torch.linspace(-300, -299, 2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
SMALL = torch.sin(torch.arange(2.0 * 4 * 5 * 6)).reshape(2, 4, 5, 6)
LAYERS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], torch.Tensor]] = {
    "c9 max pool, padded": ("MaxPool2d", (3,), {"padding": 1}, IMAGE),
    "c9 max pool, padded on one side": ("MaxPool2d", ((3, 2),), {"stride": 2, "padding": (1, 0)}, IMAGE),
    "max pool, dilated": ("MaxPool2d", (2,), {"stride": 1, "dilation": 2}, IMAGE),
    "max pool, ceil": ("MaxPool2d", (2,), {"ceil_mode": True}, SMALL),
    "average pool": ("AvgPool2d", (2,), {"stride": 1}, SMALL),
    "c12 average pool, padding not counted": ("AvgPool2d", (3, 2, 1, False, False), {}, SMALL),
    "average pool, own divisor": ("AvgPool2d", (3,), {"divisor_override": 5}, SMALL),
    "adaptive average pool": ("AdaptiveAvgPool2d", ((2, 4),), {}, SMALL),
    "layer norm": ("LayerNorm", ((5, 6),), {}, SMALL * 3 + 1),
    "layer norm without affine": ("LayerNorm", (6,), {"elementwise_affine": False}, SMALL),
    "group norm": ("GroupNorm", (2, 4), {}, SMALL * 3 + 1),
    "tanh": ("Tanh", (), {}, SMALL * 5),
    "gelu": ("GELU", (), {}, SMALL * 5),
    "silu": ("SiLU", (), {}, SMALL * 5),
    "softplus": ("Softplus", (), {"beta": 2.0}, SMALL * 20),
    "leaky relu": ("LeakyReLU", (0.2,), {}, SMALL),
    "dropout in evaluation": ("Dropout", (1.0,), {}, SMALL),
    "batch norm": ("BatchNorm2d", (4,), {}, SMALL),
    "batch norm of rows": ("BatchNorm1d", (6,), {"eps": 1e-3}, SMALL[0, 0] * 2),
    "batch norm without affine": ("BatchNorm2d", (4,), {"affine": False}, SMALL),
    "batch norm without statistics": ("BatchNorm2d", (4,), {"track_running_stats": False}, SMALL),
    "instance norm": ("InstanceNorm2d", (4,), {"affine": True}, SMALL * 3 + 1),
    "rms norm": ("RMSNorm", (6,), {"eps": 1e-3}, SMALL * 3 + 1),
    "linear": ("Linear", (6, 3), {}, SMALL),
    "linear without bias": ("Linear", (6, 3), {"bias": False}, SMALL),
    "conv1d": ("Conv1d", (4, 2, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, SMALL[:, :, 0]),
    "conv1d, same": ("Conv1d", (4, 2, 5), {"padding": "same"}, SMALL[:, :, 0]),
    "conv2d, dilated unevenly": ("Conv2d", (4, 2, (2, 3)), {"dilation": (3, 1), "padding": (0, 2)}, SMALL),
    "conv1d transposed": (
        "ConvTranspose1d",
        (4, 2, 3),
        {"stride": 2, "padding": 1, "groups": 2},
        SMALL[:, :, 0],
    ),
    "conv2d transposed": (
        "ConvTranspose2d",
        (4, 3, 3),
        {"stride": (2, 1), "padding": 1, "output_padding": (1, 0), "bias": False},
        SMALL,
    ),
    "max pool 1d": ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, SMALL[:, :, 0]),
    "average pool 1d": ("AvgPool1d", (3, 2, 1), {"count_include_pad": False}, SMALL[:, :, 0]),
    "average pool, ceil": ("AvgPool2d", ((2, 4),), {"ceil_mode": True}, SMALL),
    "adaptive average pool to one": ("AdaptiveAvgPool2d", (1,), {}, SMALL),
    "adaptive average pool, one side": ("AdaptiveAvgPool2d", ((None, 2),), {}, SMALL),
    "adaptive average pool 1d": ("AdaptiveAvgPool1d", (1,), {}, SMALL[:, :, 0]),
    "adaptive max pool": ("AdaptiveMaxPool2d", ((1, 3),), {}, SMALL),
    "elu": ("ELU", (0.7,), {}, SMALL * 4),
    "selu": ("SELU", (), {}, SMALL * 4),
    "celu": ("CELU", (0.5,), {}, SMALL * 4),
    "mish": ("Mish", (), {}, SMALL * 4),
    "softsign": ("Softsign", (), {}, SMALL * 4),
    "log sigmoid": ("LogSigmoid", (), {}, SMALL * 9),
    "prelu": ("PReLU", (4,), {}, SMALL),
    "relu": ("ReLU", (), {}, SMALL),
    "relu6": ("ReLU6", (), {}, SMALL * 9 + 0.01),
    "sigmoid": ("Sigmoid", (), {}, SMALL * 5),
    "hardtanh": ("Hardtanh", (-0.5, 0.7), {}, SMALL),
    "hardsigmoid": ("Hardsigmoid", (), {}, SMALL * 5),
    "hardswish": ("Hardswish", (), {}, SMALL * 5),
    "glu": ("GLU", (1,), {}, SMALL * 5),
    "softmax": ("Softmax", (1,), {}, SMALL * 5),
    "log softmax": ("LogSoftmax", (-1,), {}, SMALL * 5),
    "flatten": ("Flatten", (), {}, SMALL),
    "conv2d": ("Conv2d", (4, 2, 3), {"stride": 2, "padding": 1, "groups": 2}, SMALL),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_gradients_equal_torch(name: str) -> None:
    kind, args, kwargs, x = LAYERS[name]
    torch.manual_seed(0)
    plain, ours = getattr(nn, kind)(*args, **kwargs).eval(), getattr(crypten.nn, kind)(*args, **kwargs).eval()
    with torch.no_grad():
        for value in plain.state_dict().values():
            value.copy_(torch.linspace(0.4, 1.6, value.numel()).reshape(value.shape))
    ours.load_state_dict(plain.state_dict())
    ours.train(plain.training)
    given = x.clone().requires_grad_()
    expected = plain(given)
    assert torch.allclose(ours(x), expected, atol=1e-4)
    weights = torch.cos(torch.arange(float(expected.numel()))).reshape(expected.shape)
    (expected * weights).sum().backward()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(ours).encrypt(src=0).eval()
        secret = crypten.cryptensor(x, src=1, requires_grad=True)
        found = mine(secret)
        (found * weights).sum().backward()
        return found.get_plain_text(), secret.grad.get_plain_text()

    value, gradient = run(2, program)[0]
    assert torch.allclose(value, expected.detach().double(), atol=3e-3)
    assert torch.allclose(gradient, given.grad.double(), atol=1e-2)


def test_an_embedding_is_looked_up_by_one_hot_vectors() -> None:
    torch.manual_seed(0)
    plain, ours = nn.Embedding(7, 3), crypten.nn.Embedding(7, 3)
    ours.load_state_dict(plain.state_dict())
    index = torch.tensor([[0, 6], [3, 3]])
    loss = (plain(index) * torch.arange(12.0).reshape(2, 2, 3)).sum()
    loss.backward()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(ours).encrypt(src=0)
        found = mine(crypten.cryptensor(F.one_hot(index, 7), src=1))
        (found * torch.arange(12).reshape(2, 2, 3)).sum().backward()
        return found.get_plain_text(), mine.weight.grad.get_plain_text()

    value, gradient = run(2, program)[0]
    assert torch.allclose(value, plain(index).detach().double(), atol=1e-4)
    assert torch.allclose(gradient, plain.weight.grad.double(), atol=1e-3)


@pytest.mark.parametrize("kind", ["Dropout", "Dropout2d"])
def test_c10_dropout_drops_scales_and_rests_in_evaluation(kind: str) -> None:
    x = torch.ones(40, 50, 2, 2)

    def program(session: Session) -> Any:
        crypten.init()
        secret = crypten.cryptensor(x, src=0, requires_grad=True)
        layer = getattr(crypten.nn, kind)(0.25).encrypt()
        found = layer.train()(secret)
        found.sum().backward()
        every = getattr(crypten.nn, kind)(1.0).encrypt()
        return (
            found.get_plain_text(),
            secret.grad.get_plain_text(),
            every.train()(secret).get_plain_text(),
            every.eval()(secret).get_plain_text(),
            layer.eval()(secret).get_plain_text(),
        )

    found, gradient, none, *same = run(3, program)[0]
    kept = found != 0
    assert torch.allclose(found[kept], torch.full_like(found[kept], 4 / 3), atol=1e-4)
    assert abs(kept.double().mean() - 0.75) < 0.05
    assert torch.equal(gradient != 0, kept)
    whole = kept.flatten(2).all(2) | ~kept.flatten(2).any(2)
    assert bool(whole.all()) == (kind == "Dropout2d")
    assert not none.any()
    assert all(torch.equal(value, x.double()) for value in same)
    with pytest.raises(UsageError, match=r"Dropout.*1\.5"):
        getattr(crypten.nn, kind)(1.5)


def test_c12_batch_normalisation_with_small_variances() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)).eval()
    model[1].running_var.copy_(torch.tensor([1e-4, 1e-3, 4.0]))
    model[1].weight.data.copy_(torch.tensor([0.01, 0.1, 1.0]))
    x = torch.randn(2, 1, 3, 3)
    converted = crypten.nn.from_pytorch(model, x)

    def program(session: Session) -> Any:
        crypten.init()
        return copy.deepcopy(converted).encrypt(src=0)(crypten.cryptensor(x, src=0)).get_plain_text()

    assert torch.allclose(run(2, program)[0], model(x).detach().double(), atol=1e-2)


def test_c12_a_layer_of_batch_normalisation_keeps_small_variances_and_nothing_plain() -> None:
    plain = nn.BatchNorm2d(3).eval()
    plain.running_var.copy_(torch.tensor([1e-4, 1e-3, 4.0]))
    plain.weight.data.copy_(torch.tensor([0.01, 0.1, 1.0]))
    x = torch.sin(torch.arange(54.0)).reshape(2, 3, 3, 3)

    def program(session: Session) -> Any:
        crypten.init()
        layer = crypten.nn.BatchNorm2d(3).eval()
        if session.rank == 1:
            layer.load_state_dict(plain.state_dict())
        model = crypten.nn.Sequential(layer).encrypt(src=1).eval()  # in evaluation before and after
        held = [value for value in vars(layer).values() if isinstance(value, torch.Tensor)]
        assert not held, "no plain inverse of the variance"
        before = model(crypten.cryptensor(x, src=0)).get_plain_text()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        state["0.running_var"] = crypten.cryptensor(torch.ones(3), src=0)
        model.load_state_dict(state)
        return before, model(crypten.cryptensor(x, src=0)).get_plain_text()

    before, after = run(3, program)[0]
    assert torch.allclose(before, plain(x).detach().double(), atol=1e-2)
    plain.running_var.fill_(1.0)
    assert torch.allclose(after, plain(x).detach().double(), atol=1e-3)


@pytest.mark.parametrize("kind", ["BatchNorm1d", "BatchNorm2d"])
def test_batch_normalisation_trains_with_torchs_statistics(kind: str) -> None:
    x = torch.randn(
        6, 4, *([3, 3] if kind == "BatchNorm2d" else []), generator=torch.Generator().manual_seed(1)
    )
    plain = getattr(nn, kind)(4, momentum=0.3)
    given = (x * 2 + 1).requires_grad_()
    weights = torch.cos(torch.arange(float(x.numel()))).reshape(x.shape)
    for _ in range(3):
        expected = plain(given)
    (expected * weights).sum().backward()
    resting = plain.eval()(given)

    def program(session: Session) -> Any:
        crypten.init()
        layer = getattr(crypten.nn, kind)(4, momentum=0.3).encrypt().train()
        secret = crypten.cryptensor(x * 2 + 1, src=0, requires_grad=True)
        for _ in range(3):
            found = layer(secret)
        (found * weights).sum().backward()
        values = [found, secret.grad, layer.weight.grad, layer.running_mean, layer.running_var]
        return [v.get_plain_text() for v in (*values, layer.eval()(secret))]

    wanted = [expected, given.grad, plain.weight.grad, plain.running_mean, plain.running_var, resting]
    for found, value in zip(run(2, program)[0], wanted, strict=True):
        assert torch.allclose(found, value.detach().double(), atol=5e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: crypten.nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (lambda: crypten.nn.MaxPool2d(2, return_indices=True), "return_indices=True"),
        (lambda: crypten.nn.Embedding(3, 2, padding_idx=0), "padding_idx=0"),
        (lambda: crypten.nn.BatchNorm1d(3, momentum=None), "momentum=None"),
        (lambda: crypten.nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss with label_smoothing"),
        (lambda: crypten.nn.GroupNorm(3, 4), "num_channels"),
    ],
)
def test_what_a_layer_does_not_offer_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_a_layer_that_is_missing_says_the_way_out() -> None:
    with pytest.raises(AttributeError, match=r"crypten\.nn has no LSTM: .*from_pytorch"):
        crypten.nn.LSTM(2, 3)
    assert not hasattr(crypten.nn, "NoSuchLayer")


def test_a_converted_model_trains_as_torch_with_its_batch_statistics() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).train()
    x, y = torch.randn(16, 5), F.one_hot(torch.arange(16) % 3, 3).float()
    converted = crypten.nn.from_pytorch(model, x)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(10):
        optimiser.zero_grad()
        nn.CrossEntropyLoss()(model(x), y).backward()
        optimiser.step()
    model.eval()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        mine.train()
        secret, labels = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
        steps = crypten.optim.SGD(mine.parameters(), lr=0.2, momentum=0.9)
        for _ in range(10):
            steps.zero_grad()
            crypten.nn.CrossEntropyLoss()(mine(secret), labels).backward()
            steps.step()
        mine.eval()
        found = mine(secret).get_plain_text()
        return found, {name: value.get_plain_text() for name, value in mine.state_dict().items()}

    found, state = run(2, program)[0]
    for name, value in state.items():
        assert torch.allclose(value, model.state_dict()[name].double(), atol=3e-2), name
    assert torch.allclose(found, model(x).detach().double(), atol=5e-2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lenet_trains_on_digits_as_its_plain_twin() -> None:
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x = torch.tensor((images / 16 - 0.3) / 0.38, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(classes)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    train, test, size, steps, rate = slice(0, 1200), slice(1200, None), 100, 96, 0.2
    torch.manual_seed(0)
    lenet = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip
    converted = crypten.nn.from_pytorch(lenet.train(), x[:2])
    one_hot = F.one_hot(y[train], 10).float()
    optimiser = torch.optim.SGD(lenet.parameters(), lr=rate, momentum=0.9)
    for step in range(steps):
        rows = slice(step * size % 1200, step * size % 1200 + size)
        optimiser.zero_grad()
        nn.CrossEntropyLoss()(lenet(x[train][rows]), one_hot[rows]).backward()
        optimiser.step()
    accuracy = (lenet(x[test]).argmax(1) == y[test]).double().mean()
    assert accuracy > 0.95, "the plain twin learns"

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0).train()
        secret, labels = crypten.cryptensor(x[train], src=0), crypten.cryptensor(one_hot, src=1)
        loss, descent = (
            crypten.nn.CrossEntropyLoss(),
            crypten.optim.SGD(mine.parameters(), lr=0.2, momentum=0.9),
        )
        for step in range(steps):
            rows = slice(step * size % 1200, step * size % 1200 + size)
            descent.zero_grad()
            loss(mine(secret[rows]), labels[rows]).backward()
            descent.step()
        return mine.decrypt()

    back = run(2, program, seconds=500.0)[0].eval()
    found = (back(x[test]).argmax(1) == y[test]).double().mean()
    assert abs(found - accuracy) <= 0.01, (found, accuracy)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_an_optimiser_goes_on_where_another_was_saved(kind: str) -> None:
    def program(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
        crypten.init()
        options = {"lr": 0.1, "momentum": 0.9} if kind == "SGD" else {"lr": 0.1}
        values = [torch.linspace(1, 2, 6).reshape(2, 3), torch.ones(4)]

        def begun() -> tuple[list[Any], Any]:
            parameters = [crypten.cryptensor(v, src=0, requires_grad=True) for v in values]
            return parameters, getattr(crypten.optim, kind)(parameters, **options)

        def step(parameters: list[Any], optimiser: Any, sign: int = 1) -> None:
            optimiser.zero_grad()
            (sum((p * p).sum() for p in parameters) * sign).backward()
            optimiser.step()

        first, optimiser = begun()
        for _ in range(3):
            step(first, optimiser)
        second, other = begun()
        with crypten.no_grad():
            for mine, its in zip(second, first, strict=True):
                mine.copy_(its)
        other.load_state_dict(optimiser.state_dict())
        step(first, optimiser, -1)  # what is held of the steps before turns it round
        step(second, other, -1)
        with pytest.raises(UsageError, match="other parameters"):
            getattr(crypten.optim, kind)(second[:1], **options).load_state_dict(optimiser.state_dict())
        return tuple(torch.cat([p.get_plain_text().flatten() for p in ps]) for ps in (first, second))

    one, other = run(2, program)[0]
    assert (one - other).abs().max() < 1e-2
