"""The in-process transport keeps the contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from mpcpriv.errors import FrameRefused, PeerAborted, PeerGone, UsageError
from mpcpriv.transport.base import Limits, Transport
from mpcpriv.transport.memory import MemoryHub
from tests.contracts.transport_contract import TransportContract


class TestMemoryTransport(TransportContract):
    def connect(self, names: Sequence[str], limits: Limits) -> Sequence[Transport]:
        return MemoryHub(names, limits=limits).endpoints


def test_one_that_vanishes_is_gone_for_all() -> None:
    a, b, c = MemoryHub(("alice", "bob", "carol")).endpoints
    b.vanish()
    for other in (a, c):
        with pytest.raises((PeerGone, PeerAborted), match="bob is gone") as caught:
            other.recv(1)
        assert caught.value.peer == "bob"


def test_a_tap_sees_and_changes_packets() -> None:
    seen: list[tuple[int, int, int]] = []

    def twice(sender: int, receiver: int, packet: bytes) -> Iterable[bytes]:
        seen.append((sender, receiver, len(packet)))
        return (packet, packet)

    a, b = MemoryHub(("alice", "bob"), tap=twice).endpoints
    a.send(1, b"x")
    with pytest.raises(FrameRefused, match=r"alice sent a bad frame .*replayed"):
        _read_all(b, 0)
    assert seen[0][:2] == (0, 1)
    # The offender is told, too.
    with pytest.raises(PeerAborted, match="bob stopped because of alice"):
        a.recv(1)


def _read_all(transport: Transport, src: int) -> None:
    while True:
        transport.recv(src)


@pytest.mark.parametrize("names", [(), ("alice",), ("alice", "alice"), ("Alice", "bob")])
def test_members_must_make_sense(names: Sequence[str]) -> None:
    with pytest.raises(UsageError):
        MemoryHub(names)


@pytest.mark.parametrize(
    "limits", [Limits(chunk=0), Limits(chunk=5 << 20), Limits(wait=0), Limits(message=0)]
)
def test_limits_must_make_sense(limits: Limits) -> None:
    with pytest.raises(UsageError, match="limits"):
        MemoryHub(("alice", "bob"), limits=limits)
