"""Multiplication triples for any bilinear map, and square pairs.

Beaver, "Efficient Multiparty Protocols Using Circuit Randomization", CRYPTO 1991, section 2;
for matrices and convolutions as in Mohassel, Zhang, "SecureML", IEEE S&P 2017, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpcpriv.engine.correlation.base import Correlation, Slot
from mpcpriv.engine.ring import Bilinear


@dataclass(frozen=True)
class Triple(Correlation):
    """[a], [b] uniform in shapes `x` and `y`, and [c] with c = map(a, b). 8 bytes dealt per element of c."""

    kind: ClassVar[str] = "triple"
    map: Bilinear
    x: tuple[int, ...]
    y: tuple[int, ...]

    def masks(self) -> tuple[Slot, ...]:
        return Slot(self.x), Slot(self.y)

    def derived(self) -> tuple[Slot, ...]:
        return (Slot(self.map.result_shape(self.x, self.y)),)

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = masks
        return (self.map(a, b),)


@dataclass(frozen=True)
class SquarePair(Correlation):
    """[a] uniform and [c] with c = a * a. 8 bytes dealt per element."""

    kind: ClassVar[str] = "square"
    shape: tuple[int, ...]

    def masks(self) -> tuple[Slot, ...]:
        return (Slot(self.shape),)

    def derived(self) -> tuple[Slot, ...]:
        return (Slot(self.shape),)

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (masks[0] * masks[0],)
