"""Where a party's table is, as its configuration declares it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TableFile:
    """A table or view in a DuckDB file.

    Attributes:
        path: of the file.
        table: `name`, or `schema.name`.
    """

    path: Path
    table: str


@dataclass(frozen=True)
class Postgres:
    """A table or view in a PostgreSQL database.

    Attributes:
        server: what libpq connects by, a URL or `host=... dbname=...`; it may hold a password, so that
            it is in no error, log or repr.
        table: `name`, or `schema.name`.
    """

    server: str = field(repr=False)
    table: str


Source = Path | TableFile | Postgres
"""A path is that of a CSV, Parquet or Arrow file, by its ending."""


def parts(table: str) -> list[str]:
    """`schema.name` as these two, `name` as this one."""
    return table.split(".", 1)
