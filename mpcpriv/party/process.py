"""One member process, seen from its launcher: how it is started, read and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Final, TextIO

from mpcpriv.party.ending import Failure
from mpcpriv.party.output import Prefixed
from mpcpriv.party.pipe import Channel, Setup
from mpcpriv.types import PartyId

UNCONNECTED: Final = frozenset({"starting", "bound"})
"""Stages in which nobody is connected to the member yet."""

ENDED: Final = frozenset({"finished", "failed"})
"""Stages of a member that has said its last word, though its process may still be there."""

_READ_BYTES = 1 << 16

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
        port: where it listens on the loopback interface.
        value: its pickled return value, once it has finished.
        failure: why it failed, once it has.
        order: which member failed first, second, ... (0 is the first).
        streams: what shows the lines of its two outputs, by descriptor.
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
    streams: dict[int, Prefixed] = field(default_factory=dict)

    @classmethod
    def start(
        cls, setup: Setup, environment: dict[str, str], width: int, stdout: TextIO, stderr: TextIO
    ) -> Member:
        """Starts the process; it waits for its set-up on the channel."""
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
        out, err = (Prefixed(name, width, setup.rank, target) for target in (stdout, stderr))
        member = cls(name, process, Channel(here), out, err)
        for stream, lines in ((process.stdout, out), (process.stderr, err)):
            if stream is None:
                raise RuntimeError("a pipe was asked for")
            os.set_blocking(stream.fileno(), False)
            member.streams[stream.fileno()] = lines
        return member

    @property
    def alive(self) -> bool:
        """Whether the process has not been reaped yet."""
        return self.process.returncode is None

    def read(self, descriptor: int) -> bool | None:
        """Shows what there is on one output. False when there is nothing now, None when it has ended."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            return None
        self.streams[descriptor].feed(data)
        return True

    def drain(self) -> None:
        """Shows all that is left on the outputs, unfinished lines included."""
        for descriptor, lines in self.streams.items():
            while self.read(descriptor):
                pass
            lines.flush()

    def kill(self) -> None:
        """Kills the process, if it is still there, and all that it started."""
        # Its number has no other owner: it has not been reaped yet, or only just now.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.alive:
            self.process.wait()
            self.drain()

    def close(self) -> None:
        """Lets go of the pipes."""
        self.channel.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
