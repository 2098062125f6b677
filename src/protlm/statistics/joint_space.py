"""The shape of a space that two kinds of unit vectors share: alignment, uniformity, gap, dimensions used."""

import math

import numpy as np
import numpy.typing as npt

from protlm.errors import DataError
from protlm.statistics.metrics import as_floats

_ROWS = 1024
"""Vectors whose distances to all others are held at once."""


def alignment(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Give the squared distance of each pair, float64 ``[pairs]``; its mean is the alignment, low if close.

    Parameters
    ----------
    first, second
        Vectors of the two kinds, shape (pairs, width), one row of each per pair.

    References
    ----------
    Wang and Isola 2020, arXiv:2005.10242, section 4.1.

    Examples
    --------
    >>> alignment([[1, 0], [0, 1]], [[1, 0], [1, 0]]).tolist()
    [0.0, 2.0]
    """
    one, other = _vectors("first", first), _vectors("second", second)
    if one.shape != other.shape:
        raise DataError(
            f"first has shape {one.shape}, second {other.shape}", hint="row i of both must be one pair"
        )
    return ((one - other) ** 2).sum(axis=1)


def uniformity(vectors: npt.ArrayLike) -> float:
    """Give log mean exp(-2 d²) over pairs of different vectors; lower is more even, 0 is all in one place.

    Parameters
    ----------
    vectors
        Shape (n, width); no vector is paired with itself. NaN with fewer than two.

    References
    ----------
    Wang and Isola 2020, arXiv:2005.10242, section 4.1.

    Examples
    --------
    >>> round(uniformity([[1, 0], [-1, 0]]), 6)
    -8.0
    """
    table = _vectors("vectors", vectors)
    count = len(table)
    if count < 2:
        return math.nan
    return math.log((_sum_of_kernel(table) - count) / (count * (count - 1)))


def notebook_uniformity(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Give uniformity as the notebook of esm2-antibody-CLIP has it, for comparison only.

    DISCREPANCY: both kinds are laid end to end, and each vector is paired with itself and with its partner
    too, so that the number rises with few vectors and with good alignment.

    Parameters
    ----------
    first, second
        As for `alignment`.

    Examples
    --------
    >>> round(notebook_uniformity([[1, 0]], [[-1, 0]]), 6)  # log of the mean of 1, 1, exp(-8), exp(-8)
    -0.692812
    """
    table = np.concatenate([_vectors("first", first), _vectors("second", second)])
    return math.log(_sum_of_kernel(table) / len(table) ** 2)


def modality_gap(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Give the distance between the centroids of the two kinds; from 0 to 2 for unit vectors.

    Parameters
    ----------
    first, second
        Shape (n, width) and (m, width).

    References
    ----------
    Liang et al. 2022, arXiv:2203.02053, section 4.2.

    Examples
    --------
    >>> modality_gap([[1, 0], [0, 1]], [[-1, 0], [0, 1]])
    1.0
    """
    one, other = _vectors("first", first), _vectors("second", second)
    return float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)))


def effective_rank(vectors: npt.ArrayLike) -> float:
    """Give exp of the entropy of the singular values' shares: how many directions are in use, from 1.

    Parameters
    ----------
    vectors
        Shape (n, width); taken as they are, not centred.

    References
    ----------
    Roy and Vetterli 2007, The effective rank, definition 1.

    Examples
    --------
    >>> round(effective_rank([[1, 0], [0, 1]]), 6), round(effective_rank([[1, 0], [1, 0]]), 6)
    (2.0, 1.0)
    """
    sizes = np.linalg.svd(_vectors("vectors", vectors), compute_uv=False)
    if not sizes.sum():
        return math.nan
    shares = sizes / sizes.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _vectors(name: str, vectors: npt.ArrayLike) -> np.ndarray:
    table = as_floats(name, vectors, finite=True)
    if table.ndim != 2 or not len(table):
        raise DataError(f"{name}: expected shape (vectors, width), found {table.shape}")
    return table


def _sum_of_kernel(table: np.ndarray) -> float:
    """Sum exp(-2 d²) over all ordered pairs, each with itself among them."""
    norms = (table**2).sum(axis=1)
    total = 0.0
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = norms[rows, None] + norms[None] - 2 * table[rows] @ table.T
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = 0.0
        total += float(np.exp(-2 * np.maximum(distances, 0.0)).sum())
    return total
