"""DuckDB that can read what it was given and nothing else.

Nothing that a name or a table's content says can make it read or write another file, load an extension, reach
the network, or see a variable of this program; nothing is spilt to a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def contained(path: Path | None = None, attached: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read this one file, or none.

    Args:
        path: the file, resolved.
        attached: the file is a database; it is attached under this name, to be read only.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": "",
        },
    )
    try:
        if path is not None and attached:
            connection.execute(f"ATTACH {text(str(path))} AS {name(attached)} (READ_ONLY, TYPE duckdb)")
        elif path is not None:
            connection.execute(f"SET allowed_paths = [{text(str(path))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


_WHOLE: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_TEXTUAL: Final = {"VARCHAR", "UUID", "DATE", *_WHOLE, *(f"U{kind}" for kind in _WHOLE)}


class Scanned:
    """A table that DuckDB scans.

    Args:
        connection: contained.
        relation: what stands after FROM.
        header: the names of its columns, as written.
        inside: what DuckDB calls them.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, relation: str, header: list[str], inside: list[str]
    ) -> None:
        self.header = header
        self._connection, self._relation, self._inside = connection, relation, inside

    def textual(self, columns: Sequence[int]) -> list[bool]:
        """See `Cells.textual`."""
        chosen = ", ".join(name(self._inside[place]) for place in columns)
        types = self._connection.sql(f"SELECT {chosen} FROM {self._relation}").types  # noqa: S608 -- as in `read`
        return [str(one) in _TEXTUAL or one.id == "enum" for one in types]

    def read(self, columns: Sequence[int], rows: int) -> Iterator[pa.RecordBatch]:
        """See `Cells.read`: streamed, in the order of the table."""
        chosen = ", ".join(
            f'CAST({name(self._inside[place])} AS VARCHAR) AS "v{i}"' for i, place in enumerate(columns)
        )
        query = f"SELECT {chosen} FROM {self._relation}"  # noqa: S608 -- quoted, here and by who opened it
        yield from self._connection.sql(query).to_arrow_reader(rows)


def file_name_only(path: Path, where: str) -> None:
    """Refuses a path that DuckDB would take for a pattern of paths."""
    if re.search(r"[*?\[\]{}]", str(path)):
        raise UsageError(f"{where} reads as a pattern of names; rename the file")


def text(value: str) -> str:
    """As an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """As an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
