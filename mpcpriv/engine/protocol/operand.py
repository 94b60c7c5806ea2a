"""Operands of products: a shared value, and its masked form once that is open.

An operand that stays the same over several products is opened once (Mohassel, Zhang, "SecureML", IEEE S&P
2017, section 4.1: the data of a gradient descent). d = x - a is kept, with the place of its mask a.

Why this is safe: whatever is opened is masked afresh, by words of a key stream that mask nothing else, so
that no mask ever hides two values; a later product opens nothing of x and only refers to a. Its share of
c = map(a, b) is dealt afresh. All that is seen is d, e, .. , each uniform and independent of the others.

Were d kept for a tensor that has changed since, nothing would leak, but the product would be that of the
old value: who makes an `Operand` vouches that its value is what `Value` stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mpcpriv.engine.correlation.base import Again
from mpcpriv.engine.correlation.placement import REACH
from mpcpriv.engine.correlation.product import Mask
from mpcpriv.engine.correlation.source import Correlations


@dataclass
class Opening:
    """The masked form of a value, open in one session.

    Attributes:
        token: of the session's correlations.
        masked: d, flat or not, in the order of the value's elements. As large as the value, and as long
            in memory as any tensor that holds it.
        place: the number of correlations taken before the triple that used the mask last.
        slot: as which of its operands.
    """

    token: object
    masked: torch.Tensor
    place: int
    slot: int


class Value:
    """What stays the same: a value that one or several tensors hold, as it is or reordered."""

    __slots__ = ("opening",)

    def __init__(self) -> None:
        self.opening: Opening | None = None

    def again(self, correlations: Correlations) -> Again | None:
        """How to refer to its mask; None if it has none, or none that can still be found."""
        opening = self.opening
        if opening is None or opening.token is not correlations.token:
            return None
        ago = correlations.used - opening.place
        return Again(ago, opening.slot) if ago <= REACH else None


@dataclass(frozen=True)
class Operand:
    """A share, and what it is a share of.

    Attributes:
        share: this party's.
        order: its dimensions as the value's elements run through them, slowest first; empty as they stand.
    """

    share: torch.Tensor
    order: tuple[int, ...] = ()
    value: Value = field(default_factory=Value)

    @property
    def in_order(self) -> torch.Tensor:
        """The share in the order of the value's elements."""
        return self.share.permute(self.order) if self.order else self.share

    def masked(self) -> torch.Tensor:
        """d = x - a, which is open, as the operand's dimensions stand; a view."""
        assert self.value.opening is not None
        return Mask(self.order).of_operand(self.value.opening.masked.reshape(self.in_order.shape))
