"""The most identical sequence of another fold: by place, by edits, or by alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from protlm.data.identity import LEAST_COVERAGE, search
from protlm.data.peptides import SHORT, edit_distances, letters_by_length
from protlm.types.record import Chain

_LEAST_ALIKE = 0.5
"""Sequences of one length are compared place by place where each is so identical to the first."""
_MOST_HITS = 100
"""Alignments of a sequence: antibodies have thousands, and the best are among the first."""
_CELLS = 1 << 20


@dataclass(frozen=True)
class Searched:
    """The nearest of each query."""

    target: np.ndarray
    """0-based number of the sequence, int64 ``[queries]``; -1 where none was found."""
    identity: np.ndarray
    """float64 ``[queries]`` in [0, 1]; 0 without one."""
    how: str
    """``imgt``, ``places`` or ``search``."""


def places_of(chains: Sequence[Chain]) -> tuple[str, np.ndarray | None]:
    """Lay out chains that can be compared place by place.

    Parameters
    ----------
    chains
        Distinct ones; at least one.

    Returns
    -------
    str
        As `Searched.how`.
    numpy.ndarray or None
        Letters, uint8 ``[chains, places]``, 0 where a chain has none; `None` where they must be searched.
    """
    letters = [np.frombuffer(chain.residues.encode(), dtype=np.uint8) for chain in chains]
    tracks = [chain.tracks.get("position") for chain in chains]
    codes = [np.asarray(own, dtype=np.int64) for own in tracks if own is not None and np.any(own)]
    if len(codes) == len(chains):
        names = np.unique(np.concatenate(codes))
        names = names[names > 0]
        table = np.zeros((len(chains), len(names)), dtype=np.uint8)
        for row, (own, code) in enumerate(zip(letters, codes, strict=True)):
            table[row, np.searchsorted(names, code[code > 0])] = own[code > 0]
        return "imgt", table
    if len({len(own) for own in letters}) == 1 and len(letters[0]) >= SHORT:
        table = np.stack(letters)
        if (table == table[0]).mean(axis=1).min() >= _LEAST_ALIKE:
            return "places", table
    return "search", None


def nearest_by_places(letters: np.ndarray, home: np.ndarray, queries: np.ndarray, how: str) -> Searched:
    """Find the sequence of another fold with most equal letters over the places that either has.

    Parameters
    ----------
    letters
        From `places_of`.
    home
        The fold of each sequence, -1 where it is in several.
    queries
        Which to ask for, 0-based.
    how
        Kept in the result.
    """
    is_same = (letters == letters[0]).all(axis=0) & (letters[0] > 0)
    varied, num_same = letters[:, ~is_same], int(is_same.sum())
    there = (varied > 0).astype(np.float32)
    sizes = there.sum(axis=1)
    targets, identities = [], []
    step = max(1, _CELLS // max(1, len(letters)))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        equal = np.full((len(rows), len(letters)), num_same, dtype=np.uint16)
        for column in varied.T:
            own = column[rows]
            equal += np.where(own == 0, 255, own)[:, None].astype(np.uint8) == column
        either = sizes[rows, None] + sizes[None] - there[rows] @ there.T + num_same
        score = equal / either
        score[(home[rows, None] == home[None]) & (home[rows, None] >= 0)] = -1
        copies = home[rows] < 0
        score[copies, rows[copies]] = 1
        best = score.argmax(axis=1)
        value = score[np.arange(len(rows)), best]
        targets.append(np.where(value >= 0, best, -1))
        identities.append(np.maximum(value, 0))
    return Searched(np.concatenate(targets), np.concatenate(identities).astype(np.float64), how)


def nearest_by_search(
    texts: Sequence[str], home: np.ndarray, queries: np.ndarray, *, is_one: bool, threads: int = 1
) -> Searched:
    """Find the sequence of another fold with the best alignment, or with the fewest edits.

    Parameters
    ----------
    texts
        Distinct sequences.
    home, queries
        As in `nearest_by_places`.
    is_one
        Whether one fold alone is asked for.
    threads
        Of MMseqs2.
    """
    target, identity = np.full(len(texts), -1, dtype=np.int64), np.zeros(len(texts))
    copies = queries[home[queries] < 0]
    target[copies], identity[copies] = copies, 1.0
    rest = queries[home[queries] >= 0]
    lengths = np.array([len(text) for text in texts])
    _by_edits(texts, home, rest[lengths[rest] < SHORT], target, identity)
    long = rest[lengths[rest] >= SHORT]
    known = np.flatnonzero(lengths >= SHORT)
    if is_one and len(long):
        known = known[home[known] != home[long[0]]]
    saturated = _by_alignment(texts, home, long, known, target, identity, threads)
    for fold in np.unique(home[saturated]).tolist():  # all that was found is in the own fold: look outside
        own = saturated[home[saturated] == fold]
        _by_alignment(texts, home, own, known[home[known] != fold], target, identity, threads)
    return Searched(target[queries], identity[queries], "search")


def _by_alignment(
    texts: Sequence[str],
    home: np.ndarray,
    queries: np.ndarray,
    known: np.ndarray,
    target: np.ndarray,
    identity: np.ndarray,
    threads: int,
) -> np.ndarray:
    """Fill in the best hits; give the queries whose hits were too many to reach another fold."""
    if not len(queries) or not len(known):
        return queries[:0]
    own, others = [texts[int(row)] for row in queries.tolist()], [texts[int(row)] for row in known.tolist()]
    hits = search(own, others, most_hits=_MOST_HITS, threads=threads)
    row, number = queries[hits["query"].to_numpy()], known[hits["target"].to_numpy()]
    table = hits.with_columns(
        query=pl.Series(row), target=pl.Series(number), outside=pl.Series(home[row] != home[number])
    )
    best = (
        table.filter("outside")
        .sort("query", "identity", "coverage", "target", descending=[False, True, True, False])
        .unique("query", keep="first", maintain_order=True)
    )
    places = best["query"].to_numpy()
    target[places], identity[places] = best["target"].to_numpy(), best["identity"].to_numpy()
    full = table.group_by("query").agg(pl.len(), pl.col("outside").any())
    return np.sort(full.filter((pl.col("len") >= _MOST_HITS) & ~pl.col("outside"))["query"].to_numpy())


def _by_edits(
    texts: Sequence[str], home: np.ndarray, queries: np.ndarray, target: np.ndarray, identity: np.ndarray
) -> None:
    """Fill in the peptide with the highest 1 - edits / residues of the longer one."""
    if not len(queries):
        return
    short = np.array([row for row, text in enumerate(texts) if len(text) < 2 * SHORT])
    others = letters_by_length([texts[int(row)] for row in short.tolist()])
    for length, (places, letters) in letters_by_length([texts[int(row)] for row in queries.tolist()]).items():
        rows = queries[places]
        order = sorted(others, key=lambda other: -min(length, other) / max(length, other))
        for other in order:
            reach = min(length, other) / max(length, other)
            if other < LEAST_COVERAGE * length:
                continue
            open_rows = np.flatnonzero(identity[rows] < reach)
            columns, other_letters = others[other]
            numbers = short[columns]
            step = max(1, _CELLS // len(numbers))
            for start in range(0, len(open_rows), step):
                part = open_rows[start : start + step]
                edits = edit_distances(letters[part], other_letters)
                edits[home[rows[part], None] == home[None, numbers]] = 255
                best = edits.argmin(axis=1)
                least = edits[np.arange(len(part)), best]
                value = 1 - least / max(length, other)
                better = (least < 255) & (value > identity[rows[part]])
                identity[rows[part[better]]] = value[better]
                target[rows[part[better]]] = numbers[best[better]]
