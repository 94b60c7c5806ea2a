"""Cells as numbers, checked against the agreement's terms: counted, never shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import duckdb
import numpy as np

from mpcpriv.agreement.model import ColumnTerms

if TYPE_CHECKING:
    import pyarrow as pa

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
    "category": "nullif(list_position($categories{1}, {0}), 0) - 1",
}
"""The text of a cell as a number, or NULL where it is none of its type; an identifier stays text."""
_KIND: Final = {
    "number": "a finite number",
    "integer": "a whole number below 2^53",
    "boolean": "0, 1, true or false",
    "category": "one of the agreed categories",
}
_MISSING, _WRONG, _OUTSIDE = 1, 2, 3


class Checks:
    """Types the batches of a table and counts what is wrong with them.

    Args:
        connection: of DuckDB, that can read nothing.
        terms: of the columns.

    Attributes:
        rows: how many there were so far.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, terms: Sequence[ColumnTerms]) -> None:
        self.rows = 0
        self._connection, self._terms = connection, terms
        self._wrong = np.zeros((len(terms), 4), dtype=np.int64)
        self._given: dict[str, object] = {}
        self._selected: list[str] = []
        for i, column in enumerate(terms):
            cell = f"CAST(v{i} AS VARCHAR)"
            if column.type == "identifier":
                self._selected += [
                    f"{cell} AS t{i}",
                    f"CASE WHEN nullif(trim({cell}), '') IS NULL THEN {_MISSING} ELSE 0 END AS s{i}",
                ]
                continue
            value = _TYPED[column.type].format(cell, i)
            missing, outside = f"nullif(trim({cell}), '') IS NULL", ""
            # Of a NULL `isfinite` is NULL, which is not true.
            wrong = f"isfinite(CAST({value} AS DOUBLE)) IS NOT TRUE"
            if column.type == "category":
                self._given[f"categories{i}"] = column.categories or []
            elif _numeric(column):
                outside = f"WHEN {value} < $low{i} OR {value} > $high{i} THEN {_OUTSIDE} "
                self._given[f"low{i}"] = -np.inf if column.low is None else column.low
                self._given[f"high{i}"] = np.inf if column.high is None else column.high
            real = column.type == "number" or (column.type == "integer" and column.missing)
            kind = "DOUBLE" if real else "BIGINT"
            status = _MISSING
            if column.missing:
                # What stands for a missing value: no number, and of a category or a boolean one code more.
                code = 2 if column.type == "boolean" else len(column.categories or [])
                status, other = 0, "CAST('nan' AS DOUBLE)" if _numeric(column) else str(code)
                missing = f"{missing} OR lower(trim({cell})) = 'nan'" if _numeric(column) else missing
                value = f"CASE WHEN {missing} THEN {other} ELSE {value} END"
            self._selected += [
                f"CAST({value} AS {kind}) AS t{i}",
                f"CASE WHEN {missing} THEN {status} WHEN {wrong} THEN {_WRONG} {outside}ELSE 0 END AS s{i}",
            ]

    def typed(self, cells: pa.RecordBatch) -> list[np.ndarray] | None:
        """The columns, (rows,) each, as numbers, identifiers as text; None once anything was wrong, in this
        batch or before.
        """
        import pyarrow as pa

        names = [f"v{i}" for i in range(len(self._terms))]
        self._connection.register("cells", pa.Table.from_batches([cells.rename_columns(names)]))
        query = f"SELECT {', '.join(self._selected)} FROM cells"  # noqa: S608 -- all values are parameters
        found = self._connection.execute(query, self._given).fetchnumpy()
        self._connection.unregister("cells")
        self.rows += cells.num_rows
        for i in range(len(self._terms)):
            self._wrong[i] += np.bincount(found[f"s{i}"], minlength=4)
        if self._wrong[:, _MISSING:].any():
            return None
        return [np.ascontiguousarray(found[f"t{i}"]) for i in range(len(self._terms))]

    def columns(self) -> list[str]:
        """Those in which something is wrong."""
        return [
            column.name
            for column, found in zip(self._terms, self._wrong, strict=True)
            if found[_MISSING:].any()
        ]

    def problems(self) -> Iterator[str]:
        """What is wrong with which column in how many rows."""
        for column, found in zip(self._terms, self._wrong, strict=True):
            for kind, rule in (
                (_MISSING, "is missing"),
                (_WRONG, f"is not {_KIND.get(column.type, 'text')}"),
                (_OUTSIDE, "is outside its agreed bounds"),
            ):
                if found[kind]:
                    yield f"column {column.name!r} {rule} in {rows(int(found[kind]))}"


def _numeric(column: ColumnTerms) -> bool:
    return column.type in ("number", "integer")


def rows(count: int) -> str:
    """How many, in words."""
    return f"{count} row{'s' * (count != 1)}"
