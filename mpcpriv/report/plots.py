"""Plots: histograms, bars, curves with bands, forests, in colours that everybody tells apart."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mpcpriv.analyses.shown import Bars, Forest, Histogram, Lines, Shown
from mpcpriv.errors import UsageError
from mpcpriv.report.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# M. Okabe and K. Ito, "Color Universal Design", 2008, without the yellow, which is faint on white.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_STYLES: Final = ("-", "--", "-.", ":")
_LONGEST: Final = 40
"""Letters of a name in a plot."""
_DOTS: Final = 200
"""Per inch, of a plot as pixels."""
_WIDTH: Final = 6.8
_HEIGHT: Final = 3.6
_ROW: Final = 0.3
_TALLEST: Final = 40.0
_INK: Final = "#333333"
LEFT_OUT: Final = "without what is infinite or undefined"
"""What a picture says that does not show all."""


def draw(shown: Shown, kind: Literal["svg", "png"]) -> bytes:
    """A picture of it; the same one each time.

    Args:
        shown: anything but a table.
        kind: of the file.

    Raises:
        UsageError: matplotlib is not installed.
    """
    with _style():
        from matplotlib.figure import Figure

        rows = len(shown.names) if isinstance(shown, Forest | Bars) else 0
        height = min(max(_HEIGHT * (not isinstance(shown, Forest)), 1.2 + _ROW * rows), _TALLEST)
        shown, whole = _finite(shown)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        _DRAWN[type(shown)](axes, shown)
        title = _name(shown.title) if whole else f"{_name(shown.title)} ({LEFT_OUT})"
        axes.set_title(title, loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        out = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=_DOTS, metadata=metadata)
    return out.getvalue()


def described(shown: Shown) -> str:
    """What a picture of it shows, for those who do not see it; its numbers are in the tables."""
    title = printable(shown.title)
    if isinstance(shown, Histogram):
        return f"Histogram: {title}, {len(shown.heights)} bars over {printable(shown.x)}"
    if isinstance(shown, Bars):
        return f"Bars: {title}, {len(shown.names)} of them"
    if isinstance(shown, Forest):
        return f"Estimates with intervals: {title}, {len(shown.names)} of them"
    if isinstance(shown, Lines):
        return f"Curves: {title}, {', '.join(printable(line.name) for line in shown.lines)}"
    return title


def _finite(shown: Any) -> tuple[Any, bool]:
    """The same with NaN, which is not drawn, for infinite numbers; and whether there was neither."""
    changes: dict[str, Any] = {}
    whole = True
    for field in fields(shown):
        value = getattr(shown, field.name)
        if field.name == "lines":
            lines = [_finite(line) for line in value]
            changes["lines"] = [line for line, _ in lines]
            whole &= all(said for _, said in lines)
        elif not isinstance(value, str | bool | Mapping) and value is not None and field.name != "names":
            numbers = np.asarray(value, dtype=np.float64)
            kept = np.where(np.isfinite(numbers), numbers, np.nan)
            changes[field.name] = kept.tolist()
            whole &= not np.isnan(kept).any()
    return replace(shown, **changes), whole


@contextmanager
def _style() -> Iterator[None]:
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError:
        raise UsageError("plots need matplotlib, which is not here: pip install 'mpcpriv[report]'") from None
    settings: dict[Any, Any] = {
        # Names come from others: a dollar in one is no formula.
        "text.parse_math": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "mpcpriv",
        "axes.edgecolor": _INK,
        "axes.titlecolor": _INK,
        "font.size": 9,
    }
    with rc_context(settings), warnings.catch_warnings():
        # A letter that the font does not have is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def _histogram(axes: Axes, shown: Histogram) -> None:
    edges = np.asarray(shown.edges, dtype=np.float64)
    axes.bar(
        edges[:-1], shown.heights, np.diff(edges), align="edge", color=COLOURS[0], edgecolor="white", lw=0.5
    )
    axes.set_xlabel(_name(shown.x))


def _bars(axes: Axes, shown: Bars) -> None:
    places = np.arange(len(shown.names))
    margins: Any = {"xerr": shown.margins, "capsize": 3, "ecolor": _INK} if shown.margins else {}
    # Lying down: names of any length stand beside them.
    axes.barh(places, shown.heights, color=COLOURS[0], **margins)
    axes.set_yticks(places, [_name(name) for name in shown.names])
    axes.invert_yaxis()


def _lines(axes: Axes, shown: Lines) -> None:
    handles = []
    for number, line in enumerate(shown.lines):
        colour = COLOURS[number % len(COLOURS)]
        style = _STYLES[number % len(_STYLES)]
        x: Any = line.x
        (handle,) = axes.plot(
            x, line.y, style, color=colour, drawstyle="steps-post" if shown.steps else "default"
        )
        handles.append(handle)
        if line.low and line.high:
            axes.fill_between(
                x,
                line.low,
                line.high,
                color=colour,
                alpha=0.2,
                lw=0,
                step="post" if shown.steps else None,
            )
    axes.set_xlabel(_name(shown.x))
    axes.set_ylabel(_name(shown.y))
    if len(handles) > 1:
        axes.legend(handles, [_name(line.name) for line in shown.lines], frameon=False)


def _forest(axes: Axes, shown: Forest) -> None:
    places = np.arange(len(shown.names))
    estimates = np.asarray(shown.estimates, dtype=np.float64)
    weights = np.asarray(shown.weights or np.ones(len(places)), dtype=np.float64)
    weights = np.nan_to_num(weights)
    largest = weights.max() if weights.size and weights.max() > 0 else 1.0
    axes.hlines(places, shown.low, shown.high, color=COLOURS[0], lw=1.2)
    axes.scatter(
        estimates,
        places,
        s=24 + 60 * weights / largest if shown.weights else 24,
        c=COLOURS[0],
        marker="s",
        zorder=3,
    )
    if shown.reference is not None:
        axes.axvline(shown.reference, color=_INK, lw=0.8, ls="--", zorder=0)
    axes.set_yticks(places, [_name(name) for name in shown.names])
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlabel(_name(shown.x))


_DRAWN: Final[dict[type, Callable[[Any, Any], None]]] = {
    Histogram: _histogram,
    Bars: _bars,
    Lines: _lines,
    Forest: _forest,
}


def _name(text: str) -> str:
    short = printable(text)
    return short if len(short) <= _LONGEST else f"{short[: _LONGEST - 1]}…"
