"""Sorted tensors and what follows from them: the largest values, medians, quantiles, running extremes.

Of equal values the first counts, as if sorted by torch with `stable=True`. Nothing is opened but an order
that is uniformly random (`protocol.sort`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol import sort
from mpcpriv.engine.protocol.compare import below
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.tensor.comparison import Comparison
from mpcpriv.errors import UsageError

_MUL = Bilinear("mul")


class Ordering(Comparison):
    """Order of values below 2^45 in magnitude.

    With P parties a line of up to 64 values takes 5 + P rounds; a longer one 5 + P and about 5 log_16 n,
    a little more or less by chance. In these, values from 2^(45 - b) on count as equal, b being the bit
    length of n - 1: 2^31 for 10,000 values.
    """

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> tuple[Any, Any]:
        """As `torch.sort`: the values, and as numbers the places where they stood; always stable."""
        del stable
        return self.ranked(range(self._length(dim)), dim, descending)

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
        """As `torch.argsort`: the places, as numbers; always stable."""
        return self.detach().sort(dim, descending, stable)[1]

    def sort_with(self, rows: Any) -> tuple[Any, Any]:
        """A line in ascending order, and rows that go with its values in the same order; stable.

        Args:
            rows: encrypted, (length, columns).
        """
        values, sorted_rows = sort.order_with(
            session.current(), self.share.reshape(1, -1), rows.share.unsqueeze(0)
        )
        return self.of(values[0], self.bits), self.of(sorted_rows[0], rows.bits)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Any, Any]:
        """As `torch.topk`: the k largest or smallest values, in order, and their places as numbers."""
        del sorted
        if not 0 <= k <= self._length(dim):
            raise UsageError(f"topk of {k} values where there are {self._length(dim)}")
        return self.ranked(range(k), dim, largest)

    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Any, Any]:
        """As `torch.kthvalue`: the k-th smallest value, counted from 1, and its place as a number."""
        if not 1 <= k <= self._length(dim):
            raise UsageError(f"kthvalue of number {k} where there are {self._length(dim)}")
        found = self.ranked([k - 1], dim, False)
        value, place = found if keepdim or not self.dim() else (one.squeeze(dim) for one in found)
        return value, place

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """As `torch.median`: of an even number the lower of the middle two; along `dim` with its place."""
        if dim is None:
            return self.flatten().kthvalue((self.nelement() + 1) // 2, 0)[0]
        return self.kthvalue((self._length(dim) + 1) // 2, dim, keepdim)

    def quantile(
        self, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Any:
        """As `torch.quantile`, for public q; one round more than sorting where it interpolates.

        Args:
            q: a number in [0, 1], or a tensor of them with at most one dimension, which then comes first.
            dim: all elements by default.
            keepdim: whether the dimension stays, as one.
            interpolation: 'linear', 'lower', 'higher', 'midpoint' or 'nearest'.
        """
        wanted = torch.as_tensor(q, dtype=torch.float64)
        if wanted.dim() > 1 or bool(((wanted < 0) | (wanted > 1)).any()) or bool(wanted.isnan().any()):
            raise UsageError(f"quantile of {q!r}: numbers in [0, 1] are needed, in at most one dimension")
        if dim is None:
            result = self.flatten().quantile(wanted, 0, interpolation=interpolation)
            return result.reshape([*wanted.shape, *(1 for _ in self.shape)]) if keepdim else result
        if self._length(dim) == 0:
            raise UsageError("quantile of no values")
        place = wanted.reshape(-1) * (self._length(dim) - 1)
        low, high = place.floor(), place.ceil()
        weight = {
            "linear": place - low,
            "lower": torch.zeros_like(place),
            "higher": torch.ones_like(place),
            "midpoint": torch.full_like(place, 0.5),
            "nearest": place.round() - low,
        }.get(interpolation)
        if weight is None:
            raise UsageError(f"quantile with interpolation={interpolation!r}")
        weight = torch.where(low == high, 0.0, weight)
        ranks = sorted({int(r) for r in (*low.tolist(), *high.tolist())})
        values = self.ranked(ranks, dim, False)[0]
        along = dim % max(self.dim(), 1)
        rest = [i for i in range(self.dim()) if i != along]
        values = values.permute([along, *rest]) if self.dim() else values.reshape(1)
        lower, upper = (values[[ranks.index(int(r)) for r in end.tolist()]] for end in (low, high))
        if bool(((weight != 0) & (weight != 1)).any()):
            found = lower + (upper - lower) * weight.reshape([-1] + [1] * (values.dim() - 1))
        else:
            found = values[[ranks.index(int(r)) for r in torch.where(weight == 1, high, low).tolist()]]
        found = found.unsqueeze(along + 1) if keepdim and self.dim() else found
        return found if wanted.dim() else found.squeeze(0)

    def ranked(self, ranks: Sequence[int], dim: int, descending: bool) -> tuple[Self, Self]:
        """The values of these ranks along `dim`, counted from 0, and their places as numbers."""
        values, places = self.in_order(ranks, dim, descending)
        return self.pick_ranks(values, ranks, dim, self.bits), self.pick_ranks(
            places << FRACTIONAL_BITS, ranks, dim, FRACTIONAL_BITS
        )

    def in_order(self, ranks: Sequence[int], dim: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares of each line in order, and of the places as integers, (lines, length); right at `ranks`."""
        share = -self.share if descending else self.share
        lines = share.reshape(-1, 1) if not share.dim() else share.transpose(dim, -1)
        length = lines.shape[-1]
        values, places = sort.order(
            session.current(), lines.reshape(math.prod(lines.shape[:-1]), length), ranks
        )
        return -values if descending else values, places

    def pick_ranks(self, lines: torch.Tensor, ranks: Sequence[int], dim: int, bits: int) -> Self:
        """From (lines, length) the columns of these ranks, back along `dim`."""
        chosen = lines[:, list(ranks)]
        if not self.dim():
            return self.of(chosen.reshape(self._tensor.shape), bits)
        shape = self._tensor.transpose(dim, -1).shape[:-1]
        return self.of(chosen.reshape(*shape, len(ranks)).transpose(dim, -1), bits)

    def cummax(self, dim: int) -> tuple[Any, Any]:
        """As `torch.cummax`: the largest so far, and the place of the last such, as a number.

        Five rounds for each doubling of the length.
        """
        return self._running(dim, 1)

    def cummin(self, dim: int) -> tuple[Any, Any]:
        """As `torch.cummin`; in all else as `cummax`."""
        return self._running(dim, -1)

    def _running(self, dim: int, sign: int) -> tuple[Self, Self]:
        s = session.current()
        line = (sign * self._tensor).transpose(dim, -1) if self.dim() else self._tensor.reshape(1)
        length = line.shape[-1]
        places = torch.arange(length).expand(line.shape) * int(s.rank == 0)
        both = torch.stack([line, places])
        step = 1
        while step < length:
            earlier, later = both[..., :-step], both[..., step:]
            wins = below(s, later[0] - earlier[0], [0])[..., 0]
            both = torch.cat([both[..., :step], later + product(s, _MUL, wins, earlier - later)], -1)
            step *= 2
        value, place = both
        if self.dim():
            value, place = value.transpose(dim, -1), place.transpose(dim, -1)
        shape = self._tensor.shape
        return self.of((sign * value).reshape(shape), self.bits), self.of(place.reshape(shape), 0)

    def _length(self, dim: int) -> int:
        return int(self._tensor.shape[dim]) if self._tensor.dim() else 1
