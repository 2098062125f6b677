"""Deep mutational scans: variants of one wild type with measured values, as ProteinGym has them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from protlm.data.readers.assay_reference import SEQUENCE_COLUMN, AssayFacts, read_number, stem_of
from protlm.data.readers.policy import ReadReport
from protlm.data.readers.rows import Row, open_table
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import clean_residues
from protlm.types.variant import Variant, likely_offset, parse_variant

VALUE_COLUMNS = ("DMS_score", "score")
FIT_COLUMN = "DMS_score_bin"
WILD_TYPE, STOP, NO_VALUE = "the wild type itself", "has a stop", "no measured value"
WRONG, DISAGREES, REPEATED = "no variant of the wild type", "disagrees with its sequence", "stands twice"

_SUBSTITUTION = re.compile(r"([A-Z])([1-9][0-9]{0,8})([A-Z])")


@dataclass(frozen=True)
class Assay:
    """Variants of one wild type with a measured value each; higher is fitter."""

    facts: AssayFacts
    mutants: list[str]
    """As printed in the file."""
    variants: list[Variant]
    """Each once; none is the wild type."""
    values: npt.NDArray[np.float64]
    is_fit: npt.NDArray[np.bool_]
    fit_by: Literal["column", "cutoff", "median"]
    """Where `is_fit` is from: the file, the reference table, or the median of the values."""
    report: ReadReport = field(default_factory=ReadReport)
    """Rows left out, by reason."""

    @property
    def depths(self) -> npt.NDArray[np.int64]:
        """Number of substitutions of each variant."""
        return np.array([len(variant.mutations) for variant in self.variants], dtype=np.int64)

    def covered(self, sites: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_] | None:
        """Tell which variants change only sites that an alignment covers.

        Parameters
        ----------
        sites
            Whether each site of the wild type is covered, as from `alignment_coverage`. Otherwise the
            range in the reference table is taken.

        Returns
        -------
        numpy.ndarray or None
            One per variant; `None` where neither is known.

        Raises
        ------
        DataError
            If `sites` is not as long as the wild type.
        """
        length = len(self.facts.wild_type)
        if sites is None:
            start, stop = self.facts.msa_start, self.facts.msa_stop
            if start is None or stop is None:
                return None
            sites = (np.arange(length) >= start) & (np.arange(length) < stop)
        flags = np.asarray(sites, dtype=bool)
        if flags.shape != (length,):
            raise DataError(
                f"assay '{self.facts.id}': coverage of {flags.size} sites, but the wild type has {length}",
                hint="give one value per residue of the wild type",
            )
        return np.array([all(flags[each.index] for each in variant.mutations) for variant in self.variants])


def read_assay(
    path: Path | str, facts: AssayFacts | None = None, *, invalid: Literal["error", "drop"] = "error"
) -> Assay:
    """Read one assay and check every variant against the wild type.

    The columns are ``mutant`` (``A12C:G30W``, 1-based on the wild type), ``DMS_score`` or ``score`` or the
    one the reference names, and where they are there ``DMS_score_bin`` and ``mutated_sequence``. Rows of
    the wild type itself, with a stop, or without a value are left out and counted.

    Parameters
    ----------
    path
        CSV, TSV or Parquet; text may be gzip-compressed.
    facts
        Of this assay. Without them the wild type is the one that the column ``mutated_sequence`` implies.
    invalid
        What to do with a variant that does not fit the wild type, one that disagrees with its
        ``mutated_sequence``, and one that stands twice: stop, or leave it out and count, all rows of it
        in the last case.

    Returns
    -------
    Assay
        A value at or above the cutoff of the reference, else at or above the median, is fit, unless the
        file says itself what is.

    Raises
    ------
    DataError
        If a column is missing, a number cannot be read, ``mutated_sequence`` implies two wild types, no
        variant is left, or a row is wrong and `invalid` is ``"error"``.
    """
    path = Path(path)
    table = open_table(path)
    columns = _assay_columns(table.header, path, facts)
    rows = list(table.rows(list(columns.values())))
    texts = [str(row[columns["mutant"]] or "").strip() for row in rows]
    if facts is None:
        wild_type = _implied_wild_type(rows, texts, path, columns.get("sequence"))
        facts = AssayFacts(id=stem_of(path.name), wild_type=wild_type, file=path.name)
    report = ReadReport()
    kept: list[tuple[int, Variant, float]] = []
    for number, (text, row) in enumerate(zip(texts, rows, strict=True), start=1):
        where = f"{path}, row {number}"
        value = read_number(row[columns["value"]], f"{where}: {columns['value']}")
        try:
            variant = None if "*" in text else parse_variant(text, facts.wild_type, propose_offset=False)
            if variant and columns.get("sequence"):
                _check_sequence(text, variant, facts.wild_type, row[columns["sequence"]])
        except DataError as error:
            if invalid == "error":
                raise DataError(f"{where}: {error.message}", hint=_remedy(error, texts, facts)) from None
            report.drop(DISAGREES if isinstance(error, _DisagreementError) else WRONG, where)
            continue
        reason = _unusable(variant, value)
        if reason or variant is None or value is None:
            report.drop(reason or STOP, where)
        else:
            kept.append((number, variant, value))
    kept = _unrepeated(kept, texts, path, invalid, report)
    if not kept:
        counts = "; ".join(f"{count:,} × {why}" for why, count in report.dropped.items())
        raise DataError(
            f"{path}: no variant is left of {len(rows):,} rows ({counts})",
            hint=f"expected substitutions in 'mutant' and measured values in '{columns['value']}'",
        )
    report.num_read = len(kept)
    values = np.array([value for _, _, value in kept])
    fits = [rows[number - 1][columns["fit"]] for number, _, _ in kept] if "fit" in columns else None
    is_fit, fit_by = _fit(fits, values, facts, path, [number for number, _, _ in kept])
    return Assay(
        facts=facts,
        mutants=[texts[number - 1] for number, _, _ in kept],
        variants=[variant for _, variant, _ in kept],
        values=values,
        is_fit=is_fit,
        fit_by=fit_by,
        report=report,
    )


def check_spread(assay: Assay, path: Path | str) -> None:
    """Refuse an assay whose values are all the same: nothing can be ranked by it.

    Parameters
    ----------
    assay
        From `read_assay`.
    path
        Where it is from, for the message.

    Raises
    ------
    DataError
        If there is one variant, or one value.
    """
    if (assay.values != assay.values[0]).any():
        return
    count = len(assay.values)
    what = "its only variant has" if count == 1 else f"all {count:,} variants have"
    raise DataError(
        f"{path}: {what} the value {assay.values[0]:g}, so there is nothing to rank",
        hint="is it the column of measured values? or take the file out of the folder",
    )


class _DisagreementError(DataError):
    """A variant that is not what its sequence says."""


def _assay_columns(header: Sequence[str], path: Path, facts: AssayFacts | None) -> dict[str, str]:
    named = facts.value_column if facts else None
    value = named or next((name for name in VALUE_COLUMNS if name in header), None)
    for column, known in (("mutant", ("mutant",)), (value, (named,) if named else VALUE_COLUMNS)):
        if column not in header:
            listing = " or ".join(str(name) for name in known)
            raise DataError(f"{path}: there is no column {listing}", hint=did_you_mean(listing, header))
    assert value is not None
    optional = {"fit": FIT_COLUMN, "sequence": SEQUENCE_COLUMN}
    found = {name: column for name, column in optional.items() if column in header}
    return {"mutant": "mutant", "value": value} | found


def _implied_wild_type(rows: Sequence[Row], texts: Sequence[str], path: Path, column: str | None) -> str:
    """Undo every row's substitutions; all must give one sequence."""
    if column is None:
        raise DataError(
            f"{path}: nothing tells the wild type",
            hint=f"name the assay in a reference table, or add a column {SEQUENCE_COLUMN}",
        )
    first: dict[str, int] = {}
    for number, (text, row) in enumerate(zip(texts, rows, strict=True), start=1):
        wild_type = _undone(text, str(row[column] or "").strip())
        if wild_type is not None:
            first.setdefault(wild_type, number)
    if not first:
        raise DataError(
            f"{path}: no row's {column} has the residues that its mutant names",
            hint="are positions counted from 1 on the whole sequence?",
        )
    if len(first) > 1:
        (one, row_one), (other, row_other) = list(first.items())[:2]
        places = [index + 1 for index, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1]
        how = f"they differ first at position {places[0]}" if places else "their lengths differ"
        raise DataError(
            f"{path}: {len(first)} wild types in one file; rows {row_one} and {row_other} imply two, {how}",
            hint="give each wild type a file of its own, or name the assay in a reference table",
        )
    return clean_residues(next(iter(first)))


def _undone(text: str, sequence: str) -> str | None:
    residues = list(sequence)
    for part in text.split(":"):
        match = _SUBSTITUTION.fullmatch(part.strip())
        if match is None or int(match[2]) > len(residues) or residues[int(match[2]) - 1] != match[3]:
            return None
        residues[int(match[2]) - 1] = match[1]
    return "".join(residues)


def _check_sequence(text: str, variant: Variant, wild_type: str, found: object) -> None:
    expected, sequence = variant.apply(wild_type), str(found or "").strip()
    if expected == sequence:
        return
    if len(expected) != len(sequence):
        how = f"has {len(sequence)} residues, the wild type {len(expected)}"
    else:
        place = next(index for index, (a, b) in enumerate(zip(expected, sequence, strict=True)) if a != b)
        how = f"has {sequence[place]} at position {place + 1}, expected {expected[place]}"
    raise _DisagreementError(
        f"{SEQUENCE_COLUMN} of variant {text!r} {how}", hint="is this the wild type's file?"
    )


def _unusable(variant: Variant | None, value: float | None) -> str:
    if variant is None:
        return STOP
    if not variant.mutations:
        return WILD_TYPE
    return NO_VALUE if value is None else ""


def _remedy(error: DataError, texts: Sequence[str], facts: AssayFacts) -> str | None:
    if isinstance(error, _DisagreementError):
        return error.hint
    if error.hint and "does it belong" not in error.hint:  # cannot be read, or is no substitution
        return (
            f"{error.hint.partition('; --invalid')[0]}; --invalid drop leaves such rows out and counts them"
        )
    likely = likely_offset(texts, facts.wild_type)
    if likely is not None and likely[0] != 0 and likely[1] > 0.5:
        return f"positions are counted from 1 on the wild type; subtract {likely[0]} from them and they fit"
    return f"is it the wild type of '{facts.id}'? --invalid drop leaves such rows out and counts them"


def _unrepeated(
    kept: list[tuple[int, Variant, float]],
    texts: Sequence[str],
    path: Path,
    invalid: Literal["error", "drop"],
    report: ReadReport,
) -> list[tuple[int, Variant, float]]:
    places: dict[Variant, list[int]] = {}
    for number, variant, _ in kept:
        places.setdefault(variant, []).append(number)
    repeated = {number for numbers in places.values() if len(numbers) > 1 for number in numbers}
    if repeated and invalid == "error":
        numbers = next(numbers for numbers in places.values() if len(numbers) > 1)
        raise DataError(
            f"{path}, row {numbers[1]}: variant {texts[numbers[1] - 1]!r} stands in row {numbers[0]} already "
            f"({len(repeated):,} rows are of repeated variants)",
            hint="keep one value of each variant; or --invalid drop leaves all of their rows out",
        )
    for number in sorted(repeated):
        report.drop(REPEATED, f"{path}, row {number}")
    return [each for each in kept if each[0] not in repeated]


def _fit(
    given: Sequence[object] | None,
    values: npt.NDArray[np.float64],
    facts: AssayFacts,
    path: Path,
    numbers: Sequence[int],
) -> tuple[npt.NDArray[np.bool_], Literal["column", "cutoff", "median"]]:
    if given is None:
        cutoff = float(np.median(values)) if facts.cutoff is None else facts.cutoff
        return values >= cutoff, "median" if facts.cutoff is None else "cutoff"
    flags = [
        read_number(each, f"{path}, row {row}: {FIT_COLUMN}")
        for each, row in zip(given, numbers, strict=True)
    ]
    for flag, row in zip(flags, numbers, strict=True):
        if flag not in (0, 1):
            shown = "nothing" if flag is None else f"{flag:g}"
            raise DataError(f"{path}, row {row}: {FIT_COLUMN} is {shown}", hint="expected 0 or 1")
    return np.array(flags) == 1, "column"
