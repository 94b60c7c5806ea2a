"""CrypTen's `Communicator` over this thread's session: collectives of public tensors and objects.

CrypTen programs ask it for rank and world size, and send public things with it. Each collective is
one round: everyone who sends does so to everyone who receives, at once. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from crypten.communicator.communicator import Communicator as CrypTenCommunicator
from torch.distributed import ReduceOp

from mpcpriv.engine import objects, session
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, Unsupported, UsageError

Tensors = torch.Tensor | list[torch.Tensor]


class Request:
    """A transfer that was started; `wait` completes it."""

    def __init__(self, finish: Any) -> None:
        self._finish = finish

    def wait(self) -> None:
        """Returns when the transfer is complete."""
        self._finish()


class Communicator(CrypTenCommunicator):  # type: ignore[misc]
    """What `crypten.communicator.get()` returns; `crypten.init()` makes it."""

    BYTES_PER_ELEMENT: ClassVar[int] = 8

    def __init__(self, s: Session) -> None:
        self.session = s
        self._name = str(s.parties[s.rank])
        self.reset_communication_stats()

    @classmethod
    def is_initialized(cls) -> bool:
        """Whether `crypten.init()` was called in this thread's session."""
        return session.joined() and getattr(session.current(), "communicator", None) is not None

    @classmethod
    def get(cls) -> Communicator:
        """This thread's communicator; made on first use."""
        s = session.current()
        if s.communicator is None:
            s.communicator = cls(s)
        return s.communicator  # type: ignore[no-any-return]

    @classmethod
    def initialize(cls, rank: int = 0, world_size: int = 1, init_ttp: bool = False) -> None:
        """Called by `crypten.init()`; ranks come from the session, so the arguments are ignored.

        Raises:
            UsageError: the program was not launched, so there are no parties.
        """
        cls.get()

    @classmethod
    def shutdown(cls) -> None:
        """Called by `crypten.uninit()`; the session itself ends when the program does."""
        session.current().communicator = None

    def get_rank(self) -> int:
        """This party's rank."""
        return self.session.rank

    def get_world_size(self) -> int:
        """The number of parties."""
        return self.session.size

    def get_ttp_rank(self) -> int:
        """Raises `Unsupported`: the dealer takes no requests from programs."""
        raise Unsupported("the dealer takes typed requests from the engine only, none from programs")

    def get_distributed_backend(self) -> str:
        """The name of the transport."""
        return "mpcpriv"

    def get_name(self) -> str:
        """This party's name."""
        return self._name

    def set_name(self, name: str) -> None:
        """Changes what `get_name` returns, and nothing else."""
        if not isinstance(name, str):
            raise UsageError(f"a party's name is text, not {type(name).__name__}")
        self._name = name

    def send(self, tensor: torch.Tensor, dst: int) -> None:
        """Sends a public tensor to one party."""
        t = _own(tensor)
        self._peer(dst)
        self.session.exchange("send", {dst: [t]}, [], like=[t], joint=False)

    def recv(self, tensor: torch.Tensor, src: int | None = None) -> torch.Tensor:
        """Receives a tensor like `tensor` from one party; `tensor` itself is left alone."""
        if src is None:
            raise Unsupported("recv from anyone: name the sender with src=")
        self._peer(src)
        like = [tensor]
        return self.session.exchange("send", {}, [src], like=like, joint=False)[src][0].clone()

    def isend(self, tensor: torch.Tensor, dst: int) -> Request:
        """As `send`, which never waits."""
        self.send(tensor, dst)
        return Request(lambda: None)

    def irecv(self, tensor: torch.Tensor, src: int | None = None) -> Request:
        """Receives into `tensor` when waited for."""
        return Request(lambda: tensor.copy_(self.recv(tensor, src)))

    def all_reduce(self, input: Tensors, op: Any = ReduceOp.SUM, batched: bool = False) -> Tensors:
        """The sum (or XOR) of everybody's int64 tensors, at everybody, who learns nothing else.

        Raises:
            Unsupported: another reduction or dtype.
        """
        everybody = list(range(self.session.size))
        return self._reduce("all_reduce", input, everybody, op, batched)  # type: ignore[return-value]

    def reduce(
        self, input: Tensors, dst: int, op: Any = ReduceOp.SUM, batched: bool = False
    ) -> Tensors | None:
        """The sum (or XOR) of everybody's int64 tensors at `dst`, who learns nothing else; None elsewhere.

        Raises:
            Unsupported: another reduction or dtype.
        """
        self._peer(dst)
        return self._reduce(f"reduce to {self.session.parties[dst]}", input, [dst], op, batched)

    def _reduce(
        self, operation: str, input: Tensors, recipients: list[int], op: Any, batched: bool
    ) -> Tensors | None:
        group = self._group(op)
        tensors = self._list(input, batched)
        for t in tensors:
            if t.dtype != torch.int64:
                raise Unsupported(
                    f"{operation} of {t.dtype}: int64 only, whose terms can be masked; share others with "
                    "crypten.cryptensor and open their sum"
                )
        results = [self.session.open_to(operation, t, recipients, group) for t in tensors]
        if self.session.rank not in recipients:
            return None
        return results if batched else results[0]  # type: ignore[return-value]

    def gather(self, tensor: torch.Tensor, dst: int) -> list[torch.Tensor | None]:
        """Everybody's tensor in clear, by rank, at `dst`; `[None]` elsewhere."""
        self._peer(dst)
        mine = self.session.rank == dst
        t = _own(tensor)
        others = self._others()
        got = self.session.exchange("gather", {} if mine else {dst: [t]}, others if mine else [], like=[t])
        if not mine:
            return [None]
        return [got[r][0].clone() if r in got else t.clone() for r in range(self.session.size)]

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Everybody's tensor in clear, by rank, at everybody."""
        t = _own(tensor)
        got = self.session.exchange("all_gather", self._to_others([t]), self._others(), like=[t])
        return [got[r][0].clone() if r in got else t.clone() for r in range(self.session.size)]

    def scatter(
        self, scatter_list: Sequence[torch.Tensor], src: int, size: Any = None, device: Any = None
    ) -> torch.Tensor:
        """Gives each party its tensor of the list that `src` holds; all are of one shape."""
        self._peer(src)
        if self.session.rank == src:
            tensors = [_own(t) for t in scatter_list]
            if any(t.shape != tensors[0].shape or t.dtype != tensors[0].dtype for t in tensors):
                raise UsageError("scatter: all tensors need one shape and dtype")
            out = {r: [tensors[r]] for r in self._others()}
            self.session.exchange("scatter", out, [], like=tensors[:1])
            return tensors[src].clone()
        shape = tuple(size) if size is not None else tuple(scatter_list[self.session.rank].shape)
        like = [torch.empty(shape, dtype=torch.int64)]
        return self.session.exchange("scatter", {}, [src], like=like)[src][0].clone()

    def broadcast(self, input: Tensors, src: int, group: Any = None, batched: bool = False) -> Tensors:
        """The tensors of `src` in clear, at everybody."""
        self._peer(src)
        tensors = [_own(t) for t in self._list(input, batched)]
        if self.session.rank == src:
            self.session.exchange("broadcast", self._to_others(tensors), [], like=tensors)
            return input
        got = self.session.exchange("broadcast", {}, [src], like=tensors)[src]
        for tensor, piece in zip(self._list(input, batched), got, strict=True):
            tensor.copy_(piece)
        return input

    def barrier(self) -> None:
        """Returns when every party has come here."""
        self.session.exchange("barrier", self._to_others([]), self._others(), like=[])

    def send_obj(self, obj: Any, dst: int, group: Any = None) -> None:
        """Sends a public object of one of the types of `engine.objects`.

        Raises:
            UsageError: another type.
        """
        self._peer(dst)
        self._send_object(obj, [dst], joint=False)

    def recv_obj(self, src: int, group: Any = None) -> Any:
        """Receives a public object from one party."""
        self._peer(src)
        return self._receive_object(src, joint=False)

    def broadcast_obj(self, obj: Any, src: int, group: Any = None) -> Any:
        """The object of `src`, at everybody.

        Raises:
            UsageError: a type that does not travel.
        """
        self._peer(src)
        if self.session.rank == src:
            self._send_object(obj, self._others(), joint=True)
            return obj
        return self._receive_object(src, joint=True)

    def reset_communication_stats(self) -> None:
        """Counts from here."""
        cost = self.session.cost
        self._since = (cost.rounds, cost.sent + cost.received, cost.waited)

    def get_communication_stats(self) -> dict[str, float]:
        """Rounds, bytes sent and received by this party, and seconds spent waiting, since the last reset."""
        cost = self.session.cost
        rounds, sent_and_received, waited = self._since
        return {
            "rounds": cost.rounds - rounds,
            "bytes": cost.sent + cost.received - sent_and_received,
            "time": cost.waited - waited,
        }

    def print_communication_stats(self) -> None:
        """Logs the statistics at the first party, as CrypTen does."""
        import crypten

        stats = self.get_communication_stats()
        crypten.log("====Communication Stats====")
        crypten.log(f"Rounds: {stats['rounds']}")
        crypten.log(f"Bytes: {stats['bytes']}")
        crypten.log(f"Communication time: {stats['time']}")

    def _send_object(self, obj: Any, to: list[int], *, joint: bool) -> None:
        data = torch.frombuffer(bytearray(objects.encode(obj)), dtype=torch.uint8)
        length = torch.tensor([data.numel()])
        self.session.exchange("object: length", dict.fromkeys(to, [length]), [], like=[length], joint=joint)
        self.session.exchange("object", dict.fromkeys(to, [data]), [], like=[data], joint=joint)

    def _receive_object(self, src: int, *, joint: bool) -> Any:
        like = [torch.empty(1, dtype=torch.int64)]
        length = int(self.session.exchange("object: length", {}, [src], like=like, joint=joint)[src][0])
        name = self.session.parties[src]
        if not 0 < length <= self.session.transport.limits.message:
            raise Desynchronised(name, f"{name} announces an object of {length} bytes")
        # On the meta device a shape takes no memory: what arrives does, what is announced does not.
        like = [torch.empty(length, dtype=torch.uint8, device="meta")]
        (data,) = self.session.exchange("object", {}, [src], like=like, joint=joint)[src]
        return objects.decode(data.numpy().tobytes())

    def _others(self) -> list[int]:
        return [rank for rank in range(self.session.size) if rank != self.session.rank]

    def _to_others(self, tensors: list[torch.Tensor]) -> dict[int, list[torch.Tensor]]:
        return dict.fromkeys(self._others(), tensors)

    def _peer(self, rank: int) -> None:
        if not 0 <= rank < self.session.size:
            raise UsageError(f"party {rank!r}: the parties have ranks 0 to {self.session.size - 1}")

    @staticmethod
    def _list(input: Tensors, batched: bool) -> list[torch.Tensor]:
        if batched and not isinstance(input, list):
            raise UsageError("a batched collective takes a list of tensors")
        return input if isinstance(input, list) else [input]

    @staticmethod
    def _group(op: Any) -> Any:
        if op == ReduceOp.SUM:
            return "sum"
        if op == ReduceOp.BXOR:
            return "xor"
        raise Unsupported(f"reduction with {op}: SUM and BXOR are offered")


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A copy to send: the program may change its tensor while ours is still on its way."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
