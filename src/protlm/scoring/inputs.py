"""Tables of variants, read and checked against their wild type."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from protlm.data.readers import InputPolicy, ReadReport, check_file, iterate_records, reader_for
from protlm.data.readers.fasta import read_fasta
from protlm.data.readers.rows import open_table
from protlm.errors import DataError, did_you_mean
from protlm.scoring.wild_type import WildType
from protlm.types.alphabet import clean_residues
from protlm.types.record import Record
from protlm.types.variant import (
    Variant,
    VariantParser,
    fitting_offsets,
    likely_offset,
    parse_variant,
    variant_of_sequence,
)

MUTANT_COLUMNS = ("mutant", "variant", "mutation", "mutations")
SEQUENCE_COLUMN = "mutated_sequence"
"""ProteinGym's name for whole sequences; read where no column has mutations."""
_DROP = "--invalid drop leaves such rows without a score"
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
    said: list[str] = field(default_factory=list)
    """What reading changed or left out, a line each."""


def read_variants(
    path: Path | str,
    wild_type: WildType,
    *,
    column: str | None = None,
    offset: int = 0,
    invalid: Literal["error", "drop"] = "error",
    gaps: Literal["error", "remove"] = "error",
    as_text: bool = False,
) -> VariantTable:
    """Read a file of variants and check every one against the wild type.

    Parameters
    ----------
    path
        CSV, TSV or Parquet; or FASTA with whole sequences of the chain that varies.
    wild_type
        The reference.
    column
        Column with variants such as ``A42G:K50R``, by default the first of `MUTANT_COLUMNS`; or with whole
        sequences, by default `SEQUENCE_COLUMN`.
    offset
        Subtracted from each printed position.
    invalid
        ``"drop"`` leaves wrong rows without a score, with a note.
    gaps
        What to do with ``-`` and ``.`` in whole sequences.
    as_text
        Keep the columns of a text file as the very text they are; else those become numbers of which
        every value is one, so that nothing is lost.

    Raises
    ------
    DataError
        Naming file, row, value and remedy.
    """
    path = check_file(path)
    if reader_for(path) is read_fasta:
        return _read_sequences(path, wild_type, offset=offset, invalid=invalid, gaps=gaps)
    frame = _read_frame(path, as_text=as_text)
    if column is None:
        known = (*MUTANT_COLUMNS, SEQUENCE_COLUMN)
        column = next((name for name in known if name in frame.columns), None)
    elif column not in frame.columns:
        raise DataError(f"{path}: there is no column '{column}'", hint=did_you_mean(column, frame.columns))
    if column is None:
        raise DataError(
            f"{path}: no column is called {', '.join(MUTANT_COLUMNS)} or {SEQUENCE_COLUMN}",
            hint=f"say which with --mutant-column COL; {did_you_mean('mutant', frame.columns)}",
        )
    texts = [None if value is None else str(value) for value in frame[column].to_list()]
    renamed = _free_names(frame.columns)
    residues = wild_type.residues
    report, parse = ReadReport(), VariantParser(residues, offset=offset)
    is_sequence = column == SEQUENCE_COLUMN or _look_like_sequences(texts)
    variants, notes, first_error, errors = [], [], None, 0
    for row, text in enumerate(texts, start=1):
        try:
            if is_sequence:
                counts: Counter[str] = Counter()
                whole = clean_residues(text or "", gaps=gaps, counts=counts)
                report.change(counts, f"{path}, row {row}")
                variants.append(variant_of_sequence(whole, residues))
            else:
                variants.append(parse(text))
            notes.append(_note(variants[-1], residues))
        except DataError as error:
            errors += 1
            first_error = first_error or (row, error)
            variants.append(None)
            notes.append(error.message)
    if first_error is not None and invalid == "error":
        _refuse(path, first_error, errors, texts, residues, offset, is_sequence)
    if first_error is not None and errors == len(texts):
        row, error = first_error
        raise DataError(
            f"{path}: no row is left of {errors:,}; row {row}: {error.message}",
            hint=_without_drop(error.hint),
        )
    return VariantTable(
        frame.rename(renamed), variants, notes, renamed.get(column, column), renamed, report.lines()
    )


def _read_sequences(
    path: Path,
    wild_type: WildType,
    *,
    offset: int,
    invalid: Literal["error", "drop"],
    gaps: Literal["error", "remove"],
) -> VariantTable:
    """Read whole sequences of the chain that varies, aligned or not."""
    report = ReadReport()
    ids, names, variants, notes = [], [], [], []
    for record in _records(path, InputPolicy(gaps=gaps, invalid=invalid), report):
        chain, *others = record.chains
        if others:
            raise DataError(
                f"{path}: record '{record.id}' has {len(record.chains)} chains",
                hint="give the mutated one alone",
            )
        try:
            variant, note = variant_of_sequence(chain.residues, wild_type.residues), None
        except DataError as error:
            if invalid == "error":
                raise DataError(f"{path}, record '{record.id}': {error.message}", hint=error.hint) from None
            variant, note = None, error.message
        ids.append(record.id)
        names.append(None if variant is None or variant.is_indel else variant.label(offset=offset))
        variants.append(variant)
        notes.append(_note(variant, wild_type.residues) if variant is not None else note)
    if not any(variant is not None for variant in variants):
        reasons = [*report.lines(), *(f"record '{ids[0]}': {notes[0]}" for _ in ids[:1])]
        raise DataError(f"{path}: no variant is left", hint="; ".join(reasons) or "is the file empty?")
    frame = pl.DataFrame({"id": ids, "mutant": pl.Series(names, dtype=pl.String)})
    return VariantTable(frame, variants, notes, said=report.lines())


def _records(path: Path, policy: InputPolicy, report: ReadReport) -> Iterator[Record]:
    """Stream records; what is said of options that only `protlm prepare` has is said otherwise."""
    try:
        yield from iterate_records(path, policy=policy, report=report)
    except DataError as error:
        hint = error.hint
        if "--duplicate-ids" in (hint or ""):
            hint = "give each variant a name of its own"
        raise DataError(error.message, hint=hint) from None


def _note(variant: Variant, residues: str) -> str:
    if variant.is_indel:
        return f"{len(variant.residues) - len(residues):+d} residues"
    return "" if variant.mutations else "wild type"


def _look_like_sequences(texts: Sequence[str | None]) -> bool:
    """Whether a column holds whole sequences: letters alone, and more than a variant's name has."""
    filled = [text for text in texts[:100] if text and text.upper() != "WT"]
    return bool(filled) and all(text.isalpha() and len(text) > 3 for text in filled)


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
    is_sequence: bool,
) -> None:
    row, error = first
    others = f" ({count:,} of {len(texts):,} rows are wrong)" if count > 1 else ""
    hint = error.hint
    if len(texts) > 1 and 2 * count <= len(texts):
        hint = f"{_without_drop(hint) or 'correct the row'}; or {_DROP}, {count:,} here"
    elif not is_sequence:
        hint = _offset_hint([text for text in texts if text], residues, offset)
        hint = hint or _own_hint(texts[row - 1], residues, offset)
    raise DataError(f"{path}, row {row}: {error.message}{others}", hint=hint)


def _without_drop(hint: str | None) -> str:
    """Take out of a hint that wrong rows may be dropped."""
    return re.sub(rf"(; |, or pass )?{_DROP.partition(' leaves')[0]}[^;]*", "", hint or "").strip("; ")


def _own_hint(text: str | None, residues: str, offset: int) -> str | None:
    """Give the hint for one wrong row, with the offset that fits it."""
    try:
        parse_variant(text, residues, offset=offset)
    except DataError as error:
        return error.hint
    return None


def _offset_hint(texts: Sequence[str], residues: str, offset: int) -> str | None:
    """Propose the offset that fits the table, or most of it."""
    fits = fitting_offsets(texts, residues)
    if offset in fits:  # something else is wrong
        return None
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
    texts: dict[str, list[str | None]] = {name: [] for name in table.header}
    for row in table.rows(table.header):
        for name, value in row.items():
            texts[name].append(value or None)
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
