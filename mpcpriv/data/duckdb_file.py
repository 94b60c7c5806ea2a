"""A table or view in a DuckDB file, which is attached to be read only.

A view may read the other tables of the file, as its owner wrote it, but no file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from mpcpriv.data.contained import Scanned, contained, name
from mpcpriv.data.declared import TableFile, parts
from mpcpriv.errors import UsageError

_FILE = "source"


@contextmanager
def opened(source: TableFile, where: str) -> Iterator[Scanned]:
    """The table.

    Raises:
        UsageError: the file is no database or has no such table; while it is read, too.
    """
    schema, table = parts(source.table) if "." in source.table else ("main", source.table)
    try:
        with contained(source.path.resolve(), _FILE) as connection:
            found = connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE database_name = $1 AND schema_name = $2 "
                "AND table_name = $3 ORDER BY column_index",
                [_FILE, schema, table],
            ).fetchall()
            if not found:
                raise UsageError(f"{where} is not there; correct its name in the configuration")
            header = [str(row[0]) for row in found]
            yield Scanned(connection, ".".join(map(name, (_FILE, schema, table))), header, header)
    except duckdb.IOException:
        raise UsageError(
            f"{where} cannot be opened: the file is no DuckDB database of this version, or another program "
            "writes to it"
        ) from None
    except duckdb.Error:
        # What DuckDB says may quote cells: nothing of it is passed on.
        raise UsageError(
            f"{where} cannot be read; a view may read nothing but the tables of its file"
        ) from None
