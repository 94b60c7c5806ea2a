"""The alignment of the parties' rows: who takes part, who learns what, which protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from mpcpriv.alignment import many, secret, two
from mpcpriv.alignment.group import Workers, required
from mpcpriv.alignment.identifiers import Identifiers
from mpcpriv.alignment.secret import Half
from mpcpriv.alignment.wire import MOST, Terms, agree
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.transport.base import Transport

Mode = Literal["all", "one", "size"]
MODES: Final = get_args(Mode)
HIDDEN: Final = "secret"
"""The mode of `halve`."""
_JOB_BYTES: Final = 64


@dataclass(frozen=True)
class Alignment:
    """What this party has learned.

    Attributes:
        size: of the intersection; None where another party alone learns it.
        rows: (size,) int64, places among this party's identifiers; row i of each party that has rows is about
            the same person, in an order that says nothing. None where only the size is learned, or nothing.
    """

    size: int | None
    rows: np.ndarray | None


def align(
    transport: Transport,
    identifiers: Identifiers,
    *,
    job: bytes,
    mode: Mode = "all",
    recipient: str | None = None,
    parties: Sequence[str] | None = None,
    threads: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Alignment:
    """Finds which rows of the parties are about the same people; all parties call it at once.

    In each mode every party learns how many identifiers each other has. Besides, in mode "all" each party
    learns the intersection, as rows of its own; in mode "one" the recipient alone does; in mode "size" both
    of two parties learn how large it is. Parties follow the protocol (semi-honest); what is checked of what
    they send is refused under their name.

    Between two parties a party multiplies one point per identifier of either, and sends 32 bytes per own
    and 16 per other identifier, in three rounds. Among more, the first (or the recipient) multiplies one
    point per own identifier and one more per other party, the others one per identifier of theirs and of
    the first's; with each other party the first exchanges 64 bytes per identifier of its own, and gets 22
    per one of the other's, in four rounds.

    Args:
        transport: connects the parties; it may have more members.
        identifiers: this party's keys, by the rules that all use.
        job: 1 to 64 bytes that no other run has; the same at all.
        mode: who learns what.
        recipient: the name of the party that learns the intersection, in mode "one".
        parties: the names of those who take part, in the same order at all; by default all members.
        threads: that compute at once; by default one for each core that this process may use.
        told: called with how many points this party has multiplied, and how many it will.

    Raises:
        UsageError: the arguments do not fit each other.
        Unsupported: mode "size" with more than two parties; PyNaCl is not installed.
        PeerRefused: a peer was given other terms; its message says which.
        FrameRefused: a peer sent what no party sends: a wrong number of points, one that is no point, small
            or repeated, or one of ours.
        PeerError: some member failed.
    """
    names = tuple(transport.members if parties is None else parties)
    _check_mode(names, mode, recipient)
    _check(transport, names, job, identifiers, threads)
    terms = Terms(mode, recipient, names, job.hex(), identifiers.rules)
    peers = [transport.members.index(name) for name in names if name != transport.name]
    counts = agree(transport, peers, terms, len(identifiers))
    centre = transport.members.index(recipient or names[0])
    total = _multiplied(len(identifiers), counts, centre)
    workers = Workers(threads or _cores(), _counting(total, told))
    if len(names) == 2:
        run = two.Exchange(
            transport, peers[0], identifiers.digests, counts[peers[0]], terms.domain(), workers
        )
        return _between_two(run, mode, recipient == transport.name)
    common = identifiers.digests, terms.domain(), workers
    if transport.rank == centre:
        rows: np.ndarray | None = many.first(transport, counts, *common, tell=mode == "all")
    else:
        rows = many.other(transport, centre, counts, *common, told=mode == "all")
    return Alignment(None if rows is None else len(rows), rows)


def halve(
    transport: Transport,
    identifiers: Identifiers,
    columns: np.ndarray,
    *,
    job: bytes,
    widths: Sequence[int],
    parties: Sequence[str] | None = None,
    threads: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Half:
    """Half of the table of two parties' common rows; both call it at once, and nobody learns who is in it.

    Both learn how many identifiers each has, and nothing else. The party with fewer is the receiver, of
    equally many the first. With n of its own and m of the other's, who has k columns, it multiplies 2 n
    points and the other 3 m + n; it sends 32 n bytes and gets 32 n + 33 m (1 + k), in three rounds.

    Args:
        columns: (rows, width) int64, ring elements of each row.
        widths: how many columns each party has, in their order; the same at both.
        transport, identifiers, job, parties, threads, told: as `align` takes them; two parties.

    Raises:
        UsageError: the arguments do not fit each other.
        Unsupported: more than two parties; PyNaCl is not installed.
        PeerRefused, FrameRefused, PeerError: as `align`.
    """
    names = tuple(transport.members if parties is None else parties)
    if len(names) > 2:
        raise Unsupported(f"alignment mode {HIDDEN!r}: between two parties only")
    _check(transport, names, job, identifiers, threads)
    mine = names.index(transport.name)
    if len(widths) != len(names) or columns.shape != (len(identifiers), widths[mine]):
        raise UsageError(
            f"columns of shape {list(columns.shape)} for {len(identifiers)} identifiers, of widths "
            f"{list(widths)}: one row for each identifier, and a width for each party"
        )
    terms = Terms(HIDDEN, None, names, job.hex(), identifiers.rules, tuple(widths))
    (peer,) = (transport.members.index(name) for name in names if name != transport.name)
    count = agree(transport, [peer], terms, len(identifiers))[peer]
    receives = receiver((len(identifiers), count) if mine == 0 else (count, len(identifiers))) == mine
    total = 2 * len(identifiers) if receives else secret.HASHES * len(identifiers) + count
    workers = Workers(threads or _cores(), _counting(total, told))
    digests, domain = identifiers.digests, terms.domain()
    if receives:
        place, half = secret.receive(transport, peer, count, digests, widths[1 - mine], domain, workers)
        own = np.zeros((len(half.tags), widths[mine]), np.int64)
        own[place] = columns
        both = [own, half.columns]
    else:
        half = secret.send(transport, peer, count, digests, columns, domain, workers)
        # Of the receiver's columns it has nothing.
        both = [half.columns, np.zeros((len(half.tags), widths[1 - mine]), np.int64)]
    return Half(half.tags, np.concatenate(both if mine == 0 else both[::-1], axis=1))


def receiver(counts: Sequence[int]) -> int:
    """Which of two parties with so many identifiers has bins, by its place: that with fewer, or the first."""
    return int(counts[1] < counts[0])


def _between_two(run: two.Exchange, mode: Mode, receives: bool) -> Alignment:
    if mode == "size":
        return Alignment(run.size(), None)
    if mode == "one" and not receives:
        run.give()
        return Alignment(None, None)
    rows = run.both() if mode == "all" else run.receive()
    return Alignment(len(rows), rows)


def _multiplied(own: int, counts: Mapping[int, int], centre: int) -> int:
    """How many points a party with so many identifiers multiplies, and its peers with theirs."""
    if len(counts) == 1:
        return own + sum(counts.values())
    return own * (1 + len(counts)) if centre not in counts else own + counts[centre]


def _counting(total: int, told: Callable[[int, int], None] | None) -> Callable[[int], None]:
    done = 0

    def advanced(points: int) -> None:
        nonlocal done
        done += points
        if told is not None:
            told(done, total)

    return advanced


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_mode(names: tuple[str, ...], mode: str, recipient: str | None) -> None:
    if mode not in MODES:
        more = f"; {HIDDEN!r} is `halve`" if mode == HIDDEN else ""
        raise UsageError(f"alignment mode {mode!r}: one of {', '.join(MODES)}{more}")
    if (mode == "one") != (recipient is not None) or (recipient is not None and recipient not in names):
        raise UsageError(f"recipient {recipient!r}: mode 'one' takes one of the parties, other modes none")
    if mode == "size" and len(names) > 2:
        raise Unsupported("alignment mode 'size': between two parties only; use 'all' or 'one' among more")


def _check(
    transport: Transport, names: tuple[str, ...], job: bytes, identifiers: Identifiers, threads: int | None
) -> None:
    strangers = [name for name in names if name not in transport.members]
    if strangers or len(set(names)) < len(names) or len(names) < 2 or transport.name not in names:
        raise UsageError(
            f"alignment between {', '.join(names) or 'nobody'}: two or more of the members, each once, and "
            f"{transport.name} among them"
        )
    if not 1 <= len(job) <= _JOB_BYTES:
        raise UsageError(f"job of {len(job)} bytes: 1 to {_JOB_BYTES}, the same at all, for this run only")
    if threads is not None and threads < 1:
        raise UsageError(f"threads = {threads}: one at least")
    required()
    if len(identifiers) > MOST:
        raise UsageError(f"{len(identifiers)} identifiers: at most {MOST}; align in parts")
