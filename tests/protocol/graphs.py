"""Random programs of differentiable operations, the same on encrypted tensors and on torch's.

Operations are only taken where torch's own gradient is stable: no value of a relu near 0, no tie of a
maximum, nothing larger than 6.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import crypten
import torch

SHAPE: Final = (3, 4)
Operation = Callable[..., Any]


@dataclass(frozen=True)
class Graph:
    """Leaves, and steps that each make one value of earlier ones; the loss weighs the last three."""

    leaves: tuple[torch.Tensor, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...]

    def loss(self, leaves: list[Any]) -> Any:
        """A number that depends on the whole program."""
        values = list(leaves)
        for name, places in self.steps:
            values.append(OPERATIONS[name][1](*(values[i] for i in places)))
        weights = torch.linspace(-1, 1.5, 12, dtype=torch.float64).reshape(SHAPE)
        return (values[-1] * weights).mean() + values[-2].sum() * 0.25 + (values[-3] * values[-1]).mean()


def graph(seed: int) -> Graph:
    """The program with this number."""
    chance = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    count = chance.randint(1, 3)
    leaves = tuple(torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count))
    values, steps = list(leaves), []
    wanted = chance.randint(3, 9)
    while len(steps) < wanted:
        name = chance.choice(NAMES)
        arity, operation, suited = OPERATIONS[name]
        # Later values are taken more often, and some of them several times.
        places = tuple(
            max(chance.randrange(len(values)), chance.randrange(len(values))) for _ in range(arity)
        )
        given = [values[i] for i in places]
        if not suited(*given):
            continue
        value = operation(*given)
        if float(value.abs().max()) < 6 and value.shape == SHAPE:
            values.append(value)
            steps.append((name, places))
    return Graph(leaves, tuple(steps))


def _always(*_: torch.Tensor) -> bool:
    return True


def _away(*points: float) -> Callable[[torch.Tensor], bool]:
    return lambda x: all(float((x - p).abs().min()) > 0.01 for p in points)


def _no_tie(dim: int, largest: bool = True) -> Callable[[torch.Tensor], bool]:
    def suited(x: torch.Tensor) -> bool:
        ordered = x.sort(dim, descending=largest)[0]
        return float((ordered.narrow(dim, 0, 1) - ordered.narrow(dim, 1, 1)).abs().min()) > 0.01

    return suited


def _apart(x: torch.Tensor, y: torch.Tensor) -> bool:
    return float((x - y).abs().min()) > 0.01


def _long(x: torch.Tensor) -> bool:
    return float(x.norm(2, 0).min()) > 0.2


def _where(x: Any, y: Any) -> Any:
    where = torch.where if isinstance(x, torch.Tensor) else crypten.where
    return where(x > y, x * 0.5, y)


def _cat(x: Any, y: Any) -> Any:
    joined = (torch if isinstance(x, torch.Tensor) else crypten).cat([x, y], dim=0)
    return joined[torch.tensor([4, 0, 4])]


def _stack(x: Any, y: Any) -> Any:
    return (torch if isinstance(x, torch.Tensor) else crypten).stack([x, y, x], dim=-1).mean(-1)


def _added(x: Any, y: Any) -> Any:
    return x.index_add(0, torch.tensor([2, 2, 0]), y * 0.5)


_COLUMNS = torch.tensor([3, 0, 0, 2])
_PLACES = torch.tensor([[0, 1, 1, 2], [2, 2, 0, 0], [1, 0, 2, 1]])
_HALF = torch.tensor([True, False, False, True])
_PUBLIC = torch.tensor([0.5, -1.25, 0.001, 2.0], dtype=torch.float64)

OPERATIONS: Final[dict[str, tuple[int, Operation, Callable[..., bool]]]] = {
    "neg": (1, lambda x: -x, _always),
    "scale": (1, lambda x: x * 0.37, _always),
    "from one": (1, lambda x: 1 - x, _always),
    "public": (1, lambda x: x * _PUBLIC + _PUBLIC, _always),
    "divide": (1, lambda x: x / 3, _always),
    "square": (1, lambda x: x.square() * 0.3, _always),
    "cube": (1, lambda x: x**3 * 0.1, _always),
    "sigmoid": (1, lambda x: x.sigmoid(), _always),
    "tanh": (1, lambda x: x.tanh(), _always),
    "erf": (1, lambda x: x.erf(), _always),
    "sin": (1, lambda x: x.sin(), _always),
    "cos": (1, lambda x: x.cos(), _always),
    "exp": (1, lambda x: (x * 0.4).exp(), _always),
    "log": (1, lambda x: (x.square() + 0.5).log(), _always),
    "sqrt": (1, lambda x: (x.square() + 0.5).sqrt(), _always),
    "reciprocal": (1, lambda x: (x.square() + 0.5).reciprocal(), _always),
    "a number by": (1, lambda x: 2 / (x.square() + 1), _always),
    "softmax": (1, lambda x: x.softmax(-1), _always),
    "log_softmax": (1, lambda x: x.log_softmax(0) * 0.5, _always),
    "relu": (1, lambda x: x.relu(), _away(0)),
    "abs": (1, lambda x: x.abs(), _away(0)),
    "clamp": (1, lambda x: x.clamp(-0.75, 1.0), _away(-0.75, 1.0)),
    "max": (1, lambda x: x.max(1, keepdim=True)[0] - x * 0.5, _no_tie(1)),
    "min": (1, lambda x: x.min(-2, keepdim=True)[0] + x * 0.5, _no_tie(0, largest=False)),
    "centre": (1, lambda x: x - x.mean(-1, keepdim=True), _always),
    "mean": (1, lambda x: x * x.mean((0, 1), keepdim=True), _always),
    "sum": (1, lambda x: x.sum(0).expand(3, 4) * 0.3, _always),
    "var": (1, lambda x: x + x.var(1, keepdim=True), _always),
    "norm": (1, lambda x: x * 0.5 + x.norm(2, dim=0, keepdim=True) * 0.2, _long),
    "cumsum": (1, lambda x: x.cumsum(-1) * 0.4, _always),
    "prod": (1, lambda x: x + x.prod(0, keepdim=True) * 0.2, _always),
    "flip": (1, lambda x: x.flip(0), _always),
    "roll": (1, lambda x: x.roll(1, -1), _always),
    "columns": (1, lambda x: x[:, _COLUMNS], _always),
    "mask": (1, lambda x: x[:, _HALF].repeat(1, 2), _always),
    "gather": (1, lambda x: x.gather(0, _PLACES), _always),
    "rows": (1, lambda x: x.narrow(0, 1, 1) + x[0] * 0.5 + x * 0.25, _always),
    "turned": (1, lambda x: x.t().reshape(3, 4), _always),
    "split": (1, lambda x: x.split(2, 1)[1].repeat(1, 2) - x, _always),
    "windows": (1, lambda x: x.unfold(1, 2, 2).sum(-1).repeat(1, 2) * 0.5, _always),
    "add": (2, lambda x, y: x + y, _always),
    "sub": (2, lambda x, y: x - y, _always),
    "row": (2, lambda x, y: x + y[1], _always),
    "mul": (2, lambda x, y: x * y * 0.5, _always),
    "column": (2, lambda x, y: x * y[:, 2:3], _always),
    "div": (2, lambda x, y: x / (y.square() + 1), _always),
    "matmul": (2, lambda x, y: x.matmul(y.t()).matmul(x) * 0.1, _always),
    "vector": (2, lambda x, y: x + x.matmul(y[0]).unsqueeze(1) * 0.3, _always),
    "where": (2, _where, _apart),
    "cat": (2, _cat, _always),
    "stack": (2, _stack, _always),
    "added": (2, _added, _always),
}
NAMES: Final = sorted(OPERATIONS)
