"""Torch models of every kind, with an input each: what is converted, here and by CrypTen itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name


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
CRYPTEN_IS_WRONG = {
    "adaptive pool", "avg pool ceil", "avg pool padded", "avg pool", "causal attention", "causal einsum",
    "clamped", "conv group norm", "conv instance norm", "conv1d causal", "conv1d dilated, pooled",
    "conv2d one side padded", "conv2d reflected", "conv2d same, even kernel", "conv2d uneven padding",
    "conv_transpose2d", "division", "embedding bag", "encoder layer", "exp and log", "fifth power", "heads",
    "lenet", "lstm", "max pool (2, 1)", "max pool padded", "mlp elu", "mlp gelu tanh", "mlp glu",
    "mlp hardswish", "mlp layer norm", "mlp leaky relu", "mlp mish", "mlp prelu", "mlp selu",
    "mlp softplus", "mlp tanh", "multi-head", "normalised", "square root", "stack and split", "upsampled",
    "views",
}  # fmt: skip
"""What CrypTen's own conversion refuses, or computes wrongly without a word (C12)."""
SLOW = set(MODELS) - {
    "linear", "mlp leaky relu", "mlp gelu", "mlp softplus", "mlp hardtanh", "mlp prelu", "mlp log softmax",
    "mlp batch norm", "mlp layer norm", "fifth power", "views", "conv1d", "conv2d uneven padding",
    "conv2d same, even kernel", "conv2d groups", "conv_transpose2d", "conv group norm", "max pool padded",
    "max pool ceil", "avg pool padded", "adaptive pool", "residual", "multi-head", "causal attention",
    "embedding bag", "tied weights", "conv1d dilated, pooled", "max pool (2, 1)",
}  # fmt: skip
"""Tried by `make slow`."""


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
