"""Conversion of torch models: what computes the same encrypted, what is refused, and what stays secret."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, Unsupported, UsageError
from tests.protocol.parties import failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402
import crypten.nn  # noqa: E402


class Of(nn.Module):
    """A model of a function of its parts and its inputs."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs, *self.parts)


def residual(x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return F.relu(b(F.relu(a(x), inplace=True)) + d(c(x)))


def heads(x: Any, qkv: Any, out: Any) -> Any:
    n, t, d = x.shape
    q, k, v = qkv(x).view(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
    attended = torch.softmax(q @ k.transpose(-2, -1) * (d // 2) ** -0.5, dim=-1) @ v
    return out(attended.transpose(1, 2).reshape(n, t, d))


def causal(x: Any, q: Any, k: Any, v: Any) -> Any:
    scores = torch.einsum("ntd,nsd->nts", q(x), k(x)) / 2
    later = torch.triu(torch.ones(x.size(1), x.size(1)), diagonal=1).bool()
    return torch.einsum("nts,nsd->ntd", scores.masked_fill(later, float("-inf")).softmax(-1), v(x))


def self_attention(x: Any, attention: Any) -> Any:
    return attention(x, x, x)[0]


def squeeze_excite(x: Any, a: Any, b: Any) -> Any:
    weights = torch.sigmoid(b(F.relu(a(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
    return x * weights[:, :, None, None]


def bag(x: Any, embedding: Any, linear: Any) -> Any:
    return linear(embedding(x).mean(1))


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.sin(torch.arange(40.0)).reshape(10, 4))
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x + self.table[: x.size(1)])


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(*args, **kwargs), nn.ReLU())


IMAGE, ROW, LINE, TEXT = (2, 2, 7, 6), (3, 6), (2, 3, 9), (2, 4, 8)

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 3), ROW),
    "mlp relu": (lambda: mlp(nn.ReLU()), ROW),
    "mlp leaky relu": (lambda: mlp(nn.LeakyReLU(0.2)), ROW),
    "mlp relu6": (lambda: mlp(nn.ReLU6()), ROW),
    "mlp gelu": (lambda: mlp(nn.GELU()), ROW),
    "mlp gelu tanh": (lambda: mlp(nn.GELU(approximate="tanh")), ROW),
    "mlp silu": (lambda: mlp(nn.SiLU()), ROW),
    "mlp sigmoid": (lambda: mlp(nn.Sigmoid()), ROW),
    "mlp tanh": (lambda: mlp(nn.Tanh()), ROW),
    "mlp softplus": (lambda: mlp(nn.Softplus(beta=2)), ROW),
    "mlp hardtanh": (lambda: mlp(nn.Hardtanh(-0.5, 0.7)), ROW),
    "mlp hardswish": (lambda: mlp(nn.Hardswish()), ROW),
    "mlp elu": (lambda: mlp(nn.ELU()), ROW),
    "mlp selu": (lambda: mlp(nn.SELU()), ROW),
    "mlp prelu": (lambda: mlp(nn.PReLU(8)), ROW),
    "mlp mish": (lambda: mlp(nn.Mish()), ROW),
    "mlp softmax": (lambda: nn.Sequential(mlp(nn.ReLU()), nn.Softmax(1)), ROW),
    "mlp log softmax": (lambda: nn.Sequential(mlp(nn.ReLU()), nn.LogSoftmax(-1)), ROW),
    "mlp glu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GLU(), nn.Linear(4, 2)), ROW),
    "mlp dropout": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.9), nn.Linear(4, 2)), ROW),
    "mlp batch norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU()), ROW),
    "mlp layer norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU()), ROW),
    "tied weights": (lambda: Of(lambda x, a: a(a(x)), nn.Linear(6, 6)), ROW),
    "fifth power": (lambda: Of(lambda x, a: a(x) ** 5, nn.Linear(6, 3)), ROW),
    "square root": (lambda: Of(lambda x, a: (a(x).abs() + 0.5) ** 0.5, nn.Linear(6, 3)), ROW),
    "exp and log": (lambda: Of(lambda x, a: (a(x).exp() + 1).log(), nn.Linear(6, 3)), ROW),
    "division": (lambda: Of(lambda x, a: a(x) / (1 + x.square().sum(1, keepdim=True)), nn.Linear(6, 3)), ROW),
    "normalised": (lambda: Of(lambda x, a: F.normalize(a(x), dim=1), nn.Linear(6, 3)), ROW),
    "clamped": (lambda: Of(lambda x, a: a(x).clamp(-0.3, 0.4) - x[:, :3].clamp(min=0), nn.Linear(6, 3)), ROW),
    "views": (
        lambda: Of(
            lambda x, a: torch.cat([*a(x).chunk(2, 1), x[:, ::2].flip(1)], 1).unsqueeze(1), nn.Linear(6, 4)
        ),
        ROW,
    ),
    "stack and split": (lambda: Of(lambda x: torch.stack(x.split([2, 2, 2], 1)).sum(0)), ROW),
    "bmm": (lambda: Of(lambda x: torch.bmm(x, x.transpose(1, 2)).mean((1, 2))), TEXT),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.ReLU()), LINE),
    "conv1d dilated, pooled": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3, dilation=2), nn.MaxPool1d(2), nn.AvgPool1d(2)),
        LINE,
    ),
    "conv1d causal": (lambda: nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(3, 2, 3)), LINE),
    "conv2d": (lambda: conv(2, 3, 3), IMAGE),
    "conv2d strides": (lambda: conv(2, 3, (3, 2), stride=(2, 1)), IMAGE),
    "conv2d uneven padding": (lambda: conv(2, 3, 3, padding=(2, 0)), IMAGE),
    "conv2d same, even kernel": (lambda: conv(2, 3, (4, 2), padding="same"), IMAGE),
    "conv2d dilation": (lambda: conv(2, 3, 2, dilation=(2, 3)), IMAGE),
    "conv2d groups": (lambda: conv(2, 4, 3, groups=2, bias=False), IMAGE),
    "conv2d reflected": (lambda: conv(2, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "conv2d one side padded": (lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(2, 2, 3)), IMAGE),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "conv batch norm": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()), IMAGE),
    "conv group norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), IMAGE),
    "conv instance norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)), IMAGE),
    "separable": (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 4, 1), nn.ReLU6()), IMAGE),
    "max pool": (lambda: nn.MaxPool2d(2), IMAGE),
    "max pool padded": (lambda: nn.MaxPool2d(3, stride=2, padding=(1, 0)), IMAGE),
    "max pool (2, 1)": (lambda: nn.MaxPool2d((2, 1), dilation=(2, 1)), IMAGE),
    "max pool ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), IMAGE),
    "avg pool": (lambda: nn.AvgPool2d((2, 3), stride=(2, 1)), IMAGE),
    "avg pool padded": (lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), IMAGE),
    "avg pool ceil": (lambda: nn.AvgPool2d(2, ceil_mode=True), IMAGE),
    "adaptive pool": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(12, 2)), IMAGE
    ),
    "upsampled": (lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, stride=2)), IMAGE),
    "residual": (
        lambda: Of(residual, nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False),
                   nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)),
        IMAGE,
    ),
    "squeeze and excite": (lambda: Of(squeeze_excite, nn.Linear(2, 3), nn.Linear(3, 2)), IMAGE),
    "lenet": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8),
            nn.Tanh(), nn.Linear(8, 3),
        ),
        IMAGE,
    ),
    "heads": (lambda: Of(heads, nn.Linear(8, 24), nn.Linear(8, 8)), TEXT),
    "causal einsum": (lambda: Of(causal, nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 4)), TEXT),
    "causal attention": (lambda: Of(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), TEXT),
    "multi-head": (lambda: Of(self_attention, nn.MultiheadAttention(8, 2, batch_first=True)), TEXT),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 9, batch_first=True, activation="gelu"), TEXT),
    "positions": (lambda: Of(lambda x, a: a(x[:, :, :4]), Positions()), TEXT),
    "embedding bag": (lambda: Of(bag, nn.Embedding(5, 4), nn.Linear(4, 2)), (3, 6)),
    "lstm": (lambda: Of(lambda x, a: a(x)[0][:, -1], nn.LSTM(8, 3, batch_first=True)), (2, 3, 8)),
}  # fmt: skip
DEFAULT = {
    "linear", "mlp leaky relu", "mlp gelu", "mlp softplus", "mlp hardtanh", "mlp prelu", "mlp log softmax",
    "mlp batch norm", "mlp layer norm", "fifth power", "views", "conv1d", "conv2d uneven padding",
    "conv2d same, even kernel", "conv2d groups", "conv_transpose2d", "conv group norm", "max pool padded",
    "max pool ceil", "avg pool padded", "adaptive pool", "residual", "multi-head", "causal attention",
    "embedding bag", "tied weights",
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The model, an input that it takes plain, and the same as it is encrypted."""
    build, shape = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = build().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.2, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
    if name == "embedding bag":
        x = torch.randint(0, 5, shape)
        return model, x, F.one_hot(x, 5)
    x = torch.randn(shape)
    return model, x, x


def with_other_values(model: Any) -> Any:
    """What a party passes that knows the architecture only."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in [*other.parameters(), *other.buffers()]:
            tensor.fill_(0.5)
    return other


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in DEFAULT else pytest.mark.slow) for n in MODELS]
)
def test_c12_models_convert_and_agree(name: str) -> None:
    model, plain, secret = made(name)
    converted = crypten.nn.from_pytorch(model, plain)
    with torch.no_grad():
        expected = model(plain).double()

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted) if session.rank == 1 else with_other_values(converted)
        mine.encrypt(src=1)
        return mine(crypten.cryptensor(secret, src=0)).get_plain_text()

    for found in run(2, program):
        assert found.shape == expected.shape
        assert ((found - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-2


def small() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)), torch.randn(
        2, 1, 4, 4
    )


def tensors_within(value: Any, seen: set[int]) -> list[torch.Tensor]:
    """Every torch tensor that an object leads to, through attributes and containers."""
    if id(value) in seen or isinstance(value, type | str | bytes | int | float):
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value]
    inner: list[Any] = list(value) if isinstance(value, list | tuple | set | frozenset) else []
    inner += [*value.keys(), *value.values()] if isinstance(value, dict) else []
    inner += list(getattr(value, "__dict__", {}).values())
    inner += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    return [tensor for item in inner for tensor in tensors_within(item, seen)]


def test_s9_nothing_plain_survives_encryption() -> None:
    model, x = small()
    plain = [t.detach().clone() for t in model.state_dict().values() if t.is_floating_point()]
    converted = crypten.nn.from_pytorch(model, x)
    assert any(t.is_floating_point() for t in tensors_within(converted, set())), "the walk sees parameters"

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        mine(crypten.cryptensor(x, src=0))
        return tensors_within(mine, set())

    for held in run(2, program):
        assert held
        assert not any(t.is_floating_point() for t in held)
        for tensor in plain:
            units = (tensor.double() * 2**16).round().long()
            assert not any(torch.equal(units, t) for t in held if t.shape == units.shape)


def test_the_original_is_neither_changed_nor_kept() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.train(), x)
    before = copy.deepcopy(model.state_dict())
    assert model.training
    for parameter in converted.parameters():
        with torch.no_grad():
            parameter.add_(1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "x", "words"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), torch.ones(1, 1, 3, 3), r"aten\.upsample_bilinear2d"),
        (nn.Conv3d(1, 1, 2), torch.ones(1, 1, 3, 3, 3), r"aten\.conv3d"),
        (Of(lambda x: x.sort()[0]), torch.ones(2, 3), r"aten\.sort"),
        (Of(lambda x: x.max(1)[1]), torch.ones(2, 3), "where a maximum stands"),
        (Of(lambda x: x if x.sum() > 0 else -x), torch.ones(2, 3), "cannot be exported"),
        (Of(lambda x: x.abs() ** x), torch.ones(2, 3), r"aten\.pow.* exponent that is a tensor"),
        (Of(lambda x: torch.rand_like(x) + x), torch.ones(2, 3), r"aten\.rand_like"),
        (Of(lambda x: x.long() * 2), torch.ones(2, 3), r"cast"),
        (Of(lambda x: x.div(2, rounding_mode="floor")), torch.ones(2, 3), "rounding_mode='floor'"),
    ],
)
def test_c12_what_is_not_offered_is_refused_by_name(model: nn.Module, x: torch.Tensor, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        crypten.nn.from_pytorch(model, x)


def test_c12_a_model_that_converts_wrongly_is_refused() -> None:
    def write_into_a_view(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[:, 0].add_(1)
        return y

    with pytest.raises(Unsupported, match="away from the original"):
        crypten.nn.from_pytorch(Of(write_into_a_view), torch.ones(2, 3))


def test_any_batch_may_come_after_a_dummy_of_one() -> None:
    model, _ = small()
    converted = crypten.nn.from_pytorch(model.eval(), torch.ones(1, 1, 4, 4))
    x = torch.linspace(-1, 1, 80).reshape(5, 1, 4, 4)
    assert torch.allclose(converted(x), model(x), atol=1e-5)


def test_parties_with_other_architectures_stop() -> None:
    wide, narrow = (crypten.nn.from_pytorch(nn.Linear(3, n), torch.ones(1, 3)) for n in (2, 2))
    narrow.evaluation = crypten.nn.from_pytorch(
        Of(lambda x, a: a(x).relu(), nn.Linear(3, 2)), torch.ones(1, 3)
    ).evaluation

    def program(model: Any) -> Callable[[Session], Any]:
        def body(session: Session) -> None:
            crypten.init()
            copy.deepcopy(model).encrypt(src=0)
            (crypten.cryptensor(torch.ones(2), src=0) * 1).get_plain_text()

        return body

    found = failures([program(wide), program(narrow)])
    assert any(isinstance(error, Desynchronised) for error in found)


def test_s12_a_plain_input_to_an_encrypted_model_is_refused_unless_public() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.eval(), x)

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match=r"plain input to an encrypted model.*crypten\.public"):
            mine(x)
        return mine(crypten.public(x.clone())).get_plain_text()

    with torch.no_grad():
        expected = model(x).double()
    for found in run(3, program):
        assert torch.allclose(found, expected, atol=1e-2)


def test_an_embedding_says_that_it_takes_one_hot_indices() -> None:
    converted = crypten.nn.from_pytorch(nn.Embedding(5, 4), torch.tensor([[1, 2]]))

    def program(session: Session) -> None:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match=r"one_hot\(index, 5\)"):
            mine(crypten.cryptensor(torch.tensor([[1, 2]]), src=0))

    run(2, program)


def test_c12_load_state_dict_takes_buffers_and_torchs_own_names() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model, x)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.linspace(0.5, 1.5, tensor.numel()).reshape(tensor.shape))
    converted.load_state_dict(model.state_dict())
    converted.eval()
    assert torch.allclose(converted(x), model.eval()(x), atol=1e-5)
    with pytest.raises(UsageError, match=r"missing are \['3.bias'\]"):
        converted.load_state_dict({k: v for k, v in model.state_dict().items() if k != "3.bias"})
    with pytest.raises(UsageError, match="shape"):
        converted.load_state_dict({**model.state_dict(), "3.bias": torch.ones(5)})

    def program(session: Session) -> Any:
        crypten.init()
        mine = copy.deepcopy(converted).encrypt(src=0)
        with pytest.raises(UsageError, match="a plain value for an encrypted one"):
            mine.load_state_dict(model.state_dict())
        other = with_other_values(converted).encrypt(src=0)
        other.load_state_dict(mine.state_dict())
        return other(crypten.cryptensor(x, src=0)).get_plain_text()

    with torch.no_grad():
        expected = model(x).double()
    assert torch.allclose(run(2, program)[0], expected, atol=1e-2)


def test_decrypting_gives_the_parameters_back() -> None:
    model, x = small()
    converted = crypten.nn.from_pytorch(model.eval(), x)

    def program(session: Session) -> Any:
        crypten.init()
        return copy.deepcopy(converted).encrypt(src=0).decrypt()

    for back in run(2, program):
        assert torch.allclose(back(x), model(x), atol=1e-3)
        for name, tensor in back.state_dict().items():
            assert torch.allclose(tensor, model.state_dict()[name], atol=1e-4), name


@pytest.mark.slow
def test_two_transformer_encoder_layers_infer_encrypted() -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 5)
    ).eval()
    x = torch.randn(2, 8, 32)
    converted = crypten.nn.from_pytorch(model, x)

    def program(session: Session) -> Any:
        crypten.init()
        found = copy.deepcopy(converted).encrypt(src=0)(crypten.cryptensor(x, src=1))
        return found.get_plain_text(), session.cost.rounds

    with torch.no_grad():
        expected = model(x).double()
    for found, _ in run(2, program):
        assert torch.allclose(found, expected, atol=2e-2)


def test_another_length_than_the_model_was_converted_for_is_refused() -> None:
    model = Of(lambda x: x + torch.arange(10.0)[: x.size(1)].mean()).eval()
    converted = crypten.nn.from_pytorch(model, torch.ones(2, 3))
    x = torch.linspace(0, 1, 15).reshape(5, 3)
    assert torch.allclose(converted(x), model(x))
    for other in (torch.ones(2, 4), torch.ones(3), torch.ones(2, 3, 1)):
        with pytest.raises(UsageError, match=r"inputs_0 has shape .* converted for \[any, 3\]"):
            converted(other)
    fixed = crypten.nn.from_pytorch(Of(lambda x: x.reshape(1, 6)).eval(), torch.ones(2, 3))
    with pytest.raises(UsageError, match=r"converted for \[2, 3\]"):
        fixed(torch.ones(4, 3))
