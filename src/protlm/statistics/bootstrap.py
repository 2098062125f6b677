"""Percentile bootstrap intervals, by row or by cluster.

Rows that are not independent (variants of one protein, sequences of one donor) are resampled by whole
clusters; otherwise the interval is too narrow.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protlm.errors import ConfigError, DataError
from protlm.statistics.metrics import as_floats

_CELLS_PER_CHUNK = 200_000  # counts held at once, 1.6 MB: they stay in the cache


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bootstrap interval.

    Examples
    --------
    >>> Interval(value=0.5, low=0.4, high=0.6, n=100).low
    0.4
    """

    value: float
    """The metric on all rows; NaN where it is undefined."""
    low: float
    """Lower bound; NaN with fewer than two independent units, which tell nothing of their spread."""
    high: float
    """Upper bound; NaN as for `low`."""
    n: int
    """Rows with a weight above 0, also where whole clusters were resampled."""


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    clusters: npt.ArrayLike | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Give Σ values / Σ weights with its percentile bootstrap interval.

    Without weights it is the mean. For a mean over residues of unequal records, `values` holds the
    *sum* of each record, not its mean, and `weights` its number of residues.

    Parameters
    ----------
    values
        One per row, shape (rows,), finite.
    weights
        One per row, shape (rows,), at least 0. 1 where not given.
    clusters
        A label per row, shape (rows,). Rows with the same label are drawn together.
    num_draws
        Bootstrap samples, at least 1.
    seed
        Of the random draws; the same seed gives the same interval.
    confidence
        Of the interval, above 0 and below 1.

    Returns
    -------
    Interval
        Its value is NaN where the weights sum to 0. Draws whose weights do are left out.

    Raises
    ------
    DataError
        If a value is NaN or infinite, a weight is negative, a cluster label is missing, or the
        lengths differ.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Examples
    --------
    Two records, with 1 of 2 and 8 of 8 residues right:

    >>> bootstrap_mean([1, 8], weights=[2, 8])
    Interval(value=0.9, low=0.5, high=1.0, n=2)
    """
    column = as_floats("values", values, finite=True)
    if column.ndim != 1:
        raise DataError(
            f"values: expected shape (rows,), found {column.shape}", hint="bootstrap_means takes columns"
        )
    return bootstrap_means(
        column[:, None],
        weights=weights,
        clusters=clusters,
        num_draws=num_draws,
        seed=seed,
        confidence=confidence,
    )[0]


def bootstrap_means(
    values: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    clusters: npt.ArrayLike | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """Give `bootstrap_mean` of each column, on the same resampled rows.

    Meant for records × regions. A record without a region has value 0 and weight 0 there. Memory is
    bounded: rows × draws are never held at once.

    Parameters
    ----------
    values
        Shape (rows, columns), finite.
    weights
        Shape (rows, columns) or (rows,), at least 0. 1 where not given.
    clusters
        A label per row, shape (rows,).
    num_draws
        Bootstrap samples, at least 1.
    seed
        Of the random draws.
    confidence
        Of each interval, above 0 and below 1; not adjusted for the number of columns.

    Returns
    -------
    list of Interval
        One per column.

    Raises
    ------
    DataError
        As for `bootstrap_mean`.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    Examples
    --------
    >>> [interval.value for interval in bootstrap_means([[1, 0], [0, 3]], weights=[[2, 0], [2, 4]])]
    [0.25, 0.75]
    """
    check_settings(num_draws, confidence)
    table = as_floats("values", values, finite=True)
    if table.ndim != 2:
        raise DataError(f"values: expected shape (rows, columns), found {table.shape}")
    table_weights = _weights_like(table, weights)
    counted = (table_weights > 0).sum(axis=0)
    codes, num_units = _units(len(table), clusters)
    stacked = _sum_by_unit(np.hstack([table, table_weights]), codes, num_units)
    num_columns = table.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        total = stacked.sum(axis=0)
        value = total[:num_columns] / total[num_columns:]
        drawn = [
            counts.astype(np.float64) @ stacked for counts in resample_counts(num_units, num_draws, seed)
        ]
        sums = np.concatenate(drawn)
        ratios = sums[:, :num_columns] / sums[:, num_columns:]
    informative = (stacked[:, num_columns:] > 0).sum(axis=0)
    return [
        percentile_interval(
            value[column], ratios[:, column], counted[column], informative[column], confidence
        )
        for column in range(num_columns)
    ]


def bootstrap_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    clusters: npt.ArrayLike | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Give the difference of two models' means, first minus second, on the same resampled rows.

    Parameters
    ----------
    first
        One per row, shape (rows,), finite; per-record sums where weights are given.
    second
        The other model on the same rows in the same order.
    weights
        One per row, shared by both models, as in `bootstrap_mean`.
    clusters
        A label per row, shape (rows,).
    num_draws
        Bootstrap samples, at least 1.
    seed
        Of the random draws.
    confidence
        Of the interval, above 0 and below 1.

    Returns
    -------
    Interval
        (Σ first - Σ second) / Σ weights.

    Raises
    ------
    DataError
        As for `bootstrap_mean`.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    Examples
    --------
    One model is better by 1 on each row, so the difference is certain although the means are not:

    >>> bootstrap_difference([1, 5, 9], [0, 4, 8])
    Interval(value=1.0, low=1.0, high=1.0, n=3)
    """
    better, worse = as_floats("first", first, finite=True), as_floats("second", second, finite=True)
    if better.shape != worse.shape:
        raise DataError(
            f"first has shape {better.shape}, second {worse.shape}",
            hint="a paired comparison needs both models on the same rows in the same order",
        )
    return bootstrap_mean(
        better - worse,
        weights=weights,
        clusters=clusters,
        num_draws=num_draws,
        seed=seed,
        confidence=confidence,
    )


def bootstrap_metric(
    metric: Callable[..., float],
    *arrays: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Give any metric of whole columns with its percentile bootstrap interval.

    Calls the metric `num_draws` + 1 times. For two models, pass a metric of three arrays that takes
    the difference; the rows are resampled together.

    Parameters
    ----------
    metric
        Takes the arrays, resampled alike along their first axis, and returns a number. Must not depend
        on the order of the rows.
    arrays
        One or more, each with rows along the first axis.
    clusters
        A label per row, shape (rows,). Rows with the same label are drawn together.
    num_draws
        Bootstrap samples, at least 1.
    seed
        Of the random draws.
    confidence
        Of the interval, above 0 and below 1.

    Returns
    -------
    Interval
        Draws on which the metric is NaN (say, one class only) are left out of the bounds.

    Raises
    ------
    DataError
        If there is no array, the lengths differ, a cluster label is missing, or the metric refuses.
    ConfigError
        If `num_draws` or `confidence` is out of range.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Examples
    --------
    >>> from protlm.statistics.metrics import spearman
    >>> bootstrap_metric(spearman, [1, 2, 3, 4], [1, 4, 9, 16], num_draws=100)
    Interval(value=1.0, low=1.0, high=1.0, n=4)
    """
    check_settings(num_draws, confidence)
    columns = [np.asarray(array) for array in arrays]
    lengths = [len(column) if column.ndim else 0 for column in columns]
    if len(set(lengths)) != 1:
        raise DataError(f"expected arrays with the same number of rows, found {lengths}")
    codes, num_units = _units(lengths[0], clusters)
    value = float(metric(*columns))
    results: list[float] = []
    for counts in resample_counts(num_units, num_draws, seed) if num_units > 1 else ():
        for row in counts:
            picked = np.repeat(np.arange(lengths[0]), row[codes])
            results.append(float(metric(*(column[picked] for column in columns))))
    return percentile_interval(value, np.array(results), lengths[0], num_units, confidence)


def percentile_interval(
    value: float, draws: npt.NDArray[np.float64], num_rows: int, num_units: int, confidence: float
) -> Interval:
    """Give a value with the percentile interval of its bootstrap draws.

    Parameters
    ----------
    value
        On all rows.
    draws
        Of the same quantity, shape (draws,); NaN where it was undefined, which is left out.
    num_rows, num_units
        Rows, and units that were resampled; with fewer than two units the bounds are NaN.
    confidence
        Above 0 and below 1.
    """
    defined = draws[~np.isnan(draws)]
    low, high = math.nan, math.nan
    if num_units > 1 and defined.size:
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    return Interval(float(value), low, high, int(num_rows))


def resample_counts(num_units: int, num_draws: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each unit was drawn, shape (draws of this chunk, units).

    Counting uniform picks gives the multinomial faster than `Generator.multinomial` does. The size of
    a chunk does not change the counts.

    Parameters
    ----------
    num_units
        What is resampled: rows or clusters.
    num_draws
        Bootstrap samples.
    seed
        The same seed gives the same counts, so that two models can be compared on the same draws.
    """
    generator = np.random.default_rng(seed)
    per_chunk = max(1, _CELLS_PER_CHUNK // max(1, num_units))
    for start in range(0, num_draws, per_chunk):
        rows = min(per_chunk, num_draws - start)
        if num_units == 0:
            yield np.zeros((rows, 0), dtype=np.int64)
            continue
        picked = generator.integers(num_units, size=(rows, num_units))
        picked += num_units * np.arange(rows)[:, None]
        yield np.bincount(picked.ravel(), minlength=rows * num_units).reshape(rows, num_units)


def _units(num_rows: int, clusters: npt.ArrayLike | None) -> tuple[npt.NDArray[np.intp], int]:
    """Give each row's unit of resampling, from 0, and the number of units."""
    if clusters is None:
        return np.arange(num_rows), num_rows
    labels = np.asarray(clusters)
    if labels.shape != (num_rows,):
        raise DataError(f"clusters: expected one label for each of {num_rows} rows, found {labels.shape}")
    missing = sum(label is None or label != label for label in labels.tolist())
    if missing:
        raise DataError(
            f"clusters: {missing} of {num_rows} labels missing",
            hint="give each row without a cluster a label of its own",
        )
    distinct, codes = np.unique(labels, return_inverse=True)
    return codes, len(distinct)


def _sum_by_unit(
    table: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], num_units: int
) -> npt.NDArray[np.float64]:
    sums = np.zeros((num_units, table.shape[1]))
    np.add.at(sums, codes, table)
    return sums


def _weights_like(table: npt.NDArray[np.float64], weights: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    if weights is None:
        return np.ones_like(table)
    array = as_floats("weights", weights, finite=True)
    if array.shape == table.shape[:1]:
        array = np.broadcast_to(array[:, None], table.shape)
    if array.shape != table.shape:
        raise DataError(f"weights have shape {array.shape}, values {table.shape}")
    if (array < 0).any():
        raise DataError(f"weights: expected at least 0, found {array.min():g}")
    return array


def check_settings(num_draws: int, confidence: float) -> None:
    """Refuse settings of a bootstrap that make no sense.

    Parameters
    ----------
    num_draws
        Expected at least 1.
    confidence
        Expected above 0 and below 1.

    Raises
    ------
    ConfigError
        If either is out of range.
    """
    if num_draws < 1:
        raise ConfigError(f"num_draws: expected at least 1, found {num_draws}", hint="2000 is usual")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: {confidence} is out of range", hint="give 0.95 for 95 %")
