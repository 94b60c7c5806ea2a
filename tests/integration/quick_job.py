"""A job for daemons to run that needs no engine: each party sends a number to the others, in the clear."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpcpriv.documents import Document
from mpcpriv.engine.loop import Progress, Watcher
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.records import Share
from mpcpriv.release.share import SALT_BYTES, Layout
from mpcpriv.transport.base import Transport


class Sum(Document):
    total: int


@dataclass(frozen=True)
class QuickJob:
    number: int
    seconds: float
    mebibytes: int = 0

    def watch(self, watcher: Watcher) -> None:
        object.__setattr__(self, "_watcher", watcher)

    def load(self) -> None:
        pass

    def run(self, transport: Transport) -> object:
        bytearray(self.mebibytes << 20)
        last = len(transport.members) - 1
        others = [rank for rank in range(last) if rank != transport.rank]
        total = self.number
        began = time.monotonic()
        loop = Progress("sums", 1000)
        while True:
            loop.done += 1
            self._watcher((loop,))  # type: ignore[attr-defined]
            for rank in others:
                transport.send(rank, self.number.to_bytes(8))
            total = self.number + sum(int.from_bytes(transport.recv(rank)) for rank in others)
            # One party's clock for all: they stop in the same round.
            if transport.rank == 0:
                over = time.monotonic() - began > self.seconds
                for rank in others:
                    transport.send(rank, bytes([over]))
            else:
                over = bool(transport.recv(0)[0])
            if over:
                break
            time.sleep(0.02)
        transport.send(last, b"bye")
        transport.close()
        assert total >= self.number
        return RunReport(
            rows={},
            layout=(Layout(name="total", size=1, bits=0),),
            share=bytes(SALT_BYTES) + self.number.to_bytes(8, "little"),
            transcript="0" * 64,
            input_digest="0" * 64,
            input_salt="",
            rounds=1,
            sent=8,
            dealt=0,
            seconds=0.0,
        )


def read(shares: Mapping[str, Share]) -> Sum:
    return Sum(total=sum(int.from_bytes(share.read()[SALT_BYTES:], "little") for share in shares.values()))


@dataclass(frozen=True)
class QuickDealer:
    def load(self) -> None:
        pass

    def run(self, transport: Transport) -> object:
        for rank in range(len(transport.members) - 1):
            transport.recv(rank)
        transport.close()
        return None


def number(path: Path) -> int:
    return int(path.read_text())
