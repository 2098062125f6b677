"""CSV, TSV and Parquet with one record per row: one sequence, or heavy and light chains."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.readers.columns import ChainColumns, TableColumns, resolve_columns
from protlm.data.readers.policy import ColumnNames, InputPolicy, ReadReport, UniqueIds, guarded
from protlm.data.readers.rows import Row, open_table
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL, ResidueError, clean_residues
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Segment

MISSING = frozenset(
    ["na", "NA", "n/a", "N/A", "#N/A", "<NA>", "nan", "NaN", "none", "None", "null", "NULL", "nd", "ND", "-"]
)
"""Cells that stand for no value, although some of them could be read as residues."""

_SEGMENT_CODES = {segment.name: segment.value for segment in (Segment.V, Segment.N, Segment.D, Segment.J)}
_MUTATED_CODES = {"0": Mutated.GERMLINE.value, "1": Mutated.MUTATED.value}

_GENE = re.compile(r"(?:IG|TR)[A-Z]{2}[^\s,;]*")


def read_table(path: Path, columns: ColumnNames, policy: InputPolicy, report: ReadReport) -> Iterator[Record]:
    """Stream a table. Gene calls and the mask columns of abstar are read where they are present.

    Parameters
    ----------
    path
        CSV, TSV or Parquet.
    columns
        Which columns hold what. Where a chain column is named, no other one is guessed.
    policy
        What to do with records that are not plain residues.
    report
        Filled with the columns taken, and counts.

    Raises
    ------
    DataError
        If a column is missing or a row breaks the policy.
    """
    table = open_table(path)
    wanted = resolve_columns(table.header, columns, path)
    report.columns = wanted.lines(table.header)
    rows = table.rows(wanted.names())
    return guarded(_records(path, rows, wanted, policy, report), policy, report)


def _records(
    path: Path, rows: Iterator[Row], columns: TableColumns, policy: InputPolicy, report: ReadReport
) -> Iterator[tuple[str, Record | DataError]]:
    ids = UniqueIds(policy, report)
    stem = path.name.split(".")[0]
    for number, row in enumerate(rows, start=1):
        name = _cell(row, columns.id) or f"{stem}:{number}"
        where = f"{path}, row {number}, record '{name}'"
        counts: Counter[str] = Counter()
        try:
            chains = _chains(row, columns, policy, counts)
        except DataError as error:
            yield where, error
            continue
        report.changed.update(counts)
        parts = [_cell(row, column) for column in columns.group]
        labels = {column: _label(row[column]) for column in columns.labels}
        group = "|".join(parts) if any(parts) else ""
        yield where, Record(ids.claim(name, where), chains, labels=labels, group=group)


def _text(row: Mapping[str, Any], column: str | None) -> str:
    value = row[column] if column else None
    if value is None:
        return ""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    """Give the trimmed text of a cell; empty where it stands for no value."""
    text = _text(row, column).strip()
    return "" if text in MISSING else text


def _label(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _chains(
    row: Mapping[str, Any], columns: TableColumns, policy: InputPolicy, counts: Counter[str]
) -> tuple[Chain, ...]:
    """Build the chains of a row; a pair may lack one of its two."""
    present = []
    for each in columns.chains:
        if _cell(row, each.residues):
            present.append(each)
        elif word := _text(row, each.residues).strip():
            counts[f"'{word}', read as no value"] += 1
    if not present:
        names = [f"'{each.residues}'" for each in columns.chains]
        what = f"columns {' and '.join(names)} are" if len(names) > 1 else f"column {names[0]} is"
        raise ResidueError(
            f"{what} empty", hint="remove the row, or pass --invalid drop", reason="empty sequence"
        )
    if len(present) < len(columns.chains):
        missing = "light" if present[0].role == Role.HEAVY else "heavy"
        counts[f"no {missing} chain, kept with the other one alone"] += 1
    return tuple(_chain(row, each, policy, counts) for each in present)


def _chain(row: Mapping[str, Any], columns: ChainColumns, policy: InputPolicy, counts: Counter[str]) -> Chain:
    text = _text(row, columns.residues)
    try:
        residues = clean_residues(text, gaps=policy.gaps, counts=counts)
    except ResidueError as error:
        raise ResidueError(
            f"column '{columns.residues}': {error.message}", hint=error.hint, reason=error.reason
        ) from None
    return Chain(
        residues,
        role=columns.role,
        v_call=_gene_call(row, columns.v_call),
        j_call=_gene_call(row, columns.j_call),
        tracks=_mask_tracks(row, columns, text, len(residues), counts),
    )


def _gene_call(row: Mapping[str, Any], column: str | None) -> str:
    """Give the first gene of a call such as ``Homsap IGHV3-23*01 F, or IGHV3-23D*01 F``."""
    text = _cell(row, column)
    match = _GENE.search(text)
    return match[0] if match else text.split(",")[0].strip()


def _mask_tracks(
    row: Mapping[str, Any], columns: ChainColumns, text: str, length: int, counts: Counter[str]
) -> dict[str, np.ndarray]:
    """Read abstar's per-residue strings: gene segments as VNDJ, non-germline as 0 and 1."""
    tracks: dict[str, np.ndarray] = {}
    if segments := _cell(row, columns.segment):
        tracks["segment"] = _codes(segments.upper(), _SEGMENT_CODES, columns.segment, text, length)
    if nongermline := _cell(row, columns.nongermline):
        mutated = _codes(nongermline, _MUTATED_CODES, columns.nongermline, text, length)
        if "segment" in tracks:  # a non-templated residue has no germline to differ from
            mutated[tracks["segment"] == Segment.N] = Mutated.NONE
            tracks["mutated"] = mutated
        else:
            counts[f"'{columns.nongermline}' left out, as no gene segments tell which residues are N"] += 1
    return tracks


def _codes(mask: str, codes: Mapping[str, int], column: str | None, text: str, length: int) -> np.ndarray:
    if len(mask) == len(text) != length:  # the mask goes with the sequence before stop and gaps went
        kept = STANDARD + UNUSUAL
        mask = "".join(mark for mark, letter in zip(mask, text, strict=True) if letter.upper() in kept)
    if len(mask) != length:
        raise ResidueError(
            f"column '{column}' has {len(mask)} letters for {length} residues",
            hint="it needs one letter per residue; mend it, leave the column out, or pass --invalid drop",
            reason=f"column '{column}' does not have one letter per residue",
        )
    if unknown := sorted(set(mask) - set(codes)):
        raise ResidueError(
            f"column '{column}' has {unknown[0]!r} at position {mask.index(unknown[0]) + 1}",
            hint=f"expected only {', '.join(codes)}; mend it, leave the column out, or pass --invalid drop",
            reason=f"column '{column}' has other letters than {', '.join(codes)}",
        )
    return np.array([codes[letter] for letter in mask], dtype=np.uint8)
