"""The clipped gradient of a network of linear layers, for which no row's gradient is ever written down.

The gradient of one row in the weights of a layer is the outer product of what went into the layer, a, and
what came back to it, δ; so its squared norm is (|a|^2 + 1) |δ|^2, the 1 being the bias (I. Goodfellow,
"Efficient Per-Example Gradient Computations", 2015, section 3). The norm N over all layers is computed on
shares, δ is multiplied by f = min(1, C / N), and the sum over rows of f δ a' is what plain backpropagation
ends with.

What bounds one row's part, on the grid and with every rounding:

- Nothing leaves the ring: rows are cut to `INPUT_NORM` at their owner, activations are bounded (ReLU is cut
  off at `LIMIT`), what comes back is cut to ±`LIMIT` at each hidden layer, weights to ±`WEIGHT_LIMIT` after
  each step.
- Every sum of squares and the sum of their products are truncated once, which takes less than one unit of
  2^-16 off; a unit is added, so the norm is never underestimated. 1 / sqrt is off by a relative
  `_ROOT_ERROR` at most.
- f δ is held with `_FINE` fractional bits, so an element is off by 2^-24 at most.

C is lowered beforehand by what the last two can add: `_margin`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.elementary import scaled_inv_sqrt
from mpcpriv.engine.protocol.multiply import product, square
from mpcpriv.engine.protocol.piecewise import Piecewise, evaluate
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError

INPUT_NORM: Final = 16.0
LIMIT: Final = 8
WEIGHT_LIMIT: Final = 1024.0
_FINE: Final = 24
BITS: Final = _FINE + FRACTIONAL_BITS
"""Fractional bits of the sum: it is perturbed before it is truncated."""
_FACTOR: Final = 28
_ROOT_ERROR: Final = 1e-4
_LARGEST: Final = 2.0**28  # of a squared norm, and of the products of which it is a sum

Activated = tuple[SharedTensor, SharedTensor]
"""An activation's values and slopes."""


def _smooth(name: str) -> Callable[[SharedTensor], Activated]:
    def activated(z: SharedTensor) -> Activated:
        a = getattr(z, name)()
        return a, (1 - a.square()) if name == "tanh" else (a - a.square())

    return activated


def _between(low: int, high: int) -> Callable[[SharedTensor], Activated]:
    """x cut to [low, high], and where it is not cut; four rounds."""
    edges = [low << FRACTIONAL_BITS, high << FRACTIONAL_BITS]
    function = Piecewise.of(edges, [[edges[0]], [0, 1], [edges[1]]], [[0], [1], [0]])

    def activated(z: SharedTensor) -> Activated:
        value, slope = evaluate(session.current(), function, z.share)
        return SharedTensor.of(value), SharedTensor.of(slope, 0)

    return activated


ACTIVATIONS: Final[dict[str, tuple[Callable[[SharedTensor], Activated], float]]] = {
    "Tanh": (_smooth("tanh"), 1.01),
    "Sigmoid": (_smooth("sigmoid"), 1.01),
    "ReLU": (_between(0, LIMIT), LIMIT),
    "ReLU6": (_between(0, 6), 6),
    "Hardtanh": (_between(-1, 1), 1),
}
"""By the name of the module: values and slopes, and what no value exceeds in magnitude."""


@dataclass(frozen=True)
class Layer:
    """A linear layer and what follows it.

    Attributes:
        linear: the module, with `weight` (out, in) and perhaps `bias` (out,).
        activation: a name of `ACTIVATIONS`, None after the last layer.
        reach: no number that goes into the layer exceeds it in magnitude; the first layer's norm is
            `INPUT_NORM`.
    """

    linear: Any
    activation: str | None
    reach: float

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers out, numbers in."""
        out, into = self.linear.weight.size()
        return int(out), int(into)

    def score(self, x: SharedTensor) -> SharedTensor:
        """x weights' + bias."""
        bias = self.linear.held("bias")
        z: SharedTensor = x.matmul(self.linear.weight.detach().t())
        return z if bias is None else z + bias.detach()


class Network:
    """Linear layers with elementwise activations between them, and the residual of a loss at the end."""

    def __init__(self, parts: Sequence[Any], features: int, targets: int, clip: float) -> None:
        """Of a model's modules.

        Args:
            parts: `crypten.nn.Linear` with activations between two of them.
            features, targets: numbers of a row.
            clip: the largest norm of one row's gradient, from 2^-4 to 2^4.

        Raises:
            Unsupported: a module of another kind.
            UsageError: it does not fit the rows, is too wide, or the clip is out of range.
        """
        if not 2.0**-4 <= clip <= 2.0**4:
            raise UsageError(f"max_grad_norm={clip}: for a network between 1/16 and 16")
        self.layers = _layers(parts)
        sizes = [layer.sizes for layer in self.layers]
        if (sizes[0][1], sizes[-1][0]) != (features, targets):
            raise UsageError(
                f"the model maps {sizes[0][1]} numbers to {sizes[-1][0]}; a row has {features} and {targets}"
            )
        inside = [INPUT_NORM**2 + 1, *(layer.reach**2 * layer.sizes[1] + 1 for layer in self.layers[1:])]
        back = [*(float(LIMIT**2 * out) for out, _ in sizes[:-1]), 2.0 * targets]
        if (
            max(*inside, *back) >= _LARGEST
            or sum(a * d for a, d in zip(inside, back, strict=True)) >= _LARGEST
        ):
            raise UsageError(
                "the network is too wide for private training: norms of gradients would leave the ring"
            )
        # |f δ| is off by 2^-24 for each element, times |a|; the root relatively.
        rounding = math.sqrt(sum(out * a for (out, _), a in zip(sizes, inside, strict=True))) * 2.0**-_FINE
        self.factor = (clip - rounding) / (1 + _ROOT_ERROR)
        self.clip = clip

    @property
    def sensitivity(self) -> int:
        """The largest Euclidean norm of one row's part of `gradient`, in units of 2^-BITS."""
        return math.ceil(self.clip * (1 << BITS))

    def parameters(self) -> list[Any]:
        """What `gradient` is the gradient of, in its order."""
        return [
            one
            for layer in self.layers
            for one in (layer.linear.weight, layer.linear.held("bias"))
            if one is not None
        ]

    def gradient(self, x: SharedTensor, y: SharedTensor, present: SharedTensor) -> SharedTensor:
        """The sum over rows of clipped gradients, one after the other as `parameters`, with `BITS`
        fractional bits.

        Args:
            x: (n, features), of norms up to `INPUT_NORM`; n times the clip stays below 2^18.
            y: (n, targets), 0 or 1.
            present: (n, 1) with 0 fractional bits, 0 for rows that do not count.
        """
        s = session.current()
        into, slopes = [x], []
        for layer in self.layers[:-1]:
            a, slope = ACTIVATIONS[str(layer.activation)][0](layer.score(into[-1]))
            into.append(a)
            slopes.append(slope)
        z = self.layers[-1].score(into[-1])
        guess = z.sigmoid() if y.size(1) == 1 else z.softmax(1)
        back = [guess - y]
        for layer, slope in zip(reversed(self.layers[1:]), reversed(slopes), strict=True):
            back.insert(0, (back[0].matmul(layer.linear.weight.detach()) * slope).clamp(-LIMIT, LIMIT))
        factor = product(s, Bilinear("mul"), self._factor(into, back), present.share)
        scaled = product(s, Bilinear("mul"), SharedTensor.cat(back, dim=1).share, factor)
        (scaled,) = truncate(s, [(scaled, _FACTOR + FRACTIONAL_BITS - _FINE)])
        pieces = []
        for layer, a, delta in zip(
            self.layers, into, torch.split(scaled, [one.size(1) for one in back], dim=1), strict=True
        ):
            pieces.append(product(s, Bilinear("matmul"), delta.t().contiguous(), a.operand).flatten())
            if layer.linear.held("bias") is not None:
                pieces.append(delta.sum(0) << FRACTIONAL_BITS)
        return SharedTensor.of(torch.cat(pieces), BITS)

    def _factor(self, into: Sequence[SharedTensor], back: Sequence[SharedTensor]) -> torch.Tensor:
        """min(1, C / norm) for each row, (n, 1), with `_FACTOR` fractional bits, never too large."""
        s = session.current()
        first = s.rank == 0
        tensors = [*into, *back]
        squares = square(s, torch.cat([one.share for one in tensors], dim=1))
        pieces = torch.split(squares, [one.size(1) for one in tensors], dim=1)
        sums = torch.stack([one.sum(1) for one in pieces], dim=1)
        (sums,) = truncate(s, [(sums, FRACTIONAL_BITS)])
        half = len(into)
        if first:
            sums += 1  # what the truncation may have taken off
            sums[:, :half] += 1 << FRACTIONAL_BITS  # the bias
        products = product(s, Bilinear("mul"), sums[:, :half].contiguous(), sums[:, half:].contiguous())
        (norm,) = truncate(s, [(products.sum(1, keepdim=True), FRACTIONAL_BITS)])
        if first:
            norm += 1
        least = math.ceil(self.factor**2 * (1 << FRACTIONAL_BITS))
        # At least C^2: then C / sqrt of it is at most 1.
        floor = Piecewise.of([least], [[least], [0, 1]])
        (norm,) = evaluate(s, floor, norm)
        return scaled_inv_sqrt(s, norm, self.factor, _FACTOR)


def parts(module: Any) -> Iterator[Any]:
    """The modules of a `Sequential` in order, or the module itself."""
    if type(module).__name__ == "Sequential":
        for one in module._modules.values():  # noqa: SLF001 - CrypTen has no public name for it
            yield from parts(one)
    else:
        yield module


def outputs(modules: Sequence[Any]) -> int:
    """How many numbers a model gives of a row."""
    return _layers(modules)[-1].sizes[0]


def _layers(modules: Sequence[Any]) -> list[Layer]:
    layers: list[Layer] = []
    reach = INPUT_NORM
    linear = None
    for one in [*modules, None]:
        name = type(one).__name__
        if linear is None and name == "Linear":
            linear = one
        elif linear is not None and one is None:
            layers.append(Layer(linear, None, reach))
        elif linear is not None and name in ACTIVATIONS:
            layers.append(Layer(linear, name, reach))
            reach, linear = ACTIVATIONS[name][1], None
        else:
            what = "a model that ends with an activation" if one is None else name
            raise Unsupported(
                f"private training of {what}: Linear layers, between two of them one activation "
                f"({', '.join(ACTIVATIONS)}), and none after the last"
            )
    return layers
