"""Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from mpcpriv.data.contained import Scanned, contained, file_name_only, text
from mpcpriv.errors import UsageError


@contextmanager
def opened(path: Path, where: str) -> Iterator[Scanned]:
    """The table in this file.

    Raises:
        UsageError: it is none; while it is read, too.
    """
    file_name_only(path, where)
    file = text(str(path))
    try:
        with contained(path) as connection:
            header = _names(connection, file)
            yield Scanned(connection, f"read_parquet({file})", header, header)
    except duckdb.Error as error:
        # What DuckDB says may quote cells: nothing of it is passed on.
        if re.search("unicode|utf-?8|string encoding", str(error), re.IGNORECASE):
            raise UsageError(f"{where} is not UTF-8; convert it") from None
        raise UsageError(f"{where} is no table; write it as Parquet anew") from None


def _names(connection: duckdb.DuckDBPyConnection, file: str) -> list[str]:
    """The names of the outermost columns, as written: DuckDB renames those that occur twice."""
    rows = connection.execute(
        f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({file})"  # noqa: S608 -- quoted
    ).fetchall()
    names, inside = [], 0  # depth first; the root comes first
    for name, children in rows[1:]:
        if not inside:
            names.append(str(name))
        inside += children - bool(inside)
    return names
