"""One worker process of a job, from its start to its end."""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mpcpriv.party.ending import Failure
from mpcpriv.party.pipe import EXIT_STOPPED, Addresses, Advanced, Bound, Failed, Finished, Setup, Stop, unpack
from mpcpriv.party.process import Member

_POLL_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 3.0
"""How long a worker that is told to stop may take."""


class Run:
    """A worker and what is known of it. Attributes are written by a thread of its own.

    Its output stays with its owner: a file that only he can read.

    Args:
        setup: what it is told first.
        environment: its environment variables.
        output: the file for what it prints.
        wake: called after every change.

    Attributes:
        port: where it listens, once it does.
        progress: the loops that run, the outermost first: name, turns that are over, turns in all.
        report: what its program returned, once it has ended well.
        failure: why it did not, once it has ended otherwise.
        ended: whether the process is gone.
        hurried: when it was found that another member has failed.
        addressed: when it was told where the others are, on `time.monotonic`'s clock.
    """

    def __init__(
        self, setup: Setup, environment: dict[str, str], output: Path, wake: Callable[[], None]
    ) -> None:
        self.began = time.monotonic()
        self.addressed: float | None = None
        self.hurried: float | None = None
        self.port: int | None = None
        self.progress: tuple[tuple[str, int, int], ...] = ()
        self.report: Any = None
        self.failure: Failure | None = None
        self.ended = False
        self._setup = setup
        self._environment = environment
        self._output = output
        self._wake = wake
        self._finished = False
        self._told: str | None = None
        self._told_at = 0.0
        self._orders: list[Addresses | Stop] = []
        # The kernel kills a child when the *thread* that started it ends: this one sees it to its end.
        self._thread = threading.Thread(target=self._run, name="mpcpriv worker", daemon=True)
        self._thread.start()

    def address(self, table: Sequence[str]) -> None:
        """Tells it where all members listen, by rank."""
        if self.addressed is None:
            self.addressed = time.monotonic()
            self._orders.append(Addresses(tuple(table)))

    def stop(self, reason: str) -> None:
        """Tells it to end, and kills it if it does not."""
        if self._told is None:
            self._told, self._told_at = reason, time.monotonic()
            self._orders.append(Stop(reason))

    def join(self, seconds: float) -> None:
        """Waits until it is gone."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as output:
                name = self._setup.identity.party
                member = Member.start(self._setup, self._environment, len(name), output, output)
                try:
                    self._see_through(member)
                finally:
                    member.kill()
                    member.drain()
                    member.close()
        except OSError as error:
            self._fail(f"its worker could not be started ({error.strerror})")
        finally:
            self.ended = True
            self._wake()

    def _see_through(self, member: Member) -> None:
        with selectors.DefaultSelector() as selector:
            for descriptor in (member.channel.fileno(), *member.streams):
                selector.register(descriptor, selectors.EVENT_READ)
            with suppress(OSError):  # it died at once; its status says so
                member.channel.send(self._setup)
            while member.process.poll() is None:
                for key, _ in selector.select(_POLL_SECONDS):
                    if key.fd == member.channel.fileno():
                        alive = self._hear(member)
                    else:
                        alive = member.read(key.fd) is not None
                    if not alive:
                        selector.unregister(key.fd)
                while self._orders:
                    with suppress(OSError):
                        member.channel.send(self._orders.pop(0))
                if self._told is not None and time.monotonic() - self._told_at > _STOP_SECONDS:
                    return
            while member.channel.waiting() and self._hear(member):
                pass
            self._explain(member.process.returncode)

    def _hear(self, member: Member) -> bool:
        try:
            message = member.channel.receive()
        except (EOFError, OSError):
            return False
        match message:
            case Bound(port):
                self.port = port
            case Advanced(loops):
                self.progress = loops
            case Finished(value):
                self.report, self._finished = unpack(value), True
            case Failed(failure):
                self.failure = failure
            case _:
                pass
        self._wake()
        return True

    def _explain(self, status: int) -> None:
        if self._finished or self.failure is not None:
            return
        if self._told is not None and status in (EXIT_STOPPED, -signal.SIGKILL):
            self._fail(self._told)
        elif status < 0:
            self._fail(f"its worker was killed by {signal.Signals(-status).name}")
        else:
            self._fail(f"its worker exited with status {status}")

    def _fail(self, text: str) -> None:
        if self.failure is None:
            self.failure = Failure("died", text, text, text)

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.ended and self._finished

    @property
    def reason(self) -> str:
        """Why it has not, for the peers."""
        if self.failure is not None:
            return self.failure.reason
        return self._told or "its worker ended without a word"
