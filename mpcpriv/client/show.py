"""A job's progress, drawn anew at each change: on a terminal or in a notebook, and nowhere else."""

from __future__ import annotations

import importlib
import sys
from html import escape
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mpcpriv.client.view import View, listed

_COLOURS = {"finished": "green", "refused": "red", "failed": "red", "running": "cyan", "proposed": "yellow"}
_BAR = 30


class Display:
    """Shows views of one job until it is left. A terminal is stderr's, as for `mpcpriv.steps`.

    Args:
        shown: False shows nothing anywhere.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._live: Live | None = None
        self._cell: Any = None

    def __enter__(self) -> Self:
        console = Console(stderr=True, highlight=False)
        if self._shown and console.is_terminal and not _in_notebook():
            self._live = Live(console=console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: View) -> None:
        """Draws it in the place of the one before."""
        if self._live is not None:
            self._live.update(drawn(view))
        elif self._shown and _in_notebook():
            content = {"text/html": html(view), "text/plain": str(view)}
            if self._cell is None:
                # There in every notebook; nothing else of mpcpriv's needs it.
                notebook = importlib.import_module("IPython.display")
                self._cell = notebook.display(content, raw=True, display_id=True)
            else:
                self._cell.update(content, raw=True)


def drawn(view: View) -> RenderableType:
    """The job, what each member is at, and how far the loops are."""
    head = Text(f"{view.id[:8]} {view.job.analysis} ")
    head.append(view.state, _COLOURS[view.state])
    members = Table.grid(padding=(0, 2))
    for part in view.parts:
        members.add_row("", part.member, part.word)
    lines: list[RenderableType] = [head, members]
    for loop in view.progress:
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            "", loop.name, ProgressBar(loop.turns, loop.done, width=_BAR), f"{loop.done} of {loop.turns}"
        )
        lines.append(bar)
    lines.extend(Text(line) for line in listed(view.reasons))
    return Group(*lines)


def html(view: View) -> str:
    """The same for a notebook. All text in it is escaped: reasons come from other members."""
    rows = "".join(f"<tr><td>{escape(one.member)}</td><td>{escape(one.word)}</td></tr>" for one in view.parts)
    rows += "".join(
        f"<tr><td>{escape(loop.name)}</td><td><progress max='{loop.turns}' value='{loop.done}'></progress> "
        f"{loop.done} of {loop.turns}</td></tr>"
        for loop in view.progress
    )
    reasons = "".join(f"<li>{escape(line.strip())}</li>" for line in listed(view.reasons))
    head = f"{view.id[:8]} {escape(view.job.analysis)}: <b>{view.state}</b>"
    return f"<div>{head}<table>{rows}</table><ul>{reasons}</ul></div>"


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, and not a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
