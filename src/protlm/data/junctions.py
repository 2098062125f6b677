"""Where V ends, D lies and J begins in a CDR3; what is left is non-templated.

Letters of the shapes: ``n`` chains, ``m`` residues of the longest CDR3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from protlm.data.germline_alignment import CHANCE, UNKNOWN, Junctions, extension_scores, log_odds
from protlm.data.germline_set import ABSENT, CODE, GermlineGene
from protlm.types.alphabet import STANDARD
from protlm.types.regions import Segment

MIN_D_MATCHES = 3
"""Fewest residues in which a D gene agrees."""
MAX_D_CHANCE = 0.5
"""Highest number of equally good places to be expected by chance at which a D gene is accepted."""

_NEVER = np.float32(-1e6)
_WIDTHS = (8, 13, 20)  # residues between V and J at which chains are parted for speed


@dataclass(frozen=True)
class Segmented:
    """The segments of the CDR3s of a block."""

    segment: np.ndarray
    """`Segment` codes, uint8 ``[n, m]``; 0 behind the end."""
    germline: np.ndarray
    """Codes of the germline residues, int8 ``[n, m]``; `ABSENT` where there is none."""
    d_gene: list[str]
    """Name of the D allele of each chain; empty where none was found."""


@dataclass(frozen=True)
class _Reading:
    name: str
    codes: np.ndarray


def ends_of_v_and_j(
    junctions: Junctions, v_cdr3: np.ndarray, j_cdr3: np.ndarray, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give how many residues of each CDR3 belong to V, from the left, and to J, from the right.

    The two numbers under which the residues are likeliest: their `log_odds` sums are highest, and they do not
    overlap.

    Parameters
    ----------
    junctions
        CDR3s.
    v_cdr3, j_cdr3
        Codes of each chain's V gene from position 105 to the right, and of its J gene from 117 to the left,
        int8 ``[n, longest]``, padded with `ABSENT`.
    rates
        Mutation rate of each chain ``[n]``.

    Returns
    -------
    tuple of numpy.ndarray
        int64 ``[n]`` each.
    """
    of_v = _extensions(junctions.codes, v_cdr3, rates)
    of_j = _extensions(junctions.from_right(), j_cdr3, rates)
    total = of_v[:, :, None] + of_j[:, None, :]
    taken = np.arange(of_v.shape[1])[:, None] + np.arange(of_j.shape[1])
    total = np.where(taken > junctions.lengths[:, None, None], -np.inf, total)
    best = total.reshape(len(total), -1).argmax(axis=1)
    return best // of_j.shape[1], best % of_j.shape[1]


def _extensions(codes: np.ndarray, germline: np.ndarray, rates: np.ndarray) -> np.ndarray:
    width = min(codes.shape[1], germline.shape[1])
    return extension_scores(log_odds(codes[:, :width], germline[:, :width], rates))


def segment_junctions(
    junctions: Junctions,
    v_cdr3: np.ndarray,
    j_cdr3: np.ndarray,
    rates: np.ndarray,
    d_genes: Sequence[Sequence[GermlineGene]],
) -> Segmented:
    """Part CDR3s into V, N, D, N and J.

    Parameters
    ----------
    junctions, v_cdr3, j_cdr3, rates
        As for `ends_of_v_and_j`.
    d_genes
        For each chain the D genes that it may have; see `best_d`.
    """
    of_v, of_j = ends_of_v_and_j(junctions, v_cdr3, j_cdr3, rates)
    width = junctions.codes.shape[1]
    place = np.arange(width)
    start_of_j = junctions.lengths - of_j
    in_v = place < of_v[:, None]
    in_j = (place >= start_of_j[:, None]) & (place < junctions.lengths[:, None])
    between = (place < junctions.lengths[:, None]) & ~in_v & ~in_j
    segment = np.select([in_v, in_j, between], [Segment.V, Segment.J, Segment.N], 0).astype(np.uint8)
    germline = np.full(segment.shape, ABSENT, dtype=np.int8)
    rows, columns = np.nonzero(in_v)
    germline[rows, columns] = v_cdr3[rows, columns]
    rows, columns = np.nonzero(in_j)
    germline[rows, columns] = j_cdr3[rows, junctions.lengths[rows] - 1 - columns]
    names = [""] * len(segment)
    for some, genes in _by_genes(d_genes):
        codes = np.where(between[some], junctions.codes[some], ABSENT)
        start, stop, found, of_d = best_d(codes, rates[some], genes)
        inside = (place >= start[:, None]) & (place < stop[:, None])
        segment[some] = np.where(inside, np.uint8(Segment.D), segment[some])
        germline[some] = np.where(inside, of_d, germline[some])
        for row, name in zip(some[stop > start].tolist(), (each for each in found if each), strict=True):
            names[row] = name
    return Segmented(segment, germline, names)


def _by_genes(d_genes: Sequence[Sequence[GermlineGene]]) -> list[tuple[np.ndarray, Sequence[GermlineGene]]]:
    groups: dict[tuple[str, ...], tuple[list[int], Sequence[GermlineGene]]] = {}
    by_identity: dict[int, tuple[str, ...]] = {}
    for row, genes in enumerate(d_genes):
        if genes:
            key = by_identity.setdefault(id(genes), tuple(gene.name for gene in genes))
            groups.setdefault(key, ([], genes))[0].append(row)
    return [(np.array(rows), genes) for rows, genes in groups.values()]


def best_d(
    codes: np.ndarray, rates: np.ndarray, genes: Sequence[GermlineGene]
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    r"""Find the best ungapped local match of a D gene, in any reading frame.

    Its score :math:`S` is the sum of `log_odds`. With :math:`m` residues in all distinct reading frames and
    :math:`l` residues between V and J, at most :math:`m\,l\,e^{-S}` places as good are expected by chance
    (Karlin & Altschul 1990, whose :math:`\lambda` is 1 for log-odds and whose :math:`K` is below 1). The
    match counts if that is at most `MAX_D_CHANCE` and at least `MIN_D_MATCHES` residues agree. So 3 residues
    are enough only in a short junction or where the call names the D gene, 4 or 5 are mostly enough.

    Parameters
    ----------
    codes
        Residues between V and J, `ABSENT` elsewhere, int8 ``[n, m]``.
    rates
        Mutation rate of each chain ``[n]``.
    genes
        D genes.

    Returns
    -------
    start, stop : numpy.ndarray
        Columns of the match, int64 ``[n]``; both 0 where there is none.
    names : list of str
        Of the D alleles, the first by name where several have the reading; empty where there is none.
    germline : numpy.ndarray
        Codes of the germline residues, int8 ``[n, m]``; of use from start to stop.

    References
    ----------
    Karlin & Altschul 1990, PNAS 87:2264, doi:10.1073/pnas.87.6.2264.
    """
    readings = _readings(genes)
    places, best = _best_places(codes, rates, readings)
    which, start, stop, first = places
    germline = _germline_of(readings, which, first, start, stop, codes.shape[1])
    inside = (np.arange(codes.shape[1]) >= start[:, None]) & (np.arange(codes.shape[1]) < stop[:, None])
    matches = (inside & (germline == codes)).sum(axis=1)
    searched = sum(len(reading.codes) for reading in readings) * (codes != ABSENT).sum(axis=1)
    kept = (matches >= MIN_D_MATCHES) & (searched * np.exp(-best) <= MAX_D_CHANCE)
    names = [readings[number].name if keep else "" for number, keep in zip(which, kept, strict=True)]
    return np.where(kept, start, 0), np.where(kept, stop, 0), names, germline


def _best_places(
    codes: np.ndarray, rates: np.ndarray, readings: Sequence[_Reading]
) -> tuple[np.ndarray, np.ndarray]:
    """Give the best local match of each chain: reading, start, stop, first place in the reading; and score.

    Chains go by the residues they have, few or many, so that short ones do not pay for long ones.
    """
    places, best = np.zeros((4, len(codes)), dtype=np.int64), np.zeros(len(codes))
    present = codes != ABSENT
    left, lengths = present.argmax(axis=1), present.sum(axis=1)
    for fewest, most in pairwise((MIN_D_MATCHES, *_WIDTHS, codes.shape[1] + 1)):
        rows = np.flatnonzero((lengths >= fewest) & (lengths < most))
        if not len(rows):
            continue
        columns = left[rows, None] + np.arange(min(most - 1, codes.shape[1]))
        inside = columns < (left + lengths)[rows, None]
        some = np.where(
            inside, codes[rows[:, None], np.minimum(columns, codes.shape[1] - 1)], np.int8(ABSENT)
        )
        found, best[rows] = _search(some, rates[rows], readings)
        found[1:3] += left[rows]
        places[:, rows] = found
    return places, best


def _search(
    codes: np.ndarray, rates: np.ndarray, readings: Sequence[_Reading]
) -> tuple[np.ndarray, np.ndarray]:
    """Do the same for chains whose residues begin in the first column.

    The highest sum that ends at a residue is its own log-odds and, if above 0, the highest one that ends at
    the residue before on the same diagonal.
    """
    odds = _odds_of_letters(codes, rates)
    best = np.zeros(len(codes), dtype=np.float32)
    which, column, place = (np.zeros(len(codes), dtype=np.int64) for _ in range(3))
    for number, reading in enumerate(readings):
        running = np.zeros(odds.shape[1:], dtype=np.float32)
        for index, letter in enumerate(reading.codes):
            own = odds[letter].copy()
            own[1:] += np.maximum(running[:-1], 0)
            running = own
            better = np.flatnonzero(running.max(axis=0) > best)
            if len(better):
                column[better] = running[:, better].argmax(axis=0)
                best[better] = running[column[better], better]
                which[better], place[better] = number, index
    lengths = _lengths(odds, readings, which, column, place)
    return np.stack([which, column + 1 - lengths, column + 1, place + 1 - lengths]), best.astype(np.float64)


def _lengths(
    odds: np.ndarray, readings: Sequence[_Reading], which: np.ndarray, column: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Go back along the best diagonals to where the sum is highest, at the fewest residues."""
    table = _stacked(readings)
    steps = np.arange(table.shape[1])
    columns, places = column[:, None] - steps, place[:, None] - steps
    inside = (columns >= 0) & (places >= 0)
    letters = table[which[:, None], np.maximum(places, 0)]
    rows = np.arange(len(which))[:, None]
    values = np.where(inside, odds[letters, np.maximum(columns, 0), rows], _NEVER)
    return np.cumsum(values, axis=1).argmax(axis=1) + 1


def _readings(genes: Sequence[GermlineGene]) -> list[_Reading]:
    """Give the distinct reading frames, cut at stops, each under its first gene."""
    texts: dict[str, str] = {}
    for gene in genes:
        for text in gene.readings:
            for part in text.split("*"):
                if len(part) >= MIN_D_MATCHES:
                    texts.setdefault(part, gene.name)
    return [
        _Reading(name, CODE[np.frombuffer(text.encode(), dtype=np.uint8)]) for text, name in texts.items()
    ]


def _odds_of_letters(codes: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Give the log-odds of every residue with every germline letter, float32 ``[21, m, n]``.

    The last of the letters, at -1 too, is none of the twenty and never fits.
    """
    codes = codes.T
    equal = (np.log1p(-rates) - np.log(CHANCE)[codes]).astype(np.float32)
    differs = np.broadcast_to(np.log(rates).astype(np.float32), codes.shape)
    differs = np.where(codes == UNKNOWN, np.float32(0), np.where(codes == ABSENT, _NEVER, differs))
    letters = np.arange(len(STANDARD))[:, None, None]
    odds = np.where(codes == letters, equal, differs)
    return np.concatenate([odds, np.full((1, *codes.shape), _NEVER, dtype=np.float32)])


def _stacked(readings: Sequence[_Reading]) -> np.ndarray:
    """Give the codes of all readings, int8 ``[readings, longest]``, padded with `ABSENT`."""
    longest = max((len(reading.codes) for reading in readings), default=1)
    table = np.full((max(1, len(readings)), longest), ABSENT, dtype=np.int8)
    for row, reading in enumerate(readings):
        table[row, : len(reading.codes)] = reading.codes
    return table


def _germline_of(
    readings: Sequence[_Reading],
    which: np.ndarray,
    first: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    width: int,
) -> np.ndarray:
    table = _stacked(readings)
    column = np.arange(width)
    inside = (column >= start[:, None]) & (column < stop[:, None])
    place = np.clip(first[:, None] + column - start[:, None], 0, table.shape[1] - 1)
    return np.where(inside, table[which[:, None], place], np.int8(ABSENT))
