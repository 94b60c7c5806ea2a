"""Fixed-point numbers in the ring Z_2^64, encoded and decoded exactly.

A real x is held as the integer round(x * 2^16), two's complement in 64 bits (Catrina, Saxena,
"Secure Computation with Fixed-Point Numbers", FC 2010, section 2). Values stay below 2^62 in
magnitude so that the protocols that open `x + 2^62 + r` never wrap (`protocol.truncate`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from mpcpriv.errors import RangeError, UsageError

FRACTIONAL_BITS: Final = 16
RING_LIMIT: Final = 1 << 62
"""Encoded magnitudes are below this: one bit for the sign, one of head-room."""


def as_tensor(value: Any) -> torch.Tensor:
    """Makes a real or integer tensor of a number, list, numpy array or tensor, without losing precision.

    Python floats and numpy floats become float64. Nothing is cast to an integer on the way.

    Raises:
        UsageError: the value is not made of real numbers.
    """
    if isinstance(value, torch.Tensor):
        tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise UsageError(f"cannot make a tensor of {type(value).__name__}: {error}") from None
        if array.dtype.kind not in "biuf":
            raise UsageError(f"cannot make a tensor of {type(value).__name__}: numbers are needed")
        whole = array.dtype.kind != "f" and array.dtype != np.uint64  # whose upper half does not fit int64
        tensor = torch.from_numpy(np.array(array, dtype=np.int64 if whole else np.float64))
    if tensor.is_complex():
        raise UsageError(f"a tensor of {tensor.dtype} cannot be encoded: real numbers are needed")
    return tensor.to(torch.float64) if tensor.dtype == torch.uint64 else tensor


def encode(value: Any, bits: int = FRACTIONAL_BITS) -> torch.Tensor:
    """Rounds `value * 2^bits` to the nearest integer (ties to even); int64 of the same shape.

    Raises:
        RangeError: some value is not finite or reaches 2^(62 - bits) in magnitude.
    """
    tensor = as_tensor(value)
    if tensor.is_floating_point():
        wide = tensor.to(torch.float64)
        scaled = torch.round(wide * float(1 << bits))
        outside = ~(scaled.abs() < float(RING_LIMIT))
        _refuse_outside(wide, outside, bits)
        return scaled.to(torch.int64)
    whole = tensor.to(torch.int64)
    limit = RING_LIMIT >> bits
    _refuse_outside(whole, (whole >= limit) | (whole <= -limit), bits)
    return whole << bits


def decode(encoded: torch.Tensor, bits: int = FRACTIONAL_BITS) -> torch.Tensor:
    """The real numbers that `encoded` stands for, as float64: exact below 2^53 encoded units."""
    return encoded.to(torch.float64) / float(1 << bits)


def _refuse_outside(values: torch.Tensor, outside: torch.Tensor, bits: int) -> None:
    if bool(outside.any()):
        index = tuple(int(i) for i in outside.nonzero()[0])
        where = f" at index {list(index)}" if index else ""
        raise RangeError(
            f"value {values[index].item()!r}{where} cannot be encoded: it must be finite and "
            f"smaller in magnitude than 2^{62 - bits}; scale or clip the data first"
        )
