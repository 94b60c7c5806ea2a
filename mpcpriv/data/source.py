"""A party's own table, from wherever its configuration says: typed and checked as was agreed, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.data import checks
from mpcpriv.data.cells import Cells
from mpcpriv.data.contained import contained
from mpcpriv.data.declared import Postgres, Source, TableFile
from mpcpriv.errors import DataError, UsageError

ROWS: Final = 1 << 17
"""In a batch."""


def load(source: Source, dataset: Dataset, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """The named columns of a table, whole: see `batches`."""
    found: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    for batch in batches(source, dataset, columns):
        for column, values in batch.items():
            found[column].append(values)
    whole = {}
    for column in columns:  # so that two columns are never held twice
        whole[column] = np.concatenate(found.pop(column))
    return whole


def batches(
    source: Source, dataset: Dataset, columns: Sequence[str], rows: int = ROWS
) -> Iterator[dict[str, np.ndarray]]:
    """The named columns of a table, checked against the terms of its data set, as a stream.

    The table is read once, and no more than a few batches are held. What was yielded may be used once the
    stream has ended: a mistake further on, or too few rows, is told at the end. From the first mistake on
    nothing is yielded any more, and the rest is read only to count.

    Args:
        source: where the table is.
        dataset: its terms.
        columns: which, in which order.
        rows: the most in a batch.

    Yields:
        by name, (rows,): float64 for numbers; int64 for integers, booleans (0 or 1), and categories, whose
        code is the place among the agreed ones; text as it stands for identifiers.

    Raises:
        UsageError: the source cannot be read.
        DataError: it does not hold what was agreed. The message names columns and how many rows, never a
            value.
    """
    terms = _terms(dataset, columns)
    ours = f"data set {dataset.name} of {dataset.owner}"
    with _opened(source, ours) as table, contained() as connection:
        _unique(table, dataset, ours)
        missing = [column.name for column in terms if column.name not in table.header]
        if missing:
            names = ", ".join(map(repr, missing))
            raise DataError(ours, missing, f"{ours}: {_shown(source)} has no column {names}")
        places = [table.header.index(column.name) for column in terms]
        _identifying(table, places, terms, ours)
        checked = checks.Checks(connection, terms)
        for cells in table.read(places, rows):
            try:
                typed = checked.typed(cells)
            except duckdb.Error:
                # What DuckDB says may quote cells: nothing of it is passed on.
                raise UsageError(f"{ours}: {_shown(source)} has cells that are no text or numbers") from None
            if typed is not None and cells.num_rows:
                yield dict(zip(columns, typed, strict=True))
        found = list(checked.problems())
        if checked.rows < max(dataset.minimum_rows, 1):
            least = max(dataset.minimum_rows, 1)
            found.insert(0, f"{checks.rows(checked.rows)}, and the agreement asks for {least} at least")
        if found:
            said = f"{ours}: {'; '.join(found)}; correct the table, or the agreement"
            raise DataError(ours, checked.columns(), said)


def _opened(source: Source, ours: str) -> AbstractContextManager[Cells]:
    """The reader of this kind of source; each is imported where it is needed."""
    where = f"{ours}: {_shown(source)}"
    if isinstance(source, Postgres):
        from mpcpriv.data import postgres

        return postgres.opened(source, where)
    path = source.path if isinstance(source, TableFile) else source
    if not path.is_file():
        raise UsageError(f"{ours}: {str(path)!r} is no file; correct the path in the configuration")
    if isinstance(source, TableFile):
        from mpcpriv.data import duckdb_file

        return duckdb_file.opened(source, where)
    kind = source.suffix.lower()
    if kind == ".csv":
        from mpcpriv.data import csv_file

        return csv_file.opened(path.resolve(), where)
    if kind == ".parquet":
        from mpcpriv.data import parquet_file

        return parquet_file.opened(path.resolve(), where)
    if kind in (".arrow", ".arrows", ".feather"):
        from mpcpriv.data import arrow_file

        return arrow_file.opened(path.resolve(), where)
    raise UsageError(
        f"{where} is neither .csv, .parquet, .arrow nor .feather; of a DuckDB file, name the table, too"
    )


def _shown(source: Source) -> str:
    if isinstance(source, Path):
        return repr(source.name)
    if isinstance(source, TableFile):
        return f"table {source.table!r} of {source.path.name!r}"
    return f"table {source.table!r} of PostgreSQL"


def _terms(dataset: Dataset, columns: Sequence[str]) -> list[ColumnTerms]:
    known = {column.name: column for column in dataset.columns}
    for column in columns:
        if column not in known:
            raise UsageError(f"data set {dataset.name}: the agreement has no column {column!r} of it")
    if len(set(columns)) < len(columns) or not columns:
        raise UsageError(f"data set {dataset.name}: name each column once")
    return [known[column] for column in columns]


def _unique(table: Cells, dataset: Dataset, ours: str) -> None:
    folded = [name.casefold() for name in table.header]
    twice = {name for name in folded if folded.count(name) > 1}
    if not twice:
        return
    # Where a file has no header its first row stands there: no name is told that was not agreed.
    agreed = [column.name for column in dataset.columns if column.name.casefold() in twice]
    names = ", ".join(map(repr, agreed)) or "which the agreement does not name"
    raise DataError(
        ours,
        agreed,
        f"{ours}: the table has columns of one name, {names} (capitals do not count); rename one",
    )


def _identifying(table: Cells, places: Sequence[int], terms: Sequence[ColumnTerms], ours: str) -> None:
    wrong = [
        column.name
        for column, textual in zip(terms, table.textual(places), strict=True)
        if column.type == "identifier" and not textual
    ]
    if wrong:
        names = ", ".join(map(repr, wrong))
        raise DataError(
            ours,
            wrong,
            f"{ours}: identifiers {names} are neither text, whole numbers nor dates in the table; other "
            "owners may write such cells otherwise, as 12.0 and 12; have text in their place",
        )
