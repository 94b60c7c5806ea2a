"""What every transport promises, as tests; each implementation inherits them and says how it connects."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import pytest

from mpcpriv.errors import PeerAborted, PeerError, PeerFinished, PeerLate, UsageError
from mpcpriv.transport.base import Limits, Transport

QUICK = Limits(message=1 << 20, chunk=1000, inbox=64 << 10, connect=20.0, wait=20.0)
SOON = 10.0  # seconds; far above what anything here takes


class TransportContract(ABC):
    @abstractmethod
    def connect(self, names: Sequence[str], limits: Limits) -> Sequence[Transport]:
        """Connected transports, by rank."""

    @pytest.fixture
    def trio(self) -> Iterator[Sequence[Transport]]:
        transports = self.connect(("alice", "bob", "carol"), QUICK)
        yield transports
        _abort_all(transports)

    @pytest.fixture
    def pair(self, trio: Sequence[Transport]) -> tuple[Transport, Transport]:
        return trio[0], trio[1]

    def test_knows_the_members_and_its_own_rank(self, trio: Sequence[Transport]) -> None:
        assert [transport.members for transport in trio] == [("alice", "bob", "carol")] * 3
        assert [(transport.rank, transport.name) for transport in trio] == [
            (0, "alice"),
            (1, "bob"),
            (2, "carol"),
        ]
        assert all(transport.limits == QUICK for transport in trio)

    def test_messages_arrive_in_order_each_once(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        for number in range(200):
            a.send(1, number.to_bytes(2, "little"))
        assert [int.from_bytes(b.recv(0), "little") for _ in range(200)] == list(range(200))

    @pytest.mark.parametrize("length", [0, 1, 999, 1000, 1001, 2000, 54_321, 1 << 20])
    def test_a_message_of_any_length_arrives_whole(
        self, pair: tuple[Transport, Transport], length: int
    ) -> None:
        a, b = pair
        message = bytes(number * 31 % 251 for number in range(length))
        a.send(1, message)
        b.send(0, message)
        assert bytes(b.recv(0)) == message
        assert bytes(a.recv(1)) == message

    def test_parts_are_joined_whatever_their_type(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        numbers = memoryview(bytes(range(24))).cast("q", (3, 1))
        nothing = memoryview(b"").cast("B")
        a.send(1, b"ab", bytearray(b"cd"), b"", nothing, numbers, memoryview(b"xyz" * 700)[3:])
        assert bytes(b.recv(0)) == b"abcd" + bytes(range(24)) + b"xyz" * 699
        a.send(1)
        assert len(b.recv(0)) == 0

    def test_a_received_message_is_the_receivers_to_write(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        for length in (5, 5000):
            a.send(1, bytes(length))
            message = b.recv(0)
            assert not message.readonly
            assert message.format == "B"
            message[0] = 7

    def test_peers_do_not_mix(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        for number in range(50):
            b.send(0, b"b%d" % number)
            c.send(0, b"c%d" % number)
        assert [bytes(a.recv(2)) for _ in range(50)] == [b"c%d" % number for number in range(50)]
        assert [bytes(a.recv(1)) for _ in range(50)] == [b"b%d" % number for number in range(50)]

    def test_all_send_to_all_at_once(self, trio: Sequence[Transport]) -> None:
        body = bytes(300_000)
        faults: list[BaseException] = []

        def run(me: Transport) -> None:
            try:
                others = [rank for rank in range(3) if rank != me.rank]
                for _ in range(3):
                    for other in others:
                        me.send(other, bytes((me.rank,)), body)
                    for other in others:
                        message = me.recv(other)
                        assert (message[0], len(message)) == (other, len(body) + 1)
            except BaseException as error:
                faults.append(error)
                raise

        _in_parallel([lambda me=me: run(me) for me in trio])
        assert not faults

    def test_recv_waits_for_a_message(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        timer = threading.Timer(0.2, a.send, (1, b"late"))
        timer.start()
        assert bytes(b.recv(0)) == b"late"

    def test_empty_messages_fill_an_inbox_too(self, pair: tuple[Transport, Transport]) -> None:
        here, there = pair
        count = 4 * QUICK.inbox // 512
        for _ in range(count):
            here.send(there.rank, b"")
        there.recv(here.rank)
        time.sleep(1)  # whoever does not count them has taken them all in by now
        assert there.traffic(here.rank).messages_received <= QUICK.inbox // 512 + 2
        for _ in range(count - 1):
            assert len(there.recv(here.rank)) == 0

    def test_more_than_the_inbox_holds_waits_for_the_reader(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        for number in range(400):  # 400 kB against an inbox of 64
            a.send(1, number.to_bytes(2, "little"), bytes(998))
        time.sleep(0.3)
        assert b.traffic(0).messages_received < 400
        for number in range(400):
            assert int.from_bytes(b.recv(0)[:2], "little") == number

    def test_what_was_sent_before_close_is_delivered(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        for number in range(300):
            a.send(1, number.to_bytes(2, "little"), bytes(998))
        closing = threading.Thread(target=a.close)
        closing.start()
        for number in range(300):
            assert int.from_bytes(b.recv(0)[:2], "little") == number
        with pytest.raises(PeerFinished, match="alice") as caught:
            b.recv(0)
        assert caught.value.peer == "alice"
        closing.join(SOON)
        assert not closing.is_alive()

    def test_one_that_finished_harms_only_those_who_expect_something(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        a.close()
        with pytest.raises(PeerFinished):
            b.recv(0)
        b.send(0, b"nobody reads this")
        b.send(2, b"still here")
        assert bytes(c.recv(1)) == b"still here"

    def test_all_close_at_once(self, trio: Sequence[Transport]) -> None:
        began = time.monotonic()
        _in_parallel([transport.close for transport in trio])
        assert time.monotonic() - began < SOON

    def test_close_and_abort_again_do_nothing(self, pair: tuple[Transport, Transport]) -> None:
        a, _ = pair
        a.close()
        a.close()
        a.abort("too late")

    def test_abort_reaches_everyone_with_its_reason(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        b.abort("the data are\nnot there")
        for other in (a, c):
            with pytest.raises(
                PeerAborted, match=r"^\w+ stopped( because of bob)?: the data are not there$"
            ) as caught:
                other.recv(1)
            assert caught.value.peer == "bob"

    def test_abort_wakes_who_waits_for_another(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        threading.Timer(0.2, b.abort, ("enough",)).start()
        began = time.monotonic()
        with pytest.raises(PeerAborted, match=r"bob.*: enough"):
            a.recv(2)
        assert time.monotonic() - began < SOON
        with pytest.raises(PeerAborted, match=r"bob.*: enough"):
            c.recv(0)
        with pytest.raises(PeerAborted, match=r"bob.*: enough"):
            c.send(0, b"x")

    def test_after_a_failure_send_and_recv_raise_the_same(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        a.send(1, b"unread")
        a.abort("done for")
        for _ in range(3):
            with pytest.raises(PeerAborted, match="done for"):
                b.recv(2)
            with pytest.raises(PeerAborted, match="done for"):
                b.send(2, b"x")

    def test_abort_overtakes_a_long_queue(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        for _ in range(50):
            a.send(1, bytes(1 << 20))
        a.abort("changed my mind")
        with pytest.raises(PeerAborted, match=r"alice.*: changed my mind"):
            _read_all(b, 0)

    def test_the_first_cause_is_passed_on(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        a.abort("alice's disk is full")
        with pytest.raises(PeerAborted):
            b.recv(0)
        b.abort("because of alice")
        with pytest.raises(PeerAborted, match="alice's disk is full") as caught:
            c.recv(1)
        assert caught.value.peer == "alice"

    def test_a_silent_peer_is_late_and_blamed(self) -> None:
        transports = self.connect(("alice", "bob", "carol"), Limits(wait=0.2))
        a, b, _ = transports
        try:
            with pytest.raises(PeerLate, match="carol") as caught:
                a.recv(2)
            assert caught.value.peer == "carol"
            b.send(0, b"others go on")
            assert bytes(a.recv(1)) == b"others go on"
            a.abort(str(caught.value))
            with pytest.raises(PeerAborted, match=r"stopped.*: carol is connected but sent nothing") as told:
                b.recv(2)
            assert told.value.peer == "carol"
        finally:
            _abort_all(transports)

    def test_an_oversize_message_is_refused_before_it_leaves(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        with pytest.raises(UsageError, match="1048577"):
            a.send(1, bytes(1 << 20), b"x")
        a.send(1, b"fine")
        assert bytes(b.recv(0)) == b"fine"

    def test_traffic_agrees_on_both_sides(self, trio: Sequence[Transport]) -> None:
        a, b, c = trio
        lengths = (0, 1, 127, 128, 900, 1000, 1001, 16_500, 100_000)
        for length in lengths:
            a.send(1, bytes(length))
        c.send(1, b"other")
        for length in lengths:
            assert len(b.recv(0)) == length
        b.recv(2)
        sent, received = a.traffic(1), b.traffic(0)
        assert (sent.messages_sent, sent.bytes_sent) == (received.messages_received, received.bytes_received)
        assert sent.messages_sent == len(lengths)
        assert sum(lengths) < sent.bytes_sent < sum(lengths) + 100 * (len(lengths) + sum(lengths) // 1000 + 1)
        assert (sent.messages_received, sent.bytes_received) == (0, 0)
        assert b.traffic(2).messages_received == 1
        sent.messages_sent = 99  # a copy
        assert a.traffic(1).messages_sent == len(lengths)

    @pytest.mark.parametrize("rank", [0, 3, -1])
    def test_no_message_to_oneself_or_to_nobody(self, pair: tuple[Transport, Transport], rank: int) -> None:
        a, _ = pair
        for use in (lambda: a.send(rank, b"x"), lambda: a.recv(rank), lambda: a.traffic(rank)):
            with pytest.raises(UsageError, match=f"rank {rank}"):
                use()

    def test_a_scattered_part_is_refused(self, pair: tuple[Transport, Transport]) -> None:
        a, _ = pair
        with pytest.raises(UsageError, match="one piece"):
            a.send(1, memoryview(bytes(10))[::2])

    def test_a_closed_transport_is_not_used(self, pair: tuple[Transport, Transport]) -> None:
        a, _ = pair
        a.close()
        for use in (lambda: a.send(1, b"x"), lambda: a.recv(1)):
            with pytest.raises(UsageError, match="closed"):
                use()

    def test_errors_and_reprs_hold_no_payload(self, pair: tuple[Transport, Transport]) -> None:
        a, b = pair
        secret = b"5ec4e7-share"
        a.send(1, secret)
        a.abort("over")
        with pytest.raises(PeerError) as caught:
            b.recv(2)
        assert "5ec4e7" not in repr((a, b, caught.value, caught.value.__cause__, caught.value.__context__))


def _read_all(transport: Transport, src: int) -> None:
    while True:
        transport.recv(src)


def _in_parallel(calls: Sequence[object]) -> None:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def _abort_all(transports: Sequence[Transport]) -> None:
    _in_parallel([lambda one=one: one.abort("the test is over") for one in transports])
