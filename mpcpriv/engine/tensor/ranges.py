"""Which values can come out of an operation, where the bounds of what goes in are known.

An operand's bounds are known when it is public, when its owner stated them (`cryptensor(x, bound=100)`), or
when it was computed from such. An operation whose result could leave the ring is refused before anything is
sent for it. What depends on values of unknown bounds is not checked: the limits of `docs/functions.md` hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.interval import Interval
from mpcpriv.engine.tensor.arithmetic import NUMBER_BITS
from mpcpriv.engine.tensor.base import Shares
from mpcpriv.engine.tensor.deferred import PRODUCT_BITS
from mpcpriv.errors import RangeError

Known = Interval | None
Rule = Callable[..., Any]
"""(x, result, *arguments) -> the interval of the result, or of each of several; None where it is unknown."""

ULP: Final = 2.0**-FRACTIONAL_BITS
BIT: Final = Interval(0.0, 1.0)
ROUNDED: Final = 2.0**-NUMBER_BITS
"""A public number is held to half of this, relatively."""
OFF: Final = 2.0**-9
"""No function is further off than this, relatively or, below one, absolutely."""


def check(kind: type[Shares]) -> None:
    """Makes the methods of this class check and carry bounds."""
    for name in {*BEFORE, *AFTER}:
        setattr(kind, name, _checked(name, getattr(kind, name)))


def _checked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    before, after = BEFORE.get(name), AFTER.get(name)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = before(name, self, *args, **kwargs) if before else None
        result = method(self, *args, **kwargs)
        if after:
            known = after(self, result, *args, **kwargs)
        several = isinstance(result, (tuple, list))
        for one, interval in zip(
            result if several else [result],
            known if isinstance(known, tuple) else [known] * (len(result) if several else 1),
            strict=True,
        ):
            if interval is not None and isinstance(one, Shares) and one is not self:
                # Both hold, if the method's own steps have found one, too.
                one.interval = interval if one.interval is None else interval.met(one.interval)
        return result

    return call


def interval_of(value: Any) -> Known:
    """What is known of an operand."""
    known: Known = value.interval if isinstance(value, Shares) else Interval.of_public(value)
    return known


def _refuse(name: str, operands: list[Any], reach: float, limit: int) -> None:
    if not reach < 2.0**limit:
        shapes = " and ".join(str(list(x.shape)) for x in operands if hasattr(x, "shape"))
        raise RangeError(
            f"{name} of {shapes}: values could reach {reach:.3g}, and must stay below 2^{limit}; scale the "
            "inputs, or state narrower bounds for them"
        )


def _product(terms: Callable[..., int], fewer: bool = False) -> Rule:
    """Of a bilinear map that sums so many products for each element of its result, or at the edges fewer."""

    def rule(name: str, x: Any, other: Any, *args: Any, **kwargs: Any) -> Known:
        by = interval_of(other)
        if x.interval is None or by is None:
            return None
        count = terms(x, other, *args, **kwargs)
        one: Interval = x.interval * by
        result = (one.joined(Interval(0.0, 0.0)) if fewer else one).times(count)
        bits = max(x.bits, FRACTIONAL_BITS)
        if isinstance(other, Shares):
            bits = x.bits + other.bits
        elif not _whole(other):
            # The lower half of a public factor is as large as it can be, whatever the factor is.
            if isinstance(other, (int, float)):
                _refuse(name, [x, other], x.interval.magnitude, 62 - bits - NUMBER_BITS // 2)
            else:
                bits += FRACTIONAL_BITS
                _refuse(name, [x, other], x.interval.magnitude * count / 2, 62 - bits)
            # A number is rounded relative to itself, an element of a tensor to 32 fractional bits.
            result = result.widened(result.magnitude * ROUNDED + x.interval.magnitude * count * ULP**2)
        _refuse(name, [x, other], result.magnitude, 62 - bits)
        return result.widened(2 * ULP)

    return rule


def _whole(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return float(value).is_integer()
    dtype = getattr(value, "dtype", None)
    return dtype is not None and not getattr(dtype, "is_floating_point", getattr(dtype, "kind", "") == "f")


def _one(*_: Any, **__: Any) -> int:
    return 1


def _in_matmul(x: Any, *_: Any) -> int:
    return int(x.shape[-1]) if x.dim() else 1


def _in_convolution(_: Any, kernel: Any, *__: Any, **___: Any) -> int:
    return math.prod(kernel.shape[1:])


def _in_transposed(_: Any, kernel: Any, *__: Any, groups: int = 1, **___: Any) -> int:
    return math.prod((kernel.shape[0] // groups, *kernel.shape[2:]))


def _square(name: str, x: Any) -> Known:
    if x.interval is None:
        return None
    found: Interval = x.interval.square()
    _refuse(name, [x], found.magnitude, 62 - 2 * x.bits)
    return found.widened(ULP)


def _linear(of: Callable[[Interval, Interval], Interval]) -> Rule:
    """Of a sum or a difference."""

    def rule(name: str, x: Any, other: Any) -> Known:
        by = interval_of(other)
        if x.interval is None or by is None:
            return None
        found = of(x.interval, by)
        bits = max(x.bits, other.bits if isinstance(other, Shares) else FRACTIONAL_BITS)
        if session.current().deferring and any(isinstance(v, Shares) and v.deferred for v in (x, other)):
            bits = PRODUCT_BITS
        _refuse(name, [x, other], found.magnitude, 62 - bits)
        return found

    return rule


def _sum(name: str, x: Any, dim: Any = None, *_: Any, **__: Any) -> Known:
    if x.interval is None:
        return None
    dims = [dim] if isinstance(dim, int) else dim or range(x.dim())  # none are all
    count = math.prod(x.shape[d] for d in dims)
    _refuse(name, [x], x.interval.magnitude * count, 62 - x.bits)
    found: Interval = x.interval.times(count)
    return found


def _mean(name: str, x: Any, dim: Any = None, *_: Any, **__: Any) -> Known:
    _sum(name, x, dim)
    return None if x.interval is None else x.interval.widened(2 * ULP + x.interval.magnitude * ROUNDED)


def _running(name: str, x: Any, dim: int = 0, *_: Any, **__: Any) -> Known:
    whole = _sum(name, x, dim)
    return None if whole is None else whole.joined(x.interval)


def _same(x: Any, *_: Any, **__: Any) -> Known:
    """Elements that are moved, repeated or left out."""
    known: Known = x.interval
    return known


def _negative(x: Any, *_: Any) -> Known:
    return None if x.interval is None else -x.interval


def _with_zero(x: Any, _result: Any, _pad: Any, mode: str = "constant", value: Any = 0) -> Known:
    filling = interval_of(value)
    return None if x.interval is None or filling is None else x.interval.joined(filling)


def _chosen(x: Any, _result: Any, _condition: Any, other: Any) -> Known:
    by = interval_of(other)
    return None if x.interval is None or by is None else x.interval.joined(by)


def _monotone(
    function: Callable[[float], float], low: float | None = None, high: float | None = None
) -> Rule:
    """Of a function that rises or falls throughout, with the ends of its own range where both are small."""

    def rule(x: Any, *_: Any, **__: Any) -> Known:
        if x.interval is None:
            return None if low is None or high is None else Interval(low, high).widened(OFF)
        ends = sorted((function(x.interval.low), function(x.interval.high)))
        return Interval(*ends).widened(OFF * max(1.0, -ends[0], ends[1]))

    return rule


def _within(low: float, high: float) -> Rule:
    """Of a function whose values lie between these for every x."""
    known = Interval(low, high)
    return lambda *_, **__: known


def _reciprocal(x: Any, *_: Any, **__: Any) -> Known:
    if x.interval is None:
        return None
    if x.interval.low <= ULP and x.interval.high >= -ULP:
        return Interval(-(2.0**16), 2.0**16)
    return _monotone(lambda v: 1 / v)(x)  # type: ignore[no-any-return]


def _inv_sqrt(x: Any, *_: Any) -> Known:
    known: Known = _monotone(lambda v: 1 / math.sqrt(max(v, ULP)))(x)
    # Of what is not positive it is 0.
    return known if known is None or x.interval.low > 0 else known.joined(Interval(0.0, 0.0))


def _relu(x: Any, *_: Any) -> Known:
    return None if x.interval is None else Interval(max(x.interval.low, 0.0), max(x.interval.high, 0.0))


def _abs(x: Any, *_: Any) -> Known:
    if x.interval is None:
        return None
    crosses = x.interval.low <= 0 <= x.interval.high
    return Interval(
        0.0 if crosses else min(map(abs, (x.interval.low, x.interval.high))), x.interval.magnitude
    )


def _extreme(x: Any, result: Any, *_: Any, **__: Any) -> Any:
    """Of a maximum or a minimum and its place, one-hot or an index."""
    place = Interval(0.0, float(max(x.nelement(), 1)))
    return (x.interval, place) if isinstance(result, tuple) else x.interval


def _log_softmax(x: Any, _result: Any, dim: int) -> Known:
    if x.interval is None:
        return None
    spread = x.interval.high - x.interval.low + math.log(max(x.shape[dim] if x.dim() else 1, 1))
    return Interval(-spread, 0.0).widened(OFF * max(1.0, spread))


def _quotient(x: Any, _result: Any, other: Any) -> Known:
    if not isinstance(other, Shares) or x.interval is None or other.interval is None:
        return None
    if other.interval.low <= ULP and other.interval.high >= -ULP:
        return None
    found: Interval = x.interval * _monotone(lambda v: 1 / v)(other)
    return found.widened(OFF)


def _bend(least: float, above: float = 0.0) -> Rule:
    """Of a function that is at least this, and at most max(x, 0) and so much more."""

    def rule(x: Any, _result: Any, *given: Any, **named: Any) -> Known:
        if x.interval is None or given or named:  # with a parameter of another value, perhaps
            return None
        return Interval(least, max(x.interval.high, 0.0) + above).widened(OFF)

    return rule


def _exp(v: float) -> float:
    return math.exp(min(v, 30.0))


def _log(v: float) -> float:
    return min(math.log(max(v, ULP / 2)), 20.1)  # what is not positive counts as half a unit


BEFORE: Final[dict[str, Rule]] = {
    "mul": _product(_one),
    "matmul": _product(_in_matmul),
    "conv1d": _product(_in_convolution, fewer=True),
    "conv2d": _product(_in_convolution, fewer=True),
    "conv_transpose1d": _product(_in_transposed, fewer=True),
    "conv_transpose2d": _product(_in_transposed, fewer=True),
    "square": _square,
    "add": _linear(Interval.__add__),
    "sub": _linear(Interval.__sub__),
    "sum": _sum,
    "cumsum": _running,
    "mean": _mean,
}
"""Operations that can leave the ring: checked, and refused, before they run."""

AFTER: Final[dict[str, Rule]] = {
    "neg": _negative,
    "where": _chosen,
    "pad": _with_zero,
    "relu": _relu,
    "relu_and_slope": lambda x, *_: (_relu(x), BIT),
    "abs": _abs,
    **dict.fromkeys(("max", "min", "sort", "topk", "kthvalue", "median", "cummax", "cummin"), _extreme),
    **dict.fromkeys(("amax", "amin", "max_pool1d", "max_pool2d"), _extreme),
    "exp": _monotone(_exp),
    "fine_exp": _monotone(lambda v: math.exp(min(v, 14.25))),
    "log": _monotone(_log),
    "sqrt": _monotone(lambda v: math.sqrt(min(max(v, 0.0), 2.0**29))),
    "inv_sqrt": _inv_sqrt,
    "reciprocal": _reciprocal,
    **dict.fromkeys(("sigmoid", "fine_sigmoid"), _monotone(lambda v: 1 / (1 + _exp(-v)), 0.0, 1.0)),
    "tanh": _monotone(math.tanh, -1.0, 1.0),
    "erf": _monotone(math.erf, -1.0, 1.0),
    "log_softmax": _log_softmax,
    "div": _quotient,
    "softplus": _bend(0.0, math.log(2)),
    **dict.fromkeys(("gelu", "silu", "mish"), _bend(-0.31)),
    **dict.fromkeys(("sin", "cos", "cossin", "sign"), _within(-1 - OFF, 1 + OFF)),
    **dict.fromkeys(("_ltz", "lt", "gt", "le", "ge", "eq", "ne"), _within(0.0, 1.0)),
    **dict.fromkeys(("__lt__", "__gt__", "__le__", "__ge__", "__eq__", "__ne__"), _within(0.0, 1.0)),
    **dict.fromkeys(("softmax", "bernoulli"), _within(-OFF, 1 + OFF)),
    **dict.fromkeys(
        (
            *("clone", "detach", "shallow_copy", "view", "reshape", "flatten", "permute", "transpose", "t"),
            *("squeeze", "unsqueeze", "expand", "repeat", "narrow", "index_select", "gather", "take", "flip"),
            *("roll", "unfold", "split", "unbind", "chunk", "__getitem__"),
        ),
        _same,
    ),
}
"""Operations whose results stay in the ring when their operands do."""
