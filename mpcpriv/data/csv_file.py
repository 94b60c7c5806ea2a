"""CSV: UTF-8 with a header; separated by a comma, semicolon, tab or bar, whichever splits the header into the
most names; quoted by `"`. An empty field is missing; no word means that.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from mpcpriv.data.contained import Scanned, contained, file_name_only, text
from mpcpriv.errors import UsageError

DELIMITERS: Final = (",", ";", "\t", "|")
_HEADER_BYTES: Final = 1 << 20


@contextmanager
def opened(path: Path, where: str) -> Iterator[Scanned]:
    """The table in this file.

    Raises:
        UsageError: it is none; while it is read, too.
    """
    file_name_only(path, where)
    delimiter, header = _header(path, where)
    inside = [f"c{i}" for i in range(len(header))]
    spec = ", ".join(f"{text(one)}: 'VARCHAR'" for one in inside)
    relation = (
        f"read_csv({text(str(path))}, auto_detect = false, header = true, delim = {text(delimiter)}, "
        f"quote = '\"', escape = '\"', strict_mode = true, nullstr = '', columns = {{{spec}}})"
    )
    try:
        with contained(path) as connection:
            yield Scanned(connection, relation, header, inside)
    except duckdb.Error as error:
        # What DuckDB says may quote rows, so that only the number of the line is taken from it.
        said = str(error)
        line = re.search(r"CSV Error on Line: (\d+)", said)
        at = f" (line {line[1]})" if line else ""
        if re.search("unicode|utf-?8", said, re.IGNORECASE):
            raise UsageError(f"{where} is not UTF-8{at}; convert it") from None
        raise UsageError(
            f"{where} is no table{at}; give each line as many fields as the header, and end all lines alike"
        ) from None


def _header(path: Path, where: str) -> tuple[str, list[str]]:
    """The delimiter and the names in the first line."""
    try:
        with path.open("rb") as file:
            first = file.readline(_HEADER_BYTES).decode("utf-8-sig")
        split = [(delimiter, next(csv.reader([first], delimiter=delimiter), [])) for delimiter in DELIMITERS]
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8; convert it") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})") from None
    except csv.Error:
        raise UsageError(f"{where} is no table; end its lines as Unix or Windows does") from None
    delimiter, names = max(split, key=lambda found: len(found[1]))
    if not names:
        raise UsageError(f"{where} is empty; its first line names the columns")
    return delimiter, names
