"""What was handed to the transport is left alone: a message may leave long after `send` returned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.transport.base import Buffer, Transport
from tests.protocol.parties import Observed, Sight, outcomes


class Watched(Observed):
    """Keeps every buffer that is sent, and what it held."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, Sight())
        self.kept: list[tuple[Buffer, bytes]] = []

    def send(self, dst: int, *parts: Buffer) -> None:
        self.kept += [(part, bytes(part)) for part in parts]
        self.inner.send(dst, *parts)


def everything(session: Session) -> None:
    import crypten

    crypten.init()
    x = crypten.cryptensor(torch.arange(12.0).reshape(3, 4), src=0)
    y = crypten.cryptensor(torch.arange(12.0).reshape(3, 4) - 6, src=1)
    (x * y + x.square() * 0.3).get_plain_text()
    x.get_plain_text(dst=1)
    x.matmul(y.t()).sigmoid().get_plain_text()
    y.max(dim=0)[0].reciprocal().get_plain_text()
    y.exp().sum().get_plain_text(dst=[0, 1])
    x[0] += 1
    x.get_plain_text()
    (x == y).get_plain_text()
    crypten.rand(3).get_plain_text()


def collectives(session: Session) -> None:
    import crypten

    crypten.init()
    comm = crypten.communicator.get()
    mine = torch.arange(3) + session.rank

    def changed(result: Any) -> None:
        mine.add_(100)  # the caller's own tensor, once the call has returned

    peer = 1 - session.rank
    changed(comm.send(mine, peer))
    changed(comm.recv(mine, peer))
    changed(comm.isend(mine, peer))
    changed(comm.recv(mine, peer))
    changed(comm.all_reduce(mine))
    changed(comm.reduce(mine, 0))
    changed(comm.gather(mine, 0))
    changed(comm.all_gather(mine))
    changed(comm.scatter([mine, mine], 1))
    changed(comm.broadcast(mine, 0))
    comm.broadcast_obj({"a": [1, 2.5]}, 1)


@pytest.mark.parametrize("program", [everything, collectives])
def test_no_buffer_is_written_to_after_it_was_sent(program: Any) -> None:
    watched: dict[int, Watched] = {}

    def party(transport: Transport) -> None:
        watched[transport.rank] = Watched(transport)
        session = mpcpriv.engine.join(watched[transport.rank])
        program(session)
        session.close()

    def dealer(transport: Transport) -> int:
        watched[transport.rank] = Watched(transport)
        return mpcpriv.engine.deal(watched[transport.rank])

    results, failed = outcomes([party, party, dealer])
    assert not failed, results[failed[0]]
    for rank, transport in watched.items():
        changed = sum(bytes(part) != was for part, was in transport.kept)
        assert not changed, f"rank {rank} changed {changed} of {len(transport.kept)} buffers"
