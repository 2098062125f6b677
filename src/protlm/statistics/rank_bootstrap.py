"""Bootstrap interval of Spearman's correlation without sorting every draw anew."""

import numpy as np
import numpy.typing as npt

from protlm.statistics.bootstrap import Interval, check_settings, percentile_interval, resample_counts
from protlm.statistics.metrics import as_floats, spearman

_Floats = npt.NDArray[np.float64]


def bootstrap_spearman(
    scores: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    num_draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Give Spearman's correlation with its percentile bootstrap interval over rows.

    The same as `bootstrap_metric` with `spearman`, rank for rank: each draw is a count per row, and ranks
    with ties at their average follow from sums of counts in the order of all rows.

    Parameters
    ----------
    scores
        Predictions, shape (rows,).
    target
        Measurements, shape (rows,).
    num_draws
        Bootstrap samples, at least 1.
    seed
        Of the random draws.
    confidence
        Of the interval, above 0 and below 1.

    Returns
    -------
    Interval
        NaN where either column is constant. Draws in which one is are left out of the bounds.

    Raises
    ------
    DataError
        If a value is NaN, or the lengths differ.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    Examples
    --------
    >>> bootstrap_spearman([1, 2, 3, 4], [1, 4, 9, 16], num_draws=100)
    Interval(value=1.0, low=1.0, high=1.0, n=4)
    """
    check_settings(num_draws, confidence)
    value = spearman(scores, target)
    first, second = (
        _Ranks(as_floats(name, column)) for name, column in (("scores", scores), ("target", target))
    )
    size = len(first.group)
    draws = [
        _correlations(counts.astype(np.float64), first, second)
        for counts in resample_counts(size, num_draws, seed)
    ]
    return percentile_interval(value, np.concatenate(draws), size, size, confidence)


def resampled_spearman(scores: _Floats, target: _Floats, counts: _Floats) -> _Floats:
    """Give Spearman's correlation of many resamples of the rows at once.

    Parameters
    ----------
    scores, target
        Shape (rows,), without NaN.
    counts
        How often each row is there in each resample, shape (resamples, rows).

    Returns
    -------
    numpy.ndarray
        One per resample; NaN where either column is constant.
    """
    return _correlations(counts, _Ranks(scores), _Ranks(target))


class _Ranks:
    """Ranks of one column in any resample of its rows."""

    def __init__(self, column: _Floats) -> None:
        self.order = np.argsort(column, kind="stable")
        distinct, self.group = np.unique(column, return_inverse=True)
        self.starts = np.searchsorted(column[self.order], distinct)

    def of(self, counts: _Floats) -> _Floats:
        """Give each row's average rank, minus the mean rank, shape (draws, rows)."""
        sizes = np.add.reduceat(counts[:, self.order], self.starts, axis=1)
        last = np.cumsum(sizes, axis=1)
        middle = last - (sizes - 1) / 2
        return middle[:, self.group] - (counts.sum(axis=1, keepdims=True) + 1) / 2


def _correlations(counts: _Floats, first: _Ranks, second: _Ranks) -> _Floats:
    one, other = first.of(counts), second.of(counts)
    together = (counts * one * other).sum(axis=1)
    scale = np.sqrt((counts * one**2).sum(axis=1) * (counts * other**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0, np.clip(together / scale, -1, 1), np.nan)
