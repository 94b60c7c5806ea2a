"""What an answer looks like: tables and plots as plain values, which `mpcpriv.report` draws.

Numbers only: text, HTML, a file or a picture is made of them elsewhere, so an analysis says once what belongs
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = int | float | str | None


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
        title: what it is.
        columns: by heading, from left to right; a cell that is None is empty.
        notes: what stands below it, a sentence each.
    """

    title: str
    columns: Mapping[str, Sequence[Cell]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Histogram:
    """Counts, or other heights, over neighbouring intervals.

    Attributes:
        title: what it is.
        x: what the axis says.
        edges: of the bars, one more than there are heights.
        heights: of the bars.
    """

    title: str
    x: str
    edges: Sequence[float]
    heights: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """A bar for each of several names.

    Attributes:
        title: what it is.
        names: of the bars.
        heights: of the bars.
        margins: of each, how far up and down its interval goes; none where empty.
    """

    title: str
    names: Sequence[str]
    heights: Sequence[float]
    margins: Sequence[float] = ()


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        name: in the legend.
        x, y: its points.
        low, high: of a band around it; none where empty.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Lines:
    """Lines over one axis.

    Attributes:
        title: what it is.
        x, y: what the axes say.
        lines: that are drawn.
        steps: whether y holds from each x to the next, as in a survival curve.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    steps: bool = False


@dataclass(frozen=True)
class Forest:
    """Estimates with their intervals, one below the other: a forest plot, a plot of coefficients.

    Attributes:
        title: what it is.
        x: what the axis says.
        names: from top to bottom.
        estimates, low, high: of each.
        reference: where a line marks no effect; None where there is none.
        weights: of each, the area of its square; equal where empty.
    """

    title: str
    x: str
    names: Sequence[str]
    estimates: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    reference: float | None = 0.0
    weights: Sequence[float] = field(default=())


Shown = Table | Histogram | Bars | Lines | Forest
