"""Starts one process per member, shows what they write, and sees every one of them to its end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Final, Self, TextIO

from mpcpriv.party.ending import Failure
from mpcpriv.party.output import Prefixed
from mpcpriv.party.pipe import (
    EXIT_STOPPED,
    NOTICE_SECONDS,
    Addresses,
    Bound,
    Channel,
    Connected,
    Failed,
    Finished,
    Loaded,
    Setup,
    Stop,
)
from mpcpriv.types import PartyId

STOP_SECONDS: Final = 3.0
"""Once a member has failed: how long the others have to notice by themselves before they are told to stop."""

GRACE_SECONDS: Final = 8.0
"""Once a member has failed: how long the others have to end before they are killed."""

_INTERRUPT_SECONDS = 3.0
_POLL_SECONDS = 0.1
_READ_BYTES = 1 << 16
_UNCONNECTED = frozenset({"starting", "bound"})
_ENDED = frozenset({"finished", "failed"})

_BOOTSTRAP = """\
import sys
sys.path.append({root!r})
from mpcpriv.party.worker import main
main({descriptor}, {parent})
"""


@dataclass
class Member:
    """One member process and what is known of it.

    Attributes:
        stage: how far it got: `starting`, `bound`, `loaded`, `connected`, `finished` or `failed`.
        value: its pickled return value, once it has finished.
        failure: why it failed, once it has.
        order: which member failed first, second, ... (0 is the first).
    """

    name: PartyId
    process: subprocess.Popen[bytes]
    channel: Channel
    out: Prefixed
    err: Prefixed
    stage: str = "starting"
    port: int | None = None
    value: bytes | None = None
    failure: Failure | None = None
    order: int = -1
    streams: list[tuple[int, Prefixed]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether the process has not been reaped yet."""
        return self.process.returncode is None


class Group:
    """The processes of one local job.

    Use as a context manager: whatever happens, no process is left behind.

    Args:
        setups: one per member, in rank order.
        environment: environment variables of the member processes.
        stdout, stderr: where the members' lines go.
    """

    def __init__(
        self, setups: Sequence[Setup], environment: dict[str, str], stdout: TextIO, stderr: TextIO
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._width = max(len(setup.identity.party) for setup in setups)
        self._notes = Prefixed("mpcpriv", self._width, None, stderr)
        self._stdout, self._stderr = stdout, stderr
        self._addressed = False
        self._failures = 0
        self._failed_at: float | None = None
        self._finished_at: float | None = None
        self._told_why: str | None = None
        self._unnoticed = False
        self._noticed_at = time.monotonic()
        self._notice_after = NOTICE_SECONDS
        self.members: list[Member] = []
        try:
            for setup in setups:
                self._start(setup, environment)
            for member, setup in zip(self.members, setups, strict=True):
                with suppress(OSError):  # it died at once; reaping says so
                    member.channel.send(setup)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._selector.close()
        for member in self.members:
            member.channel.close()
            for stream in (member.process.stdout, member.process.stderr):
                if stream is not None:
                    stream.close()

    def wait(self) -> None:
        """Returns when every member has ended; `members` then says how.

        Raises:
            KeyboardInterrupt: the keyboard interrupted; every member has been stopped.
        """
        try:
            while any(member.alive for member in self.members):
                self._turn()
        except KeyboardInterrupt:
            self._interrupt()
            raise

    def kill(self) -> None:
        """Kills whatever is still there, with all that it started."""
        for member in self.members:
            if member.alive:
                _kill_group(member.process.pid)
                member.process.wait()
                self._drain(member)

    def _start(self, setup: Setup, environment: dict[str, str]) -> None:
        here, there = Pipe()
        with there:
            command = _BOOTSTRAP.format(
                root=str(Path(__file__).parents[2]), descriptor=there.fileno(), parent=os.getpid()
            )
            # A session of its own: Ctrl-C reaches the launcher alone, which then stops the members in order.
            process = subprocess.Popen(  # noqa: S603 -- this interpreter, with our own code
                [sys.executable, "-P", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[there.fileno()],
                env=environment,
                start_new_session=True,
            )
        name = setup.identity.party
        member = Member(
            name,
            process,
            Channel(here),
            Prefixed(name, self._width, setup.rank, self._stdout),
            Prefixed(name, self._width, setup.rank, self._stderr),
        )
        for stream, lines in ((process.stdout, member.out), (process.stderr, member.err)):
            if stream is None:
                raise RuntimeError("a pipe was asked for")
            os.set_blocking(stream.fileno(), False)
            member.streams.append((stream.fileno(), lines))
            self._selector.register(stream, selectors.EVENT_READ, member)
        self._selector.register(member.channel, selectors.EVENT_READ, member)
        self.members.append(member)

    def _turn(self) -> None:
        for key, _ in self._selector.select(_POLL_SECONDS):
            member: Member = key.data
            if key.fileobj is member.channel:
                self._hear(member)
            else:
                self._read(member, key.fd)
        for member in self.members:
            member.out.tick()
            member.err.tick()
            if member.alive and member.process.poll() is not None:
                self._reap(member)
        if not self._addressed and all(member.port for member in self.members):
            self._addressed = True
            table = tuple(f"127.0.0.1:{member.port}" for member in self.members)
            for member in self.members:
                with suppress(OSError):
                    member.channel.send(Addresses(table))
        self._notice()
        self._hurry()

    def _hear(self, member: Member) -> None:
        try:
            message = member.channel.receive()
        except (EOFError, OSError):
            self._selector.unregister(member.channel)  # reaping tells whether that was in order
            return
        match message:
            case Bound(port):
                member.stage, member.port = "bound", port
            case Loaded():
                member.stage = "loaded"
            case Connected():
                member.stage = "connected"
            case Finished(value):
                member.stage, member.value = "finished", value
            case Failed(failure):
                self._fail(member, failure)
            case _:
                raise TypeError(f"{member.name} sent a {type(message).__name__} to its launcher")

    def _fail(self, member: Member, failure: Failure) -> None:
        if member.failure is not None:
            return
        # Nobody is connected to a member that has not loaded, so nobody would notice that it failed.
        self._unnoticed = self._unnoticed or member.stage in _UNCONNECTED
        member.stage, member.failure, member.order = "failed", failure, self._failures
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = time.monotonic()

    def _read(self, member: Member, descriptor: int) -> bool:
        """Takes what there is on one output; whether there was something."""
        lines = dict(member.streams)[descriptor]
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
            return False
        lines.feed(data)
        return True

    def _drain(self, member: Member) -> None:
        for descriptor, lines in member.streams:
            while self._read(member, descriptor):
                pass
            lines.flush()

    def _reap(self, member: Member) -> None:
        while member.channel.fileno() in self._selector.get_map() and member.channel.waiting():
            self._hear(member)
        self._drain(member)
        # What the program left running in the background ends with it.
        _kill_group(member.process.pid)
        status = member.process.returncode
        if member.stage not in _ENDED:
            if status == EXIT_STOPPED and self._told_why is not None:
                self._fail(member, Failure("stopped", self._told_why, self._told_why, self._told_why))
                return
            if status < 0:
                text = f"killed by {_signal_name(-status)}"
            else:
                text = f"its process exited with status {status}"
            member.err.say(text)
            self._fail(member, Failure("program", text, text, text))

    def _notice(self) -> None:
        """Says whom the job waits for, while it waits for somebody to get ready."""
        now = time.monotonic()
        late = [member for member in self.members if member.stage in _UNCONNECTED]
        verb = "start"
        if not late:
            late = [member for member in self.members if member.stage == "loaded"]
            verb = "connect"
        if not late or self._failed_at is not None:
            return
        if now - self._noticed_at > self._notice_after:
            self._noticed_at = now
            self._notice_after = 5 * NOTICE_SECONDS
            self._notes.say(f"waiting for {', '.join(member.name for member in late)} to {verb}")

    def _hurry(self) -> None:
        """After a failure, or the last member's end: tells, then kills, whoever has not ended by itself."""
        if self._failed_at is None:
            self._hurry_finished()
            return
        waited = time.monotonic() - self._failed_at
        cause = self.cause()
        if self._told_why is None and (waited > STOP_SECONDS or self._unnoticed):
            self._tell(f"{cause.name} stopped")
        if waited > GRACE_SECONDS:
            for member in self.members:
                if member.alive and member.stage not in _ENDED:
                    text = (
                        f"did not end within {GRACE_SECONDS:.0f} s of {cause.name} stopping, and was killed"
                    )
                    member.err.say(text)
                    self._fail(member, Failure("stopped", text, text, text))
            self.kill()

    def cause(self) -> Member:
        """The member whose failure brought the job down: its own failure rather than a peer's.

        Raises:
            LookupError: no member failed.
        """
        failed = sorted((m for m in self.members if m.failure), key=lambda member: member.order)
        if not failed:
            raise LookupError("no member failed")
        own = [member for member in failed if member.failure and member.failure.kind == "program"]
        return (own or failed)[0]

    def _hurry_finished(self) -> None:
        if any(member.stage != "finished" for member in self.members):
            return
        if self._finished_at is None:
            self._finished_at = time.monotonic()
        if time.monotonic() - self._finished_at > GRACE_SECONDS:
            for member in self.members:
                if member.alive:
                    member.err.say(f"still there {GRACE_SECONDS:.0f} s after its program ended: killed")
            self.kill()

    def _tell(self, reason: str) -> None:
        self._told_why = reason
        for member in self.members:
            if member.alive and member.stage not in _ENDED:
                with suppress(OSError):
                    member.channel.send(Stop(reason))

    def _interrupt(self) -> None:
        self._tell("interrupted")
        deadline = time.monotonic() + _INTERRUPT_SECONDS
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: no more patience
            while any(member.alive for member in self.members) and time.monotonic() < deadline:
                self._turn()
        self.kill()


def _kill_group(leader: int) -> None:
    # Called at once after the leader was reaped, or before: its number has no other owner yet.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
