"""Masks for exact truncation: what `protocol.truncate` needs to know of the mask r it opens with.

Escudero, Ghosh, Keller, Rachuri, Scholl, "Improved Primitives for MPC over Mixed
Arithmetic-Binary Circuits" (edaBits), CRYPTO 2020, section 5; Dalskov, Escudero, Keller,
"Secure Evaluation of Quantized Neural Networks", PoPETs 2020, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpcpriv.engine.correlation.base import Correlation, Slot

LOW_63 = (1 << 63) - 1


@dataclass(frozen=True)
class TruncationMask(Correlation):
    """[r] uniform, [(r mod 2^63) >> bits] and [msb(r)]; `bits` in [1, 62].

    The top bit is only ever used times 2^(63 - bits), so its shares live modulo 2^8, 2^16, 2^32 or
    2^64, the least that is at least 2^(bits + 1): with 16 bits, 12 bytes are dealt per element.
    """

    kind: ClassVar[str] = "truncation"
    shape: tuple[int, ...]
    bits: int

    def masks(self) -> tuple[Slot, ...]:
        return (Slot(self.shape),)

    def derived(self) -> tuple[Slot, ...]:
        return Slot(self.shape), Slot(self.shape, self.top_dtype)

    @property
    def top_dtype(self) -> torch.dtype:
        """The narrowest integers modulo at least 2^(bits + 1)."""
        for dtype in (torch.int8, torch.int16, torch.int32):
            if self.bits + 1 <= dtype.itemsize * 8:
                return dtype
        return torch.int64

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (r,) = masks
        return (r & LOW_63) >> self.bits, (r < 0).to(self.top_dtype)
