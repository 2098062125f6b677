"""Peptides too short for MMseqs2, compared by the number of edits between them.

MMseqs2 finds nothing by k-mers under 10 residues, and of copies with 80 % identity half at 11 residues, four
fifths at 12 and 13, and all from 15 on (40 random peptides of each length, release 17, as it is set here).
"""

from collections.abc import Iterator, Sequence

import numpy as np

SHORT = 20
"""Sequences of fewer residues are compared by edits."""
LEAST_IDENTITY = 0.5
"""Peptides are linked at no lower identity: of unrelated ones too many are as alike by chance."""
_CELLS = 1 << 20


def alike_peptides(
    queries: Sequence[str], targets: Sequence[str], *, least: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Find pairs of peptides by identity: 1 - edits / residues of the longer one.

    An edit replaces, inserts or removes one residue (Levenshtein).

    Parameters
    ----------
    queries, targets
        Residues of each, all short: time goes with pairs times the square of the length.
    least
        Identity from which on pairs are given, in [0, 1].

    Yields
    ------
    rows, columns, identities
        0-based indices of queries and targets, int64, and float64 ``[n]``.

    Examples
    --------
    >>> [each.tolist() for each in next(alike_peptides(["NLVPMVATV"], ["NLVPMVATA", "GILGF"], least=0.8))]
    [[0], [0], [0.8888888888888888]]
    """
    own, others = letters_by_length(queries), letters_by_length(targets)
    for length, (rows, letters) in own.items():
        for other_length, (columns, other_letters) in others.items():
            longer = max(length, other_length)
            if min(length, other_length) / longer < least:
                continue
            step = max(1, _CELLS // len(columns))
            for start in range(0, len(rows), step):
                edits = edit_distances(letters[start : start + step], other_letters)
                identity = 1 - edits / longer
                row, column = np.nonzero(identity >= least - 1e-9)
                if len(row):
                    yield rows[start + row], columns[column], identity[row, column]


def letters_by_length(texts: Sequence[str]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Lay out peptides as one rectangle for each length.

    Parameters
    ----------
    texts
        Residues of each.

    Returns
    -------
    dict
        By length: 0-based indices, int64 ``[n]``, and letters, uint8 ``[n, length]``.
    """
    rows: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(len(text), []).append(row)
    return {
        length: (
            np.array(own, dtype=np.int64),
            np.frombuffer("".join(texts[row] for row in own).encode(), dtype=np.uint8).reshape(-1, length),
        )
        for length, own in sorted(rows.items())
    }


def edit_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Give the edits (Levenshtein) from each of the first peptides to each of the second.

    Parameters
    ----------
    first, second
        Letters ``[n, a]`` and ``[m, b]``, uint8, lengths up to 255.

    Returns
    -------
    numpy.ndarray
        uint8 ``[n, m]``.
    """
    shape = (len(first), len(second))
    above = [np.full(shape, place, dtype=np.uint8) for place in range(second.shape[1] + 1)]
    for row in range(first.shape[1]):
        left = np.full(shape, row + 1, dtype=np.uint8)
        current = [left]
        for column in range(second.shape[1]):
            differs = first[:, row, None] != second[None, :, column]
            left = np.minimum(np.minimum(left, above[column + 1]) + 1, above[column] + differs)
            current.append(left)
        above = current
    return above[-1]
