"""The output of several processes on one terminal: whole lines, each with the name of who wrote it."""

from __future__ import annotations

import codecs
import os
import time
from typing import Final, TextIO

_COLOURS: Final = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")
_DIM: Final = "2"
_RESET: Final = "\x1b[0m"

PATIENCE: Final = 2.0
"""Seconds after which an unfinished line (a progress bar, a row of dots) is shown as it stands."""


def colourful(stream: TextIO) -> bool:
    """Whether colours make sense on `stream` (https://no-color.org is honoured)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Prefixed:
    """One output stream of one process, written line by line to `target` as `name | line`.

    A carriage return starts a line anew, so of a progress bar only its latest state is shown, at most
    once every `PATIENCE` seconds and when the line ends.

    Args:
        name: what stands before each line.
        width: the width of the name's column, in characters.
        index: the member's rank, which picks its colour; None for a dim prefix.
        target: where the lines go.
    """

    def __init__(self, name: str, width: int, index: int | None, target: TextIO) -> None:
        prefix = f"{name:<{width}} |"
        self._coloured = colourful(target)
        if self._coloured:
            colour = _DIM if index is None else _COLOURS[index % len(_COLOURS)]
            prefix = f"\x1b[{colour}m{prefix}{_RESET}"
        self._prefix = prefix
        self._target = target
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""
        self._since = 0.0
        self._cut = False  # the line's beginning was shown already

    def feed(self, data: bytes) -> None:
        """Takes what the process wrote; writes the lines that are complete."""
        text = self._line + self._decoder.decode(data)
        *lines, rest = text.split("\n")
        for number, line in enumerate(lines):
            shown = _latest(line.removesuffix("\r"))
            if shown or number or not self._cut:
                self._write(shown)
            self._cut = False
        if lines or not self._line:
            self._since = time.monotonic()
        # Only the latest state of a progress bar is kept, so that its past does not pile up.
        self._line = "\r" + _latest(rest) if "\r" in rest else rest

    def tick(self) -> None:
        """Shows an unfinished line that has stood for `PATIENCE` seconds."""
        if self._line and time.monotonic() - self._since > PATIENCE:
            self.flush()
            self._cut = True

    def flush(self) -> None:
        """Shows the unfinished line, if there is one."""
        line = _latest(self._line)
        self._line = ""
        if line:
            self._write(line)

    def say(self, line: str) -> None:
        """Writes a line of the launcher's own about this process."""
        self._write(line)

    def _write(self, line: str) -> None:
        end = f"{_RESET}\n" if self._coloured and "\x1b" in line else "\n"
        # One call: lines of several threads or processes on one terminal do not mix.
        self._target.write(f"{self._prefix} {line}{end}")
        self._target.flush()


def _latest(line: str) -> str:
    """What a terminal would show of a line with carriage returns in it."""
    return next((part for part in reversed(line.split("\r")) if part), "")
