"""One member of a local launch: a process of its own, from its first instruction to its exit status."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing.spawn
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TextIO

from mpcpriv.errors import UsageError
from mpcpriv.party.ending import Ending, explain
from mpcpriv.party.pipe import (
    EXIT_FAILED,
    EXIT_STOPPED,
    INSIDE,
    Addresses,
    Advanced,
    Bound,
    Channel,
    Connected,
    Failed,
    Finished,
    Loaded,
    Setup,
    Stop,
    pack,
    unpack,
)
from mpcpriv.party.program import Program, Watched
from mpcpriv.transport.base import Transport
from mpcpriv.transport.grpc import GrpcServerPort

if TYPE_CHECKING:
    from mpcpriv.engine.loop import Progress

_ABORT_SECONDS = 2.0
_PROGRESS_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def run_member(start: Callable[[], Program], connect: Callable[[], Transport], label: str = "") -> Ending:
    """Starts a program, connects, runs it. Never raises: whatever ended the program is in the result.

    A failure is shown on stderr, after `label`, before the peers are told that this member stops (and
    no more than the type of the exception: see `mpcpriv.party.ending`).

    Args:
        start: makes the program and loads it; may fail for local reasons without troubling the peers.
        connect: makes the transport; called after `start`.
        label: stands before the message of a failure.
    """
    transport: Transport | None = None
    try:
        program = start()
        transport = connect()
        return Ending(value=program.run(transport))
    except BaseException as error:  # noqa: BLE001 -- the program's own: shown to its owner, never swallowed
        failure = explain(error)
        print(f"{label}{failure.text}", file=sys.stderr, flush=True)
        if transport is not None:
            transport.abort(failure.reason)
        return Ending(failure=failure)


class Worker:
    """The conversation of a member process with its launcher."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._addresses: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()
        self._transport: Transport | None = None

    def main(self) -> int:
        """Runs the member; returns the exit status of the process."""
        setup = self._channel.receive()
        if not isinstance(setup, Setup):
            raise TypeError(f"expected the set-up first, not {type(setup).__name__}")
        os.environ[INSIDE] = setup.identity.party
        if setup.memory is not None:
            # Data, not address space: libraries and their threads reserve much more than they use.
            resource.setrlimit(resource.RLIMIT_DATA, (setup.memory, setup.memory))
        ports: list[GrpcServerPort] = []

        def start() -> Program:
            # The port first: the others learn it while this process imports torch.
            ports.append(_bind(setup))
            self._channel.send(Bound(ports[0].port))
            threading.Thread(target=self._listen, name="launcher", daemon=True).start()
            program = _read_program(setup)
            if isinstance(program, Watched):
                program.watch(self._relay())
            program.load()
            return program

        def connect() -> Transport:
            self._channel.send(Loaded())
            table = self._addresses.get()
            self._transport = ports[0].connect(table, job=setup.job, facts=setup.facts, limits=setup.limits)
            self._channel.send(Connected())
            return self._transport

        return self._report(run_member(start, connect))

    def _relay(self) -> Callable[[tuple[Progress, ...]], None]:
        """Passes progress on to the launcher, ten times a second at most."""
        due = 0.0

        def watch(loops: tuple[Progress, ...]) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _PROGRESS_SECONDS
                self._channel.send(Advanced(tuple((loop.name, loop.done, loop.turns) for loop in loops)))

        return watch

    def _report(self, ending: Ending) -> int:
        failure = ending.failure
        if failure is None:
            try:
                value = pack(ending.value)
            except Exception as error:  # noqa: BLE001 -- pickle passes on whatever the object raises
                failure = explain(_unreturnable(ending.value, error))
                print(failure.text, file=sys.stderr, flush=True)
            else:
                self._channel.send(Finished(value))
                return 0
        self._channel.send(Failed(failure))
        return EXIT_FAILED

    def _listen(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except (EOFError, OSError):
                self._leave("the launcher is gone")
                return
            if isinstance(message, Addresses):
                self._addresses.put(message.table)
            elif isinstance(message, Stop):
                print(message.reason, file=sys.stderr, flush=True)
                self._leave("interrupted")

    def _leave(self, reason: str) -> None:
        """Ends the process now, whatever its main thread is computing."""
        transport = self._transport
        if transport is not None:
            # In a thread: the peers may be gone as well, and telling them must not keep us here.
            telling = threading.Thread(target=transport.abort, args=(reason,), daemon=True)
            telling.start()
            telling.join(_ABORT_SECONDS)
        os._exit(EXIT_STOPPED)


def _bind(setup: Setup) -> GrpcServerPort:
    host, _, port = setup.listen.rpartition(":")
    if setup.ports is None or port != "0":
        return GrpcServerPort.bind(setup.identity, setup.members, setup.listen)
    low, high = setup.ports
    for candidate in range(low, high + 1):
        with suppress(UsageError):  # another worker's; which of them are free, nobody can know before
            return GrpcServerPort.bind(setup.identity, setup.members, f"{host}:{candidate}")
    raise UsageError(f"daemon.data_ports: none of {low} to {high} at {host} is free; allow more")


def _read_program(setup: Setup) -> Program:
    if setup.main is not None:
        # As multiprocessing's spawn does: the functions of the caller's `__main__` are found there.
        multiprocessing.spawn.prepare(setup.main)
    try:
        program: Program = unpack(setup.program)
    except (AttributeError, ImportError) as error:
        raise UsageError(
            f"the function to launch cannot be found by a new process ({error}): "
            "define it at the top level of a module or of the main script"
        ) from None
    return program


def _unreturnable(value: object, error: Exception) -> UsageError:
    return UsageError(
        f"the launched function returned a {type(value).__name__}, which cannot leave its process "
        f"({type(error).__name__}); return plain numbers, arrays or tensors"
    )


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its launcher dies, where the kernel can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(EXIT_STOPPED)


def _line_buffered(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True, errors="replace")


def leave(status: int) -> NoReturn:
    """Ends the process as Python would, but for tearing down the interpreter.

    The tear-down ends daemon threads by unwinding their stacks, and where gRPC's C++ code is on such a
    stack the process aborts (`terminate called without an active exception`), now and then, after all
    is well.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 -- waits for the program's threads
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


def main(descriptor: int, parent: int) -> None:
    """The entry point of a member process.

    Args:
        descriptor: the inherited socket to the launcher.
        parent: the launcher's process id.
    """
    _die_with(parent)
    os.set_inheritable(descriptor, False)
    # Ctrl-C is the launcher's to handle: it tells every member, in words.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _line_buffered(sys.stdout)
    _line_buffered(sys.stderr)
    leave(Worker(Channel.adopt(descriptor)).main())
