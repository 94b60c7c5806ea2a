"""Loops of a program that say how many turns they have, and how they show their progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mpcpriv.errors import UsageError

QUIET: Final = 2.0
"""Seconds before a loop shows anything."""
_REDRAW: Final = 0.2  # seconds, on a terminal
_REPEAT: Final = 10.0  # seconds, where lines pile up


@dataclass
class Progress:
    """How far a loop is.

    Attributes:
        name: what it does, in the program's words.
        turns: how many turns it has.
        done: how many are over.
        began: when it began, on `time.monotonic`'s clock.
        over: whether the loop has ended, early perhaps.
    """

    name: str
    turns: int
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    over: bool = False


Watcher = Callable[[tuple[Progress, ...]], None]
"""Called after each turn of any loop, and when one ends, with the loops that run, the outermost first."""


def counted(turns: object) -> int:
    """`turns` as a number of turns.

    Raises:
        UsageError: it is no whole number, or negative.
    """
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 0:
        raise UsageError(f"steps({turns!r}): the number of turns is a whole number, 0 or more")
    return turns


def describe(loops: tuple[Progress, ...]) -> str:
    """`epochs 2/5, batches 30/100: 41 s, about 82 s left`."""
    places = ", ".join(f"{loop.name} {loop.done}/{loop.turns}" for loop in loops)
    spent = time.monotonic() - loops[0].began
    done, share = 0.0, 1.0
    for loop in loops:
        share /= max(loop.turns, 1)
        done += loop.done * share
    left = f", about {spent / done - spent:.0f} s left" if 0 < done < 1 and not loops[0].over else ""
    return f"{places}: {spent:.0f} s{left}"


class Line:
    """Progress on stderr: on a terminal one line that is drawn anew, elsewhere a line every ten seconds.

    Where it is no terminal the outputs of several parties usually end up side by side, and all are equally
    far: the first party's is enough.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._next = 0.0  # when to show something again
        self._shown: Progress | None = None  # the outermost loop, once something of it was shown

    def __call__(self, loops: tuple[Progress, ...]) -> None:
        """Shows it, if it is time."""
        now, outermost = time.monotonic(), loops[0]
        terminal = sys.stderr.isatty()
        last = outermost.over and outermost is self._shown
        early = now - outermost.began < QUIET or now < self._next
        if (early and not last) or (self._rank and not terminal):
            return
        self._shown, self._next = (
            (None, 0.0) if last else (outermost, now + (_REDRAW if terminal else _REPEAT))
        )
        start, end = ("\r\x1b[K", "\n" if last else "") if terminal else ("", "\n")
        print(f"{start}{describe(loops)}{end}", end="", file=sys.stderr, flush=True)
