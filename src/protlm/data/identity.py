"""How near proteins are to the nearest of others: identity and coverage of the best alignment."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.mmseqs import run_mmseqs, write_numbered
from protlm.data.peptides import SHORT, alike_peptides
from protlm.errors import DataError

LEAST_COVERAGE = 0.5
"""Share of a protein that an alignment must cover to count, where nothing else is said."""
SENSITIVITY = 5.7
"""How hard MMseqs2 looks, 1 to 7.5: 7.5 found an eighth more hits of DeepLoc proteins in twice the time."""
_SMALL = 20_000_000
"""Below so many residues to search, an index of 5-mers is quicker than one of 6-mers, and finds more."""
_ALL_DIAGONALS = 2e10
"""Up to so many pairs of residues every diagonal is looked at, in place of k-mers: of 160 protein domains
against 640 of other clusters it found ten near ones where k-mers found eight, in half the time."""
MOST_HITS = 300
"""Alignments of a protein, unless more are asked for."""
_COLUMNS = ("query", "target", "nident", "alnlen", "qcov", "tcov")
_LONGEST_PEPTIDE = 2 * SHORT


@dataclass(frozen=True)
class Nearest:
    """For each protein the most identical of others."""

    target: np.ndarray
    """0-based index of it, int64 ``[n]``; -1 where no alignment was found."""
    identity: np.ndarray
    """Identical residues over aligned columns, gaps included, float64 ``[n]`` in [0, 1]; 0 without one."""
    coverage: np.ndarray
    """Share of the protein that is aligned, float64 ``[n]`` in [0, 1]."""
    target_coverage: np.ndarray
    """Share of the other that is aligned, float64 ``[n]`` in [0, 1]."""


def nearest_by_alignment(
    queries: Sequence[str],
    targets: Sequence[str],
    *,
    min_coverage: float = LEAST_COVERAGE,
    sensitivity: float = SENSITIVITY,
    threads: int = 1,
) -> Nearest:
    """Find for each protein the most identical of others, by local alignment with MMseqs2.

    Copies are found by their letters. Of the rest MMseqs2 (E-value up to 0.001, the 300 best by its
    prefilter) aligns those of 20 residues and more; among its alignments that cover enough of the
    query the most identical counts, and of equal ones that which covers more. Shorter ones are compared with
    others of fewer than 40 residues by edits, where unrelated peptides are 0.2 to 0.4 identical by chance.

    Parameters
    ----------
    queries
        Residues of each protein to ask for.
    targets
        Residues of those to search.
    min_coverage
        Least share of the query that is aligned, in [0, 1].
    sensitivity
        Of MMseqs2, from 1 to 7.5.
    threads
        Of MMseqs2; the result does not depend on them.

    Raises
    ------
    DataError
        If the share is out of range, or MMseqs2 is not there or fails.
    """
    if not 0 <= min_coverage <= 1:
        raise DataError(f"coverage {min_coverage} is no share", hint="expected from 0 to 1")
    if not 1 <= sensitivity <= 7.5:
        raise DataError(f"sensitivity {sensitivity} is out of range", hint="expected from 1 to 7.5")
    own, places = _distinct(queries)
    others, first = _distinct(targets)
    found = _Best(own, others)
    rest = found.copies()
    found.peptides([row for row in rest if len(own[row]) < SHORT], min_coverage)
    found.proteins([row for row in rest if len(own[row]) >= SHORT], min_coverage, sensitivity, threads)
    first_of = np.zeros(len(others), dtype=np.int64)
    first_of[first[::-1]] = np.arange(len(targets))[::-1]
    target = np.where(found.target >= 0, first_of[found.target], -1) if len(others) else found.target
    numbers = (found.identity, found.coverage, found.target_coverage)
    return Nearest(target[places], *(each[places] for each in numbers))


def search(
    queries: Sequence[str],
    targets: Sequence[str],
    *,
    min_coverage: float = LEAST_COVERAGE,
    sensitivity: float = SENSITIVITY,
    most_hits: int = MOST_HITS,
    threads: int = 1,
) -> pl.DataFrame:
    """List the local alignments that MMseqs2 finds, with an E-value up to 0.001.

    Parameters
    ----------
    queries, targets
        Residues of each, 20 or more; at least one of either.
    min_coverage, sensitivity, threads
        See `nearest_by_alignment`.
    most_hits
        Of a query: so many of the best by the prefilter are aligned.

    Returns
    -------
    polars.DataFrame
        ``query, target`` (0-based), ``identity, coverage, target_coverage`` in [0, 1].
    """
    with tempfile.TemporaryDirectory(prefix="protlm-search-") as temporary:
        folder = Path(temporary)
        write_numbered(folder / "queries.fasta", queries)
        write_numbered(folder / "targets.fasta", targets)
        files = [folder / name for name in ("queries.fasta", "targets.fasta", "hits.tsv", "work")]
        size = sum(map(len, targets))
        settings = ["-s", sensitivity, "-c", min_coverage, "--cov-mode", "2", "--alignment-mode", "3", "-a"]
        settings += ["--max-seqs", most_hits]
        if size * sum(map(len, queries)) < _ALL_DIAGONALS:
            settings += ["--prefilter-mode", "1"]
        elif size < _SMALL:
            settings += ["-k", "5"]
        columns = ["--format-output", ",".join(_COLUMNS)]
        run_mmseqs(["easy-search", *files, *map(str, settings), *columns], threads=threads)
        hits = _read_hits(folder / "hits.tsv")
    identity = pl.col("nident") / pl.col("alnlen")
    names = {"qcov": "coverage", "tcov": "target_coverage"}
    return hits.with_columns(identity=identity.cast(pl.Float64)).rename(names).drop("nident", "alnlen")


class _Best:
    """The best so far of each distinct query."""

    def __init__(self, queries: list[str], targets: list[str]) -> None:
        self.queries, self.targets = queries, targets
        self.target = np.full(len(queries), -1, dtype=np.int64)
        self.identity, self.coverage, self.target_coverage = (np.zeros(len(queries)) for _ in range(3))

    def copies(self) -> list[int]:
        """Settle the queries that are among the targets; give the rows of the others."""
        number_of = {text: number for number, text in enumerate(self.targets)}
        rows = [row for row, text in enumerate(self.queries) if text in number_of]
        self.target[rows] = [number_of[self.queries[row]] for row in rows]
        for numbers in (self.identity, self.coverage, self.target_coverage):
            numbers[rows] = 1.0
        return np.flatnonzero(self.target < 0).tolist()

    def peptides(self, rows: Sequence[int], min_coverage: float) -> None:
        """Compare short queries with targets that are short too."""
        others = [number for number, text in enumerate(self.targets) if len(text) < _LONGEST_PEPTIDE]
        for least in (0.5, 0.0):  # most have their best above a half, which is far quicker to list
            rows = [row for row in rows if self.target[row] < 0]
            asked, known = [self.queries[row] for row in rows], [self.targets[number] for number in others]
            for one, other, identity in alike_peptides(asked, known, least=least):
                row, number = np.array(rows)[one], np.array(others)[other]
                self._take(row, number, identity, *self._shares(row, number), min_coverage=min_coverage)

    def proteins(self, rows: Sequence[int], min_coverage: float, sensitivity: float, threads: int) -> None:
        """Align the others with MMseqs2."""
        others = [number for number, text in enumerate(self.targets) if len(text) >= SHORT]
        if not rows or not others:
            return
        hits = search(
            [self.queries[row] for row in rows],
            [self.targets[number] for number in others],
            min_coverage=min_coverage,
            sensitivity=sensitivity,
            threads=threads,
        )
        row, number = np.array(rows)[hits["query"]], np.array(others)[hits["target"]]
        numbers = (hits[name].to_numpy() for name in ("identity", "coverage", "target_coverage"))
        self._take(row, number, *numbers)

    def _shares(self, row: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the share of each peptide and of its target that the shorter one can cover."""
        own = np.array([len(self.queries[each]) for each in row.tolist()])
        other = np.array([len(self.targets[each]) for each in number.tolist()])
        return np.minimum(own, other) / own, np.minimum(own, other) / other

    def _take(
        self,
        row: np.ndarray,
        number: np.ndarray,
        identity: np.ndarray,
        coverage: np.ndarray,
        target_coverage: np.ndarray,
        *,
        min_coverage: float = 0.0,
    ) -> None:
        """Keep of each query the most identical hit, then the one that covers more, then the first."""
        is_enough = coverage >= min_coverage
        row, number, identity, coverage, target_coverage = (
            each[is_enough] for each in (row, number, identity, coverage, target_coverage)
        )
        order = np.lexsort((number, -coverage, -identity, row))
        rows, places = np.unique(row[order], return_index=True)
        best = order[places]
        better = (identity[best] > self.identity[rows]) | (self.target[rows] < 0)
        rows, best = rows[better], best[better]
        self.target[rows], self.identity[rows] = number[best], identity[best]
        self.coverage[rows], self.target_coverage[rows] = coverage[best], target_coverage[best]


def _distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Give the texts without copies, in their order, and the place of each there."""
    number_of: dict[str, int] = {}
    places = np.array([number_of.setdefault(text, len(number_of)) for text in texts], dtype=np.int64)
    return list(number_of), places


def _read_hits(path: Path) -> pl.DataFrame:
    if not path.stat().st_size:
        return pl.DataFrame(schema={name: pl.Float64 if "cov" in name else pl.Int64 for name in _COLUMNS})
    return pl.read_csv(path, separator="\t", has_header=False, new_columns=_COLUMNS)
