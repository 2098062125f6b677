"""A multiple sequence alignment laid along a wild type: which residues it covers, and how its rows count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from protlm.data.alignment_query import place_query
from protlm.data.alignment_rows import AlignedRows, Layout, read_rows
from protlm.data.sequence_weights import GAP, sequence_weights
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.variant import Variant

_UNKNOWN = GAP + 1
_STATES = np.full(256, GAP, dtype=np.uint8)
_STATES[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(GAP)
_STATES[np.frombuffer(UNUSUAL.encode(), dtype=np.uint8)] = _UNKNOWN


@dataclass(frozen=True)
class Alignment:
    """Homologous sequences in the columns that stand for residues of a wild type."""

    wild_type: str
    """The sequence whose variants are scored."""
    rows: np.ndarray
    """State of each row in each column, uint8 ``[n, columns]``: 0 to 19 are the places in `STANDARD`, 20 is a
    gap. The query's row is the first, and no two are equal."""
    index: np.ndarray
    """0-based residue of the wild type for each column, ascending, int64 ``[columns]``."""
    names: tuple[str, ...]
    """First word of the header of each row."""
    places: np.ndarray
    """Which of the rows that `read_rows` gives each row is, int64 ``[n]``."""
    weights: np.ndarray
    """How much each row counts, float64 ``[n]``; see `sequence_weights`."""
    counts: dict[str, int]
    """What was read, left out, changed and kept."""
    notes: tuple[str, ...]
    """What the user should know: how the query was placed, and which positions are not covered."""

    @property
    def effective_size(self) -> float:
        """Sum of the weights: about the number of different clusters."""
        return float(self.weights.sum())

    @cached_property
    def column(self) -> np.ndarray:
        """Column of each residue of the wild type, int64 ``[residues]``; -1 where none stands for it."""
        column = np.full(len(self.wild_type), -1, dtype=np.int64)
        column[self.index] = np.arange(len(self.index))
        return column

    @property
    def is_covered(self) -> np.ndarray:
        """Whether a column stands for each residue of the wild type, bool ``[residues]``."""
        return self.column >= 0

    @property
    def wild_type_states(self) -> np.ndarray:
        """State of the wild type in each column, int64 ``[columns]``; 0 to 19."""
        letters = np.frombuffer(self.wild_type.encode(), dtype=np.uint8)
        return _STATES[letters[self.index]].astype(np.int64)

    def covers(self, variants: Sequence[Variant]) -> np.ndarray:
        """Tell whether all sites of each variant are covered, bool ``[n]``; true for the wild type.

        Parameters
        ----------
        variants
            Checked against `wild_type`.
        """
        sites = self.locate(variants)
        return ~np.isin(np.arange(len(variants)), sites.variant[sites.column < 0])

    def locate(self, variants: Sequence[Variant]) -> "Sites":
        """Find the columns of all substitutions.

        Parameters
        ----------
        variants
            Checked against `wild_type`.

        Raises
        ------
        DataError
            If one belongs to another wild type.
        """
        entries = []
        for number, variant in enumerate(variants):
            for each in variant.mutations:
                if self.wild_type[each.index : each.index + 1] != each.wild_type:
                    found = self.wild_type[each.index : each.index + 1] or "no residue"
                    raise DataError(
                        f"variant {variant.label()} does not belong to the alignment's wild type, which has "
                        f"{found} at position {each.index + 1}",
                        hint="read the alignment with the wild type that the variants were parsed against",
                    )
                states = STANDARD.index(each.mutant), STANDARD.index(each.wild_type)
                entries.append((number, self.column[each.index], *states))
        variant, column, mutant, wild_type = np.array(entries, dtype=np.int64).reshape(-1, 4).T
        return Sites(variant, column, mutant, wild_type, len(variants))


@dataclass(frozen=True)
class Sites:
    """The substitutions of many variants, end to end."""

    variant: np.ndarray
    """Which variant each belongs to, ascending, int64 ``[sites]``."""
    column: np.ndarray
    """Its column, -1 where the alignment does not cover it."""
    mutant: np.ndarray
    """State of the new residue, 0 to 19."""
    wild_type: np.ndarray
    """State of the old residue."""
    num_variants: int

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Add a value per site up over each variant, float64 ``[n]``; NaN where a site is not covered.

        Parameters
        ----------
        values
            ``[sites]``; what is written for sites without a column does not matter.
        """
        covered = np.where(self.column >= 0, values, np.nan)
        return np.bincount(self.variant, weights=covered, minlength=self.num_variants)


def read_alignment(
    path: Path,
    *,
    wild_type: str,
    query: str | None = None,
    offset: int | None = None,
    max_differences: int = 0,
    layout: Layout = "auto",
    min_coverage: float = 0.5,
    min_column_occupancy: float = 0.7,
    identity: float | None = 0.8,
) -> Alignment:
    """Read an alignment and lay it along the wild type.

    The two filters are those of EVcouplings: rows with residues in at least half of the columns, then
    columns with residues in at least 70 % of those rows. Letters B, J, O, U, X and Z count as gaps. Of
    equal rows the first is kept.

    Parameters
    ----------
    path
        A2M, A3M, aligned FASTA or Stockholm, plain or gzip-compressed.
    wild_type
        The sequence whose variants are to be scored.
    query
        Name of the row of the wild type; the first by default.
    offset
        Subtracted from the query's positions (those in its name, else counted from 1) to give 1-based ones
        in the wild type. By default the query is placed where the letters agree.
    max_differences
        Residues in which the query may differ from the wild type.
    layout
        What lower case and dots mean; told from the file by default.
    min_coverage
        Smallest share of columns in which a row has a residue; the query is kept in any case.
    min_column_occupancy
        Smallest share of the kept rows that have a residue in a column. Positions of columns that are left
        out are not covered.
    identity
        Rows so similar share their weight; `None` weighs each row 1.

    Returns
    -------
    Alignment
        At least two rows.

    Raises
    ------
    DataError
        If the file cannot be read, rows differ in length, the query is not the wild type, a share is not
        from 0 to 1, or nothing remains.
    """
    for name, share in (("min_coverage", min_coverage), ("min_column_occupancy", min_column_occupancy)):
        if not 0 <= share <= 1:
            raise DataError(f"{name} is {share}; expected a share from 0 to 1", hint="50 % is 0.5")
    wild_type = wild_type.upper()
    read = read_rows(Path(path), query=query, layout=layout)
    placed = place_query(read, wild_type, offset=offset, max_differences=max_differences)
    has_residue = placed.index >= 0
    index = placed.index[has_residue]
    rows = _states(read)[:, has_residue]
    unknown = rows == _UNKNOWN
    counts = {
        "rows in the file": read.num_read,
        "rows with a letter that is no residue, left out": read.num_illegal,
        "columns in the file": len(placed.index),
        "columns without a residue of the wild type, left out": int((~has_residue).sum()),
        "letters B J O U X Z, taken as gaps": int(unknown.sum()),
        "rows with such letters": int(unknown.any(axis=1).sum()),
    }
    rows[unknown] = GAP
    kept = (rows != GAP).mean(axis=1) >= min_coverage
    kept[0] = True
    counts[f"rows with residues in less than {min_coverage:.0%} of the columns, left out"] = int(
        (~kept).sum()
    )
    occupied = (rows[kept] != GAP).mean(axis=0) >= min_column_occupancy
    counts[f"columns with residues in less than {min_column_occupancy:.0%} of the rows, left out"] = int(
        (~occupied).sum()
    )
    rows, index = rows[:, occupied], index[occupied]
    first_of_equal = _first_of_equal(rows, np.flatnonzero(kept))
    counts["duplicated rows, left out"] = int(kept.sum()) - len(first_of_equal)
    rows = np.ascontiguousarray(rows[first_of_equal])
    counts |= {"rows kept": len(rows), "columns kept": len(index)}
    if len(rows) < 2 or not len(index):
        raise DataError(
            f"{path}: {len(rows)} rows and {len(index)} columns are left: "
            + "; ".join(f"{label}: {count:,}" for label, count in counts.items() if count),
            hint="lower min_coverage or min_column_occupancy, or find more sequences",
        )
    weights = np.ones(len(rows)) if identity is None else sequence_weights(rows, identity=identity)
    names = tuple(read.names[row] for row in first_of_equal)
    notes = (*read.notes, *placed.notes, *_coverage_note(wild_type, index))
    return Alignment(wild_type, rows, index, names, first_of_equal, weights, counts, notes)


def _states(read: AlignedRows) -> np.ndarray:
    letters = np.frombuffer(b"".join(read.matches()), dtype=np.uint8)
    return _STATES[letters].reshape(len(read.texts), -1)


def _first_of_equal(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Give the places of the kept rows without those that equal an earlier one, ascending."""
    if not rows.shape[1]:
        return kept[:1]
    whole = np.ascontiguousarray(rows[kept]).view(f"V{rows.shape[1]}").ravel()
    return kept[np.sort(np.unique(whole, return_index=True)[1])]


def _coverage_note(wild_type: str, index: np.ndarray) -> Iterable[str]:
    uncovered = np.setdiff1d(np.arange(len(wild_type)), index)
    if len(uncovered):
        yield (
            f"{len(uncovered)} of {len(wild_type)} positions of the wild type are not covered, and variants "
            f"there get no score: {_ranges(uncovered + 1)}"
        )


def runs_of(indices: np.ndarray) -> list[tuple[int, int]]:
    """Give the first and the last of each run of consecutive numbers.

    Parameters
    ----------
    indices
        Ascending.

    Examples
    --------
    >>> runs_of(np.array([1, 2, 3, 7]))
    [(1, 3), (7, 7)]
    """
    if not len(indices):
        return []
    breaks = np.flatnonzero(np.diff(indices) > 1) + 1
    return [(int(run[0]), int(run[-1])) for run in np.split(indices, breaks)]


def _ranges(positions: np.ndarray) -> str:
    """Write ascending positions for people: 1–3, 7."""
    runs = runs_of(positions)
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
