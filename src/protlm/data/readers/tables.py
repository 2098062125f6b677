"""CSV, TSV and Parquet with one record per row: one sequence, or heavy and light chains."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.gene_names import first_word
from protlm.data.readers.chain_tracks import chain_tracks
from protlm.data.readers.columns import ChainColumns, TableColumns, resolve_columns
from protlm.data.readers.joined import split_joined
from protlm.data.readers.policy import ColumnNames, InputPolicy, ReadReport, UniqueIds, guarded
from protlm.data.readers.rows import Row, open_table
from protlm.errors import DataError
from protlm.types.alphabet import ResidueError, clean_residues
from protlm.types.record import ROLE_OF_LOCUS, Chain, Record, Role

MISSING = frozenset(
    ["na", "NA", "n/a", "N/A", "#N/A", "<NA>", "nan", "NaN", "none", "None", "null", "NULL", "nd", "ND", "-"]
)
"""Cells that stand for no value, although some of them could be read as residues."""

_NO = frozenset(["f", "false", "no", "0", "unproductive"])

_LOCUS = re.compile(r"(?:IG|TR)([HKLABGD])(?:$|[VJ])")
_LOCUS_WORDS = {
    **{letter: letter for letter in ROLE_OF_LOCUS},  # as in OAS
    "HEAVY": "H",
    "KAPPA": "K",
    "LAMBDA": "L",
    "ALPHA": "A",
    "BETA": "B",
    "GAMMA": "G",
    "DELTA": "D",
}

Found = tuple[str, Record | DataError]


def read_table(path: Path, columns: ColumnNames, policy: InputPolicy, report: ReadReport) -> Iterator[Record]:
    """Stream a table of any layout. Gene calls and per-residue columns are read where they are present.

    Parameters
    ----------
    path
        CSV, TSV or Parquet.
    columns
        Which columns hold what. Where a chain column is named, no other one is guessed.
    policy
        What to do with records that are not plain residues.
    report
        Filled with the layout, the columns taken, and counts.

    Raises
    ------
    DataError
        If a column is missing or a row breaks the policy.
    """
    table = open_table(path)
    wanted = resolve_columns(table.header, columns, path, table.metadata)
    report.columns = wanted.lines(table.header)
    rows = table.rows(wanted.names())
    if policy.regions == "columns":
        _demand_regions(wanted, path)
    return guarded(_records(path, rows, wanted, policy, report), policy, report)


def _demand_regions(columns: TableColumns, path: Path) -> None:
    for chain in columns.chains:
        if not chain.has_regions:
            raise DataError(
                f"{path}: --regions columns, but no column with regions goes with '{chain.residues[0]}'",
                hint="expected columns such as fwr1_aa, cdr1_aa, … or cdr_mask_aa; or pass --regions auto",
            )


def _records(
    path: Path, rows: Iterator[Row], columns: TableColumns, policy: InputPolicy, report: ReadReport
) -> Iterator[Found]:
    ids = UniqueIds(policy, report)
    stem = path.name.split(".")[0]
    for number, row in enumerate(rows, start=1):
        parts = [part for column in columns.id if (part := _cell(row, column))]
        name = ":".join(parts) or f"{stem}:{number}"
        where = f"{path}, row {number}, record '{name}'"
        if columns.productive and _cell(row, columns.productive).lower() in _NO:
            if policy.unproductive == "drop":
                report.drop("not productive (--unproductive keep keeps such rows)", where)
                continue
            report.change(Counter({"not productive, kept": 1}), where)
        yield from _row_records(row, name, where, columns, policy, report, ids)


def _row_records(
    row: Row,
    name: str,
    where: str,
    columns: TableColumns,
    policy: InputPolicy,
    report: ReadReport,
    ids: UniqueIds,
) -> Iterator[Found]:
    """Give the record of a row, and the second one that it may hold."""
    counts: Counter[str] = Counter()
    group_parts = [_cell(row, column) for column in columns.group]
    group = "|".join(group_parts) if any(group_parts) else ""
    labels = {**columns.constants, **{column: _label(row[column]) for column in columns.labels}}
    sets = [(name, columns.chains)]
    if any(_cell(row, each.residues[0]) for each in columns.second):
        if policy.bispecific == "both":
            sets.append((f"{name}:fv2", columns.second))
        else:
            counts["second variable domain pair, not read (--bispecific both reads it)"] += 1
    for each_name, chain_columns in sets:
        try:
            chains = _chains(row, columns, chain_columns, policy, counts)
        except DataError as error:
            yield where, error
            continue
        report.change(counts, where)
        counts.clear()
        yield where, Record(ids.claim(each_name, where), chains, labels=labels, group=group)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if type(value) is str:  # the common case
        return value
    if value is None:
        return ""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _cell(row: Mapping[str, Any], column: str) -> str:
    """Give the trimmed text of a cell; empty where it stands for no value."""
    text = _text(row, column).strip()
    return "" if text in MISSING else text


def _label(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _chains(
    row: Mapping[str, Any],
    table: TableColumns,
    columns: Sequence[ChainColumns],
    policy: InputPolicy,
    counts: Counter[str],
) -> tuple[Chain, ...]:
    """Build the chains of a row; a pair may lack one of its two."""
    if table.layout.is_joined:
        row, columns = split_joined(row, columns[0])
    present = []
    for each in columns:
        column = next((name for name in each.residues if _cell(row, name)), None)
        if column is not None:
            present.append((each, column))
        elif word := _text(row, each.residues[0]).strip():
            counts[f"'{word}', read as no value"] += 1
    if not present:
        names = [f"'{each.residues[0]}'" for each in columns]
        what = f"columns {' and '.join(names)} are" if len(names) > 1 else f"column {names[0]} is"
        raise ResidueError(
            f"{what} empty", hint="remove the row, or pass --invalid drop", reason="empty sequence"
        )
    if len(present) < len(columns):
        _count_missing(row, table, columns, [each for each, _ in present], counts)
    return tuple(_chain(row, each, column, policy, counts) for each, column in present)


def _count_missing(
    row: Mapping[str, Any],
    table: TableColumns,
    columns: Sequence[ChainColumns],
    present: Sequence[ChainColumns],
    counts: Counter[str],
) -> None:
    if table.single and _cell(row, table.single[0]) == table.single[1]:
        counts[f"single chain, as '{table.single[0]}' says {table.single[1]}"] += 1
        return
    missing = ", ".join(each.role.name.lower() for each in columns if each not in present)
    counts[f"no {missing} chain, kept with the other one alone"] += 1


def _chain(
    row: Mapping[str, Any], columns: ChainColumns, column: str, policy: InputPolicy, counts: Counter[str]
) -> Chain:
    if column != columns.residues[0]:
        counts[f"'{columns.residues[0]}' is empty, '{column}' read instead"] += 1
    text = _text(row, column)
    is_aligned = column == columns.others.get("alignment")
    try:
        residues = clean_residues(text, gaps="remove" if is_aligned else policy.gaps, counts=counts)
    except ResidueError as error:
        raise ResidueError(
            f"column '{column}': {error.message}", hint=error.hint, reason=error.reason
        ) from None
    cells = {kind: _cell(row, name) for kind, name in columns.others.items()}
    v_call = _gene_call(cells.get("v_call", ""))
    locus = _locus(cells.get("locus", ""), v_call, columns, counts)
    return Chain(
        residues,
        role=columns.role or ROLE_OF_LOCUS.get(locus, Role.OTHER),
        locus=locus,
        v_call=v_call,
        d_call=_gene_call(cells.get("d_call", "")),
        j_call=_gene_call(cells.get("j_call", "")),
        tracks=chain_tracks(cells, columns.others, text.strip(), residues, policy, counts),
    )


@cache
def _gene_call(text: str) -> str:
    """Give the first gene of a call such as ``Homsap IGHV3-23*01 F, or IGHV3-23D*01 F``."""
    return first_word(text) or text.split(",")[0].strip()


def _locus(text: str, v_call: str, columns: ChainColumns, counts: Counter[str]) -> str:
    """Give the locus letter that the table names, in a column of its own or by the V gene."""
    if text:
        if letter := _LOCUS_WORDS.get(text.upper()) or _locus_letter(text):
            return letter
        counts[
            f"column '{columns.others['locus']}' says '{text}', which is no locus such as IGH; not read"
        ] += 1
    return _locus_letter(v_call)


@cache
def _locus_letter(text: str) -> str:
    match = _LOCUS.match(text.upper())
    return match[1] if match else ""
