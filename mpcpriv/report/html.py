"""A report as one HTML page that loads nothing: style and pictures are in it, and it may run no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Final

from mpcpriv.analyses.shown import Table
from mpcpriv.report import numbers
from mpcpriv.report.plots import described, draw
from mpcpriv.report.text import printable

if TYPE_CHECKING:
    from mpcpriv.report.report import Report

# What came from others is escaped; should something not be, the browser is told to run and load nothing.
_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; display: block;
        overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
th.n, td.n { text-align: right; }
thead th { border-bottom: 1px solid #1a1a1a; } tbody tr:last-child > * { border-bottom: 1px solid #1a1a1a; }
tbody th { font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #555; } dd { margin: 0; }
.digest, dd { overflow-wrap: anywhere; } .digest { font-family: ui-monospace, monospace; font-size: .85rem; }
img { max-width: 100%; height: auto; } .note { color: #555; margin-top: -.5rem; }
@media print { body { margin: 0; max-width: none; } table, img { break-inside: avoid; } }
"""


def report_html(report: Report) -> str:
    """The page.

    Raises:
        UsageError: there are plots, and matplotlib is not installed.
    """
    body = [
        f"<h1>{_safe(report.title)}</h1>",
        _pairs(report.facts),
        table_html(report.inputs),
        "<h2>Result</h2>",
        *map(table_html, report.tables),
    ]
    for plot in report.plots:
        picture = base64.b64encode(draw(plot, "svg")).decode()
        body.append(
            f'<figure><img src="data:image/svg+xml;base64,{picture}" alt="{_safe(described(plot))}"></figure>'
        )
    body += [
        "<h2>What the result tells of single rows</h2>",
        _list(report.privacy),
        "<h2>What is not promised</h2>",
        _list(report.not_promised),
        "<h2>What was told, and how it was computed</h2>",
        _pairs(report.meanings),
        f"<p>{_safe(report.method)}</p>",
        "<h2>Provenance</h2>",
        "<p>SHA-256 digests, by which the members' signed audit logs name the same things.</p>",
        _pairs(report.provenance, "digest"),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table_html(table: Table) -> str:
    """One table; the texts of its first column are headings of their rows."""
    columns = [
        (heading, numbers.column(heading, cells), not any(isinstance(cell, str) for cell in cells))
        for heading, cells in table.columns.items()
    ]
    head = "".join(f'<th scope="col"{_right(right)}>{_safe(heading)}</th>' for heading, _, right in columns)
    lines = []
    for row in range(max((len(cells) for _, cells, _ in columns), default=0)):
        line = []
        for place, (_, cells, right) in enumerate(columns):
            tag, scope = ("th", ' scope="row"') if place == 0 and not right else ("td", "")
            line.append(f"<{tag}{scope}{_right(right)}>{_safe(cells[row])}</{tag}>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    caption = f"<caption>{_safe(table.title)}</caption>" if table.title else ""
    notes = "".join(f'<p class="note">{_safe(note)}</p>' for note in table.notes)
    body = "\n".join(lines)
    return f"<table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>{notes}"


def _pairs(pairs: Mapping[str, str], kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return (
        "<dl>"
        + "".join(f"<dt>{_safe(name)}</dt><dd{mark}>{_safe(text)}</dd>" for name, text in pairs.items())
        + "</dl>"
    )


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_safe(sentence)}</li>" for sentence in sentences) + "</ul>"


def _right(right: bool) -> str:
    return ' class="n"' if right else ""


def _safe(text: object) -> str:
    """Text of others as text: also what would turn the direction of the rest."""
    return escape(printable(text))
