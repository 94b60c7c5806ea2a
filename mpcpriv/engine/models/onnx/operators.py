"""ONNX's arithmetic, activations, reductions and shapes in torch's functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name

from mpcpriv.engine.models.onnx.call import Call, Translation, product
from mpcpriv.engine.models.onnx.layers import LAYERS
from mpcpriv.engine.models.onnx.sizes import shape, size

# Arithmetic


def _one(function: Callable[[torch.Tensor], Any]) -> Translation:
    return lambda call: function(call.tensor(0))


def _two(function: Callable[[Any, Any], Any]) -> Translation:
    def translate(call: Call) -> Any:
        if not call.is_tensor(0):
            y = call.tensor(1)
            return function(call.operand(0, y), y)
        x = call.tensor(0)
        return function(x, call.operand(1, x))

    return translate


def _divide(call: Call) -> Any:
    if any(call.is_tensor(i) and not call.tensor(i).is_floating_point() for i in range(2)):
        raise call.refused("a division of integers rounds")
    return _two(operator.truediv)(call)


def _power(call: Call) -> Any:
    exponent = call.number(1)
    if exponent not in (0.5, -0.5) and exponent != int(exponent):
        raise call.refused(f"the exponent {exponent}: an integer, 0.5 or -0.5 is needed")
    return call.tensor(0) ** (exponent if abs(exponent) == 0.5 else int(exponent))


def _extreme(name: str) -> Translation:
    def both(x: Any, y: Any) -> Any:
        if isinstance(y, (int, float)):
            return x.clamp(**{"min" if name == "maximum" else "max": y})
        if isinstance(x, (int, float)):
            return both(y, x)
        return getattr(torch, name)(x, y)

    return _all(both)


def _all(function: Callable[[Any, Any], Any]) -> Translation:
    """Of any number of inputs, two at a time."""

    def translate(call: Call) -> Any:
        first = next(call.tensor(i) for i in range(len(call.inputs)) if call.is_tensor(i))
        if len(call.inputs) == 1:
            return first
        return reduce(function, (call.operand(i, first) for i in range(len(call.inputs))))

    return translate


def _mean(call: Call) -> Any:
    return _all(operator.add)(call) * (1 / len(call.inputs))


def _clip(call: Call) -> Any:
    low, high = (call.number(i, call.attribute(name)) for i, name in ((1, "min"), (2, "max")))
    return call.tensor(0) if low is None and high is None else call.tensor(0).clamp(low, high)


def _cast(call: Call) -> Any:
    x, wanted = call.tensor(0), onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to"))
    dtype = torch.from_numpy(np.zeros(1, wanted)).dtype
    if dtype.is_floating_point or dtype == x.dtype:
        return x.to(dtype)
    if x.is_floating_point():
        raise call.refused(f"a computed value becomes {wanted}, which rounds")
    return x.ne(0) if dtype == torch.bool else x.long()


def _where(call: Call) -> Any:
    chosen = [call.inputs[i] for i in (1, 2)]
    condition = call.tensor(0)
    one, other = (
        v.item()
        if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size == 1 and v.ndim == 0
        else None
        for v in chosen
    )
    return torch.where(
        condition, call.tensor(1) if one is None else one, call.tensor(2) if other is None else other
    )


# Activations


def _prelu(call: Call) -> Any:
    x, slope = call.tensor(0), call.tensor(1)
    positive = x.relu()
    return positive + slope * (x - positive)


def _thresholded(call: Call) -> Any:
    x = call.tensor(0)
    return x * (x > call.attribute("alpha", 1.0)).to(x.dtype)


def _selu(call: Call) -> Any:
    alpha, gamma = (
        call.attribute("alpha", 1.67326319217681884765625),
        call.attribute("gamma", 1.05070102214813232),
    )
    return F.elu(call.tensor(0), alpha) * gamma


def _hard_sigmoid(call: Call) -> Any:
    x = call.tensor(0) * call.attribute("alpha", 0.2) + call.attribute("beta", 0.5)
    return x.clamp(0, 1)


# Reductions


def _reduction(function: Callable[..., torch.Tensor]) -> Translation:
    def translate(call: Call) -> Any:
        x, axes = call.tensor(0), call.option("axes", 1)
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        return function(x, axes, bool(call.attribute("keepdims", 1)))

    return translate


def _cumulated(call: Call) -> Any:
    call.only("exclusive", 0)
    call.only("reverse", 0)
    return call.tensor(0).cumsum(int(call.number(1)))


# Shapes


def _reshape(call: Call) -> Any:
    x, wanted = call.tensor(0), call.integers(1) or []
    if not call.attribute("allowzero", 0):
        wanted = [x.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(call: Call) -> Any:
    x, axis = call.tensor(0), call.attribute("axis", 1)
    return x.flatten(1) if axis == 1 else x.reshape(product(x.shape[:axis]), product(x.shape[axis:]))


def _transpose(call: Call) -> Any:
    x = call.tensor(0)
    return x.permute(call.attribute("perm") or list(reversed(range(x.dim()))))


def _squeeze(call: Call) -> Any:
    axes = call.option("axes", 1)
    return call.tensor(0).squeeze() if axes is None else call.tensor(0).squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Any:
    x, axes = call.tensor(0), call.option("axes", 1) or []
    total = x.dim() + len(axes)
    for axis in sorted(axis % total for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _expand(call: Call) -> Any:
    x, wanted = call.tensor(0), call.integers(1) or []
    dims = max(x.dim(), len(wanted))
    own, wanted = [1] * (dims - x.dim()) + list(x.shape), [1] * (dims - len(wanted)) + wanted
    return x.expand([n if m == 1 else m for n, m in zip(own, wanted, strict=True)])


def _concat(call: Call) -> Any:
    return torch.cat([call.tensor(i) for i in range(len(call.inputs))], call.attribute("axis"))


def _split(call: Call) -> Any:
    x, axis, sizes = call.tensor(0), call.attribute("axis", 0), call.option("split", 1)
    if sizes is None:
        count = len(call.node.output)
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return torch.split(x, sizes, axis)


def _slice(call: Call) -> Any:
    x = call.tensor(0)
    starts, ends = call.option("starts", 1) or [], call.option("ends", 2) or []
    axes, steps = call.option("axes", 3) or range(len(starts)), call.integers(4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
        else:
            places = range(*slice(start, end, step).indices(int(x.shape[axis])))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(call: Call) -> Any:
    axis = call.attribute("axis", 0)
    if call.is_tensor(1):
        data, index = call.tensor(0), call.tensor(1)
        if data.dim() != 2 or axis % 2 or not data.is_floating_point():
            raise call.refused("computed indices select rows of a table only")
        return F.embedding(index, data)
    data, places = call.tensor(0), call.known(1)
    if places.ndim == 0:
        return data.select(axis, int(places))
    axis %= data.dim()
    length = data.shape[axis]
    listed = [int(p) % length if p < 0 else int(p) for p in places.reshape(-1)]
    found = data.index_select(axis, torch.tensor(listed, dtype=torch.int64))
    if places.ndim == 1:
        return found
    return found.reshape([*data.shape[:axis], *places.shape, *data.shape[axis + 1 :]])


_PADDING: Final = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(call: Call) -> Any:
    x, mode = call.tensor(0), call.attribute("mode", "constant")
    pads = call.option("pads", 1) or []
    axes = [axis % x.dim() for axis in call.integers(3) or range(x.dim())]
    sides = [0] * (2 * x.dim())
    for i, axis in enumerate(axes):
        place = 2 * (x.dim() - 1 - axis)
        sides[place : place + 2] = pads[i], pads[i + len(axes)]
    while sides and not any(sides[-2:]):
        sides = sides[:-2]
    if not sides:
        return x
    if mode == "constant":
        return F.pad(x, sides, value=float(call.number(2, call.attribute("value", 0.0))))
    return F.pad(x, sides, mode=_PADDING[mode])


def _constant_of_shape(call: Call) -> Any:
    stored = call.attribute("value")
    value = np.zeros(1, np.float32) if stored is None else onnx.numpy_helper.to_array(stored)
    dtype = torch.from_numpy(value.copy()).dtype
    return torch.full(tuple(call.integers(0) or ()), value.item(), dtype=dtype)


def _range(call: Call) -> Any:
    return torch.arange(*(call.number(i) for i in range(3)))


def _triangle(call: Call) -> Any:
    x, diagonal = call.tensor(0), int(call.number(1, 0))
    ones = torch.ones(x.shape[-2], x.shape[-1], dtype=x.dtype)
    return x * (ones.triu(diagonal) if call.attribute("upper", 1) else ones.tril(diagonal))


OPERATORS: Final[dict[str, Translation]] = {
    **LAYERS,
    # arithmetic
    "Add": _two(operator.add),
    "Sub": _two(operator.sub),
    "Mul": _two(operator.mul),
    "Div": _divide,
    "Pow": _power,
    "Sum": _all(operator.add),
    "Mean": _mean,
    "Max": _extreme("maximum"),
    "Min": _extreme("minimum"),
    "Neg": _one(operator.neg),
    "Abs": _one(torch.abs),
    "Sign": _one(torch.sign),
    "Reciprocal": _one(torch.reciprocal),
    "Sqrt": _one(torch.sqrt),
    "Exp": _one(torch.exp),
    "Log": _one(torch.log),
    "Erf": _one(torch.erf),
    "Sin": _one(torch.sin),
    "Cos": _one(torch.cos),
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": lambda c: c.tensor(0).to(c.tensor(1).dtype),
    "Equal": _two(operator.eq),
    "Less": _two(operator.lt),
    "LessOrEqual": _two(operator.le),
    "Greater": _two(operator.gt),
    "GreaterOrEqual": _two(operator.ge),
    "And": _two(torch.logical_and),
    "Or": _two(torch.logical_or),
    "Xor": _two(torch.logical_xor),
    "Not": _one(torch.logical_not),
    "Where": _where,
    # activations
    "Relu": _one(torch.relu),
    "LeakyRelu": lambda c: F.leaky_relu(c.tensor(0), c.attribute("alpha", 0.01)),
    "PRelu": _prelu,
    "ThresholdedRelu": _thresholded,
    "Elu": lambda c: F.elu(c.tensor(0), c.attribute("alpha", 1.0)),
    "Celu": lambda c: F.celu(c.tensor(0), c.attribute("alpha", 1.0)),
    "Selu": _selu,
    "Sigmoid": _one(torch.sigmoid),
    "Tanh": _one(torch.tanh),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _one(F.hardswish),
    "Gelu": lambda c: F.gelu(c.tensor(0), approximate=c.attribute("approximate", "none")),
    "Softplus": _one(F.softplus),
    "Softsign": _one(lambda x: x / (1 + x.abs())),
    "Mish": _one(F.mish),
    "Swish": lambda c: c.tensor(0) * (c.tensor(0) * c.attribute("alpha", 1.0)).sigmoid(),
    # reductions
    "ReduceSum": _reduction(torch.sum),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMin": _reduction(torch.amin),
    "ReduceL1": _reduction(lambda x, dim, keep: x.abs().sum(dim, keep)),
    "ReduceL2": _reduction(lambda x, dim, keep: x.square().sum(dim, keep).sqrt()),
    "ReduceSumSquare": _reduction(lambda x, dim, keep: x.square().sum(dim, keep)),
    "ReduceLogSum": _reduction(lambda x, dim, keep: x.sum(dim, keep).log()),
    "CumSum": _cumulated,
    # shapes
    "Identity": _one(lambda x: x),
    "Shape": shape,
    "Size": size,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": lambda c: c.tensor(0).repeat(c.integers(1) or []),
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Trilu": _triangle,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
}
"""By ONNX's name, its translation where an input is a tensor."""

CONSTANTS: Final = frozenset(
    {"Constant", "NonZero", "OneHot", "EyeLike", "Mod", "Floor", "Ceil", "ScatterND"}
)
"""Operators that are computed while converting, from constants only."""

CONTROL: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Control flow: which way it takes would depend on data."""
