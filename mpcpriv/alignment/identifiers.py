"""Keys of one or several columns, normalised by the agreed rules, as 32-byte digests."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpcpriv.alignment.rules import compose
from mpcpriv.errors import UsageError

Cell = str | int | datetime.date | None

DIGEST: Final = 32


@dataclass(frozen=True)
class KeyColumn:
    """One column of a key.

    Attributes:
        cells: (rows,) text, whole numbers (written in decimal) or dates (written as 2001-12-31).
        rules: names of `rules.RULES`, in the order in which they are applied; the same at all parties.
        name: what errors call it; its number where there is none.
    """

    cells: Sequence[Cell] | np.ndarray
    rules: tuple[str, ...] = ()
    name: str = ""


class BadKeys(UsageError):
    """Rows that have no key, or not one of their own; counted, and none is quoted.

    Attributes:
        columns: the places of the key's columns in which something is wrong; all where rows share a key.
    """

    def __init__(self, columns: Sequence[int], message: str) -> None:
        super().__init__(message)
        self.columns = tuple(columns)


@dataclass(frozen=True, repr=False)
class Identifiers:
    """The keys of a party's rows. The digests are as good as the keys to whoever guesses: they stay here.

    Attributes:
        digests: (rows, 32) uint8, all different.
        rules: of each column, in order; public.
    """

    digests: np.ndarray
    rules: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.digests)


def identify(*columns: KeyColumn) -> Identifiers:
    """The keys that these columns make together, row by row.

    Two keys are equal when every column's text is, after its rules. A key is complete: rows with a missing
    part are to be left out beforehand, by the owner.

    Raises:
        UsageError: no column, columns of different lengths, an unknown rule.
        BadKeys: a cell that is missing or empty once normalised, of another type, or no date where a date is
            expected; two rows with one key. The message counts rows and never quotes one.
    """
    if not columns:
        raise UsageError("a key needs at least one column")
    lengths = {len(column.cells) for column in columns}
    if len(lengths) > 1:
        raise UsageError(f"key columns of different lengths: {', '.join(map(str, sorted(lengths)))} rows")
    rules = tuple(tuple(column.rules) for column in columns)
    readers = [_Reader(number, column) for number, column in enumerate(columns, 1)]
    rows = lengths.pop()
    flat = bytearray(rows * DIGEST)
    for row in range(rows):
        # Each text's length stands before it: no two keys are written the same.
        key = b"".join(reader.read(row) for reader in readers)
        digest = hashlib.blake2b(key, digest_size=DIGEST, person=b"mpcpriv ids v1").digest()
        flat[row * DIGEST : (row + 1) * DIGEST] = digest
    found = {place: said for place, reader in enumerate(readers) if (said := reader.complaint())}
    if found:
        raise BadKeys([*found], f"{'; '.join(found.values())}; correct these rows or leave them out")
    digests = np.frombuffer(flat, np.uint8).reshape(rows, DIGEST)
    _refuse_duplicates(digests, len(columns))
    return Identifiers(digests, rules)


class _Reader:
    """A key column: its cells as bytes, and how many were no good."""

    def __init__(self, number: int, column: KeyColumn) -> None:
        self._name = repr(column.name) if column.name else str(number)
        self._cells = column.cells
        self._rules = column.rules
        self._rule = compose(column.rules)
        self._missing = self._wrong = self._unsuitable = 0

    def read(self, row: int) -> bytes:
        cell = self._cells[row]
        if isinstance(cell, np.generic):
            cell = cell.item()
        if cell is None:
            self._missing += 1
            return b""
        if isinstance(cell, bool | datetime.datetime) or not isinstance(cell, str | int | datetime.date):
            self._wrong += 1
            return b""
        try:
            text = self._rule(str(cell)).encode()
        except ValueError:  # what it says may quote the cell; an unpaired surrogate raises one, too
            # An empty cell is missing, whatever its rules are for.
            if str(cell).strip():
                self._unsuitable += 1
            else:
                self._missing += 1
            return b""
        self._missing += not text
        return len(text).to_bytes(8, "little") + text

    def complaint(self) -> str:
        found = [
            f"{what} in {count} row{'s' * (count != 1)}"
            for what, count in (
                ("missing, or empty once normalised,", self._missing),
                ("neither text, a whole number nor a date", self._wrong),
                (f"not what the rules {', '.join(self._rules) or '(none)'} are for", self._unsuitable),
            )
            if count
        ]
        return f"key column {self._name} is {', and '.join(found)}" if found else ""


def _refuse_duplicates(digests: np.ndarray, columns: int) -> None:
    rows = np.sort(as_strings(digests))
    equal = rows[1:] == rows[:-1]
    if equal.any():
        # Rows that share their key with another one, not just the repetitions.
        shared = int((np.append(equal, False) | np.insert(equal, 0, False)).sum())
        raise BadKeys(
            range(columns),
            f"{shared} of {len(digests)} rows share their key with another row, after normalisation; a key "
            "names one row: take more columns into it, or leave rows out",
        )


def as_strings(rows: np.ndarray) -> np.ndarray:
    """(n, width) uint8 as (n,) byte strings, which numpy compares and sorts; all are of full width."""
    width = rows.shape[1]
    strings: np.ndarray = np.ascontiguousarray(rows).view(f"S{width}").reshape(len(rows))
    return strings
