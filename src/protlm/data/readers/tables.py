"""CSV, TSV and Parquet with one record per row: one sequence, or heavy and light chains."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from protlm.data.readers.policy import ColumnNames, InputPolicy, ReadReport, UniqueIds, guarded
from protlm.data.readers.text import read_lines
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import clean_residues
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Segment

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "heavy": ("heavy", "vh", "heavy_sequence", "sequence_heavy", "sequence_aa_heavy", "sequence_aa:0", "hc"),
    "light": ("light", "vl", "light_sequence", "sequence_light", "sequence_aa_light", "sequence_aa:1", "lc"),
    # AIRR keeps nucleotides in "sequence" and residues in "sequence_aa"
    "sequence": ("sequence_aa", "sequence", "seq", "protein", "protein_sequence", "residues"),
    "id": ("id", "sequence_id", "name", "record_id", "pair_id"),
    "group": ("group",),
}
"""Column names looked for, in this order, in any letter case."""

_SEGMENT_CODES = {segment.name: segment.value for segment in (Segment.V, Segment.N, Segment.D, Segment.J)}

_MAX_FIELD = 1 << 27


def read_table(
    path: Path, columns: ColumnNames, policy: InputPolicy, report: ReadReport
) -> Iterator[Record]:
    """Stream a table. Gene calls and the mask columns of abstar are read where they are present.

    Parameters
    ----------
    path
        CSV, TSV or Parquet.
    columns
        Which columns hold what.
    policy
        What to do with records that are not plain residues.
    report
        Filled with counts.

    Raises
    ------
    DataError
        If a column is missing or a row breaks the policy.
    """
    header, rows = _open_rows(path)
    wanted = resolve_columns(header, columns, path)
    return guarded(_records(path, rows, wanted, policy, report), policy, report)


@dataclass(frozen=True)
class _ChainColumns:
    """Columns of one chain; `None` where the table has none."""

    residues: str
    role: Role
    v_call: str | None
    j_call: str | None
    segment: str | None
    nongermline: str | None


@dataclass(frozen=True)
class TableColumns:
    """Columns of a record, as found in a table's header."""

    chains: tuple[_ChainColumns, ...]
    id: str | None
    group: tuple[str, ...]
    labels: tuple[str, ...]


def resolve_columns(header: Sequence[str], columns: ColumnNames, path: Path) -> TableColumns:
    """Find which columns hold what.

    Parameters
    ----------
    header
        Column names of the table.
    columns
        What the user said.
    path
        For messages.

    Raises
    ------
    DataError
        If a named column is not there, or no column holds a sequence.
    """
    asked = [columns.heavy, columns.light, columns.sequence, columns.id, *columns.group, *columns.labels]
    for name in asked:
        if name is not None and name not in header:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, header))
    heavy = columns.heavy or _usual("heavy", header)
    light = columns.light or _usual("light", header)
    sequence = columns.sequence or _usual("sequence", header)
    if columns.sequence is not None and (columns.heavy or columns.light) is None:
        heavy = light = None
    if heavy or light:
        chains = [(heavy, Role.HEAVY, ("_heavy", ":0")), (light, Role.LIGHT, ("_light", ":1"))]
    else:
        chains = [(sequence, Role.OTHER, ("",))]
    found = tuple(_chain_columns(name, role, ends, header) for name, role, ends in chains if name)
    if not found:
        raise DataError(
            f"{path}: no column looks like a sequence (found: {', '.join(header)})",
            hint="say which with --sequence COL, or --heavy COL and --light COL",
        )
    usual_group = _usual("group", header)
    return TableColumns(
        chains=found,
        id=columns.id or _usual("id", header),
        group=columns.group or ((usual_group,) if usual_group else ()),
        labels=columns.labels,
    )


def _usual(kind: str, header: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(header)}
    return next((by_lower[name] for name in USUAL_NAMES[kind] if name in by_lower), None)


def _chain_columns(name: str, role: Role, ends: tuple[str, ...], header: Sequence[str]) -> _ChainColumns:
    def find(*stems: str) -> str | None:
        return next((stem + end for stem in stems for end in ends if stem + end in header), None)

    return _ChainColumns(
        residues=name,
        role=role,
        v_call=find("v_call", "v_gene"),
        j_call=find("j_call", "j_gene"),
        segment=find("gene_segment_mask_aa"),
        nongermline=find("nongermline_mask_aa"),
    )


def _open_rows(path: Path) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    if path.suffix.lower() == ".parquet":
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"cannot read {path} as Parquet: {error}", hint="was it cut short?") from error
        batches = file.iter_batches(batch_size=4096)
        return list(file.schema_arrow.names), (row for batch in batches for row in batch.to_pylist())
    suffixes = [suffix.lower() for suffix in path.suffixes]
    delimiter = "," if ".csv" in suffixes else "\t"
    lines = read_lines(path)
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        raise DataError(f"{path}: the file is empty", hint="expected a line of column names")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise DataError(f"{path}: column names appear twice: {', '.join(sorted(repeated))}", hint="rename one")
    return header, _text_rows(path, header, reader)


def _text_rows(path: Path, header: list[str], reader: Iterator[list[str]]) -> Iterator[Mapping[str, str]]:
    for number, values in enumerate(reader, start=1):
        if not values:
            continue
        if len(values) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(values)} values for {len(header)} columns",
                hint="is the separator right (.csv means comma, .tsv means tab), or was the file cut short?",
            )
        yield dict(zip(header, values, strict=True))


def _records(
    path: Path,
    rows: Iterator[Mapping[str, Any]],
    columns: TableColumns,
    policy: InputPolicy,
    report: ReadReport,
) -> Iterator[tuple[str, Record | DataError]]:
    ids = UniqueIds(policy, report)
    stem = path.name.split(".")[0]
    for number, row in enumerate(rows, start=1):
        name = str(row[columns.id]) if columns.id and row[columns.id] else f"{stem}:{number}"
        where = f"{path}, row {number}, record '{name}'"
        try:
            chains = _chains(row, columns, policy, report)
        except DataError as error:
            yield where, error
            continue
        group = "|".join(str(row[column] or "") for column in columns.group)
        labels = {column: row[column] for column in columns.labels}
        yield where, Record(ids.claim(name, where), chains, labels=labels, group=group)


def _chains(
    row: Mapping[str, Any], columns: TableColumns, policy: InputPolicy, report: ReadReport
) -> tuple[Chain, ...]:
    """Build the chains of a row; a pair may lack one of its two."""
    present = [each for each in columns.chains if row[each.residues] or len(columns.chains) == 1]
    if not present:
        raise DataError("both chains are empty", hint="remove the row, or pass --invalid drop")
    return tuple(_chain(row, each, policy, report) for each in present)


def _chain(row: Mapping[str, Any], columns: _ChainColumns, policy: InputPolicy, report: ReadReport) -> Chain:
    try:
        text = str(row[columns.residues] or "")
        residues = clean_residues(text, gaps=policy.gaps, counts=report.changed)
        return Chain(
            residues,
            role=columns.role,
            v_call=_first_call(row, columns.v_call),
            j_call=_first_call(row, columns.j_call),
            tracks=_mask_tracks(row, columns, len(residues)),
        )
    except DataError as error:
        raise DataError(f"column '{columns.residues}': {error.message}", hint=error.hint) from None


def _first_call(row: Mapping[str, Any], column: str | None) -> str:
    return str(row[column] or "").split(",")[0].strip() if column else ""


def _mask_tracks(row: Mapping[str, Any], columns: _ChainColumns, length: int) -> dict[str, np.ndarray]:
    """Read abstar's per-residue strings: gene segments as VNDJ, non-germline as 0 and 1."""
    tracks: dict[str, np.ndarray] = {}
    segment_text = str(row[columns.segment] or "") if columns.segment else ""
    if segment_text:
        tracks["segment"] = _codes(segment_text, _SEGMENT_CODES, columns.segment, length)
    mutated_text = str(row[columns.nongermline] or "") if columns.nongermline else ""
    if mutated_text:
        digits = {"0": Mutated.GERMLINE.value, "1": Mutated.MUTATED.value}
        mutated = _codes(mutated_text, digits, columns.nongermline, length)
        if "segment" in tracks:  # a non-templated residue has no germline to differ from
            mutated[tracks["segment"] == Segment.N] = Mutated.NONE
        tracks["mutated"] = mutated
    return tracks


def _codes(text: str, codes: Mapping[str, int], column: str | None, length: int) -> np.ndarray:
    if len(text) != length:
        raise DataError(
            f"column '{column}' has {len(text)} letters for {length} residues",
            hint="these strings need one letter per residue",
        )
    if unknown := set(text) - set(codes):
        raise DataError(
            f"column '{column}' has {sorted(unknown)[0]!r}", hint=f"expected only {', '.join(codes)}"
        )
    return np.array([codes[letter] for letter in text], dtype=np.uint8)
