"""Correlated randomness: what a kind consists of, and how it is compressed to seeds.

A kind names its *masks*, uniformly random values that nobody knows but the dealer, and its
*derived* values, a function of the masks. Both are held as shares. The dealer has one PRG key with
each party, so shares of masks cost nothing: each party expands its own, the dealer expands all and
adds them up. Shares of derived values are expanded too, by all parties but one, the *owner*; the
owner's share is the correction that makes the sum right, and is all that travels (Boyle et al.,
"Efficient Pseudorandom Correlation Generators", CRYPTO 2019, section 1; the idea is Beaver's
commodity server, STOC 1997).

Dealer and parties run the same `expand`, in the same order, so they cannot disagree on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from mpcpriv.engine.prg import Prg, Stream

Group = Literal["sum", "xor"]


@dataclass(frozen=True)
class Words:
    """Where a mask stands that was drawn before: in stream `index`, from word (8 bytes) `start` on."""

    index: int
    start: int


@dataclass(frozen=True)
class Again:
    """The mask of operand `slot` (0, 1) of the triple taken `ago` correlations ago; 0 is this one.

    So a party says which one it means: in a loop that is the same each turn, and can be foreseen, where
    the numbers of correlations are not. `placement` finds the `Words`, which the dealer is told.
    """

    ago: int
    slot: int


@dataclass(frozen=True)
class Slot:
    """A tensor of one correlation: its shape, and the group its shares live in.

    `sum` is addition modulo 2^width of the dtype, `xor` is bitwise. With a `source` it is a mask that
    another correlation has drawn.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.int64
    group: Group = "sum"
    source: Words | Again | None = None

    def combine_(self, into: torch.Tensor, other: torch.Tensor) -> None:
        """Adds a share to a running total, in place."""
        if self.group == "sum":
            into.add_(other)
        else:
            into.bitwise_xor_(other)

    def separate_(self, total: torch.Tensor, share: torch.Tensor) -> None:
        """Takes a share out of a total, in place."""
        if self.group == "sum":
            total.sub_(share)
        else:
            total.bitwise_xor_(share)

    @property
    def nbytes(self) -> int:
        """Size of one share."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Correlation(ABC):
    """A request for one piece of correlated randomness; a frozen dataclass of public shapes."""

    kind: ClassVar[str]

    @abstractmethod
    def masks(self) -> tuple[Slot, ...]:
        """What is uniformly random."""

    @abstractmethod
    def derived(self) -> tuple[Slot, ...]:
        """What follows from the masks."""

    @abstractmethod
    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The dealer's part: derived values from masks, both in clear; one tensor per derived slot."""

    @property
    def dealt_bytes(self) -> int:
        """Bytes of the correction, which travels to one party."""
        return sum(slot.nbytes for slot in self.derived())


def expand(stream: Stream, slots: tuple[Slot, ...]) -> tuple[torch.Tensor, ...]:
    """The next shares of `slots` on a stream; what has a source is read there again."""
    return tuple(_stream(stream, slot).tensor(slot.shape, slot.dtype) for slot in slots)


def _stream(stream: Stream, slot: Slot) -> Stream:
    if slot.source is None:
        return stream
    assert isinstance(slot.source, Words), "a mask must have been found before it is expanded"
    return stream.other(slot.source.index, slot.source.start)


def owner(index: int, parties: int) -> int:
    """The rank that receives the correction of the correlation of this number: each in turn."""
    return index % parties


def correct(request: Correlation, index: int, prgs: list[Prg]) -> tuple[torch.Tensor, ...]:
    """The dealer's side: the owner's shares of the derived values of correlation number `index`."""
    streams = [prg.stream(index) for prg in prgs]
    masks = list(expand(streams[0], request.masks()))
    for stream in streams[1:]:
        for slot, total, share in zip(request.masks(), masks, expand(stream, request.masks()), strict=True):
            slot.combine_(total, share)
    values = request.derive(*masks)
    for rank, stream in enumerate(streams):
        if rank != owner(index, len(prgs)):
            for slot, value, share in zip(
                request.derived(), values, expand(stream, request.derived()), strict=True
            ):
                slot.separate_(value, share)
    return values
