"""Plain and encrypted tensors, told apart where a layer must know."""

from __future__ import annotations

from typing import Any, Final

import torch
from crypten.cryptensor import CrypTensor

Tensor = Any
"""A torch.Tensor, or an encrypted one."""

MASKED: Final = -float(1 << 20)
"""Stands for minus infinity before a softmax: the ring has no infinities."""


def encrypted(x: object) -> bool:
    """Whether x is an encrypted tensor."""
    return isinstance(x, CrypTensor)


def functional(name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The method of that name of an encrypted tensor, or torch's function of a plain one."""
    if encrypted(x):
        return getattr(x, name)(*args, **kwargs)
    return getattr(torch.nn.functional, name)(x, *args, **kwargs)


def finite(value: Any) -> Any:
    """A public number or tensor with minus infinity, and what is close to it, replaced by `MASKED`."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.clamp(min=MASKED)
    return max(value, MASKED) if isinstance(value, float) else value
