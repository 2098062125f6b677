"""Rows of any table, FASTA file or list of variants as records, for cards whose data name their chains."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from protlm.data.numbering import NumberingReport, number_records
from protlm.data.readers.fasta import fasta_entries
from protlm.data.readers.text import read_lines
from protlm.errors import DataError, did_you_mean
from protlm.evaluation.cards import ByColumn, Classes, DataSource, Labels, Number, SequenceTable, TaskCard
from protlm.types.alphabet import ResidueError, clean_residues
from protlm.types.record import Chain, Record, Role
from protlm.types.variant import VariantParser

DATASET = "data set"
"""Label under which each record has the name of its data source."""
_EMPTY = ("", "nan", "NaN", "NA", "None")


def read_chains(
    card: TaskCard,
    source: DataSource,
    paths: Mapping[str, Path],
    skip_filters: Sequence[str],
    counts: Counter[str],
    lines: list[str],
) -> list[Record]:
    """Read one file of a card whose source names its chains.

    Parameters
    ----------
    card
        The task.
    source
        One of its files.
    paths
        Where the files are, from `find_files`.
    skip_filters
        Filters that are not applied.
    counts
        Filled with rows left out, by reason.
    lines
        Filled with what was read.
    """
    path = paths[source.name]
    table = read_rows(source, path)
    wanted = [name for name in _columns(card, source) if name not in source.constants]
    for name in wanted:
        if name not in table.columns:
            raise DataError(
                f"{path}: there is no column '{name}', which task '{card.name}' reads",
                hint=did_you_mean(name, table.columns),
            )
    proteins = {name: _proteins(each, paths[f"{source.name}.{name}"]) for name, each in source.tables.items()}
    parse = None if source.wild_type is None else VariantParser(source.wild_type)
    records: list[Record] = []
    for number, row in enumerate(table.iter_rows(named=True), 1):
        labels = {name: row[name] for name in wanted} | source.constants | {DATASET: source.name}
        name = str(row[source.id]) if source.id else f"{source.name}:{number}"
        reason = failed_filter(labels, source, skip_filters)
        if reason is not None:
            counts[f"{source.name}: {reason}"] += 1
            continue
        try:
            chains = tuple(_chain(row, each, source, proteins, parse) for each in source.chains)
        except (ResidueError, DataError) as error:
            counts[f"{source.name}: {_short(error)}"] += 1
            continue
        record = _fitted(Record(name, chains, labels=labels), card, counts)
        if record is not None:
            records.append(record)
    if card.receptor == "antibody":
        records = list(number_records(records, receptor="antibody", report=NumberingReport()))
    lines.append(f"{source.name}: {len(table):,} rows read, {len(records):,} records")
    return _with_own_ids(records)


def read_rows(source: DataSource, path: Path) -> pl.DataFrame:
    """Read a file as text, column by column.

    Parameters
    ----------
    source
        Says how.
    path
        CSV, TSV, Parquet, other text, or FASTA.
    """
    if source.header is not None:
        return _fasta_rows(source.header, path)
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if suffixes and suffixes[-1] == ".parquet":
        return pl.read_parquet(path).with_columns(pl.all().cast(pl.String))
    separator = source.separator or ("," if suffixes and suffixes[-1] == ".csv" else "\t")
    parts = [line.split(separator) for line in read_lines(path) if line] if not _quoted(path) else None
    if parts is None:
        table = pl.read_csv(path, separator=separator, infer_schema=False, has_header=not source.columns)
        return (
            table.rename(dict(zip(table.columns, source.columns, strict=True))) if source.columns else table
        )
    names = list(source.columns) or [name.strip().lstrip("\ufeff") for name in parts.pop(0)]
    for number, row in enumerate(parts, 1):
        if len(row) != len(names):
            raise DataError(
                f"{path}, row {number:,} has {len(row)} values, expected {len(names)}",
                hint=f"between them is {separator!r}; was the file cut short?",
            )
    columns = list(zip(*parts, strict=True)) or [()] * len(names)
    return pl.DataFrame({name: list(column) for name, column in zip(names, columns, strict=True)})


def _quoted(path: Path) -> bool:
    return any('"' in line for _, line in zip(range(2000), read_lines(path), strict=False))


def _fasta_rows(pattern: str, path: Path) -> pl.DataFrame:
    rows = []
    for _, header, residues in fasta_entries(path):
        found = re.search(pattern, header)
        if found is None:
            raise DataError(
                f"{path}: the header '>{header}' does not match {pattern!r}",
                hint="the card's `header` says what a header is like",
            )
        rows.append({**found.groupdict(), "sequence": residues})
    return pl.DataFrame(rows)


def _proteins(table: SequenceTable, path: Path) -> dict[str, str]:
    if any(suffix in path.suffixes for suffix in (".fasta", ".fa", ".faa")):
        return {header.split()[0]: residues for _, header, residues in fasta_entries(path) if header.split()}
    rows = read_rows(DataSource(name="t", file=table.file, licence="", citation="", origin=""), path)
    for name in (table.id, table.sequence):
        if name not in rows.columns:
            raise DataError(f"{path}: there is no column '{name}'", hint=did_you_mean(name, rows.columns))
    return dict(rows.select(table.id, table.sequence).iter_rows())


def _columns(card: TaskCard, source: DataSource) -> list[str]:
    """List the columns that anything asks for, each once."""
    names = [each.column for each in source.chains] + [each.column for each in source.filters]
    names += [*source.genes.values(), *([source.id] if source.id else []), *card.columns()]
    names += [source.source] if source.source else []
    names += [
        key for split in card.splits for key in split.by if key not in ("clonotype", "chain", "cluster")
    ]
    if isinstance(card.target, ByColumn | Classes | Labels | Number):
        names.append(card.target.column)
    if isinstance(card.target, Classes) and card.target.mask:
        names.append(card.target.mask)
    return list(dict.fromkeys(names))


def failed_filter(labels: Mapping[str, Any], source: DataSource, skip_filters: Sequence[str]) -> str | None:
    """Give the reason of the first filter that a row fails; `None` where it fails none.

    Parameters
    ----------
    labels
        Cells by column.
    source
        Has the filters.
    skip_filters
        Names of those that are not applied.
    """
    for each in source.filters:
        value = labels[each.column]
        found = re.search(each.matches, "" if value is None else str(value).strip()) is not None
        if each.name not in skip_filters and found == each.negate:
            return f"filter '{each.name}'"
    return None


def _chain(
    row: Mapping[str, Any],
    chain: Any,
    source: DataSource,
    proteins: Mapping[str, Mapping[str, str]],
    parse: VariantParser | None,
) -> Chain:
    text = row[chain.column]
    text = "" if text is None else str(text)
    if parse is not None:
        residues = list(parse.wild_type)
        for mutation in parse(text).mutations:
            residues[mutation.index] = mutation.mutant
        return Chain("".join(residues), role=Role[chain.role.upper()])
    if chain.table is not None:
        if text not in proteins[chain.table]:
            raise DataError(f"a protein that '{chain.table}' has not")
        text = proteins[chain.table][text]
    gene = source.genes.get(f"{chain.role}_v")  # type: ignore[call-overload]
    call = "" if gene is None or row[gene] in (None, *_EMPTY) else str(row[gene])
    return Chain(clean_residues(text), role=Role[chain.role.upper()], v_call=call)


def _short(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return re.sub(r"position [\d,]+", "a position", text)[:90]


def _fitted(record: Record, card: TaskCard, counts: Counter[str]) -> Record | None:
    """Check the labels of residues and cut chains that are too long, labels with them."""
    columns: list[str] = []
    if card.level == "residue" and isinstance(card.target, ByColumn | Classes):
        columns = [card.target.column]
        columns += [card.target.mask] if isinstance(card.target, Classes) and card.target.mask else []
        for column in columns:
            if len(str(record.labels[column] or "")) != len(record):
                counts[f"'{column}' has another length than the residues"] += 1
                return None
    most = card.max_residues
    if most is None or max(len(chain) for chain in record.chains) <= most:
        return record
    counts[f"a chain over {most:,} residues{_TREATED[card.long]}"] += 1
    if card.long == "drop":
        return None
    labels = {name: _cut(str(record.labels[name]), most, card.long) for name in columns}
    chains = tuple(replace(chain, residues=_cut(chain.residues, most, card.long)) for chain in record.chains)
    return replace(record, chains=chains, labels={**record.labels, **labels})


_TREATED = {"drop": "", "middle": ", kept without the middle", "end": ", kept without the end"}


def _cut(text: str, most: int, how: str) -> str:
    if len(text) <= most:
        return text
    return text[:most] if how == "end" else text[: most - most // 2] + text[len(text) - most // 2 :]


def _with_own_ids(records: list[Record]) -> list[Record]:
    seen: Counter[str] = Counter()
    result = []
    for record in records:
        seen[record.id] += 1
        repeated = seen[record.id] > 1
        result.append(replace(record, id=f"{record.id}#{seen[record.id]}") if repeated else record)
    return result
