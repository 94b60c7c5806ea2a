"""A report as PDF, by fpdf2: pure Python, text that can be selected, tables that go on over pages."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpcpriv.analyses.shown import Table
from mpcpriv.errors import UsageError
from mpcpriv.report import numbers
from mpcpriv.report.plots import described, draw
from mpcpriv.report.text import parts, printable

if TYPE_CHECKING:
    from mpcpriv.report.report import Report

_FONT: Final = "DejaVu"  # comes with matplotlib, and has Latin, Greek and Cyrillic
_MOST_ROWS: Final = 200
"""Of a table: more belong into a file."""
_ACROSS: Final = 92
"""Letters of the small size beside each other."""
_LINE: Final = 5.0


def report_pdf(report: Report) -> bytes:
    """The file; the same one each time.

    Raises:
        UsageError: fpdf2 or matplotlib is not installed.
    """
    pdf = _new(report)
    _text(pdf, report.title, 15, "B")
    _pairs(pdf, report.facts)
    _table(pdf, report.inputs)
    _heading(pdf, "Result")
    for table in report.tables:
        _table(pdf, table)
    for plot in report.plots:
        picture = io.BytesIO(draw(plot, "png"))
        pdf.image(
            picture, w=pdf.epw, h=_height(pdf, picture), keep_aspect_ratio=True, alt_text=described(plot)
        )
    _heading(pdf, "What the result tells of single rows")
    _list(pdf, report.privacy)
    _heading(pdf, "What is not promised")
    _list(pdf, report.not_promised)
    _heading(pdf, "What was told, and how it was computed")
    _pairs(pdf, report.meanings)
    _text(pdf, report.method)
    _heading(pdf, "Provenance")
    _text(pdf, "SHA-256 digests, by which the members' signed audit logs name the same things.")
    _pairs(pdf, report.provenance)
    return bytes(pdf.output())


def _new(report: Report) -> Any:
    try:
        import matplotlib
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise UsageError(
            f"PDF needs {error.name}, which is not here: pip install 'mpcpriv[report]'"
        ) from None
    # It names each letter that a font does not have; they are drawn as boxes.
    logging.getLogger("fpdf").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    pdf = FPDF(format="A4")
    pdf.add_font(_FONT, "", fonts / "DejaVuSans.ttf")
    pdf.add_font(_FONT, "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.set_title(printable(report.title))
    pdf.set_creation_date(report.job.created)
    pdf.set_lang("en")
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, 18)
    pdf.add_page()
    return pdf


def _text(pdf: Any, text: str, size: float = 9, style: str = "") -> None:
    pdf.set_font(_FONT, style, size)
    pdf.multi_cell(0, size * 0.55, printable(text), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


def _heading(pdf: Any, text: str) -> None:
    pdf.ln(3)
    _text(pdf, text, 11, "B")


def _list(pdf: Any, sentences: Iterable[str]) -> None:
    for sentence in sentences:
        _text(pdf, f"\u2022 {sentence}")


def _pairs(pdf: Any, pairs: Mapping[str, str]) -> None:
    for name, text in pairs.items():
        _text(pdf, f"{name}: {text}")


def _height(pdf: Any, picture: io.BytesIO) -> float:
    """Of a picture as wide as the text, unless that is more than a page."""
    width, height = struct.unpack(">II", picture.getbuffer()[16:24])  # of its header, PNG section 11.2.2
    return float(min(pdf.epw * height / width, pdf.eph))


def _table(pdf: Any, table: Table) -> None:
    headings = list(table.columns)
    columns = [
        [printable(cell) for cell in numbers.column(heading, cells[:_MOST_ROWS])]
        for heading, cells in table.columns.items()
    ]
    rows = max((len(cells) for cells in table.columns.values()), default=0)
    if table.title:
        _text(pdf, table.title, 9, "B")
    pdf.set_font(_FONT, "", 8)
    longest = [
        min(max(map(len, [heading, *cells])), _ACROSS // 2)
        for heading, cells in zip(headings, columns, strict=True)
    ]
    for places in parts(longest, _ACROSS):
        right = [
            not any(isinstance(cell, str) for cell in table.columns[headings[place]]) for place in places
        ]
        with pdf.table(
            text_align=["RIGHT" if one else "LEFT" for one in right],
            col_widths=[longest[place] + 2 for place in places],
            width=min(pdf.epw, 1.9 * sum(longest[place] + 2 for place in places)),
            align="LEFT",
            line_height=_LINE,
            borders_layout="HORIZONTAL_LINES",
        ) as drawn:
            head = drawn.row()
            for place in places:
                head.cell(printable(headings[place]))
            for number in range(min(rows, _MOST_ROWS)):
                line = drawn.row()
                for place in places:
                    line.cell(columns[place][number])
        pdf.ln(2)
    if rows > _MOST_ROWS:
        _text(
            pdf,
            f"The first {_MOST_ROWS} of {rows} rows; all of them are in the files of --csv and --parquet.",
        )
    for note in table.notes:
        _text(pdf, note, 8)
