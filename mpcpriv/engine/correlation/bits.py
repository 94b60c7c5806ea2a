"""Random bits in both worlds, shared by XOR and by sum (daBits).

Rotaru, Wood, "MArBled Circuits", INDOCRYPT 2019, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpcpriv.engine.correlation.base import Correlation, Slot


@dataclass(frozen=True)
class DaBit(Correlation):
    """A uniform bit, XOR-shared in the lowest bit of an int8 and sum-shared modulo 2^64. 8 bytes dealt."""

    kind: ClassVar[str] = "dabit"
    shape: tuple[int, ...]

    def masks(self) -> tuple[Slot, ...]:
        return (Slot(self.shape, torch.int8, "xor"),)

    def derived(self) -> tuple[Slot, ...]:
        return (Slot(self.shape),)

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ((masks[0] & 1).to(torch.int64),)
