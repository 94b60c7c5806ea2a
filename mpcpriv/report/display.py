"""Which tables and plots an answer is: what its analysis says, or else what can be made of any answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpcpriv import analyses
from mpcpriv.analyses.analysis import Answer
from mpcpriv.analyses.shown import Bars, Cell, Forest, Histogram, Shown, Table
from mpcpriv.errors import UsageError


def display(analysis: str, answer: Answer) -> list[Shown]:
    """In the order in which it is read.

    Args:
        analysis: the name of the one that gave the answer; it need not be installed here.
        answer: as it is, or as it came back from JSON.
    """
    try:
        found = analyses.find(analysis)
    except UsageError:
        return default(analysis, answer)
    if isinstance(found, analyses.Showing):
        return list(found.show(answer))
    return default(found.title, answer)


def default(title: str, answer: Answer) -> list[Shown]:
    """Single values in one table, and lists of one length as columns of another, texts first.

    Args:
        title: of the first table.
        answer: any.
    """
    lists: dict[int, dict[str, Sequence[Cell]]] = {}
    alone: dict[str, Cell] = {}
    for name, value in answer.items():
        if isinstance(value, list):
            lists.setdefault(len(value), {})[name] = value
        else:
            alone[name] = value
    found: list[Shown] = []
    if alone:
        found.append(Table(title, {"": list(alone), "value": list(alone.values())}))
    for columns in lists.values():
        names = sorted(columns, key=lambda name: not _texts(columns[name]))
        found.append(Table("" if found else title, {name: columns[name] for name in names}))
    return found


def _texts(cells: Sequence[Cell]) -> bool:
    return any(isinstance(cell, str) for cell in cells)


def tables(shown: Sequence[Shown]) -> list[Table]:
    """Everything as tables, also what is drawn: the points of a curve, the bars of a histogram."""
    return [one if isinstance(one, Table) else _table(one) for one in shown]


def _table(one: Any) -> Table:
    columns: Mapping[str, Sequence[Cell]]
    if isinstance(one, Histogram):
        columns = {"from": one.edges[:-1], "to": one.edges[1:], "height": one.heights}
    elif isinstance(one, Bars):
        columns = {"name": one.names, "height": one.heights}
        if one.margins:
            columns = {**columns, "margin": one.margins}
    elif isinstance(one, Forest):
        columns = {"name": one.names, "estimate": one.estimates, "low": one.low, "high": one.high}
        if one.weights:
            columns = {**columns, "weight": one.weights}
    else:
        flat: dict[str, list[Cell]] = {"line": [], one.x or "x": [], one.y or "y": [], "low": [], "high": []}
        for line in one.lines:
            ends = [line.low or [None] * len(line.x), line.high or [None] * len(line.x)]
            for parts in zip(line.x, line.y, *ends, strict=True):
                for cells, cell in zip(flat.values(), (line.name, *parts), strict=True):
                    cells.append(cell)
        columns = flat
    return Table(one.title, columns)
