"""torch's functions of an encrypted tensor: the method of that name, with the arguments in torch's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import crypten
import torch
from crypten.cryptensor import CrypTensor

from mpcpriv.errors import Unsupported

_IDLE: Final = ("inplace", "out", "dtype", "value", "bias")
"""Arguments that torch passes on, and that say nothing if they are None or False."""

_NAMES: Final = {
    "special_erf": "erf",
    "rsqrt": "inv_sqrt",
    "absolute": "abs",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "negative": "neg",
    "linalg_vector_norm": "norm",
    "dropout2d": "_feature_dropout",
    "dropout3d": "_feature_dropout",
    "clamp_min": "clamp",
}
"""Methods that are called otherwise."""


def call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What torch's function of that name makes of arguments with an encrypted tensor among them.

    Raises:
        Unsupported: the encrypted tensor does not have it, or not with such an argument.
    """
    kwargs = {
        k: v for k, v in kwargs.items() if k != "_stacklevel" and not (k in _IDLE and v in (None, False))
    }
    if name in ("cat", "stack"):
        return getattr(crypten, name)(*args, **kwargs)
    if name in ("max", "min") and len(args) == 2 and not isinstance(args[1], int):
        name += "imum"
    if name == "where" and len(args) == 3:
        return crypten.where(*args)
    if name.startswith("conv") and isinstance(args[0], CrypTensor) and (len(args) > 2 or "bias" in kwargs):
        return _with_bias(name, args, kwargs)
    first = args[0] if args else None
    method = _NAMES.get(name, name)
    if isinstance(first, CrypTensor) and name != "where" and hasattr(first, method):
        try:
            return getattr(first, method)(*args[1:], **kwargs)
        except TypeError as error:
            raise Unsupported(f"torch.{name} of an encrypted tensor: {error}") from error
    if len(args) == 2 and isinstance(args[1], CrypTensor) and name in _PUBLIC_LEFT and not kwargs:
        return _PUBLIC_LEFT[name](*args)
    raise Unsupported(f"torch.{name} of an encrypted tensor is not offered")


def _with_bias(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A convolution, whose third argument is a bias in torch."""
    kwargs = dict(kwargs)
    bias = args[2] if len(args) > 2 else kwargs.pop("bias")
    result = getattr(args[0], name)(args[1], *_behind_bias(name, args[3:]), **kwargs)
    return result if bias is None else result + bias.reshape([-1] + [1] * (args[1].dim() - 2))


def _behind_bias(name: str, rest: tuple[Any, ...]) -> tuple[Any, ...]:
    """Transposed convolutions take a bias here too, and refuse it."""
    return (None, *rest) if "transpose" in name and rest else rest


def _matmul_public_left(x: torch.Tensor, y: Any) -> Any:
    """x @ y by transposition."""
    if y.dim() == 1:
        return y.matmul(x.transpose(-1, -2) if x.dim() > 1 else x)
    flipped = y.transpose(-1, -2)
    return flipped.matmul(x) if x.dim() == 1 else flipped.matmul(x.transpose(-1, -2)).transpose(-1, -2)


_PUBLIC_LEFT: Final[dict[str, Callable[[torch.Tensor, Any], Any]]] = {
    "add": lambda x, y: y.add(x),
    "sub": lambda x, y: y.neg().add(x),
    "mul": lambda x, y: y.mul(x),
    "div": lambda x, y: y.reciprocal().mul(x),
    "matmul": _matmul_public_left,
    "lt": lambda x, y: y.gt(x),
    "le": lambda x, y: y.ge(x),
    "gt": lambda x, y: y.lt(x),
    "ge": lambda x, y: y.le(x),
    "eq": lambda x, y: y.eq(x),
    "ne": lambda x, y: y.ne(x),
}
"""What torch calls when only the right operand is encrypted."""
