"""Tables as files: CSV for spreadsheets, Parquet for programs, one file per table, at full precision."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpcpriv.analyses.shown import Cell, Table
from mpcpriv.documents import write_new
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_LONGEST: Final = 60


def write_csv(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Writes `1-title.csv` and so on, UTF-8 with a heading.

    Text that a spreadsheet would take for a formula gets an apostrophe before it, as OWASP advises; numbers
    are left alone. For the text as it is there are Parquet and JSON.

    Returns:
        the files.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    return _write(tables, folder, "csv", _csv)


def write_parquet(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Writes `1-title.parquet` and so on.

    Returns:
        the files.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    return _write(tables, folder, "parquet", _parquet)


def arrow(table: Table) -> pa.Table:
    """The same in Arrow's format: a column of text if a cell of it is text, of floats if one is a float.

    A column without a heading is called `name`.
    """
    import pyarrow as pa

    cells = table.columns.values()
    return pa.table(dict(zip(_headings(table), map(_alike, cells), strict=True)))


def _headings(table: Table) -> list[str]:
    """Of its columns; a column without one gets a name that no other has."""
    name = "name"
    while name in table.columns:
        name += "_"
    return [heading or name for heading in table.columns]


def _write(
    tables: Sequence[Table], folder: Path, suffix: str, content: Callable[[Table], bytes]
) -> list[Path]:
    paths = [
        folder / f"{number}-{_slug(table.title)}.{suffix}" for number, table in enumerate(tables, start=1)
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); name a folder") from None
    for path, table in zip(paths, tables, strict=True):
        write_new(path, content(table))
    return paths


def _csv(table: Table) -> bytes:
    out = io.StringIO(newline="")
    # All text in quotes: a spreadsheet that splits at semicolons must not find a formula behind one.
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([_text(heading) for heading in _headings(table)])
    writer.writerows(zip(*([_text(cell) for cell in cells] for cells in table.columns.values()), strict=True))
    return out.getvalue().encode()


def _text(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _parquet(table: Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(arrow(table), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _alike(cells: Sequence[Cell]) -> pa.Array:
    import pyarrow as pa

    if any(isinstance(cell, str) for cell in cells):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    if any(isinstance(cell, float) for cell in cells):
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return pa.array(cells, pa.int64())


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_LONGEST].rstrip("-") or "table"
