"""Rows of CSV, TSV and Parquet files, with a clear message where a file is no proper table."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from protlm.data.readers.text import open_bytes, read_lines
from protlm.errors import DataError

Row = dict[str, Any]

_MAX_FIELD = 1 << 27
"""Longest field of a text table, in letters."""

_METADATA_STARTS = ("{", '"{')

_PARQUET_ERRORS = (pa.ArrowException, OSError, EOFError, ValueError)


class _Lines(Protocol):
    """What `csv.reader` gives."""

    line_num: int

    def __next__(self) -> list[str]: ...


class _ReadRows(Protocol):
    def __call__(self, names: Sequence[str]) -> Iterator[Row]: ...


@dataclass(frozen=True)
class OpenTable:
    """A table whose header has been read."""

    header: tuple[str, ...]
    """Column names, each once."""
    rows: _ReadRows
    """Streams the rows, with the columns that are asked for; at least one row."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the whole file, which OAS writes as JSON above the column names."""


def open_table(path: Path) -> OpenTable:
    """Read the header of a table.

    Parameters
    ----------
    path
        Parquet, or text: ``.csv`` has commas, anything else tabs; ``.gz`` may follow. Blank lines are
        skipped, and white space around column names is removed. A JSON object on the first line is
        metadata of the whole file.

    Raises
    ------
    DataError
        If the file is no table: empty, with another separator, with a column name twice; and, while
        rows are read, for a row with more or fewer values than columns, a quote that is left open, or
        no row at all.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    return _open_parquet(path) if kind == ".parquet" else _open_text(path, "," if kind == ".csv" else "\t")


def _open_text(path: Path, separator: str) -> OpenTable:
    csv.field_size_limit(_MAX_FIELD)
    metadata: dict[str, Any] = {}
    source = _without_metadata(read_lines(path), metadata, path)
    lines = csv.reader((f"{line}\n" for line in source), delimiter=separator, strict=True)
    first = next(_filled(lines, path), None)
    if first is None:
        raise DataError(f"{path}: the file is empty", hint="expected a line of column names")
    header = tuple(name.strip() for name in first)
    _check_separator(header, separator, path)
    _check_unique(header, path)
    return OpenTable(header, partial(_text_rows, path, header, lines), metadata)


def _without_metadata(lines: Iterable[str], metadata: dict[str, Any], path: Path) -> Iterator[str]:
    """Pass lines on, with a blank one in place of a first line of metadata, so that counts stay right."""
    is_first = True
    for line in lines:
        if is_first and line.strip():
            is_first = False
            if line.lstrip().startswith(_METADATA_STARTS):
                metadata.update(_parse_metadata(line.strip(), path))
                yield ""
                continue
        yield line


def _parse_metadata(line: str, path: Path) -> dict[str, Any]:
    """Read a JSON object, bare or as one quoted CSV value, which may be followed by empty ones."""
    text = line
    if text.startswith('"'):
        text = text.rstrip(",\t ")[1:-1].replace('""', '"')
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{path}: the first line looks like metadata, but is no JSON ({error})",
            hint="mend it, or delete the line",
        ) from None
    return dict(found)


def _text_rows(path: Path, header: Sequence[str], lines: "_Lines", names: Sequence[str]) -> Iterator[Row]:
    places = [(name, header.index(name)) for name in names]
    number = 0
    for number, values in enumerate(_filled(lines, path), start=1):
        if len(values) != len(header):
            raise DataError(
                f"{path}, row {number} (line {lines.line_num}): {len(values)} values "
                f"for {len(header)} columns",
                hint="was the file cut short, or does a value hold the separator without quotes around it?",
            )
        yield {name: values[place] for name, place in places}
    if not number:
        raise DataError(f"{path}: no row under the column names", hint="is the file complete?")


def _filled(lines: "_Lines", path: Path) -> Iterator[list[str]]:
    """Skip blank lines."""
    while True:
        try:
            values = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}, line {lines.line_num:,}: not readable as a table ({error})",
                hint='is a quote (") left open? inside quotes, a quote is written twice',
            ) from None
        if values and (len(values) > 1 or values[0].strip()):
            yield values


def _check_separator(header: Sequence[str], separator: str, path: Path) -> None:
    if len(header) > 1:
        return
    names = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
    for other, name in names.items():
        if other != separator and other in header[0]:
            ending = {"\t": ".tsv", ",": ".csv"}.get(other)
            remedy = (
                f"let its name end in {ending}" if ending else "separate the columns by commas in a .csv file"
            )
            raise DataError(
                f"{path}: the column names are separated by {name}, but {names[separator]} were expected "
                f"from the name of the file (found: {header[0][:60]!r})",
                hint=remedy,
            )


def _check_unique(header: Sequence[str], path: Path) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        listing = ", ".join(f"'{name}'" for name in repeated)
        raise DataError(f"{path}: column names appear twice: {listing}", hint="rename one of each")


def _open_parquet(path: Path) -> OpenTable:
    try:
        if path.suffix.lower() == ".gz":
            with open_bytes(path) as data:
                file = pq.ParquetFile(pa.BufferReader(data.read()))
        else:
            file = pq.ParquetFile(path)
    except _PARQUET_ERRORS as error:
        raise _broken_parquet(path, error) from None
    header = tuple(file.schema_arrow.names)
    _check_unique(header, path)
    return OpenTable(header, partial(_parquet_rows, path, file))


def _parquet_rows(path: Path, file: pq.ParquetFile, names: Sequence[str]) -> Iterator[Row]:
    if not file.metadata.num_rows:
        raise DataError(f"{path}: the table has no row", hint="is the file complete?")
    batches = file.iter_batches(batch_size=4096, columns=list(names))
    while True:
        try:
            batch = next(batches, None)
            rows = batch.to_pylist() if batch is not None else None
        except _PARQUET_ERRORS as error:
            raise _broken_parquet(path, error) from None
        if rows is None:
            return
        yield from rows


def _broken_parquet(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return DataError(
        f"cannot read {path} as Parquet: {reason}", hint="was it cut short, or is it another kind?"
    )
