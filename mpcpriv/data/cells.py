"""What every kind of source gives: the names of its columns, and their cells in batches, not yet typed.

A source knows nothing of types and bounds: all cells are read as text and typed in one place (`checks.py`),
so that a value means the same, and a mistake is called the same, wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class Cells(Protocol):
    """A table that is open.

    Attributes:
        header: the names of its columns, as written, in order; one may occur twice.
    """

    @property
    def header(self) -> list[str]:
        """See above."""

    def textual(self, columns: Sequence[int]) -> list[bool]:
        """Whether what the source holds there is text, whole numbers or dates.

        As text these are the same whoever writes them, as 12.0 and 12 are not: only they identify.
        """

    def read(self, columns: Sequence[int], rows: int) -> Iterator[pa.RecordBatch]:
        """Reads once, from the first row to the last.

        Args:
            columns: the places of the columns in the header.
            rows: in each batch, about.

        Yields:
            batches with one field for each of `columns`, in this order, whatever they are called.
        """
