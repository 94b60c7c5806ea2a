"""Which tensors hold the same value, so that a product need not open it again (`protocol.operand`).

Detached, copied shallowly, transposed or reshaped, a tensor still holds its value; all else is another one.
The parties decide alike: by the program's operations and the shapes, never by where a share lies in memory,
which may differ between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from crypten.cryptensor import CrypTensor

from mpcpriv.engine.interval import Interval
from mpcpriv.engine.protocol.operand import Operand, Value


class Identity(CrypTensor):  # type: ignore[misc]
    """The share of a tensor and the value that it stands for.

    A value ends when the tensor gets another share, and when torch has counted a change of the share's
    memory, through whatever name it was made.
    """

    _share: torch.Tensor
    _interval: Interval | None
    _version: int | None
    _value: Value | None
    _layout: torch.Tensor | None  # without memory: the value's elements in order, as this tensor views them

    @property
    def _tensor(self) -> torch.Tensor:
        """CrypTen's name for the share."""
        return self._share

    @_tensor.setter
    def _tensor(self, share: torch.Tensor) -> None:
        self._share = share
        self._renew()

    def _renew(self) -> None:
        # Where torch counts no changes (inference mode) nothing is known of the memory from now on.
        self._version = None if self._share.is_inference() else self._share._version
        self._value = self._layout = self._interval = None

    @property
    def interval(self) -> Interval | None:
        """Public bounds on every element, where they are known."""
        self._check()
        return self._interval

    @interval.setter
    def interval(self, known: Interval | None) -> None:
        self._check()
        self._interval = known

    def _check(self) -> None:
        if self._version is None or self._version != self._share._version:
            self._renew()

    def _held(self) -> Value:
        self._check()
        if self._value is None:
            self._value = Value()
        return self._value

    @property
    def operand(self) -> Operand:
        """The tensor as an operand of a product."""
        value = self._held()
        return Operand(self._share, _order(self._layout), value)

    def _viewed(self, view: Callable[[Any], Any]) -> Self:
        """This value in other dimensions; another value where none of them runs through its elements evenly.

        Args:
            view: an operation of torch that keeps each element once.
        """
        value, layout = self._held(), self._layout
        result: Self = self.shallow_copy()
        result._tensor = view(self._share)
        if layout is None:
            layout = torch.empty(self._share.shape, device="meta")
        seen = view(layout)
        if _memory(seen) is _memory(layout):
            result._value, result._layout = value, seen
        return result

    def _take_value(self, other: Self) -> Self:
        """Has the share of `other` just now, and so its value."""
        self._value, self._layout = other._held(), other._layout
        return self

    def transpose(self, dim0: int, dim1: int) -> Self:
        """As `torch.Tensor.transpose`."""
        return self._viewed(lambda t: t.transpose(dim0, dim1))

    def t(self) -> Self:
        """As `torch.Tensor.t`."""
        return self._viewed(lambda t: t.t())

    def permute(self, *dims: Any) -> Self:
        """As `torch.Tensor.permute`."""
        return self._viewed(lambda t: t.permute(*dims))

    def view(self, *shape: Any) -> Self:
        """As `torch.Tensor.reshape`: a share's place in memory is nobody's concern."""
        return self._viewed(lambda t: t.reshape(*shape))

    def reshape(self, *shape: Any, **kwargs: Any) -> Self:
        """As `torch.Tensor.reshape`."""
        return self._viewed(lambda t: t.reshape(*shape, **kwargs))

    def flatten(self, *args: Any, **kwargs: Any) -> Self:
        """As `torch.Tensor.flatten`."""
        return self._viewed(lambda t: t.flatten(*args, **kwargs))

    def unsqueeze(self, dim: int) -> Self:
        """As `torch.Tensor.unsqueeze`."""
        return self._viewed(lambda t: t.unsqueeze(dim))

    def squeeze(self, *args: Any, **kwargs: Any) -> Self:
        """As `torch.Tensor.squeeze`."""
        return self._viewed(lambda t: t.squeeze(*args, **kwargs))


def _memory(layout: torch.Tensor) -> torch.Tensor:
    """The tensor that this one is a view of, or itself."""
    return layout if layout._base is None else layout._base


def _order(layout: torch.Tensor | None) -> tuple[int, ...]:
    """The dimensions from the slowest to the fastest; empty if they stand so."""
    if layout is None:
        return ()
    strides = layout.stride()
    order = sorted(range(layout.dim()), key=lambda dim: -strides[dim])
    moving = [dim for dim in order if layout.shape[dim] != 1]
    return tuple(order) if layout.numel() and moving != sorted(moving) else ()
