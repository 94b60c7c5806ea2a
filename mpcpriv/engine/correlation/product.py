"""Multiplication triples for any bilinear map, and square pairs.

Beaver, "Efficient Multiparty Protocols Using Circuit Randomization", CRYPTO 1991, section 2;
for matrices and convolutions as in Mohassel, Zhang, "SecureML", IEEE S&P 2017, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpcpriv.engine.correlation.base import Again, Correlation, Slot, Words
from mpcpriv.engine.ring import Bilinear


@dataclass(frozen=True)
class Mask:
    """The mask of one operand: drawn afresh, or that of the same value in an earlier triple.

    Attributes:
        order: the operand's dimensions as the mask's words run through them, slowest first; empty as they
            stand. An operand that is the transpose of a value is masked by the transpose of its mask.
        source: None if afresh.
    """

    order: tuple[int, ...] = ()
    source: Words | Again | None = None

    def slot(self, shape: tuple[int, ...]) -> Slot:
        """The mask's words, of an operand of this shape."""
        return Slot(tuple(shape[dim] for dim in self.order) or shape, source=self.source)

    def of_operand(self, words: torch.Tensor) -> torch.Tensor:
        """Tensors in the order of the mask's words as the operand's dimensions stand; a view."""
        return words.permute([self.order.index(dim) for dim in range(words.dim())]) if self.order else words


@dataclass(frozen=True)
class Triple(Correlation):
    """[a], [b] uniform in shapes `x` and `y`, and [c] with c = map(a, b). 8 bytes dealt per element of c.

    The masks stand in the order of their words, a before b. [c] is fresh in any case.
    """

    kind: ClassVar[str] = "triple"
    map: Bilinear
    x: tuple[int, ...]
    y: tuple[int, ...]
    x_mask: Mask = Mask()
    y_mask: Mask = Mask()

    def masks(self) -> tuple[Slot, ...]:
        return self.x_mask.slot(self.x), self.y_mask.slot(self.y)

    def derived(self) -> tuple[Slot, ...]:
        return (Slot(self.map.result_shape(self.x, self.y)),)

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = masks
        return (self.map(self.x_mask.of_operand(a), self.y_mask.of_operand(b)),)


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
