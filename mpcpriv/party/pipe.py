"""What a launcher and the member processes that it started say to each other, over an inherited socket.

This is the one place that pickles. Both ends are processes of one user on one machine, the socket has
no name that a third process could open, and nothing from a peer is ever fed to it. Python programs
(functions, arguments, return values) cannot cross a process boundary in any other way.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from mpcpriv.party.ending import Failure
from mpcpriv.transport.base import Limits
from mpcpriv.transport.tls import Certificate, Identity

JOB_BYTES: Final = 16
"""Length of a job's id."""

NOTICE_SECONDS: Final = 2.0
"""Silence after which we say whom we are waiting for."""

INSIDE: Final = "MPCPRIV_MEMBER"
"""Set, to the member's name, in the environment of a member process and of what it starts."""

EXIT_FAILED: Final = 1
"""Exit status of a member whose program failed."""

EXIT_STOPPED: Final = 130
"""Exit status of a member that its launcher or the keyboard stopped."""


@dataclass(frozen=True)
class Setup:
    """To a member, first: all that it needs to bind its port.

    Attributes:
        members: every member's certificate in rank order, the dealer last.
        rank: this member's place among them.
        identity: its key and certificate, made for this job.
        job: 16 bytes that every frame of this job is bound to.
        facts: what must be equal at all members.
        main: how to import the caller's `__main__`, or None for a script.
        program: the pickled `mpcpriv.party.program.Program`, read once `main` is there.
        listen: `host:port` to listen at; port 0 takes a free one.
        ports: with port 0, the free one is between these two; None: anywhere.
        memory: how many bytes of data the process may have; None: as many as there are.
    """

    members: tuple[Certificate, ...]
    rank: int
    identity: Identity
    job: bytes
    facts: dict[str, str]
    limits: Limits
    main: dict[str, Any] | None
    program: bytes
    listen: str = "127.0.0.1:0"
    memory: int | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class Addresses:
    """To a member: where everyone listens, `host:port` by rank."""

    table: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """To a member: end now. `reason` is one line that names who or what stopped the job."""

    reason: str


@dataclass(frozen=True)
class Bound:
    """From a member: it listens on this port of the host in its set-up."""

    port: int


@dataclass(frozen=True)
class Loaded:
    """From a member: the program and the engine are in memory; it connects to the others now."""


@dataclass(frozen=True)
class Connected:
    """From a member: it is connected to all others, and the program starts."""


@dataclass(frozen=True)
class Advanced:
    """From a member: the loops that run, the outermost first: name, turns that are over, turns in all."""

    loops: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Finished:
    """From a member, last: the program ended normally. `value` is its pickled return value."""

    value: bytes


@dataclass(frozen=True)
class Failed:
    """From a member, last: the program did not end normally."""

    failure: Failure


Message = Setup | Addresses | Stop | Bound | Loaded | Connected | Advanced | Finished | Failed


def pack(value: object) -> bytes:
    """Pickles `value`.

    Raises:
        pickle.PicklingError, TypeError, AttributeError: it cannot leave its process.
    """
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(data: bytes) -> Any:
    """Undoes `pack`, for bytes from this user's own process only."""
    return pickle.loads(data)  # noqa: S301 -- see the top of this file


class Channel:
    """One end of the socket between a launcher and one member process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def adopt(cls, descriptor: int) -> Channel:
        """Takes over an inherited descriptor."""
        return cls(Connection(descriptor))

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._connection.fileno()

    def send(self, message: Message) -> None:
        """Sends one message.

        Raises:
            OSError: the other end is gone.
        """
        self._connection.send_bytes(pack(message))

    def receive(self) -> Message:
        """Waits for the next message.

        Raises:
            EOFError, OSError: the other end is gone.
        """
        message: Message = unpack(self._connection.recv_bytes())
        return message

    def waiting(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        return self._connection.poll(0)

    def close(self) -> None:
        """Closes this end; the other sees the end of the stream."""
        self._connection.close()
