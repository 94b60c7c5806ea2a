"""The programs that a member can run: a function, a script, or the dealer's part.

`load` imports what takes long and may fail for local reasons; it runs before the members connect, so
that a member that cannot start says so instead of leaving the others waiting in the middle. `run` is a
function of the connected transport and nothing else.
"""

from __future__ import annotations

import hashlib
import importlib
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mpcpriv.errors import UsageError
from mpcpriv.transport.base import Transport

if TYPE_CHECKING:
    from mpcpriv.engine.loop import Watcher


class Program(Protocol):
    """What one member does in a job."""

    def load(self) -> None:
        """Imports what `run` needs."""

    def run(self, transport: Transport) -> object:
        """Does this member's part, then ends the session; the value goes to whoever launched it."""


@runtime_checkable
class Watched(Protocol):
    """A program whose progress is wanted elsewhere than on its stderr."""

    def watch(self, watcher: Watcher) -> None:
        """Has `watcher` told."""


def _engine() -> Any:
    # Late: torch and CrypTen take seconds to import, and a launcher's parent never needs them.
    return importlib.import_module("mpcpriv.engine")


@dataclass(frozen=True)
class Function:
    """A party that calls `function(*args)` with CrypTen ready."""

    function: Callable[..., object]
    args: tuple[object, ...] = ()

    def load(self) -> None:
        _engine().prepare()

    def run(self, transport: Transport) -> object:
        session = _engine().join(transport)
        value = self.function(*self.args)
        session.close()
        return value


@dataclass(frozen=True)
class Script:
    """A party that runs a Python file as `__main__`, as `python path argv...` would.

    Attributes:
        path: the file.
        argv: its arguments, without the name of the script.
        plan: it runs on zeros, and what it would cost is what `run` returns (`mpcpriv.engine.plan`).
    """

    path: Path
    argv: tuple[str, ...] = ()
    plan: bool = False

    def load(self) -> None:
        _engine().prepare()

    def run(self, transport: Transport) -> object:
        session = _engine().rehearse(transport) if self.plan else _engine().join(transport)
        sys.argv = [str(self.path), *self.argv]
        sys.path.insert(0, str(self.path.resolve().parent))
        try:
            runpy.run_path(str(self.path), run_name="__main__")
        except SystemExit as end:
            # Many programs check what they opened, and zeros are not it: in a plan that is an end like any.
            if end.code not in (None, 0) and not self.plan:
                raise
        cost = session.outlay() if self.plan else None
        session.close()
        return cost


@dataclass(frozen=True)
class Dealer:
    """The dealer: deals correlated randomness until every party has finished; it sees no data."""

    def load(self) -> None:
        _engine().prepare(dealer=True)

    def run(self, transport: Transport) -> object:
        _engine().deal(transport)
        return None


def read_script(path: Path) -> bytes:
    """The bytes of a script.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"script {str(path)!r}: there is no such file; check the path") from None
    except OSError as error:
        raise UsageError(
            f"script {str(path)!r}: cannot be read ({error.strerror}); name a readable file"
        ) from None


def script_digest(path: Path) -> bytes:
    """SHA-256 of a script's bytes: two members run the same program when it is equal."""
    return hashlib.sha256(read_script(path)).digest()
