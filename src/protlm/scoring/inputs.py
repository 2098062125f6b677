"""What to score: a wild type and a table of variants, read and checked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from protlm.data.numbering import number_chains
from protlm.data.readers import InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.readers.rows import open_table
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import STANDARD, clean_residues
from protlm.types.record import Chain, Record
from protlm.types.regions import Region, decode_position
from protlm.types.variant import (
    Variant,
    all_single_substitutions,
    fitting_offsets,
    likely_offset,
    parse_variant,
)

MUTANT_COLUMNS = ("mutant", "variant", "mutation", "mutations")
_OWN_COLUMNS = ("score", "num_masked_contexts", "note")


@dataclass(frozen=True)
class VariantTable:
    """Variants to score, with the columns they came with."""

    frame: pl.DataFrame
    """Input columns, untouched."""
    variants: list[Variant | None]
    """Parsed; `None` where a row is left without a score."""
    notes: list[str]
    column: str = "mutant"
    """Which column of `frame` the variants are in."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Input columns whose names the result needs, with the names they got."""


def read_wild_type(
    source: str | Path, *, gaps: Literal["error", "remove"] = "error", report: ReadReport | None = None
) -> Record:
    """Read the reference from a FASTA file with one record, or take it as a sequence.

    Parameters
    ----------
    source
        A path that exists wins; else residues.
    gaps
        What to do with ``-`` and ``.``.
    report
        Filled with what was changed.

    Raises
    ------
    DataError
        If the file has several records, or the text is neither a file nor residues.
    """
    report = report if report is not None else ReadReport()
    text = str(source).strip()
    if not text:
        raise DataError("the wild type is empty", hint="give a FASTA file or a sequence")
    is_file = os.path.exists(text)  # noqa: PTH110 - Path.exists fails on a sequence too long for a name
    looks_like_a_path = any(mark in text for mark in "/\\~") or Path(text).suffix[1:].isalnum()
    if looks_like_a_path and not is_file:
        raise DataError(f"no such file: {text}", hint="check the path, or pass the sequence itself")
    try:
        if is_file:
            return _only_record(Path(text), InputPolicy(gaps=gaps), report)
        return Record("wild_type", (Chain(clean_residues(text, gaps=gaps, counts=report.changed)),))
    except DataError as error:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        what = "wild type" if is_file else f"'{shown}' is no file, and as a sequence"
        hint = "check the path, or correct the sequence"
        if is_file or "--gaps" in (error.hint or ""):
            hint = "correct the wild type" if "--invalid" in (error.hint or "") else error.hint
        raise DataError(f"{what}: {error.message}", hint=hint) from None


def _only_record(path: Path, policy: InputPolicy, report: ReadReport) -> Record:
    records = list(islice(iterate_records(path, policy=policy, report=report), 2))
    if len(records) > 1:
        raise DataError(
            f"{path} has several records ('{records[0].id}', '{records[1].id}' …), "
            "but --wild-type needs exactly one",
            hint="pass the one you mean as a sequence or in a file of its own",
        )
    return records[0]


def describe_wild_type(wild_type: Record) -> str:
    """Say what the reference is, in one line.

    Parameters
    ----------
    wild_type
        From `read_wild_type`.
    """
    chain = wild_type.chains[0]
    line = f"wild type: '{wild_type.id}', {len(chain):,} residues"
    if len(wild_type.chains) > 1:
        line += f" of its {chain.role.name.lower()} chain; the other chain is context"
    odd = sum(letter not in STANDARD for letter in chain.residues)
    return line + (f"; {odd:,} sites are none of the twenty and get no score" if odd else "")


def single_substitutions(wild_type: Record, *, offset: int = 0) -> VariantTable:
    """List all single substitutions; an antibody's rows also get IMGT position and region.

    Parameters
    ----------
    wild_type
        The reference.
    offset
        Added to the 1-based position to give the printed one.
    """
    residues = wild_type.chains[0].residues
    names, variants = [], []
    for name, variant in all_single_substitutions(residues, offset=offset):
        names.append(name)
        variants.append(variant)
    if not names:
        raise DataError(
            f"the wild type '{wild_type.id}' has no site that is one of the twenty amino acids",
            hint="is it the sequence you mean?",
        )
    frame = pl.DataFrame({"mutant": names})
    numbered = number_chains([wild_type.chains[0]])[0]
    if isinstance(numbered, Chain):
        index = np.array([variant.mutations[0].index for variant in variants])
        positions, regions = numbered.tracks["position"][index], numbered.tracks["region"][index]
        frame = frame.with_columns(
            imgt_position=pl.Series([decode_position(code) for code in positions]),
            region=pl.Series([Region(code).name if code else "" for code in regions]),
        )
    return VariantTable(frame, variants, [""] * len(variants))


def read_variants(
    path: Path | str,
    wild_type: Record,
    *,
    column: str | None = None,
    offset: int = 0,
    invalid: Literal["error", "drop"] = "error",
    as_text: bool = False,
) -> VariantTable:
    """Read a CSV, TSV or Parquet file of variants and check every one against the wild type.

    Parameters
    ----------
    path
        The file.
    wild_type
        The reference.
    column
        Column with variants such as ``A42G:K50R``; by default the first of `MUTANT_COLUMNS`.
    offset
        Subtracted from each printed position.
    invalid
        ``"drop"`` leaves wrong rows without a score, with a note.
    as_text
        Keep the columns of a text file as the very text they are; else those become numbers of which
        every value is one, so that nothing is lost.

    Raises
    ------
    DataError
        Naming file, row, value and remedy.
    """
    path = check_file(path)
    frame = _read_frame(path, as_text=as_text)
    if column is None:
        column = next((name for name in MUTANT_COLUMNS if name in frame.columns), None)
    elif column not in frame.columns:
        raise DataError(f"{path}: there is no column '{column}'", hint=did_you_mean(column, frame.columns))
    if column is None:
        raise DataError(
            f"{path}: no column is called {', '.join(MUTANT_COLUMNS)}",
            hint=f"say which with --mutant-column COL; {did_you_mean('mutant', frame.columns)}",
        )
    texts = [None if value is None else str(value) for value in frame[column].to_list()]
    renamed = _free_names(frame.columns)
    residues = wild_type.chains[0].residues
    variants, notes, first_error, errors = [], [], None, 0
    for row, text in enumerate(texts, start=1):
        try:
            variants.append(parse_variant(text, residues, offset=offset, propose_offset=False))
            notes.append("" if variants[-1].mutations else "wild type")
        except DataError as error:
            errors += 1
            first_error = first_error or (row, error)
            variants.append(None)
            notes.append(error.message)
    if first_error is not None and invalid == "error":
        _refuse(path, first_error, errors, texts, residues, offset)
    return VariantTable(frame.rename(renamed), variants, notes, renamed.get(column, column), renamed)


def _free_names(columns: Sequence[str]) -> dict[str, str]:
    """Give other names to input columns that are called like ours."""
    renamed = {}
    for name in columns:
        if name in _OWN_COLUMNS or name.startswith("score_"):
            free = f"input_{name}"
            while free in columns:
                free = f"input_{free}"
            renamed[name] = free
    return renamed


def _refuse(
    path: Path,
    first: tuple[int, DataError],
    count: int,
    texts: Sequence[str | None],
    residues: str,
    offset: int,
) -> None:
    row, error = first
    others = f" ({count:,} of {len(texts):,} rows are wrong)" if count > 1 else ""
    hint = _offset_hint([text for text in texts if text], residues, offset)
    hint = hint or _own_hint(texts[row - 1], residues, offset)
    if len(texts) > 1 and 2 * count <= len(texts):
        hint = f"correct the row; or --invalid drop leaves such rows without a score, {count:,} here"
    raise DataError(f"{path}, row {row}: {error.message}{others}", hint=hint)


def _own_hint(text: str | None, residues: str, offset: int) -> str | None:
    """Give the hint for one wrong row, with the offset that fits it."""
    try:
        parse_variant(text, residues, offset=offset)
    except DataError as error:
        return error.hint
    return None


def _offset_hint(texts: Sequence[str], residues: str, offset: int) -> str | None:
    """Propose the offset that fits the table, or most of it."""
    fits = [each for each in fitting_offsets(texts, residues) if each != offset]
    if fits:
        more = f" (so do {len(fits) - 1} others, such as {fits[1]})" if len(fits) > 1 else ""
        return f"with --offset {fits[0]} the wild-type letters of all rows agree{more}"
    likely = likely_offset(texts, residues)
    if likely is not None and likely[0] != offset and likely[1] > 0.5:
        return (
            f"with --offset {likely[0]} the wild-type letters of {likely[1]:.0%} of the sites agree; "
            "--invalid drop leaves the other rows without a score"
        )
    return None


def _read_frame(path: Path, *, as_text: bool) -> pl.DataFrame:
    table = open_table(path)
    if path.suffix.lower() == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"cannot read {path} as Parquet: {error}", hint="was it cut short?") from None
        if frame.is_empty():
            raise DataError(f"{path}: the table has no row", hint="is the file complete?")
        return frame
    rows = list(table.rows(table.header))
    texts = {name: [row[name] or None for row in rows] for name in table.header}
    frame = pl.DataFrame(texts, schema=dict.fromkeys(table.header, pl.String))
    return frame if as_text else frame.select(map(_typed, frame.iter_columns()))


def _typed(texts: pl.Series) -> pl.Series:
    """Turn texts into numbers where all are numbers and none would read differently afterwards."""
    if texts.null_count() == len(texts):
        return texts
    whole = texts.cast(pl.Int64, strict=False)
    if whole.cast(pl.String).equals(texts):
        return whole
    numbers = texts.cast(pl.Float64, strict=False)
    # zeros in front, or more digits than a float holds: a code or a mask, not a number
    is_code = texts.str.contains(r"^[+-]?(0[0-9]|[0-9]{16})").any()
    return texts if is_code or numbers.null_count() > texts.null_count() else numbers
