"""CrypTen's collectives of public tensors and objects: typed, bounded, and one round each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import ReduceOp

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, Unsupported, UsageError
from tests.protocol.parties import NAMES, failures, run

mpcpriv.engine.activate()

import crypten  # noqa: E402

PARTIES = pytest.mark.parametrize("n", [2, 3, 5])
INTEGERS = [torch.tensor([[1, -2], [3, 1 << 62]]) * (k + 1) for k in range(5)]


def at(n: int, action: Any) -> list[Any]:
    def program(session: Session) -> Any:
        crypten.init()
        return action(crypten.communicator.get(), session.rank)

    return run(n, program)


@PARTIES
def test_who_is_who(n: int) -> None:
    def action(comm: Any, rank: int) -> Any:
        before = comm.get_name()
        comm.set_name("somebody")
        assert crypten.is_initialized()
        return comm.get_rank(), comm.get_world_size(), before, comm.get_name(), comm.get_distributed_backend()

    assert at(n, action) == [(rank, n, NAMES[rank], "somebody", "mpcpriv") for rank in range(n)]


@PARTIES
def test_all_reduce(n: int) -> None:
    total, xor = torch.stack(INTEGERS[:n]).sum(0), torch.zeros(2, 2).long()
    for tensor in INTEGERS[:n]:
        xor ^= tensor

    def action(comm: Any, rank: int) -> Any:
        mine = INTEGERS[rank].clone()
        batch = comm.all_reduce([mine, mine[:1] * 2], batched=True)
        results = comm.all_reduce(mine), comm.all_reduce(mine, op=ReduceOp.BXOR), *batch
        assert torch.equal(mine, INTEGERS[rank])
        return results

    for summed, xored, first, second in at(n, action):
        assert torch.equal(summed, total)
        assert torch.equal(xored, xor)
        assert torch.equal(first, total)
        assert torch.equal(second, total[:1] * 2)


@PARTIES
@pytest.mark.parametrize("dst", [0, 1])
def test_reduce_reaches_one_party(n: int, dst: int) -> None:
    total = torch.stack(INTEGERS[:n]).sum(0)

    def action(comm: Any, rank: int) -> Any:
        mine = INTEGERS[rank]
        return (
            comm.reduce(mine, dst),
            comm.reduce([mine, mine + 1], dst, batched=True),
            comm.reduce(mine ^ mine, dst, op=ReduceOp.BXOR),
        )

    for rank, (one, batch, nothing) in enumerate(at(n, action)):
        if rank == dst:
            assert torch.equal(one, total)
            assert torch.equal(batch[1], total + n)
            assert not bool(nothing.any())
        else:
            assert (one, batch, nothing) == (None, None, None)


@PARTIES
def test_gather_and_all_gather_and_scatter(n: int) -> None:
    def action(comm: Any, rank: int) -> Any:
        mine = INTEGERS[rank]
        gathered, everywhere = comm.gather(mine, 1), comm.all_gather(mine.float())
        part = comm.scatter([t + 1 for t in INTEGERS[:n]] if rank == 0 else [], 0, size=(2, 2))
        return gathered, everywhere, part

    for rank, (gathered, everywhere, part) in enumerate(at(n, action)):
        assert torch.equal(part, INTEGERS[rank] + 1)
        assert all(torch.equal(got, sent.float()) for got, sent in zip(everywhere, INTEGERS, strict=False))
        assert len(everywhere) == n
        if rank == 1:
            assert all(torch.equal(got, sent) for got, sent in zip(gathered, INTEGERS[:n], strict=True))
        else:
            assert gathered == [None]


@PARTIES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_broadcast(n: int, dtype: torch.dtype) -> None:
    given = torch.tensor([0, 1, 2]).to(dtype)

    def action(comm: Any, rank: int) -> Any:
        one = given.clone() if rank == 1 else torch.zeros(3, dtype=dtype)
        two = [given.clone() if rank == 1 else torch.zeros(3, dtype=dtype) for _ in range(2)]
        return comm.broadcast(one, 1), one, *comm.broadcast(two, 1, batched=True)

    for result in at(n, action):
        assert all(torch.equal(tensor, given) for tensor in result)


def test_send_and_receive() -> None:
    def action(comm: Any, rank: int) -> Any:
        if rank == 0:
            comm.send(torch.arange(3), 2)
            comm.isend(torch.arange(3) * 2, 2).wait()
            comm.isend(torch.empty(0), 2)
            return None
        if rank == 1:
            return None
        buffer = torch.zeros(3).long()
        first = comm.recv(buffer, 0)
        assert not bool(buffer.any())
        request = comm.irecv(buffer, 0)
        request.wait()
        return first, buffer, comm.recv(torch.empty(0), 0)

    first, second, empty = at(3, action)[2]
    assert first.tolist() == [0, 1, 2]
    assert second.tolist() == [0, 2, 4]
    assert empty.numel() == 0


OBJECTS = [
    None,
    True,
    -5,
    2.5,
    "text",
    b"bytes",
    [1, [2.0, "x"]],
    (1, (None,)),
    {"a": [1], 2: (3,)},
    torch.Size([2, 3]),
    "x" * 100_000,
]


@PARTIES
def test_objects_travel(n: int) -> None:
    def action(comm: Any, rank: int) -> Any:
        results = [comm.broadcast_obj(value if rank == 1 else None, 1) for value in OBJECTS]
        if rank == 0:
            comm.send_obj({"w": torch.ones(2), "n": np.arange(3)}, 1)
        return results, comm.recv_obj(0) if rank == 1 else None

    results = at(n, action)
    assert all(objects == OBJECTS for objects, _ in results)
    received = results[1][1]
    assert torch.equal(received["w"], torch.ones(2))
    assert received["n"].tolist() == [0, 1, 2]


def test_a_barrier_waits_for_all_and_costs_one_round() -> None:
    def action(comm: Any, rank: int) -> Any:
        comm.reset_communication_stats()
        comm.barrier()
        comm.barrier()
        return comm.get_communication_stats()

    for stats in at(3, action):
        assert stats["rounds"] == 2
        assert stats["bytes"] == 2 * 2 * 2 * 64
        assert stats["time"] >= 0
        assert set(stats) == {"rounds", "bytes", "time"}


def test_statistics_count_what_a_product_costs() -> None:
    def action(comm: Any, rank: int) -> Any:
        x, y = crypten.cryptensor(torch.ones(100), src=0), crypten.cryptensor(torch.ones(100), src=1)
        crypten.reset_communication_stats()
        x * y
        return comm.get_communication_stats()

    for stats in at(2, action):
        assert stats["rounds"] == 2
        # Two operands and one truncation, 800 bytes each, both ways, and their headers.
        assert 2 * 3 * 800 < stats["bytes"] <= 2 * 3 * 800 + 4 * 128


class Executed:
    def __reduce__(self) -> Any:
        raise AssertionError("pickled")


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "an object of a class": (
        lambda comm: comm.broadcast_obj(Executed(), comm.get_rank()),
        UsageError,
        "Executed",
    ),
    "a function": (lambda comm: comm.send_obj(print, 1 - comm.get_rank()), UsageError, "does not travel"),
    "a set": (lambda comm: comm.broadcast_obj({1}, comm.get_rank()), UsageError, "set"),
    "a maximum": (lambda comm: comm.all_reduce(torch.ones(1), op=ReduceOp.MAX), Unsupported, "SUM and BXOR"),
    "a reduction of floats to one": (lambda comm: comm.reduce(torch.ones(1), 0), Unsupported, "int64"),
    "a batch that is none": (lambda comm: comm.all_reduce(torch.ones(1), batched=True), UsageError, "list"),
    "receiving from anybody": (lambda comm: comm.recv(torch.ones(1)), Unsupported, "src="),
    "sending to the dealer": (lambda comm: comm.send(torch.ones(1), 2), UsageError, "ranks 0 to 1"),
    "sending an object to the dealer": (lambda comm: comm.send_obj(1, 2), UsageError, "ranks 0 to 1"),
    "a broadcast of nobody's": (lambda comm: comm.broadcast_obj(1, -1), UsageError, "ranks 0 to 1"),
    "a name that is no text": (lambda comm: comm.set_name(3), UsageError, "text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_travel_is_refused_at_home(name: str) -> None:
    action, kind, why = REFUSED[name]
    with pytest.raises(kind, match=why):
        at(2, lambda comm, _: action(comm))


def test_another_shape_or_type_at_the_other_end_is_told() -> None:
    def sends(session: Session) -> None:
        crypten.init()
        crypten.communicator.get().send(torch.ones(3), 1)
        crypten.communicator.get().barrier()

    for like in (torch.ones(4), torch.ones(3, dtype=torch.float64)):

        def receives(session: Session, like: torch.Tensor = like) -> None:
            crypten.init()
            crypten.communicator.get().recv(like, 0)

        error = failures([sends, receives])[1]
        assert isinstance(error, Desynchronised)
        assert "send float32[3]" in str(error)


def test_an_announced_length_is_checked_before_memory_is_taken() -> None:
    for length in (0, -1, 1 << 40):

        def announces(session: Session, length: int = length) -> None:
            like = [torch.tensor([length])]
            session.exchange("object: length", {1: like}, [], like=like, joint=False)
            session.transport.recv(1)

        def receives(session: Session) -> None:
            crypten.init()
            crypten.communicator.get().recv_obj(0)

        error = failures([announces, receives])[1]
        assert isinstance(error, Desynchronised)
        assert f"{length} bytes" in str(error)


def test_malformed_bytes_of_an_object_are_refused() -> None:
    def sends(session: Session) -> None:
        data = [torch.full((9,), 255, dtype=torch.uint8)]
        session.exchange(
            "object: length", {1: [torch.tensor([9])]}, [], like=[torch.tensor([9])], joint=False
        )
        session.exchange("object", {1: data}, [], like=data, joint=False)
        session.transport.recv(1)

    def receives(session: Session) -> None:
        crypten.init()
        crypten.communicator.get().recv_obj(0)

    assert isinstance(failures([sends, receives])[1], UsageError)


def test_everyone_sends_before_anyone_receives() -> None:
    """No order of messages between pairs can block: all send to all, many times."""

    def action(comm: Any, rank: int) -> int:
        total = 0
        for _ in range(20):
            for peer in range(4):
                if peer != rank:
                    comm.send(torch.tensor([rank]), peer)
            total += sum(int(comm.recv(torch.tensor([0]), peer)) for peer in range(4) if peer != rank)
        return total

    for rank, total in enumerate(at(4, action)):
        assert total == 20 * sum(peer for peer in range(4) if peer != rank)
