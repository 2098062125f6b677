"""audit: what test records share with training records, and how near their sequences are."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from protlm.data.audit import LeakageReport, leakage_report
from protlm.data.identity import LEAST_COVERAGE, SENSITIVITY
from protlm.data.numbering import Receptor
from protlm.data.readers import ColumnNames, InputPolicy
from protlm.errors import ConfigError, DataError
from protlm.evaluation.task_files import text_of
from protlm.recipes.outputs import claim_file
from protlm.recipes.split_input import Say, key_values, read_to_split
from protlm.types.record import Record

SUFFIXES = (".parquet", ".tsv", ".csv")
_TRAIN = "train"


def audit(
    train: Path | str,
    test: Path | str | None = None,
    *,
    split: str | None = None,
    by: Sequence[str] = (),
    label: str | None = None,
    identity: bool = True,
    min_coverage: float = LEAST_COVERAGE,
    sensitivity: float = SENSITIVITY,
    threads: int = 1,
    cdr3_identity: float = 0.8,
    out: Path | str | None = None,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    receptor: Receptor = "auto",
    force: bool = False,
    say: Say = print,
) -> dict[str, LeakageReport]:
    """Compare test with training records, or each part of one input with the rest of it.

    Parameters
    ----------
    train, test
        Corpora or files; `test` is left out where `split` is given.
    split
        A column of `train` with the part of each record. If one part is called ``train``, the others are
        compared with it; else each is compared with all the others.
    by
        Keys that should not be shared: as of `protlm.recipes.split.split_file`.
    label
        A column to count on both sides.
    identity
        Whether to align sequences.
    min_coverage, sensitivity, threads
        See `protlm.data.identity.nearest_by_alignment`.
    cdr3_identity
        Of the key ``clonotype``.
    out
        Where the table of the nearest training sequences goes, ``.parquet``, ``.tsv`` or ``.csv``.
    columns, policy, receptor
        How to read and number files.
    force
        Replace a file that is there.
    say
        Tells the user what happens.

    Returns
    -------
    dict
        By name of the part, ``test`` of two inputs.

    Raises
    ------
    ConfigError
        If it is not clear what is compared.
    DataError
        If the input is wrong or a side is empty.
    """
    if (test is None) == (split is None):
        raise ConfigError(
            "say what is compared", hint="protlm audit TRAIN TEST, or protlm audit FILE --split COLUMN"
        )
    if out is not None:
        if not identity:
            raise ConfigError("--out is for the nearest sequences, and --no-identity leaves them out")
        claim_file(Path(out), SUFFIXES, force=force)
    wanted = [*by, *([label] if label else []), *([split] if split else [])]
    reading: dict[str, Any] = {"columns": columns, "policy": policy, "receptor": receptor, "say": say}
    records = read_to_split(train, wanted, **reading)
    if test is None:
        parts = _parts(records, str(split), say)
    else:
        others = read_to_split(test, wanted, **reading)
        parts = {"test": (list(range(len(records))), list(range(len(records), len(records) + len(others))))}
        records += others
    counts: Counter[str] = Counter()
    keys = {name: key_values(name, records, cdr3_identity, counts) for name in by}
    for reason, count in counts.items():
        if count:
            say(f"{count:,} × {reason}")
    labels = None if label is None else [text_of(record, label) for record in records]
    reports = {}
    for name, sides in parts.items():
        reports[name] = leakage_report(
            *([records[row] for row in rows] for rows in sides),
            keys={key: _sides(values, sides) for key, values in keys.items()},
            labels=None if labels is None else _sides(labels, sides),
            identity=identity,
            min_coverage=min_coverage,
            sensitivity=sensitivity,
            threads=threads,
        )
    if out is not None:
        _write(reports, Path(out))
    return reports


def _parts(records: Sequence[Record], column: str, say: Say) -> dict[str, tuple[list[int], list[int]]]:
    """Give the rows of training and of test for each part."""
    part = [text_of(record, column) for record in records]
    names = sorted({*part} - {""})
    if len(names) < 2:
        what = f"one value, '{names[0]}'" if names else "no value"
        raise DataError(
            f"column '{column}' has {what}: one side is empty",
            hint="name a column with at least two parts, such as train and test",
        )
    if missing := part.count(""):
        say(f"{missing:,} records have no value of '{column}' and are on no side")
    tests = [name for name in names if name != _TRAIN]
    found = {}
    for name in tests:
        is_train = {_TRAIN} if _TRAIN in names else {*names} - {name}
        rows = ([row for row, own in enumerate(part) if own in is_train], [])
        found[name] = (rows[0], [row for row, own in enumerate(part) if own == name])
    return found


def _sides(values: Sequence[Any], sides: tuple[list[int], list[int]]) -> tuple[list[Any], list[Any]]:
    return [values[row] for row in sides[0]], [values[row] for row in sides[1]]


def _write(reports: dict[str, LeakageReport], out: Path) -> None:
    tables = [
        report.nearest.with_columns(part=pl.lit(name))
        for name, report in reports.items()
        if report.nearest is not None
    ]
    table, part = pl.concat(tables), out.with_name(out.name + ".part")
    if out.suffix == ".parquet":
        facts = {name: report.facts() for name, report in reports.items()}
        table.write_parquet(part, metadata={"protlm": json.dumps({"verb": "audit", "parts": facts})})
    else:
        table.write_csv(part, separator="\t" if out.suffix == ".tsv" else ",")
    part.replace(out)
