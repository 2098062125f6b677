"""Files of links between two proteins: which columns hold what, and their rows in blocks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from protlm.data.readers import check_file
from protlm.data.readers.text import open_bytes, read_lines
from protlm.errors import DataError, did_you_mean

Kind = Literal["ids", "sequences"]

_ENDS = (
    *(("1", "2"), ("_1", "_2"), ("_a", "_b"), ("a", "b"), ("A", "B")),
    *(("_1_id", "_2_id"), ("_a_id", "_b_id"), ("1_id", "2_id")),
)
_ID_STEMS = ("protein", "id", "interactor", "uniprot", "uniprotid", "uniprot_id", "string_id", "gene", "node")
_SEQUENCE_STEMS = ("sequence", "seq", "protein_sequence", "residues")
_TCR_IDS, _EPITOPE_IDS = ("tcr_id", "tcr"), ("epitope_id", "epitope", "peptide_id", "peptide")
_TCR_SEQUENCES = ("tcr_full", "cdr3b", "cdr3_beta", "cdr3.beta", "cdr3", "tcr")
_EPITOPES = ("epitope", "epitope_aa", "antigen.epitope", "peptide")
_LABEL_NAMES = ("label", "binds", "binding", "binder", "interaction", "is_interaction", "interacts")
_SCORE_NAMES = ("combined_score", "score", "confidence")

STRING_SCORE = 700
"""Least combined score of a STRING file that is kept where nothing is said, "high confidence"."""

_NUM_PROBED = 200
_BLOCK_BYTES = 16 << 20
_MEAN_LENGTH = 12
"""Columns of only letters, and more of them than this on average, hold sequences."""
_LETTERS = re.compile("[A-Za-z*]+")
_ZERO_OR_ONE = re.compile(r"[01](\.0*)?")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE]-?\d+)?")


@dataclass(frozen=True)
class LinkColumns:
    """Which columns of a file of links hold what; `None` looks for the usual names."""

    a: str | None = None
    b: str | None = None
    label: str | None = None
    score: str | None = None


@dataclass(frozen=True)
class LinkBlock:
    """Some rows; texts as they are in the file."""

    first_row: int
    """Number of the first one, from 1, the header not counted."""
    a: pl.Series
    b: pl.Series
    label: pl.Series | None
    score: pl.Series | None


@dataclass(frozen=True)
class LinkFile:
    """A file of links whose columns have been found."""

    path: Path
    kind: Kind
    """Whether the two columns hold ids or sequences."""
    header: tuple[str, ...]
    """Column names; ``column 1`` … where the file has none."""
    has_header: bool
    separator: str
    a: str
    b: str
    label: str | None
    score: str | None
    is_string: bool
    """Whether it is a STRING file."""

    def lines(self) -> list[str]:
        """Say what was taken for what."""
        kind = "STRING links" if self.is_string else f"links between {self.kind}"
        parts = [f"'{self.a}' and '{self.b}'"]
        parts += [f"label '{self.label}'"] if self.label else []
        parts += [f"score '{self.score}'"] if self.score else []
        others = [name for name in self.header if name not in (self.a, self.b, self.label, self.score)]
        parts += [f"not read: {', '.join(others)}"] if others and self.has_header else []
        return [f"links: {kind}{'' if self.has_header else ', no header'}", f"columns: {'; '.join(parts)}"]

    def blocks(self) -> Iterator[LinkBlock]:
        """Stream the rows.

        Raises
        ------
        DataError
            If the file is cut short or damaged, or a row has more or fewer values than the others.
        """
        wanted = list(dict.fromkeys(name for name in (self.a, self.b, self.label, self.score) if name))
        row = 1
        for table in _parquet(self.path, wanted) if self._is_parquet else self._text_blocks(wanted):
            frame = pl.DataFrame(
                {name: pl.Series(table.column(name).cast(pa.large_string())) for name in wanted}
            )
            yield LinkBlock(
                row,
                frame[self.a].fill_null("").str.strip_chars(),
                frame[self.b].fill_null("").str.strip_chars(),
                frame[self.label].fill_null("") if self.label else None,
                frame[self.score].fill_null("") if self.score else None,
            )
            row += len(frame)
        if row == 1:
            raise DataError(f"{self.path}: no row under the column names", hint="is the file complete?")

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def _text_blocks(self, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        reading = arrow_csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=list(self.header),
            skip_rows=int(self.has_header),
        )
        converting = arrow_csv.ConvertOptions(
            include_columns=list(wanted), column_types=dict.fromkeys(wanted, pa.string())
        )
        parsing = arrow_csv.ParseOptions(delimiter=self.separator)
        try:
            with open_bytes(self.path) as data:
                yield from arrow_csv.open_csv(
                    pa.PythonFile(data, "r"),
                    read_options=reading,
                    convert_options=converting,
                    parse_options=parsing,
                )
        except EOFError:
            raise DataError(
                f"{self.path}: the compressed file ends too early",
                hint="it was probably cut short while copying; fetch it again",
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            if "empty" in str(error).lower():
                return
            raise DataError(
                f"{self.path}: not readable as a table ({str(error).partition(chr(10))[0]})",
                hint="was the file cut short, or does a row have another number of values?",
            ) from None


def open_links(
    path: Path | str, columns: LinkColumns, *, has_sequences: bool, headers: Sequence[str] = ()
) -> LinkFile:
    """Find which columns of a file of links hold what.

    Parameters
    ----------
    path
        STRING's ``protein.links`` or ``protein.physical.links`` of any version (plain, ``.detailed`` or
        ``.full``), or CSV, TSV or Parquet with two columns of ids or of sequences, with or without a header.
    columns
        What the user said.
    has_sequences
        Whether sequences come from other files, so that the two columns hold ids.
    headers
        Columns of those files, whose names go before the usual ones.

    Raises
    ------
    DataError
        If a named column is not there, or two columns cannot be told.
    """
    path = check_file(path)
    kind: Kind = "ids" if has_sequences else "sequences"
    if path.suffix.lower() == ".parquet":
        header: tuple[str, ...] = tuple(pq.ParquetFile(path).schema_arrow.names)
        return _named(path, kind, header, "", columns, headers)
    lines = [line for line in islice(read_lines(path), _NUM_PROBED + 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty", hint="expected links, a row each")
    if lines[0].split(" ")[:2] == ["protein1", "protein2"]:
        found = _named(path, kind, tuple(lines[0].split(" ")), " ", columns, headers, score="combined_score")
        return replace(found, is_string=True)
    separator = "," if ".csv" in [suffix.lower() for suffix in path.suffixes] else "\t"
    if separator == "\t" and "\t" not in lines[0] and " " in lines[0].strip():
        separator = " "  # as Bernett et al. write their lists
    cells = [line.split(separator) for line in lines]
    header = tuple(cell.strip().strip('"') for cell in cells[0])
    if _is_header(header, columns):
        return _named(path, kind, header, separator, columns, headers)
    return _unnamed(path, kind, cells, separator, columns)


def _named(
    path: Path,
    kind: Kind,
    header: tuple[str, ...],
    separator: str,
    columns: LinkColumns,
    headers: Sequence[str],
    *,
    score: str | None = None,
) -> LinkFile:
    """Find columns by name."""
    for name in (columns.a, columns.b, columns.label, columns.score, score):
        if name is not None and name not in header:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, header))
    a, b = columns.a, columns.b
    if a is None or b is None:
        a, b = _usual(kind, header, a, b, headers) or _refuse(path, kind, header)
    if a == b:
        raise DataError(f"{path}: --a and --b both name the column '{a}'", hint="name two")
    others = [name for name in header if name not in (a, b)]
    return LinkFile(
        path,
        kind,
        header,
        has_header=True,
        separator=separator,
        a=a,
        b=b,
        label=columns.label or _first(_LABEL_NAMES, others),
        score=columns.score or score or _first(_SCORE_NAMES, others),
        is_string=False,
    )


def _usual(
    kind: Kind, header: Sequence[str], a: str | None, b: str | None, headers: Sequence[str]
) -> tuple[str, str] | None:
    stems = _ID_STEMS if kind == "ids" else _SEQUENCE_STEMS
    pairs = [((stem + one,), (stem + two,)) for stem in stems for one, two in _ENDS]
    pairs += [(("item_id_a",), ("item_id_b",))]
    if kind == "ids":
        common = [name for name in header if name in headers]
        pairs += [(_TCR_IDS, _EPITOPE_IDS)]
        pairs += [((common[0],), (common[1],))] if len(common) == 2 else []
    else:
        pairs += [(_TCR_SEQUENCES, _EPITOPES)]
    for ones, twos in pairs:
        one, two = a or _first(ones, header), b or _first(twos, header)
        if one and two and one != two:
            return one, two
    return None


def _refuse(path: Path, kind: Kind, header: Sequence[str]) -> tuple[str, str]:
    other = "ids" if kind == "sequences" else "sequences"
    has_others = _usual(other, header, None, None, ()) is not None
    if has_others and kind == "sequences":
        raise DataError(
            f"{path} names proteins by id, and no file gives their sequences",
            hint="pass --sequences FILE: FASTA, or a table of ids and sequences",
        )
    if has_others:
        raise DataError(
            f"{path} holds the sequences itself (columns: {', '.join(header)})",
            hint="leave --sequences out, or name the columns of ids: --a COL --b COL",
        )
    raise DataError(
        f"{path}: cannot tell which columns hold the two {kind} (columns: {', '.join(header)})",
        hint="name them: --a COL --b COL",
    )


def _unnamed(
    path: Path, kind: Kind, cells: list[list[str]], separator: str, columns: LinkColumns
) -> LinkFile:
    """Tell the columns of a file without a header by what they hold."""
    for name in (columns.a, columns.b, columns.label, columns.score):
        if name is not None:
            raise DataError(
                f"{path}: there is no column '{name}', and its first line names no columns "
                f"({separator.join(cells[0])[:60]!r})",
                hint="add a line of column names",
            )
    width = len(cells[0])
    header = tuple(f"column {number}" for number in range(1, width + 1))
    full = [row for row in cells if len(row) == width]
    by_column = [[row[place].strip() for row in full] for place in range(width)]
    sequences = [place for place in range(width) if _are_sequences(by_column[place])]
    labels = [place for place in range(width) if _all(_ZERO_OR_ONE, by_column[place])]
    label = score = None
    if kind == "sequences" and len(sequences) == 2:
        a, b = sequences
        label = header[labels[-1]] if labels else None
    elif kind == "ids" and width in (2, 3) and not sequences:
        a, b = 0, 1
        label = header[2] if 2 in labels else None
        score = header[2] if width == 3 and not label and _all(_NUMBER, by_column[2]) else None
        if width == 3 and not label and not score:
            raise _unclear(path, separator, cells[0], "the third column is neither a label nor a score")
    elif kind == "sequences" and not sequences and width in (2, 3):
        raise DataError(
            f"{path} names proteins by id, and no file gives their sequences",
            hint="pass --sequences FILE: FASTA, or a table of ids and sequences",
        )
    else:
        raise _unclear(path, separator, cells[0], f"{len(sequences)} of {width} columns hold sequences")
    return LinkFile(
        path,
        kind,
        header,
        has_header=False,
        separator=separator,
        a=header[a],
        b=header[b],
        label=label,
        score=score,
        is_string=False,
    )


def _unclear(path: Path, separator: str, first: Sequence[str], why: str) -> DataError:
    return DataError(
        f"{path}: the first line ({separator.join(first)[:60]!r}) names no columns, and which are the two "
        f"proteins cannot be told: {why}",
        hint="add a line of column names, and name them with --a COL --b COL where they are unusual",
    )


def _is_header(first: Sequence[str], columns: LinkColumns) -> bool:
    """Whether the first line names columns: by a name that the user said, or a usual one."""
    asked = [name for name in (columns.a, columns.b, columns.label, columns.score) if name]
    if any(name in first for name in asked):
        return True
    usual = {f"{stem}{end}" for stem in (*_ID_STEMS, *_SEQUENCE_STEMS) for ends in _ENDS for end in ends}
    usual |= {*_TCR_IDS, *_EPITOPE_IDS, *_TCR_SEQUENCES, *_EPITOPES, *_LABEL_NAMES, *_SCORE_NAMES}
    return any(cell.lower() in {name.lower() for name in usual} for cell in first)


def _are_sequences(cells: Sequence[str]) -> bool:
    return _all(_LETTERS, cells) and sum(map(len, cells)) > _MEAN_LENGTH * len(cells)


def _all(pattern: re.Pattern[str], cells: Sequence[str]) -> bool:
    return bool(cells) and all(pattern.fullmatch(cell) for cell in cells)


def _first(names: Sequence[str], header: Sequence[str]) -> str | None:
    lower = {column.lower(): column for column in reversed(header)}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _parquet(path: Path, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(path).iter_batches(batch_size=1 << 18, columns=list(wanted))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path} as Parquet: {str(error).partition(chr(10))[0]}", hint="was it cut short?"
        ) from None
