"""Weights that make clusters of similar sequences in an alignment count as one."""

import numpy as np

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

GAP = len(STANDARD)
"""State of a gap in an alignment; the twenty residues are their places in `STANDARD`."""
_FLOATS_PER_BLOCK = 2**24
_RESIDUES = np.arange(GAP, dtype=np.uint8)


def sequence_weights(rows: np.ndarray, *, identity: float = 0.8) -> np.ndarray:
    """Give 1 / the number of rows within an identity threshold of each row, itself included.

    The identity of row n to row m is the share of n's residues that m has in the same column; gaps of n do
    not count. It is that of EVE and ProteinGym, and differs between the two directions where one row
    is shorter.

    Parameters
    ----------
    rows
        uint8 ``[n, columns]``, 0 to 19 for the residues and 20 for a gap.
    identity
        From above 0 to 1; at least so much is similar.

    Returns
    -------
    numpy.ndarray
        float64 ``[n]``; 0 for a row of gaps only. Memory is bounded at about 200 MB beside the rows.

    Raises
    ------
    DataError
        If the threshold is not above 0 and at most 1.

    Examples
    --------
    >>> sequence_weights(np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 5], [6, 7, 8, 9, 10]], dtype=np.uint8))
    array([0.5, 0.5, 1. ])
    """
    if not 0 < identity <= 1:
        raise DataError(f"identity is {identity}; expected above 0 and at most 1", hint="0.8 is usual")
    residues = (rows != GAP).sum(axis=1)
    needed = np.ceil(identity * residues - 1e-9).astype(np.float32)
    similar = np.zeros(len(rows), dtype=np.int64)
    step = max(1, min(len(rows), 4096, _FLOATS_PER_BLOCK // max(1, rows.shape[1] * GAP)))
    starts = range(0, len(rows), step)
    for first in starts:
        left = slice(first, first + step)
        block = _one_hot(rows[left])
        for second in starts[first // step :]:
            right = slice(second, second + step)
            other = block if second == first else _one_hot(rows[right])
            matches = block @ other.T
            similar[left] += (matches >= needed[left, None]).sum(axis=1)
            if second != first:
                similar[right] += (matches >= needed[None, right]).sum(axis=0)
    return np.where(residues > 0, 1 / np.maximum(similar, 1), 0.0)


def _one_hot(rows: np.ndarray) -> np.ndarray:
    return (rows[:, :, None] == _RESIDUES).reshape(len(rows), -1).astype(np.float32)
