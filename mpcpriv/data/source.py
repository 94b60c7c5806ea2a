"""A party's own table, from a CSV or Parquet file: typed and checked as the agreement says, or refused.

DuckDB reads it, in memory, and may read this one file only: nothing that a file name or a table's content
says can make it read or write another, load an extension, or reach the network.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.errors import UsageError

DELIMITERS: Final = (",", ";", "\t", "|")
_HEADER_BYTES: Final = 1 << 20
_EXACT: Final = 2**53
"""Whole numbers below this are exact in float64."""

_NUMBER: Final = "try_cast({0} AS DOUBLE)"
_TYPED: Final = {
    "number": _NUMBER,
    "integer": f"CASE WHEN {_NUMBER} = floor({_NUMBER}) AND abs({_NUMBER}) < {_EXACT} THEN {_NUMBER} END",
    "boolean": (
        "CASE WHEN lower(trim({0})) IN ('0', 'false') THEN 0 "
        "WHEN lower(trim({0})) IN ('1', 'true') THEN 1 END"
    ),
    "category": "nullif(list_position($categories, {0}), 0) - 1",
}
"""The text of a cell as a number, or NULL where it is none of its type."""
_KIND: Final = {
    "number": "a finite number",
    "integer": "a whole number below 2^53",
    "boolean": "0, 1, true or false",
    "category": "one of the agreed categories",
}


def load(path: Path, dataset: Dataset, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """The named columns of a table, checked against the terms of its data set.

    A CSV file is UTF-8 with a header; its fields are separated by a comma, semicolon, tab or bar, whichever
    splits the header into the most names, and quoted by `"`. An empty field is missing; no word means that.

    Args:
        path: ends in `.csv` or `.parquet`.
        dataset: its terms.
        columns: which, in which order.

    Returns:
        by name, (rows,): float64 for numbers; int64 for integers, booleans (0 or 1), and categories, whose
        code is the place among the agreed ones.

    Raises:
        UsageError: the file cannot be read, or does not hold what was agreed. The message names columns and
            how many rows, never a value.
    """
    terms = _terms(dataset, columns)
    where = f"data set {dataset.name}"
    if not path.is_file():
        raise UsageError(f"{where}: {str(path)!r} is no file; correct the path in the configuration")
    if re.search(r"[*?\[\]{}]", str(path.resolve())):
        raise UsageError(f"{where}: {path.name!r} reads as a pattern of names; rename the file")
    with _contained(path.resolve(), where) as connection:
        names = _fetch(connection, path.resolve(), [column.name for column in terms], where)
        count = _count(connection, "count(*)")
        found = list(_problems(connection, terms, names, count))
        if count < dataset.minimum_rows or not count:
            least = max(dataset.minimum_rows, 1)
            found.insert(0, f"{count} rows, and the agreement asks for {least} at least")
        if found:
            raise UsageError(f"{where}: {'; '.join(found)}; correct the table, or the agreement")
        return {
            column.name: _values(connection, column, cell) for column, cell in zip(terms, names, strict=True)
        }


def _terms(dataset: Dataset, columns: Sequence[str]) -> list[ColumnTerms]:
    known = {column.name: column for column in dataset.columns}
    for column in columns:
        if column not in known:
            raise UsageError(f"data set {dataset.name}: the agreement has no column {column!r} of it")
    if len(set(columns)) < len(columns) or not columns:
        raise UsageError(f"data set {dataset.name}: name each column once")
    return [known[column] for column in columns]


@contextmanager
def _contained(path: Path, where: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read this file and nothing else."""
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"SET allowed_paths = [{_text(str(path))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection
    except duckdb.Error as error:
        # What DuckDB says may quote rows, so that only the number of the line is taken from it.
        said = str(error)
        line = re.search(r"CSV Error on Line: (\d+)", said)
        at = f" (line {line[1]})" if line else ""
        rule = "is not UTF-8" if re.search("unicode|utf-?8", said, re.IGNORECASE) else "is no table"
        raise UsageError(
            f"{where}: {path.name!r} {rule}{at}; give CSV with as many fields in each line as in the header, "
            "or Parquet"
        ) from None
    finally:
        connection.close()


def _fetch(connection: duckdb.DuckDBPyConnection, path: Path, columns: list[str], where: str) -> list[str]:
    """Reads these columns into the table `cells`, as text; what they are called there."""
    file = _text(str(path))
    kind = path.suffix.lower()
    if kind == ".csv":
        delimiter, header = _header(path, where)
        spec = ", ".join(f"{_text(f'c{i}')}: 'VARCHAR'" for i in range(len(header)))
        source = (
            f"read_csv({file}, auto_detect = false, header = true, delim = {_text(delimiter)}, quote = '\"', "
            f"escape = '\"', strict_mode = true, nullstr = '', columns = {{{spec}}})"
        )
        inside = [f"c{i}" for i in range(len(header))]
    elif kind == ".parquet":
        header = _parquet_names(connection, file)
        source = f"read_parquet({file})"
        inside = header
    else:
        raise UsageError(f"{where}: {path.name!r} is neither .csv nor .parquet")
    _unique(header, where)
    missing = [column for column in columns if column not in header]
    if missing:
        raise UsageError(f"{where}: {path.name!r} has no column {', '.join(map(repr, missing))}")
    cells = [f'"v{i}"' for i in range(len(columns))]
    chosen = ", ".join(
        f"CAST({_name(inside[header.index(column)])} AS VARCHAR) AS {cell}"
        for column, cell in zip(columns, cells, strict=True)
    )
    connection.execute(f"CREATE TABLE cells AS SELECT {chosen} FROM {source}")  # noqa: S608 -- quoted above
    return cells


def _header(path: Path, where: str) -> tuple[str, list[str]]:
    """The delimiter and the names in the first line."""
    try:
        with path.open("rb") as file:
            first = file.readline(_HEADER_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: {path.name!r} is not UTF-8; convert it") from None
    except OSError as error:
        raise UsageError(f"{where}: {path.name!r} cannot be read ({error.strerror})") from None
    split = [(delimiter, next(csv.reader([first], delimiter=delimiter), [])) for delimiter in DELIMITERS]
    delimiter, names = max(split, key=lambda found: len(found[1]))
    if not names:
        raise UsageError(f"{where}: {path.name!r} is empty; its first line names the columns")
    return delimiter, names


def _parquet_names(connection: duckdb.DuckDBPyConnection, file: str) -> list[str]:
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


def _unique(header: list[str], where: str) -> None:
    folded = [name.casefold() for name in header]
    twice = sorted({name for name in header if folded.count(name.casefold()) > 1})
    if twice:
        raise UsageError(
            f"{where}: the table has columns of one name, {', '.join(map(repr, twice))} (capitals do not "
            "count); rename one"
        )


def _problems(
    connection: duckdb.DuckDBPyConnection, terms: list[ColumnTerms], cells: list[str], count: int
) -> Iterator[str]:
    """What is wrong with which column in how many rows."""
    for column, cell in zip(terms, cells, strict=True):
        value = _TYPED[column.type].format(cell)
        chosen = {"categories": column.categories or []} if column.type == "category" else None
        missing = _count(connection, f"count(*) - count(nullif(trim({cell}), ''))")
        # Of a NULL `isfinite` is NULL, which counts as no.
        wrong = count - missing - _count(connection, f"count(*) FILTER (isfinite({value}::DOUBLE))", chosen)
        if missing:
            yield f"column {column.name!r} is missing in {_rows(missing)}"
        if wrong:
            yield f"column {column.name!r} is not {_KIND[column.type]} in {_rows(wrong)}"
        if column.type in ("number", "integer") and not wrong:
            outside = _count(
                connection,
                f"count(*) FILTER ({value} < $low OR {value} > $high)",
                {
                    "low": -np.inf if column.low is None else column.low,
                    "high": np.inf if column.high is None else column.high,
                },
            )
            if outside:
                yield f"column {column.name!r} is outside its agreed bounds in {_rows(outside)}"


def _values(connection: duckdb.DuckDBPyConnection, column: ColumnTerms, cell: str) -> np.ndarray:
    value = _TYPED[column.type].format(cell)
    kind = "DOUBLE" if column.type == "number" else "BIGINT"
    chosen = {"categories": column.categories or []} if column.type == "category" else {}
    found = connection.execute(f"SELECT CAST({value} AS {kind}) AS v FROM cells", chosen)  # noqa: S608
    values: np.ndarray = np.ascontiguousarray(found.fetchnumpy()["v"])
    return values


def _count(
    connection: duckdb.DuckDBPyConnection, what: str, given: Mapping[str, object] | None = None
) -> int:
    row = connection.execute(f"SELECT {what} FROM cells", given or {}).fetchone()  # noqa: S608 -- ours
    assert row is not None
    return int(row[0])


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _text(value: str) -> str:
    """As an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """As an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
