"""Recall of the best tenth of the rows, on many resamples at once."""

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]


def resampled_top_recall(
    scores: _Floats, target: _Floats, counts: _Floats, *, fraction: float = 0.1
) -> _Floats:
    """Give `protlm.statistics.metrics.top_recall` of many resamples of the rows at once.

    Parameters
    ----------
    scores, target
        Shape (rows,), without NaN; higher is better in both.
    counts
        How often each row is there in each resample, whole numbers of shape (resamples, rows).
    fraction
        Above 0, at most 1.

    Returns
    -------
    numpy.ndarray
        One per resample, from 0 to 1; NaN where the target is constant.

    Examples
    --------
    In the second, two rows tie as the best by target, and one place is left for their scores:

    >>> resampled_top_recall(np.array([5., 4., 3.]), np.array([9., 0., 8.]), np.array([[1, 1, 1], [2, 0, 1]]))
    array([1. , 0.5])
    """
    total = counts.sum(axis=1)
    top = total - np.ceil(np.round((1 - fraction) * (total - 1), 9))
    best, is_constant = _inside(target, counts, top, shares_ties=False)
    called, _ = _inside(scores, counts, top, shares_ties=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = (counts * best * called).sum(axis=1) / (counts * best).sum(axis=1)
    return np.where(is_constant, np.nan, recall)


def _inside(
    column: _Floats, counts: _Floats, top: _Floats, *, shares_ties: bool
) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """Give how much of each row is among the `top` highest of its resample, and whether all are alike.

    Rows that tie at the cut are inside, or share the places that are left.
    """
    order = np.argsort(-column, kind="stable")
    distinct, group = np.unique(-column, return_inverse=True)
    starts = np.searchsorted(-column[order], distinct)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    last = np.cumsum(sizes, axis=1)
    left = top[:, None] - (last - sizes)
    if shares_ties:
        share = np.clip(left / np.where(sizes > 0, sizes, 1), 0, 1)
    else:
        share = (left > 0).astype(np.float64)
    return share[:, group.reshape(-1)], (sizes > 0).sum(axis=1) <= 1
