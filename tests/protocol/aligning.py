"""Alignments among parties as threads, with what travelled, and with peers that break the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpcpriv.alignment import Alignment, KeyColumn, align, identify
from mpcpriv.transport.base import Buffer, Traffic, Transport
from tests.protocol.parties import NAMES, Sight, outcomes

JOB = b"a job"


class Altering(Transport):
    """A transport whose member's messages are changed on their way out.

    Args:
        change: of the message's number and its bytes, what is sent instead.
    """

    def __init__(self, inner: Transport, change: Callable[[int, bytes], bytes]) -> None:
        self.inner, self.change, self.sent = inner, change, 0
        self.members, self.rank, self.limits = inner.members, inner.rank, inner.limits

    def send(self, dst: int, *parts: Buffer) -> None:
        message = self.change(self.sent, b"".join(bytes(part) for part in parts))
        self.sent += 1
        self.inner.send(dst, message)

    def recv(self, src: int) -> memoryview:
        return self.inner.recv(src)

    def close(self) -> None:
        self.inner.close()

    def abort(self, reason: str) -> None:
        self.inner.abort(reason)

    def traffic(self, peer: int) -> Traffic:
        return self.inner.traffic(peer)


def attempt(
    columns: Sequence[Sequence[Any]],
    *,
    change: Callable[[int, bytes], bytes] | None = None,
    own: Sequence[dict[str, Any]] | None = None,
    seed: int | None = None,
    sight: Sight | None = None,
    **terms: Any,
) -> tuple[list[Any], list[int]]:
    """Aligns these keys; what each party got or raised, and who failed, the first one first.

    Args:
        columns: by rank, one key column without rules.
        change: what becomes of the last party's messages.
        own: by rank, terms that this party alone has.
        seed, sight: as `outcomes` takes them.
        terms: as `align` takes them.
    """
    names = NAMES[: len(columns)]

    def member(rank: int) -> Callable[[Transport], Alignment]:
        def program(transport: Transport) -> Alignment:
            if change is not None and rank == len(columns) - 1:
                transport = Altering(transport, change)
            given = {"job": JOB, "parties": names, "threads": 1} | terms | (own[rank] if own else {})
            return align(transport, identify(KeyColumn(columns[rank])), **given)

        return program

    bystander: list[Callable[[Transport], Any]] = [lambda transport: None]
    results, failed = outcomes(
        [member(rank) for rank in range(len(columns))] + bystander, seed=seed, sight=sight
    )
    return results[:-1], failed


def aligned(columns: Sequence[Sequence[Any]], **options: Any) -> list[Alignment]:
    """As `attempt`, where nobody fails."""
    results, failed = attempt(columns, **options)
    if failed:
        raise results[failed[0]]
    return results
