"""A party's end of the dealer: asks ahead, expands its own seeds, and takes in corrections."""

from __future__ import annotations

from typing import Final

import torch

from mpcpriv.engine.correlation.base import Correlation, Slot, expand, owner
from mpcpriv.engine.correlation.lookahead import Lookahead
from mpcpriv.engine.correlation.turns import Loop
from mpcpriv.engine.correlation.wire import check, encode
from mpcpriv.engine.prg import Prg, Stream
from mpcpriv.errors import Desynchronised, PeerLate, UsageError
from mpcpriv.transport.base import Transport

_HEADER = 4096
"""More than the header of any correction needs."""


def correction_header(request: Correlation, index: int) -> bytes:
    """What stands before a correction: its number and what it is for, padded to 64 bytes."""
    text = f"correlation {index}: {request.kind} {[list(s.shape) for s in request.derived()]}".encode()
    return text + b" " * (-len(text) % 64)


class Dealt:
    """This party's shares of one correlation."""

    def __init__(self, source: Correlations, request: Correlation, index: int, stream: Stream) -> None:
        self._source, self._request, self._index, self._stream = source, request, index, stream
        self.masks = expand(stream, request.masks())

    def derived(self) -> tuple[torch.Tensor, ...]:
        """Shares of the derived values; waits for the correction where this party owns it. Call once."""
        if self._source.owns(self._index):
            return self._source.correction(self._request, self._index)
        return expand(self._stream, self._request.derived())

    def __repr__(self) -> str:
        return f"Dealt({self._request.kind}, <shares>)"


class Correlations:
    """What this party has asked of the dealer and has been dealt.

    Attributes:
        received: bytes of corrections that came to this party.
        used, asked: correlations taken by operations, and asked of the dealer (ahead, or in vain).
        token: stands for this source where something is kept that holds for it alone.
    """

    def __init__(self, transport: Transport, prg: Prg) -> None:
        self._transport, self._prg = transport, prg
        self._dealer = len(transport.members) - 1
        self._lookahead = Lookahead()
        self._arrived: dict[int, memoryview] = {}
        self._pending: set[int] = set()
        self._log: list[str] = []
        self._expected: list[tuple[int, Correlation]] = []
        self.received = self.used = self.asked = 0
        self.token: Final = object()

    def take(self, request: Correlation) -> Dealt:
        """This party's shares of a fresh correlation; its masks at once, the rest when asked for.

        Raises:
            UsageError: the request is larger than is dealt at once.
            PeerError: a member failed.
        """
        self.admit(request)  # before it is numbered: a program may catch the refusal and go on
        index, first, asked = self._lookahead.take(request)
        request = self._lookahead.latest
        self._ask(first, asked)
        if self.owns(index):
            self._pending.add(index)
        self.used += 1
        self.log(index, request)
        return Dealt(self, request, index, self._prg.stream(index))

    def admit(self, request: Correlation) -> None:
        """Raises `UsageError` if the request is larger than is dealt at once."""
        check(request)
        if request.dealt_bytes + _HEADER > self._transport.limits.message:
            raise UsageError(
                f"{request.kind} needs a correction of {request.dealt_bytes} bytes, more than a message "
                "holds; split the operation"
            )

    def log(self, index: int, request: Correlation) -> None:
        """Notes what was taken, for `history`."""
        self._log.append(f"{index} {request};")

    def loop(self, turns: int) -> Loop:
        """A loop of so many turns begins; `turn` follows for each."""
        return self._lookahead.loop(turns)

    def turn(self, loop: Loop) -> None:
        """A turn begins: what it and the later ones will need is asked for, as far as is known."""
        self._ask(*self._lookahead.turn(loop))

    def _ask(self, first: int, asked: list[Correlation]) -> None:
        if asked:
            self._transport.send(self._dealer, encode(asked, first))
            self._expected += [(i, r) for i, r in enumerate(asked, first) if self.owns(i)]
            self.asked += len(asked)

    def history(self) -> bytes:
        """What was taken since the last call, to be bound to the next frame."""
        text = "".join(self._log).encode()
        self._log.clear()
        return text

    def owns(self, index: int) -> bool:
        """Whether this party gets the correction of correlation `index`."""
        return owner(index, self._dealer) == self._transport.rank

    def correction(self, request: Correlation, index: int) -> tuple[torch.Tensor, ...]:
        """This party's derived shares, as corrected by the dealer; older ones never used are dropped."""
        while index not in self._arrived:
            number, due = self._expected.pop(0)
            name = self._transport.members[self._dealer]
            try:
                message = self._transport.recv(self._dealer)
            except PeerLate:
                limit = self._transport.limits.wait
                # A product of two open operands exchanges nothing before, which would show who is elsewhere.
                raise PeerLate(
                    name,
                    f"{name} has dealt nothing for {limit:g} s: it waits until all parties have "
                    "asked for the same, and one is late or at another operation; run the same program",
                ) from None
            header = correction_header(due, number)
            if bytes(message[: len(header)]) != header or len(message) != len(header) + due.dealt_bytes:
                raise Desynchronised(name, f"{name} dealt something else than {header.decode().strip()!r}")
            self.received += len(message)
            if number in self._pending:  # else it was foreseen in vain: never used
                self._arrived[number] = message[len(header) :]
        self._pending.remove(index)
        data = self._arrived.pop(index)
        shares, offset = [], 0
        for slot in request.derived():
            shares.append(_view(data, slot, offset))
            offset += slot.nbytes
        return tuple(shares)


def _view(data: memoryview, slot: Slot, offset: int) -> torch.Tensor:
    count = torch.Size(slot.shape).numel()
    if count == 0:
        return torch.empty(slot.shape, dtype=slot.dtype)
    return torch.frombuffer(data, dtype=slot.dtype, count=count, offset=offset).reshape(slot.shape)
