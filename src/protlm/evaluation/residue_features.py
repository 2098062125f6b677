"""Features of single residues that need no model: the letters around each, and its place in a numbering."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from protlm.evaluation.trivial import _CODES
from protlm.types.alphabet import STANDARD
from protlm.types.record import Record

WINDOW = 7
"""Residues to either side of the one that is looked at."""


def window_features(records: Sequence[Record], *, reach: int = WINDOW) -> sparse.csr_array:
    """Give the letters of the residues from `reach` before to `reach` behind each one, one-hot.

    Parameters
    ----------
    records
        At least one. A window ends where its chain does.
    reach
        0 is the residue alone.

    Returns
    -------
    scipy.sparse.csr_array
        float32 ``[residues, (2 × reach + 1) × 22]``: the twenty letters, any other one, and beyond the end;
        residues of all chains of all records end to end.
    """
    width = len(STANDARD) + 2
    columns = []
    for record in records:
        for chain in record.chains:
            codes = _CODES[np.frombuffer(chain.residues.encode(), dtype=np.uint8)]
            padded = np.full(len(codes) + 2 * reach, len(STANDARD) + 1, dtype=np.int64)
            padded[reach : reach + len(codes)] = np.where(codes < 0, len(STANDARD), codes)
            windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
            columns.append(windows + width * np.arange(2 * reach + 1))
    table = np.concatenate(columns)
    starts = np.arange(len(table) + 1) * table.shape[1]
    data = (np.ones(table.size, dtype=np.float32), table.reshape(-1), starts)
    return sparse.csr_array(data, shape=(len(table), width * (2 * reach + 1)))


def position_features(records: Sequence[Record]) -> sparse.csr_array | None:
    """Give the locus and IMGT position of each residue, one-hot: where a residue is, whatever its letter.

    Parameters
    ----------
    records
        Numbered.

    Returns
    -------
    scipy.sparse.csr_array or None
        ``[residues, positions]``; `None` where no chain is numbered.
    """
    codes = []
    loci = {name: number for number, name in enumerate(("", "H", "K", "L", "A", "B", "G", "D"))}
    for record in records:
        for chain in record.chains:
            own = chain.tracks.get("position", np.zeros(len(chain), dtype=np.uint16)).astype(np.int64)
            codes.append(np.where(own > 0, own + (loci.get(chain.locus, 0) << 16), 0))
    flat = np.concatenate(codes)
    if not flat.any():
        return None
    names, columns = np.unique(flat, return_inverse=True)
    data = (np.ones(len(flat), dtype=np.float32), columns.reshape(-1), np.arange(len(flat) + 1))
    return sparse.csr_array(data, shape=(len(flat), len(names)))
