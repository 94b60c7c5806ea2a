"""What the parties of a cluster compare before they compute."""

from __future__ import annotations

import threading

import pytest

from mpcpriv.errors import FrameRefused, PeerRefused
from mpcpriv.party.member import compare_programs
from mpcpriv.transport.memory import MemoryHub

OURS, OTHER = bytes(32), bytes([1] * 32)


def compared(*digests: bytes) -> list[Exception | None]:
    """What each party raises, of which each has one digest; a dealer, the last member, has none."""
    hub = MemoryHub(["alice", "bob", "carol", "dealer"])
    raised: list[Exception | None] = [None] * len(digests)

    def compare(rank: int) -> None:
        try:
            compare_programs(hub.endpoints[rank], digests[rank])
        except (PeerRefused, FrameRefused) as error:
            raised[rank] = error

    threads = [threading.Thread(target=compare, args=(rank,)) for rank in range(len(digests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_the_same_program_is_nobodys_concern() -> None:
    assert compared(OURS, OURS, OURS) == [None, None, None]


@pytest.mark.parametrize("rank", range(3))
def test_another_program_is_refused_by_name(rank: int) -> None:
    digests = [OURS] * 3
    digests[rank] = OTHER
    name = ("alice", "bob", "carol")[rank]
    raised = compared(*digests)
    assert isinstance(raised[rank], PeerRefused), "to it the others' is another"
    for other in {0, 1, 2} - {rank}:
        assert f"{name} runs another program than we do: program {OTHER.hex()[:16]}..." in str(raised[other])


def test_what_is_no_digest_is_refused() -> None:
    alice, *_ = compared(OURS, OURS, b"short")
    assert isinstance(alice, FrameRefused)
    assert "carol sent 5 bytes" in str(alice)
