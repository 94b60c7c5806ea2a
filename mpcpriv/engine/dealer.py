"""The dealer: deals correlated randomness on typed requests, and learns shapes only.

It holds a key with each party and no data. It obeys only what *all* parties ask for, in the same
order, byte for byte: one deviating party can neither learn nor change what is dealt to the others.
"""

from __future__ import annotations

import torch

from mpcpriv.engine.correlation import wire
from mpcpriv.engine.correlation.base import correct, owner
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.source import correction_header
from mpcpriv.engine.prg import Prg, raw
from mpcpriv.engine.session import pair_key
from mpcpriv.errors import Desynchronised, PeerFinished, PeerLate, UsageError
from mpcpriv.transport.base import Transport


def deal(transport: Transport) -> int:
    """Serves the parties until all have finished; returns how many correlations were dealt.

    Args:
        transport: connected, this member being the last.

    Raises:
        Desynchronised: the parties asked for different things.
        PeerError: a party failed.
    """
    parties = transport.members[:-1]
    prgs = [Prg(pair_key(transport, rank, "dealer")) for rank in range(len(parties))]
    dealt = 0
    while True:
        messages = [_receive(transport, rank) for rank in range(len(parties))]
        if all(message is None for message in messages):
            return dealt
        for name, message in zip(parties, messages, strict=True):
            if message != messages[0]:
                raise Desynchronised(
                    name, f"{name} asks the dealer for something else than {parties[0]} does"
                )
        assert messages[0] is not None
        try:
            first, requests = wire.decode(messages[0])
        except UsageError as error:
            raise Desynchronised(parties[0], f"the parties sent a bad request: {error}") from None
        if first != dealt:
            raise Desynchronised(parties[0], f"the parties ask for correlation {first}, {dealt} is next")
        for index, request in enumerate(requests, first):
            values = correct(request, index, prgs)
            header = correction_header(request, index)
            transport.send(
                owner(index, len(prgs)),
                header,
                *(raw(v.contiguous()) for v in values if v.numel()),
            )
        dealt += len(requests)


def warm() -> None:
    """Compiles what numba compiles on first use, or loads it: seconds that the parties need not wait for."""
    request = ThresholdMask(1, 1, 1)
    request.derive(*(torch.zeros(slot.shape, dtype=slot.dtype) for slot in request.masks()))


def _receive(transport: Transport, rank: int) -> bytes | None:
    while True:
        try:
            return bytes(transport.recv(rank))
        except PeerFinished:
            return None
        except PeerLate:  # parties compute and wait for each other as long as they need
            continue
