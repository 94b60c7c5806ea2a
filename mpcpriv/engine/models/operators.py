"""What each operator of an exported model means here: the table that conversion reads.

Names are torch's (`aten.conv2d.default`), without the overload where all overloads mean the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from mpcpriv.engine.models import functions as f
from mpcpriv.engine.models import layers, shapes
from mpcpriv.engine.models.kinds import Tensor, encrypted
from mpcpriv.errors import Unsupported

# Each takes exactly the arguments of torch's operator.


def _scaled(y: Any, alpha: Any) -> Any:
    return y if alpha == 1 else y * alpha


def _add(x: Any, y: Any, alpha: Any = 1) -> Any:
    return x + _scaled(y, alpha)


def _sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return x - _scaled(y, alpha)


def _rsub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return y - _scaled(x, alpha)


def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        raise Unsupported(f"aten.div with rounding_mode={rounding_mode!r}")
    return x / y


def _pow(x: Tensor, exponent: Any) -> Tensor:
    if not isinstance(exponent, (int, float)):
        raise Unsupported("aten.pow with an exponent that is a tensor")
    if exponent == 0.5:
        return x.sqrt()
    if exponent == -0.5:
        return layers.inverse_root(x)
    return x.square() if exponent == 2 else x.pow(exponent)


def _cast(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if not wanted:
        return x
    if not wanted[0].is_floating_point:
        raise Unsupported(f"a cast of a computed value to {wanted[0]}: it would round")
    return x if encrypted(x) else x.to(wanted[0])


def _reduction(name: str) -> Callable[..., Tensor]:
    def reduce(x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
        dims = shapes.axes(x, dim)
        if len(dims) == x.dim() and not keepdim:
            return getattr(x, name)()
        rest = [d for d in range(x.dim()) if d not in dims]
        kept = [1 if d in dims else x.size(d) for d in range(x.dim())]
        if len(dims) == 1:
            return getattr(x, name)(dims[0], keepdim=keepdim)
        moved = x.permute(*rest, *dims).reshape([*(x.size(d) for d in rest), -1])
        result = getattr(moved, name)(-1)
        return result.reshape(kept) if keepdim else result

    return reduce


def _extreme(name: str) -> Callable[..., Tensor]:
    def extreme(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
        for d in reversed(shapes.axes(x, dim)):
            x = getattr(x, name)(d, keepdim=keepdim)[0]
        return x

    return extreme


def _extreme_with_place(name: str) -> Callable[..., Any]:
    def extreme(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return getattr(x, name)()
        return getattr(x, name)(dim, keepdim=keepdim)[0], None  # where it stands is not offered

    return extreme


def _var(x: Tensor, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Tensor:
    dims = shapes.axes(x, dim)
    count = math.prod(x.size(d) for d in dims)
    mean = _reduction("mean")(x, dims, True)
    spread = _reduction("mean")((x - mean).square(), dims, keepdim)
    return spread if not correction else spread * (count / (count - float(correction)))


def _norm(x: Tensor, order: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    if order == 1:
        return _reduction("sum")(x.abs(), dim, keepdim)
    if order != 2:
        raise Unsupported(f"aten.linalg_vector_norm of order {order}: 1 or 2 is needed")
    return _reduction("sum")(x.square(), dim, keepdim).sqrt()


def _batch_norm(
    x: Tensor,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
    inverse: Any = None,
) -> Tensor:
    del cudnn
    return layers.batch_norm(x, weight, bias, mean, variance, training, momentum, eps, inverse)


def _instance_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, use_input: bool, _: Any, eps: float, *__: Any
) -> Tensor:
    if not use_input:
        return layers.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)
    return layers.group_norm(x, x.size(1), weight, bias, eps)


def _bilinear_sum(x: Tensor, a: Tensor, b: Tensor, beta: Any = 1, alpha: Any = 1) -> Tensor:
    return _scaled(x, beta) + _scaled(a.matmul(b), alpha)


def _call(name: str) -> Callable[..., Tensor]:
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


def _same(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _alternatives(x: Tensor, y: Any, sign: int) -> Tensor:
    return (
        x + ((y - x) * sign).relu() * sign if encrypted(x) or not encrypted(y) else _alternatives(y, x, sign)
    )


def _logical(name: str, of_bits: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    def combine(x: Tensor, y: Tensor) -> Tensor:
        if not encrypted(x) and not encrypted(y):
            return getattr(torch, name)(x, y)
        bits = (v if encrypted(v) else v.to(torch.int64) for v in (x, y))
        return of_bits(*bits)

    return combine


OPERATORS: Final[dict[str, Callable[..., Any]]] = {
    # products
    "aten.linear": f.linear,
    "aten.conv1d": f.convolve,
    "aten.conv2d": f.convolve,
    "aten.conv_transpose1d": f.convolve_transposed,
    "aten.conv_transpose2d": f.convolve_transposed,
    "aten.matmul": _call("matmul"),
    "aten.mm": _call("matmul"),
    "aten.bmm": _call("matmul"),
    "aten.mv": _call("matmul"),
    "aten.dot": _call("matmul"),
    "aten.addmm": _bilinear_sum,
    "aten.baddbmm": _bilinear_sum,
    "aten.scaled_dot_product_attention": f.attention,
    "aten.embedding": lambda weight, index, *_: layers.embedding(weight, index),
    # normalisation, pooling
    "aten.batch_norm": _batch_norm,
    "aten._native_batch_norm_legit_no_training": lambda x, weight, bias, mean, variance, momentum, eps: (
        layers.batch_norm(x, weight, bias, mean, variance, False, momentum, eps),
        None,
        None,
    ),
    "aten.layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5, *_: layers.layer_norm(
        x, shape, weight, bias, eps
    ),
    "aten.rms_norm": layers.rms_norm,
    "aten.group_norm": lambda x, groups, weight=None, bias=None, eps=1e-5, *_: layers.group_norm(
        x, groups, weight, bias, eps
    ),
    "aten.instance_norm": _instance_norm,
    "aten.max_pool1d": partial(layers.max_pool, dims=1),
    "aten.max_pool2d": layers.max_pool,
    "aten.avg_pool1d": partial(layers.avg_pool, dims=1),
    "aten.avg_pool2d": layers.avg_pool,
    "aten.adaptive_avg_pool1d": lambda x, size: layers.adaptive_avg_pool(x, size[0], dims=1),
    "aten.adaptive_avg_pool2d": layers.adaptive_avg_pool,
    "aten.adaptive_max_pool1d": lambda x, size: (layers.adaptive_max_pool(x, size[0], dims=1), None),
    "aten.adaptive_max_pool2d": lambda x, size: (layers.adaptive_max_pool(x, size), None),
    "aten.dropout": f.dropout,
    "aten.feature_dropout": lambda x, p, training: f.dropout(x, p, training, channels=True),
    # activations
    "aten.relu": _call("relu"),
    "aten.relu6": lambda x: f.clamp(x, 0, 6),
    "aten.leaky_relu": f.leaky_relu,
    "aten.prelu": f.prelu,
    "aten.elu": f.elu,
    "aten.selu": f.selu,
    "aten.celu": lambda x, alpha=1.0: f.elu(x, alpha, 1.0, 1 / alpha),
    "aten.gelu": f.gelu,
    "aten.silu": f.silu,
    "aten.mish": f.mish,
    "aten.sigmoid": _call("sigmoid"),
    "aten.log_sigmoid": lambda x: -f.softplus(-x),
    "aten.hardsigmoid": f.hardsigmoid,
    "aten.hardswish": lambda x: x * f.hardsigmoid(x),
    "aten.hardtanh": lambda x, low=-1, high=1: f.clamp(x, low, high),
    "aten.clamp": f.clamp,
    "aten.clamp_min": f.clamp,
    "aten.clamp_max": lambda x, high: f.clamp(x, None, high),
    "aten.tanh": _call("tanh"),
    "aten.softplus": f.softplus,
    "aten.softmax": lambda x, dim, *_: x.softmax(dim),
    "aten.log_softmax": lambda x, dim, *_: x.log_softmax(dim),
    "aten.softmin": lambda x, dim, *_: (-x).softmax(dim),
    "aten.glu": f.glu,
    # arithmetic
    "aten.add": _add,
    "aten.sub": _sub,
    "aten.rsub": _rsub,
    "aten.mul": operator.mul,
    "aten.div": _div,
    "aten.neg": operator.neg,
    "aten.pow": _pow,
    "aten.square": _call("square"),
    "aten.exp": _call("exp"),
    "aten.log": _call("log"),
    "aten.log1p": lambda x: (x + 1).log(),
    "aten.expm1": lambda x: x.exp() - 1,
    "aten.sqrt": _call("sqrt"),
    "aten.rsqrt": layers.inverse_root,
    "aten.reciprocal": _call("reciprocal"),
    "aten.abs": _call("abs"),
    "aten.sign": _call("sign"),
    "aten.sin": _call("sin"),
    "aten.cos": _call("cos"),
    "aten.erf": _call("erf"),
    "aten.maximum": lambda x, y: _alternatives(x, y, 1),
    "aten.minimum": lambda x, y: _alternatives(x, y, -1),
    "aten.lt": operator.lt,
    "aten.le": operator.le,
    "aten.gt": operator.gt,
    "aten.ge": operator.ge,
    "aten.eq": operator.eq,
    "aten.ne": operator.ne,
    "aten.logical_not": lambda x: 1 - x if encrypted(x) else torch.logical_not(x),
    "aten.logical_and": _logical("logical_and", lambda x, y: x * y),
    "aten.logical_or": _logical("logical_or", lambda x, y: x + y - x * y),
    "aten.logical_xor": _logical("logical_xor", lambda x, y: x + y - x * y * 2),
    "aten.where": f.choose,
    "aten.masked_fill": lambda x, mask, value: f.choose(mask, value, x),
    # reductions
    "aten.sum": _reduction("sum"),
    "aten.mean": _reduction("mean"),
    "aten.var": _var,
    "aten.std": lambda *args, **kwargs: _var(*args, **kwargs).sqrt(),
    "aten.linalg_vector_norm": _norm,
    "aten.amax": _extreme("max"),
    "aten.amin": _extreme("min"),
    "aten.max": _extreme_with_place("max"),
    "aten.min": _extreme_with_place("min"),
    "aten.cumsum": lambda x, dim, **_: x.cumsum(dim),
    # shapes
    "aten.view": lambda x, shape: x.reshape(list(shape)),
    "aten.reshape": lambda x, shape: x.reshape(list(shape)),
    "aten.flatten": shapes.flatten,
    "aten.unflatten": shapes.unflatten,
    "aten.permute": lambda x, dims: x.permute(*dims),
    "aten.transpose": _call("transpose"),
    "aten.t": lambda x: x.transpose(0, 1) if x.dim() == 2 else x,
    "aten.unsqueeze": _call("unsqueeze"),
    "aten.squeeze": shapes.squeeze,
    "aten.expand": lambda x, shape, **_: shapes.broadcast(x, shape),
    "aten.expand_as": lambda x, y: shapes.broadcast(x, list(y.size())),
    "aten.repeat": shapes.repeat,
    "aten.cat": shapes.joiner("cat"),
    "aten.concat": shapes.joiner("cat"),
    "aten.stack": shapes.joiner("stack"),
    "aten.split": shapes.split,
    "aten.split_with_sizes": shapes.split,
    "aten.chunk": shapes.chunk,
    "aten.unbind": shapes.unbind,
    "aten.select": shapes.select,
    "aten.slice": shapes.part,
    "aten.narrow": lambda x, dim, start, length: shapes.part(x, dim, start, start + length),
    "aten.index_select": _call("index_select"),
    "aten.index": shapes.index,
    "aten.flip": lambda x, dims: x.flip(*dims),
    "aten.roll": lambda x, shifts, dims: x.roll(tuple(shifts), tuple(dims)),
    "aten.pad": shapes.pad,
    "aten.constant_pad_nd": lambda x, sides, value=0: shapes.pad(x, sides, "constant", value),
    "aten.upsample_nearest1d": shapes.upsample,
    "aten.upsample_nearest2d": shapes.upsample,
    "aten.to": _cast,
    "aten._to_copy": _cast,
    "aten.type_as": _same,
    "aten.contiguous": _same,
    "aten.clone": _same,
    "aten.detach": _same,
    "aten.alias": _same,
    "aten.lift_fresh_copy": _same,
    "aten.detach_": _same,
    "operator.getitem": operator.getitem,
}
"""By torch's name, the function that computes it on plain and on encrypted tensors."""

NUMBERS: Final = {
    f"operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem")
}
"""What is done with sizes, which are public."""

PUBLIC: Final = {f"aten.{name}" for name in (
    "sym_size", "arange", "ones", "ones_like", "zeros", "zeros_like", "full", "full_like", "new_ones",
    "new_zeros", "new_full", "eye", "scalar_tensor", "tril", "triu", "linspace", "eq", "ne", "lt", "le", "gt",
    "ge", "logical_not", "logical_and", "logical_or", "bitwise_not", "bitwise_and", "bitwise_or",
    "floor_divide", "remainder", "abs", "any", "all", "minimum", "maximum",
)} | {name for name in OPERATORS if name.startswith("aten.")}  # fmt: skip
"""Operators that torch itself may compute where no input or parameter is involved."""
