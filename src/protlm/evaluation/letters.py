"""Residues and regions as letters and names, from the codes that arrays hold."""

import numpy as np
import polars as pl

from protlm.data.germline_set import CODE
from protlm.types.alphabet import STANDARD
from protlm.types.regions import Region

AMINO_ACIDS = pl.Series(list(STANDARD))
"""The twenty, by their code."""
NAMES_OF_REGIONS = pl.Series([region.name if region else "" for region in Region])
"""By the code of `Region`; empty where it is not known."""


def letter_codes(letters: np.ndarray | str) -> np.ndarray:
    """Give the place of letters in `STANDARD`, int64 ``[r]``; -1 for others.

    Parameters
    ----------
    letters
        As bytes, uint8 ``[r]``, or as text.

    Examples
    --------
    >>> letter_codes("ACXY").tolist()
    [0, 1, -1, 19]
    """
    if isinstance(letters, str):
        letters = np.frombuffer(letters.encode(), dtype=np.uint8)
    return CODE[letters].astype(np.int64)
