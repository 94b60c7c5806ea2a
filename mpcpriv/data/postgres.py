"""A table or view in PostgreSQL, by COPY: one statement, so one state of the table; in a transaction that may
only read.

psycopg is what the daemon's state is kept by, too. Two million rows of four columns come in 4.6 s. ADBC's
driver gives them in 1.4 s, for a second native client; a job takes longer than either over so many rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mpcpriv.data.declared import Postgres, parts
from mpcpriv.errors import Unsupported, UsageError

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_CONNECT_SECONDS: Final = 20
_BLOCK: Final = 1 << 23
"""Bytes that are parsed at once; no row may be longer (a row has one value of each agreed column)."""

_TEXTUAL: Final = """
    SELECT oid FROM pg_type WHERE oid = ANY(%s)
    AND (typcategory IN ('S', 'E') OR typname IN ('uuid', 'int2', 'int4', 'int8', 'date'))
"""
"""Types of the category of strings, citext among them, and enumerations: each is written in one way only."""


class _Copied(io.RawIOBase):
    """What a COPY sends, as a file."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._rows, self._rest = iter(copy), b""

    def ended(self) -> bool:
        """Whether nothing is left."""
        self._rest = self._rest or bytes(next(self._rows, b""))
        return not self._rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or fewer at the end."""
        pieces, held = [self._rest], len(self._rest)
        while size < 0 or held < size:
            row = next(self._rows, None)
            if row is None:
                break
            pieces.append(bytes(row))
            held += len(row)
        data = b"".join(pieces)
        end = len(data) if size < 0 else size
        self._rest = data[end:]
        return data[:end]


class _Table:
    def __init__(self, connection: psycopg.Connection, table: str) -> None:
        from psycopg import sql

        self._connection, self._table = connection, sql.Identifier(*parts(table))
        found = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(self._table)).description
        self.header = [column.name for column in found or []]
        self._types = [column.type_code for column in found or []]

    def textual(self, columns: Sequence[int]) -> list[bool]:
        """See `Cells.textual`."""
        types = [self._types[place] for place in columns]
        textual = {oid for (oid,) in self._connection.execute(_TEXTUAL, [types])}
        return [one in textual for one in types]

    def read(self, columns: Sequence[int], rows: int) -> Iterator[pa.RecordBatch]:
        """See `Cells.read`."""
        import pyarrow as pa
        from psycopg import sql
        from pyarrow import csv

        names = [f"v{i}" for i in range(len(columns))]
        chosen = sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(self.header[place])) for place in columns
        )
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv)").format(chosen, self._table)
        with self._connection.cursor().copy(query) as copy:
            file = _Copied(copy)
            if file.ended():
                return  # pyarrow refuses what is empty
            reader = csv.open_csv(
                file,
                read_options=csv.ReadOptions(column_names=names, block_size=_BLOCK),
                # A row of one NULL is an empty line.
                parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            )
            for batch in reader:
                for first in range(0, batch.num_rows, rows):
                    yield batch.slice(first, rows)


@contextmanager
def opened(source: Postgres, where: str) -> Iterator[_Table]:
    """The table.

    Raises:
        UsageError: the database cannot be reached, or has no such table for this user; while it is read, too.
        Unsupported: psycopg is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise Unsupported(f"{where} needs psycopg; install mpcpriv[postgres]") from None
    import pyarrow as pa

    # What the server or libpq says may quote cells, or the password: nothing of it is passed on.
    try:
        connection = psycopg.connect(
            source.server,
            client_encoding="UTF8",
            connect_timeout=_CONNECT_SECONDS,
            application_name="mpcpriv",
        )
    except psycopg.Error:
        raise UsageError(
            f"{where}: the database cannot be reached, or does not let this user in; try the same with psql"
        ) from None
    try:
        with connection:
            connection.read_only = True
            yield _Table(connection, source.table)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise UsageError(f"{where} is not there; correct its name in the configuration") from None
    except psycopg.errors.InsufficientPrivilege:
        raise UsageError(f"{where} may not be read by this user; GRANT SELECT on it") from None
    except (psycopg.errors.CharacterNotInRepertoire, psycopg.errors.UntranslatableCharacter):
        raise UsageError(f"{where} is not UTF-8; convert it") from None
    except pa.ArrowException as error:
        if "utf8" in str(error).lower():
            raise UsageError(f"{where} is not UTF-8; convert it") from None
        raise UsageError(f"{where} cannot be read: a row is longer than {_BLOCK >> 20} MiB") from None
    except psycopg.Error as error:
        raise UsageError(f"{where} cannot be read ({type(error).__name__})") from None
    finally:
        connection.close()
