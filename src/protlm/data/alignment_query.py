"""Which residue of the wild type each column of an alignment stands for, told from the query's row."""

from dataclasses import dataclass

import numpy as np

from protlm.data.alignment_rows import AlignedRows
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

_MIN_FOUND = 20
"""Fewest residues by which a row is recognised inside the wild type."""
_ALIKE = 0.8
"""Share of agreeing residues from which on a placement is worth proposing."""


@dataclass(frozen=True)
class Placement:
    """Where the query lies in the wild type."""

    index: np.ndarray
    """0-based residue of the wild type for each match column, int64; -1 for a column that has none."""
    notes: tuple[str, ...]
    """How it was placed, and what of the query has no column or no residue."""


def place_query(
    rows: AlignedRows, wild_type: str, *, offset: int | None = None, max_differences: int = 0
) -> Placement:
    """Lay the query along the wild type.

    The query's first residue has the position that the row's name states (``NAME/24-286``), else 1. Without
    an `offset` the query is placed by that range where the letters agree, else where one of the two is
    found whole inside the other.

    Parameters
    ----------
    rows
        The query's first.
    wild_type
        The sequence whose variants are to be scored.
    offset
        Subtracted from the query's positions to give 1-based ones in the wild type.
    max_differences
        Residues in which the query may differ from the wild type; more are an error.

    Raises
    ------
    DataError
        If the query is not the wild type there. Names the first residues that differ, and the offset or the
        row that fits.
    """
    letters = np.array(list(rows.residues(0)))
    wild = np.array(list(wild_type))
    if not len(wild) or not len(letters):
        raise DataError(
            f"the {'query' if len(wild) else 'wild type'} has no residues", hint="is the file cut short?"
        )
    start, notes = _start(rows, len(letters))
    fits = _containments(letters, wild)
    if offset is not None:
        shift = start - 1 - offset
    else:
        shift = _find_shift(rows, letters, wild, start, fits, max_differences)
    differing, overlap = _differences(letters, wild, shift)
    if overlap == 0 or len(differing) > max_differences:
        raise _not_the_wild_type(rows, letters, wild_type, shift, start, fits, max_differences)
    notes.append(_describe(rows, letters, wild, shift, start))
    if len(differing):
        notes.append(
            f"the query differs from the wild type at {_list_differences(letters, wild, shift)}; "
            "the wild type's letters are used"
        )
    index = _columns(rows, shift, wild, notes)
    if not (index >= 0).any():
        raise DataError(
            f"no column of the alignment stands for a residue of the wild type (query '{rows.names[0]}')",
            hint="are all of the query's residues there in lower case?",
        )
    return Placement(index, tuple(notes))


def _start(rows: AlignedRows, num_residues: int) -> tuple[int, list[str]]:
    """Give the position of the query's first residue."""
    numbering = rows.numbering()
    if numbering is None:
        return 1, []
    first, last = numbering
    if last - first + 1 != num_residues:
        note = (
            f"the name of the query, '{rows.names[0]}', states {last - first + 1} residues, but it has "
            f"{num_residues}: the range is not used"
        )
        return 1, [note]
    return first, []


def _containments(letters: np.ndarray, wild: np.ndarray) -> list[int]:
    """Give each shift (residue of the wild type under the query's first) where one lies in the other."""
    shifts = np.arange(min(0, len(wild) - len(letters)), max(0, len(wild) - len(letters)) + 1)
    return [int(shift) for shift in shifts if not len(_differences(letters, wild, int(shift))[0])]


def _differences(letters: np.ndarray, wild: np.ndarray, shift: int) -> tuple[np.ndarray, int]:
    """Give the residues of the wild type that differ, 0-based, and how many were compared."""
    first, last = max(0, shift), min(len(wild), len(letters) + shift)
    if first >= last:
        return np.empty(0, dtype=np.int64), 0
    unequal = wild[first:last] != letters[first - shift : last - shift]
    return np.flatnonzero(unequal) + first, last - first


def _find_shift(
    rows: AlignedRows,
    letters: np.ndarray,
    wild: np.ndarray,
    start: int,
    fits: list[int],
    max_differences: int,
) -> int:
    if start - 1 in fits:
        return start - 1
    if len(fits) == 1:
        return fits[0]
    if fits:
        offsets = ", ".join(str(start - 1 - shift) for shift in fits[:5])
        raise DataError(
            f"the query '{rows.names[0]}' and the wild type fit at {len(fits)} places",
            hint=f"say which: offset = one of {offsets}",
        )
    best = _best_shift(letters, wild)
    differing, overlap = _differences(letters, wild, best)
    is_whole = overlap == min(len(letters), len(wild))
    if 0 < len(differing) <= max_differences and is_whole and len(differing) <= (1 - _ALIKE) * overlap:
        return best
    return start - 1


def _best_shift(letters: np.ndarray, wild: np.ndarray) -> int:
    """Give the shift with the most agreeing residues; of equal ones the nearest to 0."""
    at_wild, at_query = np.nonzero(wild[:, None] == letters[None, :])
    if not len(at_wild):
        return 0
    shifts, counts = np.unique(at_wild - at_query, return_counts=True)
    best = shifts[counts == counts.max()]
    return int(best[np.abs(best).argmin()])


def _not_the_wild_type(
    rows: AlignedRows,
    letters: np.ndarray,
    wild_type: str,
    shift: int,
    start: int,
    fits: list[int],
    max_differences: int,
) -> DataError:
    wild = np.array(list(wild_type))
    differing, overlap = _differences(letters, wild, shift)
    name, used = rows.names[0], start - 1 - shift
    if overlap == 0:
        problem = (
            f"the query '{name}' ({len(letters)} residues from position {start}) lies outside the wild type "
            f"({len(wild)} residues) with offset {used}"
        )
    else:
        problem = (
            f"the query '{name}' is not the wild type: with offset {used}, {len(differing)} of {overlap} "
            f"residues differ, at {_list_differences(letters, wild, shift)}"
        )
    best = _best_shift(letters, wild)
    best_differing, best_overlap = _differences(letters, wild, best)
    if fits:
        offsets = " or ".join(str(start - 1 - each) for each in fits[:3])
        hint = f"with offset={offsets} all residues agree"
    elif best_overlap >= min(_MIN_FOUND, len(wild)) and len(best_differing) <= (1 - _ALIKE) * best_overlap:
        hint = (
            f"with offset={start - 1 - best}, {len(best_differing)} of {best_overlap} residues differ; "
            f"max_differences={len(best_differing)} accepts that (now {max_differences})"
        )
    elif (other := _other_row(rows, wild_type)) is not None:
        hint = f"row '{other}' agrees with the wild type throughout: pass query='{other}'"
    else:
        hint = "is it the alignment of another protein? query= names the row of the wild type"
    return DataError(problem, hint=hint)


def _other_row(rows: AlignedRows, wild_type: str) -> str | None:
    for row in range(1, len(rows.texts)):
        residues = rows.residues(row)
        shorter, longer = sorted((residues, wild_type), key=len)
        if residues == wild_type or (len(shorter) >= _MIN_FOUND and shorter in longer):
            return rows.names[row]
    return None


def _list_differences(letters: np.ndarray, wild: np.ndarray, shift: int) -> str:
    differing, _ = _differences(letters, wild, shift)
    parts = [f"{each + 1} (wild type {wild[each]}, query {letters[each - shift]})" for each in differing[:5]]
    return "position " + ", ".join(parts) + (" …" if len(differing) > 5 else "")


def _describe(rows: AlignedRows, letters: np.ndarray, wild: np.ndarray, shift: int, start: int) -> str:
    first, last = max(0, shift), min(len(wild), len(letters) + shift)
    note = (
        f"query '{rows.names[0]}': {len(letters)} residues on wild-type positions {first + 1} to {last} "
        f"of {len(wild)} (offset {start - 1 - shift})"
    )
    outside = len(letters) - (last - first)
    return note + (f"; {outside} of its residues lie outside the wild type" if outside else "")


def _columns(rows: AlignedRows, shift: int, wild: np.ndarray, notes: list[str]) -> np.ndarray:
    text = np.frombuffer(rows.texts[0], dtype=np.uint8)
    is_lower = (text >= ord("a")) & (text <= ord("z"))
    is_residue = is_lower | ((text >= ord("A")) & (text <= ord("Z")))
    is_match = ~is_lower & (text != ord(".")) if rows.layout == "a2m" else np.ones(len(text), dtype=bool)
    residue = np.cumsum(is_residue) - 1 + shift
    is_inside = is_residue & (residue >= 0) & (residue < len(wild))
    unknown = is_inside & is_match
    unknown[unknown] = ~np.isin(wild[residue[unknown]], list(STANDARD))
    index = np.where(is_inside & ~unknown, residue, -1)[is_match].astype(np.int64)
    if (count := int((is_inside & ~is_match).sum())) > 0:
        notes.append(
            f"{count} residues of the query are in lower case, outside the match columns: "
            "not covered by the alignment"
        )
    if (count := int((is_match & ~is_residue).sum())) > 0:
        notes.append(f"{count} columns where the query has a gap, left out")
    if (count := int(unknown.sum())) > 0:
        notes.append(f"{count} columns where the wild type has none of the twenty, left out")
    return index
