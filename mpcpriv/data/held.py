"""A party's own table in a job: whole in memory, or read anew each time it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from mpcpriv.agreement.model import Dataset
from mpcpriv.data.declared import Source
from mpcpriv.data.source import batches
from mpcpriv.errors import DataError

Columns = Mapping[str, np.ndarray]
"""By name, (rows,)."""


class Held(Protocol):
    """A table that was checked.

    Attributes:
        rows: how many it has.
        digests: by column, the type of its numbers and the SHA-256 of them all.
    """

    @property
    def rows(self) -> int:
        """See above."""

    @property
    def digests(self) -> Mapping[str, tuple[str, bytes]]:
        """See above."""

    def batches(self) -> Iterator[Columns]:
        """All rows, in order.

        Raises:
            DataError: at the end: they are not those that were checked; what was made of them is void.
        """


class Whole:
    """In memory.

    Args:
        columns: one at least.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @property
    def rows(self) -> int:
        """See `Held`."""
        return len(next(iter(self.columns.values())))

    @property
    def digests(self) -> Mapping[str, tuple[str, bytes]]:
        """See `Held`."""
        return _digested([self.columns])[1]

    def batches(self) -> Iterator[Columns]:
        """See `Held`."""
        yield self.columns


class Streamed:
    """Read anew each time, in as much memory as a few batches.

    Args:
        source, dataset, columns: see `mpcpriv.data.source.batches`; it is read, and checked, once for this.
    """

    def __init__(self, source: Source, dataset: Dataset, columns: Sequence[str]) -> None:
        self._source, self._dataset, self._columns = source, dataset, columns
        self.rows, self.digests = _digested(self._read())

    def _read(self) -> Iterator[Columns]:
        return batches(self._source, self._dataset, self._columns)

    def batches(self) -> Iterator[Columns]:
        """See `Held`."""
        hashes = _Hashes()
        for batch in self._read():
            hashes.add(batch)
            yield batch
        if hashes.found() != self.digests:
            ours = f"data set {self._dataset.name} of {self._dataset.owner}"
            raise DataError(ours, [], f"{ours}: the table was changed during the job; start the job anew")


class _Hashes:
    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._hashes: dict[str, hashlib._Hash] = {}

    def add(self, batch: Columns) -> None:
        for name, values in batch.items():
            self._types[name] = values.dtype.str
            self._hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(values).data)

    def found(self) -> dict[str, tuple[str, bytes]]:
        return {name: (self._types[name], one.digest()) for name, one in self._hashes.items()}


def _digested(parts: Iterable[Columns]) -> tuple[int, dict[str, tuple[str, bytes]]]:
    rows, hashes = 0, _Hashes()
    for part in parts:
        rows += len(next(iter(part.values())))
        hashes.add(part)
    return rows, hashes.found()
