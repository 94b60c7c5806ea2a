"""Random permutations of masked rows: what one party needs to permute rows that stay shared.

The permutation is shared like all else; `protocol.shuffle` opens it to the one party that applies it.
(Chase, Ghosh, Poburinnaya, "Secret-Shared Shuffle", ASIACRYPT 2020, section 4: the masked rows, there
without a dealer.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpcpriv.engine.correlation.base import Correlation, Slot


@dataclass(frozen=True)
class Shuffle(Correlation):
    """[a] uniform, a uniform permutation p for each line, [p] and [p(a)]. 8 bytes dealt per row and column,
    and 8 per row.

    The permutation sorts keys of 64 bits, which are uniform as the sum of all parties': two of n are equal,
    and so not in uniform order, with probability below n^2 / 2^65.
    """

    kind: ClassVar[str] = "shuffle"
    lines: int
    length: int
    columns: int

    def masks(self) -> tuple[Slot, ...]:
        return Slot((self.lines, self.length)), Slot((self.lines, self.length, self.columns))

    def derived(self) -> tuple[Slot, ...]:
        return self.masks()

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        keys, rows = masks
        order = keys.argsort(-1)
        return order, arranged(rows, order)


def arranged(rows: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """rows[i, order[i, j], k] at (i, j, k)."""
    return rows.gather(1, order.unsqueeze(-1).expand(rows.shape))
