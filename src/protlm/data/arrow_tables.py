"""Arrow files row by row: written in bounded memory, read by memory map without Python objects."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from protlm.data.flat import expand_slices
from protlm.errors import DataError

# A batch is written when it holds this much text, and never with fewer rows, or with this many rows:
# small batches make `Corpus.gather` slow, large ones cost memory.
_BATCH_BYTES = 32 << 20
_BATCH_ROWS_LEAST = 1 << 12
_BATCH_ROWS = 1 << 16
_SIZED = (str, bytes)


@dataclass
class TableWriter:
    """Buffers rows and writes them as Arrow record batches."""

    path: Path
    """The file to make."""
    schema: pa.Schema
    """Of its rows."""
    num_rows: int = 0
    """Rows appended so far."""
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _num_bytes: int = 0

    def __post_init__(self) -> None:
        self._file = pa.OSFile(str(self.path), "wb")
        self._writer = pa.ipc.new_file(self._file, self.schema)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row.

        Parameters
        ----------
        row
            A value for each column of the schema.
        """
        self._rows.append(row)
        self.num_rows += 1
        self._num_bytes += sum(len(value) for value in row.values() if isinstance(value, _SIZED))
        is_large = self._num_bytes >= _BATCH_BYTES and len(self._rows) >= _BATCH_ROWS_LEAST
        if is_large or len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def append_batch(self, batch: pa.RecordBatch) -> None:
        """Add many rows at once, as one batch; `Corpus.gather` is slow where batches are small.

        Parameters
        ----------
        batch
            Of the schema.
        """
        self._flush()
        if batch.num_rows:
            self._writer.write_batch(batch)
            self.num_rows += batch.num_rows

    def close(self) -> None:
        """Write what is left and finish the file."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self.schema))
            self._rows.clear()
            self._num_bytes = 0


class MappedTable:
    """Read access to an Arrow file by memory map, with columns as NumPy views batch by batch.

    Parameters
    ----------
    path
        A file of `TableWriter`.

    Raises
    ------
    DataError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"cannot read {path}: {error}", hint="make the corpus again") from error
        self.num_rows = self._table.num_rows
        self.names = tuple(self._table.column_names)
        self._views: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        lengths = [len(chunk) for chunk in self._table.column(0).chunks]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def column(self, name: str) -> pa.ChunkedArray:
        """Give a column as it is.

        Parameters
        ----------
        name
            The column.
        """
        return self._table.column(name)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the rows as they were written."""
        yield from self._table.to_batches()

    def row(self, index: int) -> dict[str, Any]:
        """Give one row as plain values.

        Parameters
        ----------
        index
            0-based.
        """
        return self._table.slice(index, 1).to_pylist()[0]

    def texts(self, name: str) -> list[str]:
        """Give a text column as Python strings.

        Parameters
        ----------
        name
            The column.
        """
        return self._table.column(name).to_pylist()

    def numbers(self, name: str) -> np.ndarray:
        """Give a column of numbers.

        Parameters
        ----------
        name
            The column.
        """
        chunks = [chunk.to_numpy() for chunk in self._table.column(name).chunks]
        return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.uint64)

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Flat values of a list column and the length of each list."""
        if name not in self._lists:
            chunks = self._table.column(name).chunks
            values = [chunk.flatten().to_numpy() for chunk in chunks]
            counts = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
            empty = np.zeros(0, dtype=np.int64)
            self._lists[name] = (
                np.concatenate(values) if values else empty,
                np.concatenate(counts).astype(np.int64) if counts else empty,
            )
        return self._lists[name]

    def lengths(self, name: str) -> np.ndarray:
        """Bytes per value of a text or binary column."""
        views = [np.diff(offsets) for offsets, _ in self._bytes(name)]
        return np.concatenate(views) if views else np.zeros(0, dtype=np.int64)

    def gather(
        self, name: str, rows: np.ndarray, lengths: np.ndarray, dtype: np.dtype | None = None
    ) -> np.ndarray:
        """Join the values of the named rows; a row without the track gives zeros."""
        dtype = np.dtype(np.uint8) if dtype is None else dtype
        joined = np.zeros(int(lengths.sum()), dtype=dtype)
        place = np.cumsum(lengths) - lengths
        chunk_of = np.searchsorted(self._starts, rows, side="right") - 1
        views = self._bytes(name)
        for chunk in np.unique(chunk_of):
            inside = chunk_of == chunk
            offsets, data = views[chunk]
            local = rows[inside] - self._starts[chunk]
            starts, stops = offsets[local], offsets[local + 1]
            present = stops > starts
            size = dtype.itemsize
            source = expand_slices(starts[present] // size, (stops - starts)[present] // size)
            target = expand_slices(place[inside][present], lengths[inside][present])
            joined[target] = data[: len(data) // size * size].view(dtype)[source]
        return joined

    def _bytes(self, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Offsets (int64) and data (uint8) of each batch, as views of the mapped file."""
        if name not in self._views:
            self._views[name] = [_byte_view(chunk) for chunk in self._table.column(name).chunks]
        return self._views[name]


def _byte_view(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    _, offsets, data = chunk.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    return starts, np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
