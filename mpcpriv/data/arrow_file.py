"""Arrow IPC, as a file (also called Feather) or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import ipc

from mpcpriv.errors import UsageError

_MAGIC: Final = b"ARROW1"


class _Batches:
    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._is_file = file.read(len(_MAGIC)) == _MAGIC
        with pa.memory_map(str(path)) as source:
            self._schema = (self._file(source) if self._is_file else self._stream(source)).schema
        self.header: list[str] = list(self._schema.names)

    def textual(self, columns: Sequence[int]) -> list[bool]:
        """See `Cells.textual`."""
        types = [self._schema.field(place).type for place in columns]
        return [_textual(one.value_type if pa.types.is_dictionary(one) else one) for one in types]

    def read(self, columns: Sequence[int], rows: int) -> Iterator[pa.RecordBatch]:
        """See `Cells.read`. One batch of the file is held at a time, of these columns only."""
        options = ipc.IpcReadOptions(included_fields=sorted(columns))
        places = [sorted(columns).index(place) for place in columns]
        with pa.memory_map(str(self._path)) as source:
            for batch in self._each(source, options):
                # Offsets that lead out of a buffer, or text that is not UTF-8, must not get any further.
                batch.validate(full=True)
                chosen = batch.select(places)
                for start in range(0, batch.num_rows, rows):
                    yield chosen.slice(start, rows)

    def _each(self, source: pa.NativeFile, options: ipc.IpcReadOptions) -> Iterator[pa.RecordBatch]:
        if not self._is_file:
            yield from self._stream(source, options)
            return
        reader = self._file(source, options)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)

    @staticmethod
    def _file(source: pa.NativeFile, options: ipc.IpcReadOptions | None = None) -> ipc.RecordBatchFileReader:
        return ipc.open_file(source, options=options)

    @staticmethod
    def _stream(
        source: pa.NativeFile, options: ipc.IpcReadOptions | None = None
    ) -> ipc.RecordBatchStreamReader:
        return ipc.open_stream(source, options=options)


def _textual(kind: pa.DataType) -> bool:
    types = pa.types
    text = (types.is_string, types.is_large_string, types.is_string_view)
    return any(is_one(kind) for is_one in (*text, types.is_integer, types.is_date))


@contextmanager
def opened(path: Path, where: str) -> Iterator[_Batches]:
    """The table in this file.

    Raises:
        UsageError: it is none; while it is read, too.
    """
    try:
        yield _Batches(path)
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8; convert it") from None
    except (pa.ArrowException, OSError) as error:
        # What Arrow says may quote cells: nothing of it is passed on.
        if "utf8" in str(error).lower():
            raise UsageError(f"{where} is not UTF-8; convert it") from None
        raise UsageError(f"{where} is no table; write it as Arrow IPC anew") from None
