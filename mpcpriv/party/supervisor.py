"""Starts one process per member, shows what they write, and sees every one of them to its end."""

from __future__ import annotations

import selectors
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self, TextIO

from mpcpriv.party.ending import Failure
from mpcpriv.party.output import Prefixed
from mpcpriv.party.pipe import (
    EXIT_STOPPED,
    NOTICE_SECONDS,
    Addresses,
    Bound,
    Connected,
    Failed,
    Finished,
    Loaded,
    Setup,
    Stop,
)
from mpcpriv.party.process import ENDED, UNCONNECTED, Member

STOP_SECONDS: Final = 3.0
"""Once a member has failed: how long the others have to notice by themselves before they are told to stop."""

GRACE_SECONDS: Final = 8.0
"""Once a member has failed: how long the others have to end before they are killed."""

_INTERRUPT_SECONDS = 3.0
_POLL_SECONDS = 0.1


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
        width = max(len(setup.identity.party) for setup in setups)
        self._notes = Prefixed("mpcpriv", width, None, stderr)
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
                member = Member.start(setup, environment, width, stdout, stderr)
                self.members.append(member)
                for descriptor in (member.channel.fileno(), *member.streams):
                    self._selector.register(descriptor, selectors.EVENT_READ, member)
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
            member.close()

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
                member.kill()

    def _turn(self) -> None:
        for key, _ in self._selector.select(_POLL_SECONDS):
            member: Member = key.data
            if key.fd == member.channel.fileno():
                self._hear(member)
            elif member.read(key.fd) is None:
                self._selector.unregister(key.fd)
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
            self._selector.unregister(member.channel.fileno())  # reaping tells whether that was in order
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
        self._unnoticed = self._unnoticed or member.stage in UNCONNECTED
        member.stage, member.failure, member.order = "failed", failure, self._failures
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = time.monotonic()

    def _reap(self, member: Member) -> None:
        while member.channel.fileno() in self._selector.get_map() and member.channel.waiting():
            self._hear(member)
        member.kill()  # what the program left running in the background ends with it
        member.drain()
        status = member.process.returncode
        if member.stage not in ENDED:
            if status == EXIT_STOPPED and self._told_why is not None:
                self._fail(member, Failure("stopped", self._told_why, self._told_why, self._told_why))
                return
            if status < 0:
                text = f"killed by {_signal_name(-status)}"
            else:
                text = f"its process exited with status {status}"
            member.err.say(text)
            self._fail(member, Failure("died", text, text, text))

    def _notice(self) -> None:
        """Says whom the job waits for, while it waits for somebody to get ready."""
        now = time.monotonic()
        late = [member for member in self.members if member.stage in UNCONNECTED]
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
            failure = cause.failure
            if failure is not None:
                verb = "is gone" if failure.kind == "died" else "stopped"
                self._tell(f"{cause.name} {verb}: {failure.reason}")
        if waited > GRACE_SECONDS:
            for member in self.members:
                if member.alive and member.stage not in ENDED:
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
        own = [member for member in failed if member.failure and member.failure.kind in {"program", "died"}]
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
            if member.alive and member.stage not in ENDED:
                with suppress(OSError):
                    member.channel.send(Stop(reason))

    def _interrupt(self) -> None:
        self._tell("interrupted")
        deadline = time.monotonic() + _INTERRUPT_SECONDS
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: no more patience
            while any(member.alive for member in self.members) and time.monotonic() < deadline:
                self._turn()
        self.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
