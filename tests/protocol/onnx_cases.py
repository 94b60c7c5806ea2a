"""ONNX graphs beside the torch modules that compute the same.

A graph is written in ONNX's text form; its initializers are the module's parameters and buffers, with
underscores for dots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx.parser
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name


class Of(nn.Module):
    """A model of a function of its input and its named parts."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = list(parts)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs, *(getattr(self, name) for name in self.parts))


@dataclass
class Case:
    """A graph and its twin.

    Attributes:
        shape: of the input, whose first dimension is open.
        body: the graph's nodes, from x to y.
        twin: makes the torch module.
        opset: the version of the operators.
        more: further initializers.
    """

    shape: tuple[int, ...]
    body: str
    twin: Callable[[], nn.Module]
    opset: int = 18
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def made(self, seed: int = 0) -> tuple[onnx.ModelProto, nn.Module, torch.Tensor]:
        """The model, its twin, and an input."""
        torch.manual_seed(seed)
        twin = self.twin().eval()
        for part in twin.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(part.running_mean)
                nn.init.uniform_(part.running_var, 0.2, 2)
                nn.init.uniform_(part.weight, 0.5, 1.5)
        weights = {name.replace(".", "_"): value for name, value in twin.state_dict().items()}
        return (
            graph(self.body, {**weights, **self.more}, self.shape, self.opset),
            twin,
            torch.randn(self.shape),
        )


def graph(
    body: str, weights: Mapping[str, torch.Tensor], shape: tuple[int, ...], opset: int = 18, inputs: str = ""
) -> onnx.ModelProto:
    """A model of nodes in text form."""
    inputs = inputs or f"float[{', '.join(['N', *map(str, shape[1:])])}] x"
    head = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => (float y)'
    model = onnx.parser.parse_model(f"{head} {{ {body} }}")
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.detach().numpy(), name)
        for name, value in weights.items()
        if name in used
    )
    return model


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


ROW, LINE, IMAGE, TEXT = (3, 6), (2, 3, 9), (2, 2, 7, 6), (2, 4, 8)
GEMM = "Gemm<transB=1>(x, a_weight, a_bias)"


def activated(node: str, function: Callable[[Any], Any], opset: int = 18) -> Case:
    """A linear layer and an activation."""
    return Case(
        ROW, f"h = {GEMM} y = {node}", lambda: Of(lambda x, a: function(a(x) * 1.0), a=nn.Linear(6, 5)), opset
    )


def convolution(attributes: str, dims: int = 2, shape: tuple[int, ...] = IMAGE, **options: Any) -> Case:
    """One convolution."""
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    channels = {"in_channels": shape[1], "out_channels": 4, **options}
    return Case(shape, f"y = Conv<{attributes}>(x, weight, bias)", lambda: kind(**channels))


def pooled(
    node: str, function: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...] = IMAGE
) -> Case:
    """A model without parameters."""
    return Case(shape, f"y = {node}", lambda: Of(function), 19)


def attention(x: torch.Tensor, q: nn.Module, k: nn.Module, v: nn.Module, o: nn.Module) -> torch.Tensor:
    heads = [part(x).reshape(x.size(0), 4, 2, 4).transpose(1, 2) for part in (q, k, v)]
    scores = heads[0] @ heads[1].transpose(-2, -1) * 0.5
    return o((scores.softmax(-1) @ heads[2]).transpose(1, 2).reshape(x.size(0), 4, 8))


ATTENTION = """
    qt = Transpose<perm=[1, 0]>(q_weight) kt = Transpose<perm=[1, 0]>(k_weight)
    vt = Transpose<perm=[1, 0]>(v_weight) ot = Transpose<perm=[1, 0]>(o_weight)
    q0 = MatMul(x, qt) k0 = MatMul(x, kt) v0 = MatMul(x, vt)
    q1 = Add(q0, q_bias) k1 = Add(k0, k_bias) v1 = Add(v0, v_bias)
    s = Shape<start=0, end=1>(x) hs = Concat<axis=0>(s, heads)
    q2 = Reshape(q1, hs) k2 = Reshape(k1, hs) v2 = Reshape(v1, hs)
    q3 = Transpose<perm=[0, 2, 1, 3]>(q2) k3 = Transpose<perm=[0, 2, 3, 1]>(k2)
    v3 = Transpose<perm=[0, 2, 1, 3]>(v2)
    raw = MatMul(q3, k3) half = Constant<value_float=0.5>() scores = Mul(raw, half)
    weights = Softmax<axis=-1>(scores) mixed = MatMul(weights, v3)
    back = Transpose<perm=[0, 2, 1, 3]>(mixed) whole = Constant<value_ints=[0, 0, -1]>()
    joined = Reshape(back, whole) out = MatMul(joined, ot) y = Add(out, o_bias)
"""
LENET = (
    """
    a0 = Conv<pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(x, 0_weight, 0_bias) a1 = Relu(a0)
    a2 = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(a1)
    b0 = Conv<pads=[1, 1, 1, 1]>(a2, 3_weight, 3_bias) b1 = Relu(b0)
    b2 = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(b1)
    f = Flatten(b2) g = Gemm<transB=1>(f, 7_weight, 7_bias) h = Relu(g)
    y = Gemm<transB=1>(h, 9_weight, 9_bias)
""".replace(" 0_", " p0_")
    .replace(" 3_", " p3_")
    .replace(" 7_", " p7_")
    .replace(" 9_", " p9_")
)
MLP = "h = Gemm<transB=1>(x, p0_weight, p0_bias) r = Relu(h) y = Gemm<transB=1>(r, p2_weight, p2_bias)"


def same(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, before: int) -> torch.Tensor:
    return F.conv2d(F.pad(x, (before, 1 - before, before, 1 - before)), weight, bias)


CASES: dict[str, Case] = {
    "relu": activated("Relu(h)", torch.relu),
    "leaky relu": activated("LeakyRelu<alpha=0.2>(h)", lambda x: F.leaky_relu(x, 0.2)),
    "elu": activated("Elu<alpha=0.7>(h)", lambda x: F.elu(x, 0.7)),
    "selu": activated("Selu(h)", F.selu),
    "sigmoid": activated("Sigmoid(h)", torch.sigmoid),
    "tanh": activated("Tanh(h)", torch.tanh),
    "erf": activated("Erf(h)", torch.erf),
    "gelu": activated("Gelu(h)", F.gelu, 20),
    "softplus": activated("Softplus(h)", F.softplus),
    "softsign": activated("Softsign(h)", F.softsign),
    "mish": activated("Mish(h)", F.mish),
    "hard sigmoid": activated("HardSigmoid<alpha=0.3, beta=0.4>(h)", lambda x: (x * 0.3 + 0.4).clamp(0, 1)),
    "hard swish": activated("HardSwish(h)", F.hardswish),
    "thresholded relu": activated("ThresholdedRelu<alpha=0.3>(h)", lambda x: F.threshold(x, 0.3, 0.0)),
    "softmax": activated("Softmax(h)", lambda x: x.softmax(-1)),
    "log softmax": activated("LogSoftmax<axis=1>(h)", lambda x: x.log_softmax(1)),
    "old softmax": Case(TEXT, "y = Softmax<axis=2>(x)", lambda: Of(lambda x: x.softmax(2)), 11),
    "clip": Case(
        ROW,
        f"h = {GEMM} y = Clip(h, low, high)",
        lambda: Of(lambda x, a: a(x).clamp(-0.3, 0.4), a=nn.Linear(6, 5)),
        more={"low": torch.tensor(-0.3), "high": torch.tensor(0.4)},
    ),
    "clip by attributes": activated("Clip<min=-0.3, max=0.4>(h)", lambda x: x.clamp(-0.3, 0.4), 7),
    "gemm scaled": Case(
        ROW,
        "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, a_weight, a_bias)",
        lambda: Of(lambda x, a: 0.5 * x @ a.weight.t() + 2 * a.bias, a=nn.Linear(6, 5)),
    ),
    "arithmetic": Case(
        ROW,
        """two = Constant<value_float=2.0>() h = Gemm<transB=1>(x, a_weight, a_bias) n = Neg(h) e = Exp(n)
        d = Add(e, two) r = Reciprocal(d) s = Sqrt(d) l = Log(s) p = Pow(h, two) m = Mul(p, r) q = Div(l, d)
        t = Sub(m, q) u = Abs(t) v = Sub(two, u) y = Div(v, two)""",
        lambda: Of(
            lambda x, a: (
                (
                    2
                    - (
                        a(x) ** 2 / (2 + (-a(x)).exp())
                        - (2 + (-a(x)).exp()).sqrt().log() / (2 + (-a(x)).exp())
                    ).abs()
                )
                / 2
            ),
            a=nn.Linear(6, 3),
        ),
    ),
    "comparisons": Case(
        ROW,
        """zero = Constant<value_float=0.0>() h = Gemm<transB=1>(x, a_weight, a_bias) m = Less(h, zero)
        g = GreaterOrEqual(h, a_bias) n = Not(m) b = And(n, g) w = Where(b, h, zero) f = Cast<to=1>(m)
        s = Sum(w, f, h) top = Max(s, h, zero) y = Min(top, h)""",
        lambda: Of(
            lambda x, a: torch.minimum(
                torch.maximum(
                    torch.where((a(x) >= 0) & (a(x) >= a.bias), a(x), 0.0) + (a(x) < 0).float() + a(x), a(x)
                ).clamp(min=0),
                a(x),
            ),
            a=nn.Linear(6, 3),
        ),
    ),
    "reductions": Case(
        TEXT,
        """m = ReduceMean<keepdims=1>(x, two) c = Sub(x, m) s = ReduceSumSquare<keepdims=1>(c, two)
        l = ReduceL2<keepdims=1>(x, two) top = ReduceMax<keepdims=1>(x, two) a = Add(s, l) y = Add(a, top)""",
        lambda: Of(
            lambda x: (
                (x - x.mean((1, 2), True)).square().sum((1, 2), True)
                + x.square().sum((1, 2), True).sqrt()
                + x.amax((1, 2), True)
            )
        ),
        more={"two": ints(1, 2)},
    ),
    "shapes": Case(
        TEXT,
        """a, b = Split<axis=2>(x, sizes) c = Concat<axis=1>(a, b) t = Transpose<perm=[0, 2, 1]>(c)
        u = Unsqueeze(t, one) s = Squeeze(u, one) e = Slice(s, start, end, axes, steps)
        g = Gather<axis=1>(e, picks) y = Flatten(g)""",
        lambda: Of(
            lambda x: (
                torch.cat(x.split([4, 4], 2), 1).transpose(1, 2)[:, :, [7, 5, 3, 1]][:, [0, 2, 3]].flatten(1)
            )
        ),
        more={
            "sizes": ints(4, 4),
            "one": ints(1),
            "start": ints(-1),
            "end": ints(-1000),
            "axes": ints(2),
            "steps": ints(-2),
            "picks": ints(0, 2, -1),
        },
    ),
    "pads": Case(
        IMAGE,
        'p = Pad<mode="reflect">(x, r) y = Pad(p, c, value)',
        lambda: Of(lambda x: F.pad(F.pad(x, (1, 1, 2, 0), mode="reflect"), (0, 2, 1, 0), value=0.25)),
        more={
            "r": ints(0, 0, 2, 1, 0, 0, 0, 1),
            "c": ints(0, 0, 1, 0, 0, 0, 0, 2),
            "value": torch.tensor(0.25),
        },
    ),
    "expand and tile": Case(
        TEXT,
        """s = Shape(x) m = ReduceMean<axes=[1]>(x) e = Expand(m, s) d = Sub(x, e) t = Tile(d, times)
        n = Size(x) y = Identity(t)""",
        lambda: Of(lambda x: (x - x.mean(1, True)).repeat(1, 2, 1)),
        13,
        {"times": ints(1, 2, 1)},
    ),
    "conv1d": convolution("strides=[2], pads=[1, 1]", 1, LINE, kernel_size=3, stride=2, padding=1),
    "conv2d": convolution("kernel_shape=[3, 3]", kernel_size=3),
    "conv2d strides": convolution("strides=[2, 1]", kernel_size=(3, 2), stride=(2, 1)),
    "conv2d dilations": convolution("dilations=[2, 3]", kernel_size=2, dilation=(2, 3)),
    "conv2d groups": convolution("group=2", kernel_size=3, groups=2),
    "conv2d uneven pads": Case(
        IMAGE,
        "y = Conv<pads=[2, 0, 0, 1]>(x, a_weight, a_bias)",
        lambda: Of(lambda x, a: a(F.pad(x, (0, 1, 2, 0))), a=nn.Conv2d(2, 3, 3)),
    ),
    "conv2d same upper": Case(
        IMAGE,
        'y = Conv<auto_pad="SAME_UPPER">(x, a_weight, a_bias)',
        lambda: Of(lambda x, a: same(x, a.weight, a.bias, 0), a=nn.Conv2d(2, 3, 2)),
    ),
    "conv2d same lower": Case(
        IMAGE,
        'y = Conv<auto_pad="SAME_LOWER">(x, a_weight, a_bias)',
        lambda: Of(lambda x, a: same(x, a.weight, a.bias, 1), a=nn.Conv2d(2, 3, 2)),
    ),
    "conv1d transposed": Case(
        LINE,
        "y = ConvTranspose<strides=[2], pads=[1, 1]>(x, weight, bias)",
        lambda: nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1),
    ),
    "conv2d transposed": Case(
        IMAGE,
        "y = ConvTranspose<strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]>(x, weight, bias)",
        lambda: nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1),
    ),
    "conv2d transposed, uneven": Case(
        IMAGE,
        "y = ConvTranspose<pads=[0, 1, 2, 1]>(x, a_weight, a_bias)",
        lambda: Of(lambda x, a: a(x)[:, :, :-2, 1:-1], a=nn.ConvTranspose2d(2, 3, 3)),
    ),
    "max pool": pooled(
        "MaxPool<kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 1]>(x)", nn.MaxPool2d((3, 2), (2, 1), 1)
    ),
    "max pool, uneven pads": pooled(
        "MaxPool<kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(x)",
        lambda x: F.max_pool2d(F.pad(x, (0, 1, 1, 0), value=-1e9), 2, 1),
    ),
    "max pool, ceil": pooled(
        "MaxPool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(x)", nn.MaxPool2d(2, ceil_mode=True)
    ),
    "max pool 1d, dilated": pooled(
        "MaxPool<kernel_shape=[2], dilations=[3], strides=[2]>(x)", nn.MaxPool1d(2, 2, dilation=3), LINE
    ),
    "average pool": pooled(
        "AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1>(x)", nn.AvgPool2d(3, 1, 1)
    ),
    "average pool, pads not counted": pooled(
        "AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]>(x)",
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    ),
    "average pool, uneven pads not counted": pooled(
        "AveragePool<kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(x)",
        lambda x: (
            F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, 1)
            / F.avg_pool2d(F.pad(torch.ones_like(x), (0, 1, 1, 0)), 2, 1)
        ),
    ),
    "average pool 1d": pooled("AveragePool<kernel_shape=[3], strides=[3]>(x)", nn.AvgPool1d(3), LINE),
    "global pools": Case(
        IMAGE,
        "a = GlobalAveragePool(x) b = GlobalMaxPool(x) c = Add(a, b) y = Flatten(c)",
        lambda: Of(lambda x: x.mean((2, 3)) + x.amax((2, 3))),
    ),
    "batch norm": Case(
        IMAGE,
        """c = Conv(x, a_weight, a_bias)
        y = BatchNormalization<epsilon=0.001>(c, b_weight, b_bias, b_running_mean, b_running_var)""",
        lambda: Of(lambda x, a, b: b(a(x)), a=nn.Conv2d(2, 3, 3), b=nn.BatchNorm2d(3, eps=0.001)),
    ),
    "layer norm": Case(TEXT, "y = LayerNormalization(x, weight, bias)", lambda: nn.LayerNorm(8)),
    "layer norm over two": Case(
        TEXT,
        "y = LayerNormalization<axis=1, epsilon=0.01>(x, weight, bias)",
        lambda: nn.LayerNorm((4, 8), eps=0.01),
    ),
    "instance norm": Case(
        IMAGE, "y = InstanceNormalization(x, weight, bias)", lambda: nn.InstanceNorm2d(2, affine=True)
    ),
    "group norm": Case(
        (2, 4, 3, 3), "y = GroupNormalization<num_groups=2>(x, weight, bias)", lambda: nn.GroupNorm(2, 4), 21
    ),
    "embedding": Case(
        (2, 4),
        "e = Gather(a_weight, x) y = ReduceMean<keepdims=0>(e, one)",
        lambda: Of(lambda x, a: a(x).mean(1), a=nn.Embedding(5, 3)),
        more={"one": ints(1)},
    ),
    "dropout": Case(
        ROW,
        f"h = {GEMM} d = Dropout(h, ratio) y = Relu(d)",
        lambda: Of(lambda x, a: a(x).relu(), a=nn.Linear(6, 5)),
        more={"ratio": torch.tensor(0.9)},
    ),
    "einsum": Case(
        TEXT, 'y = Einsum<equation="btc,bsc->bts">(x, x)', lambda: Of(lambda x: x @ x.transpose(1, 2))
    ),
    "weights in a constant": Case(
        (3, 2),
        "w = Constant<value=float[2, 2] {1.0, -2.0, 0.5, 3.0}>() y = MatMul(x, w)",
        lambda: Of(lambda x: x @ torch.tensor([[1.0, -2.0], [0.5, 3.0]])),
    ),
    "residual block": Case(
        IMAGE,
        """c = Conv<pads=[1, 1, 1, 1]>(x, a_weight, a_bias)
        n = BatchNormalization(c, b_weight, b_bias, b_running_mean, b_running_var)
        r = Relu(n) s = Add(r, x) p = GlobalAveragePool(s) f = Flatten(p)
        y = Gemm<transB=1>(f, d_weight, d_bias)""",
        lambda: Of(
            lambda x, a, b, d: d((b(a(x)).relu() + x).mean((2, 3))),
            a=nn.Conv2d(2, 2, 3, padding=1),
            b=nn.BatchNorm2d(2),
            d=nn.Linear(2, 3),
        ),
    ),
    "attention": Case(
        TEXT,
        ATTENTION,
        lambda: Of(attention, **{name: nn.Linear(8, 8) for name in "qkvo"}),
        more={"heads": ints(4, 2, 4)},
    ),
}
