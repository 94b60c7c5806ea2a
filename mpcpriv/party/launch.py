"""All members of a computation on this machine: one process each, gRPC with mutual TLS between them.

Certificates come from an authority that is made in memory for one job and forgotten: keys go to the
members over the pipe that they inherit, and never touch a disk.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.spawn
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mpcpriv.engine.costs import Plan
from mpcpriv.errors import PeerError, UsageError
from mpcpriv.party.ending import Failure
from mpcpriv.party.pipe import INSIDE, JOB_BYTES, Setup, pack, unpack
from mpcpriv.party.process import Member
from mpcpriv.party.program import Dealer, Function, Program, Script, script_digest
from mpcpriv.party.supervisor import Group
from mpcpriv.transport.base import Limits
from mpcpriv.transport.tls import throw_away
from mpcpriv.types import PartyId, local_members

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


class PartyFailed(PeerError):
    """A member of a local launch failed.

    Attributes:
        peer: the member whose failure brought the job down.
        failures: the last word of every member that did not end normally, by name.
    """

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(peer, message)
        self.failures: dict[str, str] = {}


def launch(fn: Callable[..., Any], parties: int = 3, args: Sequence[object] = ()) -> list[Any]:
    """Runs `fn(*args)` at every one of `parties` parties, each a process of its own, with CrypTen ready.

    `fn` and `args` are pickled, as for `multiprocessing` with spawn: `fn` stands at the top level of a
    module, and a script that calls `launch` does so under `if __name__ == "__main__":`. What the parties
    print appears here line by line, prefixed with their names.

    Args:
        fn: the program of every party; inside it plain CrypTen holds, from `crypten.init()` on.
        parties: 2 to 16.
        args: the arguments, the same for every party.

    Returns:
        What `fn` returned, by rank.

    Raises:
        UsageError: the arguments are wrong, or `fn` cannot be found by a new process.
        PartyFailed: a party or the dealer failed; the message names it and the cause.
        KeyboardInterrupt: interrupted; all parties have been stopped.
    """
    if not callable(fn):
        raise UsageError(f"launch: {type(fn).__name__} is not callable; give a function")
    members = _local_members(parties)
    programs: list[Program] = [Function(fn, tuple(args))] * parties
    with start(members, [*programs, Dealer()], _caller_main()) as group:
        group.wait()
        processes = group.members
    failures = _failures(processes)
    if failures:
        cause = group.cause()
        raise _party_failed(cause, failures)
    return [unpack(process.value) for process in processes[:-1] if process.value is not None]


def run_script(path: Path, argv: Sequence[str] = (), parties: int = 3, *, plan: bool = False) -> int:
    """Runs a Python file as `__main__` at every one of `parties` parties on this machine.

    Args:
        path: the script; its folder is first on `sys.path`.
        argv: becomes `sys.argv[1:]`.
        parties: 2 to 16.
        plan: it runs on zeros, nothing is shared, and what it would cost is printed (`mpcpriv.plan`).

    Returns:
        The exit status: 0 when all members ended normally, else 1; the reasons are on stderr.

    Raises:
        UsageError: `parties` is out of range or the script cannot be read.
        KeyboardInterrupt: interrupted; all parties have been stopped.
    """
    members = _local_members(parties)
    script_digest(path)  # refused here, once, rather than by every party
    programs: list[Program] = [Script(path, tuple(argv), plan)] * parties
    with start(members, [*programs, Dealer()], None) as group:
        group.wait()
        processes = group.members
    if not _failures(processes):
        if plan:
            costs = [unpack(process.value) for process in processes[:-1] if process.value is not None]
            print(f"Plan for {parties} parties (nothing was shared; what was printed above came of zeros):")
            print(Plan.of(members[:-1], costs))
        return 0
    width = max(len(name) for name in members)
    cause = group.cause()
    print(f"mpcpriv: the job failed at {cause.name}", file=sys.stderr)
    for process in processes:
        word = process.failure.summary if process.failure else "finished"
        print(f"  {process.name:<{width}}  {word}", file=sys.stderr)
    return 1


def _local_members(parties: int) -> tuple[PartyId, ...]:
    if INSIDE in os.environ:
        raise UsageError(
            f"launch was called inside {os.environ[INSIDE]}, a party that a launch started: call it under "
            '`if __name__ == "__main__":`, or call the function directly'
        )
    return local_members(parties)


def start(members: tuple[PartyId, ...], programs: Sequence[Program], main: dict[str, Any] | None) -> Group:
    """Starts one process for each of `members`, which runs the program of its rank.

    Args:
        members: their names, the dealer last.
        programs: what each of them does, by rank.
        main: how a new process imports the caller's `__main__`, where the programs need it.

    Raises:
        UsageError: a program cannot go to another process.
    """
    identities = throw_away(members)
    job = secrets.token_bytes(JOB_BYTES)
    try:
        packed = {id(program): pack(program) for program in programs}
    except Exception as error:  # noqa: BLE001 -- pickle passes on whatever the objects raise
        raise UsageError(
            f"the function or its arguments cannot go to another process ({type(error).__name__}: {error}); "
            "use a function at the top level of a module, and plain values"
        ) from None
    setups = [
        Setup(
            members=tuple(identity.certificate for identity in identities),
            rank=rank,
            identity=identity,
            job=job,
            facts={},
            limits=Limits(),
            main=main,
            program=packed[id(programs[rank])],
        )
        for rank, identity in enumerate(identities)
    ]
    return Group(setups, _environment(members), sys.stdout, sys.stderr)


def _environment(members: Sequence[PartyId]) -> dict[str, str]:
    environment = dict(os.environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "OMP_NUM_THREADS" not in environment:
        # All members compute at the same time: more threads than cores would only take turns.
        for setting in _THREAD_SETTINGS:
            environment.setdefault(setting, str(max(1, cores // len(members))))
    # What is left of the terminal's width after the prefix, for programs that draw tables.
    prefix = max(map(len, members)) + len(" | ")
    environment.setdefault("COLUMNS", str(max(40, shutil.get_terminal_size().columns - prefix)))
    return environment


def _caller_main() -> dict[str, Any]:
    """How a new process imports the caller's `__main__`: what multiprocessing tells its own children."""
    main = multiprocessing.spawn.get_preparation_data("mpcpriv")
    # The children are not multiprocessing's: they share neither its authentication key nor its method.
    for key in ("authkey", "name", "start_method"):
        main.pop(key, None)
    return main


def _failures(processes: Sequence[Member]) -> dict[str, Failure]:
    return {process.name: process.failure for process in processes if process.failure is not None}


def _party_failed(cause: Member, failures: dict[str, Failure]) -> PartyFailed:
    failure = failures[cause.name]
    error = PartyFailed(cause.name, f"{cause.name} failed: {failure.summary}")
    error.failures = {name: item.summary for name, item in failures.items()}
    if failure.text != failure.summary:
        error.add_note(f"At {cause.name}:\n{failure.text}")
    return error
