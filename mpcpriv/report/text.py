"""A report on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from mpcpriv.analyses.shown import Cell, Table
from mpcpriv.report import numbers

if TYPE_CHECKING:
    from mpcpriv.report.report import Report

_GAP: Final = 2
WIDTH: Final = 100
"""Of a table, where nothing else is said."""


def printable(text: object) -> str:
    """Text that others wrote, to be shown and not obeyed: no escapes, no line breaks, no turned direction."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def report_text(report: Report, width: int = WIDTH) -> str:
    """What was asked, the tables, and what is promised of them."""
    job = report.job
    asked = (
        f"job {job.digest()[:8]} of {job.submitter} for {job.purpose}, under {job.agreement} version "
        f"{job.version}"
    )
    blocks = [f"{printable(report.title)}\n{asked}", *(table_text(table, width) for table in report.tables)]
    blocks.append("\n".join(_sentence(printable(sentence), width) for sentence in report.privacy))
    return "\n\n".join(blocks)


def table_text(table: Table, width: int = WIDTH) -> str:
    """A table in the layout of statsmodels; one that is wider than `width` in parts, one below the other."""
    headings = [printable(heading) for heading in table.columns]
    cells = [
        [printable(cell) for cell in numbers.column(heading, column)]
        for heading, column in table.columns.items()
    ]
    widths = [max(map(cell_len, [heading, *column])) for heading, column in zip(headings, cells, strict=True)]
    left = [_left(column) for column in table.columns.values()]
    lines = [printable(table.title)] if table.title else []
    for places in parts(widths, width):
        total = sum(widths[place] + _GAP for place in places) - _GAP
        rows = [[headings[place] for place in places]]
        rows += [[cells[place][row] for place in places] for row in range(max(map(len, cells), default=0))]
        written = [
            (" " * _GAP)
            .join(_padded(text, widths[place], left[place]) for text, place in zip(row, places, strict=True))
            .rstrip()
            for row in rows
        ]
        lines += ["=" * total, written[0], "-" * total, *written[1:], "=" * total]
    lines += [printable(note) for note in table.notes]
    return "\n".join(lines)


def parts(widths: Sequence[int], most: int) -> Iterator[list[int]]:
    """The places of columns that fit beside each other, the first one, which names the rows, in each part."""
    part: list[int] = []
    for place, width in enumerate(widths):
        if len(part) > 1 and sum(widths[one] + _GAP for one in part) + width > most:
            yield part
            part = [0]
        part.append(place)
    if part:
        yield part


def _sentence(text: str, width: int) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _left(column: Sequence[Cell]) -> bool:
    return any(isinstance(cell, str) for cell in column)


def _padded(text: str, width: int, left: bool) -> str:
    space = " " * (width - cell_len(text))
    return text + space if left else space + text
