"""Products that are truncated when somebody needs them so, and not before.

A layer's result goes into an activation, whose comparison truncates in its own first opening
(`protocol.compare`): a round less for each layer. Within `deferring()` a product of two tensors stays with 32
fractional bits, and so does its sum with a bias, which must be below 2^30 as the product must. Whatever else
touches such a tensor truncates it first, in one round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, Self

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol.operand import Value
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.tensor.identity import Identity

PRODUCT_BITS: Final = 2 * FRACTIONAL_BITS
FEW: Final = 1000
"""Truncating in a comparison with 20 thresholds takes 300 bytes more from the dealer for each element: with
more elements than these that takes longer, at 100 Mbit/s, than the round that it saves at 20 ms."""


@contextlib.contextmanager
def deferring() -> Iterator[None]:
    """Products and sums with them are not truncated in here, and leave so."""
    s = session.current() if session.joined() else None
    if s is None or s.deferring:
        yield
        return
    s.deferring = True
    try:
        yield
    finally:
        s.deferring = False


class Deferred(Identity):
    """A share with 16 fractional bits, or that of a product that is still to be truncated."""

    _settled: torch.Tensor
    _product: torch.Tensor | None = None

    @property
    def _share(self) -> torch.Tensor:
        if self._product is not None:
            interval = self._interval
            (self._share,) = truncate(session.current(), [(self._product, FRACTIONAL_BITS)])
            self._renew()
            self._interval = interval
        return self._settled

    @_share.setter
    def _share(self, share: torch.Tensor) -> None:
        self._settled, self._product = share, None

    def _check(self) -> None:
        if self._product is None:
            super()._check()

    def _held(self) -> Value:
        _ = self._share  # truncated, it is another share
        return super()._held()

    def _with_product(self, product: torch.Tensor) -> Self:
        """Holds the share of a product, with `PRODUCT_BITS`."""
        self._product = product
        return self

    @property
    def untruncated(self) -> tuple[torch.Tensor, int]:
        """A share of the value times 2^k with 16 fractional bits, and k: what a comparison truncates by."""
        if self._product is not None:
            return self._product, PRODUCT_BITS - FRACTIONAL_BITS
        return self._tensor, 0

    @property
    def deferred(self) -> bool:
        """Whether it is still to be truncated."""
        return self._product is not None

    @property
    def _any(self) -> torch.Tensor:
        return self._settled if self._product is None else self._product

    def size(self, dim: int | None = None) -> Any:
        """As `torch.Tensor.size`."""
        return self._any.size() if dim is None else self._any.size(dim)

    def dim(self) -> int:
        """The number of dimensions."""
        return self._any.dim()

    def nelement(self) -> int:
        """The number of elements."""
        return self._any.nelement()

    numel = nelement

    def __len__(self) -> int:
        return len(self._any)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.dim()
