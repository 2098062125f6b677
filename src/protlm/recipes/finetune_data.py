"""Labelled records of a table or corpus: read, checked, cut; every record that is left out is counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus, names_corpus
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.errors import DataError
from protlm.evaluation.task_files import text_of
from protlm.recipes.finetune_config import LabelConfig
from protlm.recipes.finetune_replicates import treat_replicates
from protlm.recipes.finetune_values import residue_values, target_of, value_of
from protlm.types.record import Chain, Record, Role
from protlm.types.target import LabelledRecords

Say = Callable[[str], None]
KEYS = ("clonotype", "chain", "group", "cluster")
"""Names in `data.by` that are no columns."""
TRAIN, VALID, TEST = "train", "valid", "test"
_PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("valid", "val", "validation", "dev"), VALID),
    **dict.fromkeys(("test", "holdout"), TEST),
}


@dataclass(frozen=True)
class Source:
    """All records of a fine-tuning."""

    labelled: LabelledRecords
    parts: list[str]
    """Of each record: train, valid or test, where it is given; the name of a fold; or empty."""
    counts: Counter[str]
    """Records left out, by reason."""
    lines: list[str]
    """What happened, for the user."""
    wild_type: str | None = None
    """Of records that are its variants: a file or residues."""


def read_labelled(settings: LabelConfig, *, max_residues: int | None) -> Source:
    """Read all tables of a fine-tuning.

    Parameters
    ----------
    settings
        Where and what.
    max_residues
        What the model takes in a record; `None` is no limit.

    Raises
    ------
    DataError
        If a column or a label is missing, the target is constant, a class has one record, or a label does not
        fit its residues; unless the settings have a policy for it.
    """
    counts: Counter[str] = Counter()
    lines: list[str] = []
    records, parts = [], []
    for source, part in ((settings.input, ""), (settings.valid, VALID), (settings.test, TEST)):
        if source is not None:
            own = _read(source, settings, lines)
            records += own
            parts += [part] * len(own)
    if settings.split is not None:
        parts = _given_parts(records, parts, settings)
    records, parts = _without_missing(records, parts, settings, counts)
    limits = [limit for limit in (max_residues, settings.max_residues) if limit is not None]
    if limits:
        records, parts = _fitting(records, parts, min(limits), settings, counts, lines)
    target, note = target_of(records, settings)
    lines.append(note)
    values = [value_of(record, target, settings) for record in records]
    labelled = LabelledRecords(records, target, values)
    if settings.level != "residue" and target.kind in ("binary", "classes"):
        labelled, parts = _without_rare(labelled, parts, settings, counts)
    _refuse_constant(labelled)
    if settings.level != "residue" and target.kind == "value":
        labelled, parts = treat_replicates(labelled, parts, settings, lines)
    lines += [f"{count:,} records left out: {reason}" for reason, count in counts.items()]
    return Source(labelled, parts, counts, lines, settings.wild_type)


def _read(source: str, settings: LabelConfig, lines: list[str]) -> list[Record]:
    columns = tuple(name for name in settings.by if name not in KEYS)
    extra = (settings.target, settings.mask, None if _is_file(settings.split) else settings.split)
    wanted = tuple(dict.fromkeys([*columns, *(name for name in extra if name)]))
    if names_corpus(source):
        corpus = Corpus(source)
        records = [corpus.record(row) for row in range(len(corpus))]
        for name in wanted:
            if not any(name in record.labels for record in records):
                raise DataError(
                    f"{source} has no label '{name}'", hint="keep it as a label when the corpus is made"
                )
        return records
    path = check_file(source)
    is_plain = settings.first is not None
    names = ColumnNames(
        heavy=settings.first or settings.heavy,
        light=settings.second or settings.light,
        sequence=settings.sequence,
        labels=wanted,
    )
    reading = ReadReport()
    policy = InputPolicy(invalid="error", duplicate_ids="rename")
    records = list(iterate_records(path, columns=names, policy=policy, report=reading))
    lines += [f"{path.name}: {line}" for line in reading.lines()]
    for name in wanted:
        if not any(name in record.labels for record in records):
            raise DataError(f"{source} has no column '{name}'", hint="a FASTA file has none: give a table")
    return [_without_roles(record) for record in records] if is_plain else records


def _is_file(split: str | None) -> bool:
    return split is not None and split.endswith((".tsv", ".csv", ".parquet"))


def _without_roles(record: Record) -> Record:
    chains = tuple(replace(chain, role=Role.OTHER) for chain in record.chains)
    return replace(record, chains=chains)


def _given_parts(records: Sequence[Record], parts: Sequence[str], settings: LabelConfig) -> list[str]:
    assert settings.split is not None
    if _is_file(settings.split):
        path = check_file(settings.split)
        reads = {".parquet": pl.read_parquet}
        separator = "\t" if path.suffix == ".tsv" else ","
        table = (
            reads[path.suffix](path)
            if path.suffix in reads
            else pl.read_csv(path, separator=separator, infer_schema=False)
        )
        if not {"id", "fold"} <= set(table.columns):
            raise DataError(f"{path} has no columns id and fold", hint="make it with protlm split")
        fold_of = dict(zip(table["id"].cast(str).to_list(), table["fold"].cast(str).to_list(), strict=True))
        found = [fold_of.get(record.id, "") for record in records]
    else:
        found = [text_of(record, settings.split) for record in records]
    missing = sum(not part and not own for part, own in zip(parts, found, strict=True))
    if missing:
        raise DataError(
            f"{missing:,} of {len(records):,} records have no fold in '{settings.split}'",
            hint="give each one train, valid, test or the name of a fold",
        )
    return [part or _PARTS.get(own.lower(), own) for part, own in zip(parts, found, strict=True)]


def _without_missing(
    records: list[Record], parts: list[str], settings: LabelConfig, counts: Counter[str]
) -> tuple[list[Record], list[str]]:
    is_there = [_has_label(record, settings.target) for record in records]
    missing = is_there.count(False)
    if missing and settings.missing == "error":
        first = records[is_there.index(False)]
        raise DataError(
            f"{missing:,} of {len(records):,} records have no '{settings.target}', such as '{first.id}'",
            hint="pass --missing drop to leave them out",
        )
    if missing:
        counts[f"no '{settings.target}'"] += missing
    kept = [row for row, there in enumerate(is_there) if there]
    if not kept:
        raise DataError(f"no record has a '{settings.target}'", hint="is it the right column?")
    return [records[row] for row in kept], [parts[row] for row in kept]


def _has_label(record: Record, name: str) -> bool:
    value = record.labels.get(name)
    if isinstance(value, list | tuple | np.ndarray):
        return len(value) > 0
    return text_of(record, name).lower() not in ("", "nan", "na", "none", "null")


def _fitting(
    records: list[Record],
    parts: list[str],
    limit: int,
    settings: LabelConfig,
    counts: Counter[str],
    lines: list[str],
) -> tuple[list[Record], list[str]]:
    is_long = [len(record) > limit for record in records]
    if not any(is_long):
        return records, parts
    if settings.long_records == "error":
        first = is_long.index(True)
        raise DataError(
            f"{sum(is_long):,} records are over {limit:,} residues; the first is '{records[first].id}' with "
            f"{len(records[first]):,}",
            hint="pass --long-records drop, or cut to keep the first residues",
        )
    if settings.long_records == "drop":
        counts[f"over {limit:,} residues"] += sum(is_long)
        kept = [row for row, long in enumerate(is_long) if not long]
        return [records[row] for row in kept], [parts[row] for row in kept]
    lines.append(f"{sum(is_long):,} records were cut to their first {limit:,} residues")
    return [
        _cut(record, limit, settings) if long else record
        for record, long in zip(records, is_long, strict=True)
    ], parts


def _cut(record: Record, limit: int, settings: LabelConfig) -> Record:
    if len(record.chains) > 1:
        raise DataError(
            f"record '{record.id}' has {len(record.chains)} chains and {len(record):,} residues, and only "
            "single chains are cut",
            hint="pass --long-records drop",
        )
    chain: Chain = next(iter(record.chains))
    tracks = {name: values[:limit] for name, values in chain.tracks.items()}
    labels: dict[str, Any] = dict(record.labels)
    if settings.level == "residue":
        for name in (settings.target, settings.mask):
            if name is not None:
                own = residue_values(record, name)
                if len(own) == len(record):
                    labels[name] = own[:limit]
    return replace(
        record, chains=(replace(chain, residues=chain.residues[:limit], tracks=tracks),), labels=labels
    )


def _without_rare(
    labelled: LabelledRecords, parts: list[str], settings: LabelConfig, counts: Counter[str]
) -> tuple[LabelledRecords, list[str]]:
    classes = labelled.target.classes
    sizes = np.bincount(np.asarray(labelled.values, dtype=np.int64), minlength=len(classes))
    rare = [classes[place] for place in np.flatnonzero(sizes == 1)]
    if not rare:
        return labelled, parts
    if settings.rare == "error":
        raise DataError(
            f"{len(rare)} of {len(classes)} classes of '{settings.target}' have one record: "
            f"{', '.join(rare[:8])}",
            hint="pass --rare drop to leave them out: no split can both learn and judge them",
        )
    counts[f"the only ones of their class ({', '.join(rare[:8])})"] += len(rare)
    kept = [row for row, value in enumerate(labelled.values) if sizes[value] != 1]
    names = tuple(name for name in classes if name not in rare)
    if labelled.target.kind == "binary" or len(names) < 2:
        raise DataError(
            f"no two classes of '{settings.target}' have several records", hint="give more records"
        )
    new = {name: place for place, name in enumerate(names)}
    values = [new[classes[labelled.values[row]]] for row in kept]
    target = replace(labelled.target, classes=names)
    records = [labelled.records[row] for row in kept]
    return LabelledRecords(records, target, values), [parts[row] for row in kept]


def _refuse_constant(labelled: LabelledRecords) -> None:
    target = labelled.target
    if target.kind == "value":
        flat = np.concatenate([np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in labelled.values])
        found = np.unique(flat[~np.isnan(flat)])
    else:
        found = np.unique(np.concatenate([np.atleast_1d(np.asarray(each)) for each in labelled.values]))
        found = found[found >= 0] if target.kind != "labels" else found
    if len(found) < 2:
        only = "nothing" if not len(found) else f"{float(found[0]):g}"
        raise DataError(
            f"'{target.name}' is the same for all records ({only}), so there is nothing to learn",
            hint="is it the right column, and are both kinds of records there?",
        )
