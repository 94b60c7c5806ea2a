"""Operations whose gradients torch knows, by kind: encrypted and plain, named after the defects they mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import crypten
import torch
from torch.nn import functional

Expression = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """An operation: its operands' shapes and sizes, the encrypted and the plain expression."""

    shapes: tuple[tuple[int, ...], ...]
    shared: Expression
    plain: Expression | None = None
    positive: bool = False
    scale: float = 1.0


def case(*shapes: tuple[int, ...], of: Expression, plain: Expression | None = None, **options: Any) -> Case:
    return Case(shapes, of, plain, **options)


def operands(item: Case, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = [
        torch.randn(shape, generator=generator, dtype=torch.float64) * item.scale for shape in item.shapes
    ]
    values = [v.abs() + 0.5 for v in values] if item.positive else values
    return [(v * 65536).round() / 65536 for v in values]


def weights(shape: tuple[int, ...]) -> torch.Tensor:
    """A gradient by the result that is different for each element; public, so both sides take the same."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7) % 11 - 4).reshape(shape).double() / 4


PICK = torch.tensor([2, 0, 2, 2])
MASK = torch.tensor([True, False, True])
QUANTILES = torch.tensor([0.0, 0.25, 0.6, 1.0], dtype=torch.float64)
PLACES = torch.tensor([[0, 1, 1, 0], [2, 2, 0, 1]])

STRUCTURE = {
    "C11 an index": case((3, 4), of=lambda x: x[1]),
    "an index from the end": case((3, 4), of=lambda x: x[-1, ..., None]),
    "a step": case((5, 4), of=lambda x: x[::2, 1:]),
    "C11 a repeated index": case((3, 4), of=lambda x: x[PICK]),
    "repeated in two dimensions": case((3, 4), of=lambda x: x[PICK, PICK]),
    "C11 a mask": case((3, 4), of=lambda x: x[MASK]),
    "C11 split": case((5, 2), of=lambda x: x.split(2)[1] * x.split([1, 2, 2])[2]),
    "split along the last": case((2, 5), of=lambda x: x.split(2, -1)[0]),
    "C11 unbind": case((3, 4), of=lambda x: x.unbind(1)[0] * x.unbind(-1)[3] + x.unbind()[0].sum()),
    "chunk": case((5, 3), of=lambda x: x.chunk(2)[1] + x.chunk(3, -1)[0].sum()),
    "C11 expand": case((3, 1), of=lambda x: x.expand(2, 3, 4)),
    "expand keeping": case((3, 1), of=lambda x: x.expand(-1, 5)),
    "expand_as": case((1, 4), (3, 4), of=lambda x, y: x.expand_as(y) * y),
    "C11 repeat": case((2, 3), of=lambda x: x.repeat(2, 1, 2)),
    "C11 unfold": case((7, 2), of=lambda x: x.unfold(0, 3, 2)),
    "C11 prod": case((5,), of=lambda x: x.prod()),
    "prod along": case((3, 4), of=lambda x: x.prod(-1, keepdim=True) + x.prod(0)),
    "index_add": case((3, 4), (4, 4), of=lambda x, y: x.index_add(0, PICK, y)),
    "index_select": case((3, 4), of=lambda x: x.index_select(-2, PICK)),
    "scatter_add": case((3, 4), (2, 4), of=lambda x, y: x.scatter_add(0, PLACES, y)),
    "scatter": case(
        (3, 4), (2, 4), of=lambda x, y: x.scatter(0, torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]]), y)
    ),
    "gather": case((3, 4), of=lambda x: x.gather(0, PLACES)),
    "take": case((3, 4), of=lambda x: x.take(torch.tensor([[0, 5], [5, 11]]))),
    "narrow": case((3, 4), of=lambda x: x.narrow(-1, 1, 2)),
    "pad": case(
        (2, 3),
        of=lambda x: x.pad((1, 2, 0, 1), value=0.5),
        plain=lambda x: functional.pad(x, (1, 2, 0, 1), value=0.5),
    ),
    "pad that cuts": case((4, 3), of=lambda x: x.pad((-1, 2)), plain=lambda x: functional.pad(x, (-1, 2))),
    "pad with an encrypted value": case(
        (2, 2),
        (),
        of=lambda x, v: x.pad((1, 0), value=v),
        plain=lambda x, v: torch.cat([v.expand(2, 1), x], 1),
    ),
    "squeeze": case((1, 3, 1), of=lambda x: x.squeeze()),
    "squeeze one": case((1, 3, 1), of=lambda x: x.squeeze(-1).squeeze(1)),
    "unsqueeze": case((3,), of=lambda x: x.unsqueeze(-1)),
    "flatten": case((2, 3, 4), of=lambda x: x.flatten(1)),
    "reshape": case((2, 6), of=lambda x: x.reshape(3, -1)),
    "view after t": case((2, 6), of=lambda x: x.view(3, 4).t()),
    "permute": case((2, 3, 4), of=lambda x: x.permute(2, 0, 1) + x.permute((-1, 0, 1))),
    "transpose": case((2, 3, 4), of=lambda x: x.transpose(0, -1)),
    "T and mT": case((2, 3), of=lambda x: x.T @ x + x.mT.sum()),
    "flip": case((2, 3), of=lambda x: x.flip(0, 1) + x.flip([-1])),
    "roll": case((3, 4), of=lambda x: x.roll(1, 0) + x.roll((1, 2), (0, -1)) + x.roll(5)),
    "trace": case((3, 3), of=lambda x: x.trace()),
    "stack": case(
        (3,),
        (3,),
        of=lambda x, y: crypten.stack([x, y, x], dim=-1),
        plain=lambda x, y: torch.stack([x, y, x], -1),
    ),
    "cat": case(
        (2, 3), (2, 1), of=lambda x, y: crypten.cat([x, y], dim=-1), plain=lambda x, y: torch.cat([x, y], -1)
    ),
    "cat with a public tensor": case(
        (2, 3),
        of=lambda x: crypten.cat([torch.ones(1, 3), x], dim=0),
        plain=lambda x: torch.cat([torch.ones(1, 3), x]),
    ),
    "C6 used twice": case((3,), of=lambda x: x * x + x),
    "clone": case((3,), of=lambda x: x.clone() * 2),
    "where public": case(
        (3,), (3,), of=lambda x, y: crypten.where(MASK, x, y), plain=lambda x, y: torch.where(MASK, x, y)
    ),
    "where shared": case(
        (3,),
        (3,),
        of=lambda x, y: crypten.where(x > y, x * 2, y),
        plain=lambda x, y: torch.where(x > y, x * 2, y),
    ),
}

REDUCTION = {
    "sum": case((2, 3, 4), of=lambda x: x.sum()),
    "sum over several": case((2, 3, 4), of=lambda x: x.sum((0, -1))),
    "sum keeping": case((2, 3, 4), of=lambda x: x.sum(-2, keepdim=True)),
    "sum by axis": case((2, 3), of=lambda x: x.sum(axis=0)),
    "mean": case((2, 3, 4), of=lambda x: x.mean()),
    "mean over several": case((2, 3, 4), of=lambda x: x.mean([0, 2], keepdim=True) + x.mean((-1, 0)).sum()),
    "C10 var": case((4, 5), of=lambda x: x.var(dim=-1, unbiased=True) + x.var(-1, unbiased=False)),
    "var of all": case((4, 5), of=lambda x: x.var()),
    "std": case((4, 5), of=lambda x: x.std(0, keepdim=True)),
    "cumsum": case((3, 4), of=lambda x: x.cumsum(-1)),
    "max": case((3, 4), of=lambda x: x.max()),
    "max along": case((3, 4), of=lambda x: x.max(-1)[0], plain=lambda x: x.max(-1)[0]),
    "max keeping": case((3, 4), of=lambda x: x.max(0, keepdim=True)[0]),
    "max with an index": case((3, 4), of=lambda x: x.max(0, one_hot=False)[0], plain=lambda x: x.max(0)[0]),
    "min": case((3, 4), of=lambda x: x.min() + x.min(1)[0]),
    "var with a correction": case(
        (4, 5), of=lambda x: x.var(1, correction=2), plain=lambda x: x.var(1, correction=2)
    ),
    "amax and amin": case((3, 4), of=lambda x: x.amax((0, 1)) + x.amin(-1) + x.amax(0, keepdim=True).sum()),
    "logsumexp": case((3, 4), of=lambda x: x.logsumexp(1) + x.logsumexp((0, 1))),
    "cumprod": case((3, 5), of=lambda x: x.cumprod(1)),
    "sort": case((3, 5), of=lambda x: x.sort(1)[0] + x.sort(-1, descending=True)[0]),
    "sort of a long line": case((2, 70), of=lambda x: x.sort(1)[0]),
    "sort of one": case((1,), of=lambda x: x.sort()[0]),
    "topk": case((3, 5), of=lambda x: x.topk(2, 0)[0].sum(1) + x.topk(3, -1, largest=False)[0].sum()),
    "topk of a long line": case((70, 2), of=lambda x: x.topk(3, 0)[0]),
    "kthvalue": case((3, 5), of=lambda x: x.kthvalue(2, 0)[0]),
    "median": case((4, 5), of=lambda x: x.median() + x.median(0)[0] + x.median(1, keepdim=True)[0].sum()),
    "quantile": case(
        (3, 6),
        of=lambda x: x.quantile(QUANTILES, 1) + x.quantile(0.3) + x.quantile(0.9, 0, keepdim=True).sum(),
    ),
    "norm 3": case(
        (3, 4),
        of=lambda x: x.norm(3) + x.norm(3.0, dim=1).sum(),
        plain=lambda x: x.norm(3) + x.norm(3, dim=1).sum(),
    ),
    "norm 1.5": case(
        (3, 4), of=lambda x: x.norm(1.5, dim=1), plain=lambda x: x.norm(1.5, dim=1), positive=True
    ),
    "C11 norm": case((3, 4), of=lambda x: x.norm()),
    "C11 norm 2 along": case((3, 4), of=lambda x: x.norm(2, dim=1)),
    "C11 norm 1": case((3, 4), of=lambda x: x.norm(1) + x.norm(1, dim=-1).sum()),
    "C11 norm inf": case((3, 4), of=lambda x: x.norm(float("inf")) + x.norm(float("inf"), dim=0)),
    "C11 norm 2 keeping": case((3, 4), of=lambda x: x.norm(p=2, dim=-1, keepdim=True)),
}

PRODUCTS = {
    "add": case((3, 1), (4,), of=lambda x, y: x + y),
    "sub": case((3, 1), (2, 3, 4), of=lambda x, y: x - y),
    "from a number": case((3,), of=lambda x: 2.5 - x),
    "mul": case((3, 1), (4,), of=lambda x, y: x * y),
    "mul by a scalar tensor": case((3, 2), (), of=lambda x, y: x * y),
    "C3 mul by a public tensor": case((3, 1), of=lambda x: x * torch.tensor([1e-2, 0.5, -3.0])),
    "mul by a number": case((3,), of=lambda x: 0.001 * x),
    "div by a public tensor": case((3, 1), of=lambda x: x / torch.tensor([4.0, 0.5])),
    "div": case((3, 1), (4,), of=lambda x, y: x / y, positive=True),
    "div by a number": case((3,), of=lambda x: x / 3),
    "a number by": case((3,), of=lambda x: 2 / x, positive=True),
    "dot": case((5,), (5,), of=lambda x, y: x.dot(y)),
    "ger": case((2,), (3,), of=lambda x, y: x.ger(y)),
    "matmul 1 1": case((4,), (4,), of=lambda x, y: x @ y),
    "matmul 1 2": case((4,), (4, 3), of=lambda x, y: x @ y),
    "matmul 2 1": case((3, 4), (4,), of=lambda x, y: x @ y),
    "matmul 2 2": case((3, 4), (4, 2), of=lambda x, y: x @ y),
    "matmul 1 3": case((4,), (2, 4, 3), of=lambda x, y: x @ y),
    "matmul 3 1": case((2, 3, 4), (4,), of=lambda x, y: x @ y),
    "matmul 3 2": case((2, 3, 4), (4, 2), of=lambda x, y: x @ y),
    "matmul 2 3": case((3, 4), (2, 4, 2), of=lambda x, y: x @ y),
    "matmul broadcast": case((2, 1, 3, 4), (5, 4, 2), of=lambda x, y: x @ y),
    "matmul 1 by 1": case((1, 1), (1, 1), of=lambda x, y: x @ y),
    "matmul by a public matrix": case(
        (3, 2), of=lambda x: x @ torch.tensor([[0.5, 1.0], [0.25, -1.0]], dtype=torch.float64)
    ),
    "a public matrix by": case(
        (2, 3), of=lambda x: torch.matmul(torch.tensor([[0.5, 1.0]], dtype=torch.float64), x)
    ),
}

FUNCTIONS = {
    "square": case((5,), of=lambda x: x.square()),
    "C11 pow 6": case((5,), of=lambda x: x**6, scale=0.6),
    "C7 pow 5": case((5,), of=lambda x: x**5, scale=0.6),
    "pow 1 and 0": case((5,), of=lambda x: x**1 + x**0),
    "pow -2": case((5,), of=lambda x: x.pow(-2), positive=True),
    "pow -1": case((5,), of=lambda x: x**-1, positive=True),
    "pow 0.5 and -0.5": case((5,), of=lambda x: x**0.5 + x**-0.5, positive=True),
    "pow 2.5 and -1.25": case((5,), of=lambda x: x**2.5 + x.pow(-1.25), positive=True),
    "a number to a power": case((5,), of=lambda x: 2**x),
    "gelu": case((9,), of=lambda x: x.gelu() * 2, plain=lambda x: functional.gelu(x) * 2, scale=2),
    "gelu by tanh": case(
        (9,),
        of=lambda x: functional.gelu(x, approximate="tanh"),
        plain=lambda x: functional.gelu(x, approximate="tanh"),
        scale=2,
    ),
    "silu": case((9,), of=functional.silu, scale=3),
    "mish": case((9,), of=functional.mish, scale=3),
    "softplus": case((9,), of=lambda x: functional.softplus(x) + functional.softplus(x, 2.5), scale=3),
    "log sigmoid": case((9,), of=functional.logsigmoid, scale=3),
    "elu": case((9,), of=lambda x: functional.elu(x) + functional.elu(x, 0.5)),
    "maximum and minimum": case((6,), (6,), of=lambda x, y: torch.maximum(x, y) + torch.minimum(2 * x, y)),
    "C11 pos_pow": case((5,), of=lambda x: x.pos_pow(1.5), plain=lambda x: x**1.5, positive=True),
    "pos_pow of two": case((4,), (4,), of=lambda x, p: x.pos_pow(p), plain=lambda x, p: x**p, positive=True),
    "sqrt": case((5,), of=lambda x: x.sqrt(), positive=True),
    "inv_sqrt": case((5,), of=lambda x: x.inv_sqrt(), plain=lambda x: x.rsqrt(), positive=True),
    "reciprocal": case((5,), of=lambda x: x.reciprocal(), positive=True),
    "exp and log": case((5,), of=lambda x: x.exp() + (x * 2).log(), positive=True),
    "sin and cos": case((5,), of=lambda x: x.sin() * x.cos()),
    "erf": case((5,), of=lambda x: x.erf()),
    "sigmoid and tanh": case((5,), of=lambda x: x.sigmoid() * x.tanh()),
    "relu": case((6,), of=lambda x: x.relu()),
    "abs": case((6,), of=lambda x: x.abs()),
    "hardtanh": case((6,), of=lambda x: x.hardtanh(), plain=functional.hardtanh),
    "hardtanh between": case(
        (6,), of=lambda x: x.hardtanh(-0.5, 0.25), plain=lambda x: functional.hardtanh(x, -0.5, 0.25)
    ),
    "relu6": case((6,), of=lambda x: (4 * x).relu6(), plain=lambda x: functional.relu6(4 * x)),
    "leaky relu": case((6,), of=lambda x: x.leaky_relu(0.1), plain=lambda x: functional.leaky_relu(x, 0.1)),
    "clamp": case((6,), of=lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.25) + x.clip(max=0.3)),
    "softmax": case((3, 4), of=lambda x: x.softmax(-1) + x.softmax(0)),
    "log_softmax": case((3, 4), of=lambda x: x.log_softmax(-2)),
    "softmax of one": case((3, 1), of=lambda x: x.softmax(1) * x),
    "cosine similarity": case(
        (3, 4),
        (3, 4),
        of=lambda x, y: x.cosine_similarity(y, -1),
        plain=lambda x, y: functional.cosine_similarity(x, y, -1),
    ),
    "polynomial": case(
        (4,), of=lambda x: x.polynomial([0.5, -1.0, 0.25]), plain=lambda x: 0.5 * x - x**2 + 0.25 * x**3
    ),
}

CONVOLUTION = {
    "conv1d": case((2, 3, 7), (4, 3, 3), of=lambda x, k: x.conv1d(k), plain=functional.conv1d),
    "conv1d all": case(
        (2, 4, 9),
        (6, 2, 3),
        of=lambda x, k: x.conv1d(k, stride=2, padding=1, dilation=2, groups=2),
        plain=lambda x, k: functional.conv1d(x, k, stride=2, padding=1, dilation=2, groups=2),
    ),
    "conv2d uneven": case(
        (2, 2, 6, 7),
        (3, 2, 3, 2),
        of=lambda x, k: x.conv2d(k, stride=(2, 3), padding=(1, 0), dilation=(1, 2)),
        plain=lambda x, k: functional.conv2d(x, k, stride=(2, 3), padding=(1, 0), dilation=(1, 2)),
    ),
    "conv2d groups": case(
        (1, 4, 5, 5),
        (4, 2, 3, 3),
        of=lambda x, k: x.conv2d(k, padding=1, groups=2),
        plain=lambda x, k: functional.conv2d(x, k, padding=1, groups=2),
    ),
    "conv2d of one image": case(
        (2, 5, 5), (3, 2, 3, 3), of=lambda x, k: x.conv2d(k), plain=functional.conv2d
    ),
    "C11 conv_transpose1d": case(
        (2, 3, 5),
        (3, 2, 3),
        of=lambda x, k: x.conv_transpose1d(k, stride=2, padding=1, output_padding=1),
        plain=lambda x, k: functional.conv_transpose1d(x, k, stride=2, padding=1, output_padding=1),
    ),
    "C11 conv_transpose2d": case(
        (2, 4, 3, 4),
        (4, 2, 3, 2),
        of=lambda x, k: x.conv_transpose2d(k, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
        plain=lambda x, k: functional.conv_transpose2d(
            x, k, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2
        ),
    ),
    "avg_pool2d": case(
        (2, 2, 6, 5), of=lambda x: x.avg_pool2d(2), plain=lambda x: functional.avg_pool2d(x, 2)
    ),
    "C9 avg_pool2d uneven": case(
        (1, 2, 5, 6),
        of=lambda x: x.avg_pool2d((3, 2), stride=(1, 2), padding=(1, 0)),
        plain=lambda x: functional.avg_pool2d(x, (3, 2), stride=(1, 2), padding=(1, 0)),
    ),
    "max_pool2d": case(
        (2, 2, 5, 6), of=lambda x: x.max_pool2d(2), plain=lambda x: functional.max_pool2d(x, 2)
    ),
    "C9 max_pool2d uneven": case(
        (1, 2, 6, 6),
        of=lambda x: x.max_pool2d((3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2)),
        plain=lambda x: functional.max_pool2d(x, (3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2)),
    ),
    "max_pool2d with a last part": case(
        (1, 2, 6, 6), of=lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    ),
    "avg_pool2d with a last part": case(
        (1, 2, 6, 6), of=lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
    ),
    "pooling of lines": case(
        (2, 2, 9), of=lambda x: functional.max_pool1d(x, 3, 2, 1) + functional.avg_pool1d(x, 3, 2, 1)
    ),
    "adaptive": case(
        (1, 2, 5, 4),
        of=lambda x: x.adaptive_avg_pool2d((2, 3)),
        plain=lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
    ),
}

ONE_HOT = torch.eye(3, dtype=torch.float64)[torch.tensor([2, 0, 1, 2])]
LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)


def hidden(value: torch.Tensor) -> Any:
    return crypten.cryptensor(value, src=0)


LOSSES = {
    "mse": case((4, 3), (4, 3), of=crypten.nn.MSELoss(), plain=functional.mse_loss),
    "l1": case((4, 3), (4, 3), of=crypten.nn.L1Loss(), plain=functional.l1_loss),
    "cross entropy": case(
        (4, 3),
        of=lambda x: crypten.nn.CrossEntropyLoss()(x, hidden(ONE_HOT)),
        plain=lambda x: functional.cross_entropy(x, ONE_HOT),
    ),
    "C11 cross entropy with batch 1": case(
        (1, 3),
        of=lambda x: crypten.nn.CrossEntropyLoss()(x, hidden(ONE_HOT[:1])),
        plain=lambda x: functional.cross_entropy(x, ONE_HOT[:1]),
    ),
    "cross entropy with hidden targets": case(
        (4, 3),
        (4, 3),
        of=lambda x, t: x.cross_entropy(t.softmax(1)),
        plain=lambda x, t: functional.cross_entropy(x, t.softmax(1)),
    ),
    "far logits": case(
        (4,),
        of=lambda x: (x * 30).binary_cross_entropy_with_logits(hidden(LABELS)),
        plain=lambda x: functional.binary_cross_entropy_with_logits(x * 30, LABELS),
    ),
    "binary with logits": case(
        (4,),
        (4,),
        of=lambda x, t: x.binary_cross_entropy_with_logits(t.sigmoid()),
        plain=lambda x, t: functional.binary_cross_entropy_with_logits(x, t.sigmoid()),
    ),
    "binary": case(
        (4,),
        (4,),
        of=lambda x, t: x.sigmoid().binary_cross_entropy(t.sigmoid()),
        plain=lambda x, t: functional.binary_cross_entropy(x.sigmoid(), t.sigmoid()),
    ),
}

TABLES = {
    "structure": STRUCTURE,
    "reduction": REDUCTION,
    "products": PRODUCTS,
    "functions": FUNCTIONS,
    "convolution": CONVOLUTION,
    "losses": LOSSES,
}
