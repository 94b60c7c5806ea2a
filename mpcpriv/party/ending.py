"""How a member's program ended, in words: for its own owner, and for its peers.

The two differ. The owner sees his program's traceback; the peers see the *type* of the exception and
nothing else, because the text of an exception may quote the data that caused it. Where a table does not hold
what was agreed, they see whose, which and which columns: names that stand in the agreement.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from mpcpriv.errors import DataError, MpcprivError, PeerError

Kind = Literal["program", "died", "peer", "stopped"]

_PACKAGE = Path(__file__).parent.parent
_LEADING_IN = (str(_PACKAGE / "party"), "<frozen runpy>")


@dataclass(frozen=True)
class Failure:
    """Why a member did not end normally.

    Attributes:
        kind: `program`: its own program failed or asked for something wrong; `died`: its process ended
            without a word; `peer`: another member failed; `stopped`: the launcher or the keyboard stopped it.
        summary: one line for the owner.
        text: what the owner is shown: the summary, or a traceback for an exception of the program's own.
        reason: one line for the peers; never carries data.
        peer: the member at fault, where `kind` is `peer`.
    """

    kind: Kind
    summary: str
    text: str
    reason: str
    peer: str | None = None


@dataclass(frozen=True)
class Ending:
    """What a program returned, or why it did not."""

    value: object = None
    failure: Failure | None = None


def explain(error: BaseException) -> Failure:
    """Puts the exception that ended a program into words."""
    kind = type(error).__name__
    message = " ".join(str(error).split())
    if isinstance(error, PeerError):
        # Composed by the transport or the engine from names, counts and operations: safe to pass on.
        return Failure("peer", message, message, message, error.peer)
    if isinstance(error, KeyboardInterrupt):
        return Failure("stopped", "interrupted", "interrupted", "interrupted")
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return Failure("program", _one_line(error.code), error.code, kind)
        text = f"the program exited with status {error.code}"
        return Failure("program", text, text, kind)
    if isinstance(error, MpcprivError):
        place = _place(error)
        text = f"{place}: {message}" if place else message
        return Failure("program", text, text, error.told if isinstance(error, DataError) else kind)
    summary = f"{kind}: {message}" if message else kind
    frames = _programs_own(error.__traceback__)
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n")
    return Failure("program", summary, text, kind)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _programs_own(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that led into the program: this package's and runpy's."""
    here = frames
    while here is not None:
        name = here.tb_frame.f_code.co_filename
        if not name.startswith(_LEADING_IN):
            return here
        here = here.tb_next
    return None


def _place(error: BaseException) -> str | None:
    """`file.py:12` of the innermost line of the user's own files, for a mistake of the user's."""
    place = None
    here = _programs_own(error.__traceback__)
    while here is not None:
        name = Path(here.tb_frame.f_code.co_filename)
        if name.is_relative_to(_PACKAGE) or "site-packages" in name.parts:
            break
        place = f"{name.name}:{here.tb_lineno}"
        here = here.tb_next
    return place
