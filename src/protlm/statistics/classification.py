"""Metrics of two-class predictions, with intervals over resampled groups and repeated splits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protlm.errors import DataError
from protlm.statistics.bootstrap import Interval, percentile_interval, resample_counts
from protlm.statistics.metrics import as_floats

METRICS = ("accuracy", "precision", "recall", "f1", "auroc", "auprc", "mcc")
"""What is reported of a two-class prediction; the positive class is 1, and a row is called positive at a
probability of `THRESHOLD` or more."""
THRESHOLD = 0.5


@dataclass(frozen=True)
class Predictions:
    """What one method said of some rows, and the truth."""

    probabilities: npt.NDArray[np.float64]
    """Of the positive class, ``[n]``."""
    labels: npt.NDArray[np.bool_]
    clusters: npt.NDArray[np.int64]
    """Unit of resampling of each row, 0-based; the same numbers mean the same units in all repetitions."""


@dataclass(frozen=True)
class MetricDraws:
    """The metrics of one method, and the same on resampled units."""

    values: npt.NDArray[np.float64]
    """``[7]`` in the order of `METRICS`; a mean over the repetitions."""
    draws: npt.NDArray[np.float64]
    """``[draws, 7]``."""
    n: int
    """Rows of one repetition, on average."""
    num_units: int

    def interval(self, metric: str, *, confidence: float = 0.95) -> Interval:
        """Give a metric with its percentile interval.

        Parameters
        ----------
        metric
            One of `METRICS`.
        confidence
            Above 0 and below 1.
        """
        column = METRICS.index(metric)
        return percentile_interval(
            float(self.values[column]), self.draws[:, column], self.n, self.num_units, confidence
        )

    def minus(self, other: "MetricDraws") -> "MetricDraws":
        """Give the difference to another method on the same draws of the same units.

        Parameters
        ----------
        other
            Made with the same units, number of draws and seed.
        """
        if self.draws.shape != other.draws.shape or self.num_units != other.num_units:
            raise DataError(
                f"draws of {self.num_units:,} and of {other.num_units:,} units cannot be paired",
                hint="judge both methods on the same rows with the same number of draws",
            )
        return MetricDraws(self.values - other.values, self.draws - other.draws, self.n, self.num_units)


def classification_metrics(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, *, counts: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Give the metrics of a two-class prediction, on all rows or on many resamples of them at once.

    DISCREPANCY: undefined values are NaN (precision where no row is called positive, AUROC and AUPRC of one
    class, MCC of constant calls), where scikit-learn gives 0.

    Parameters
    ----------
    probabilities
        Of the positive class, shape (rows,). Only `THRESHOLD` and their order matter.
    labels
        0 or 1 (or booleans), shape (rows,).
    counts
        How often each row is there in each resample, shape (resamples, rows).

    Returns
    -------
    numpy.ndarray
        In the order of `METRICS`: ``[7]``, or ``[resamples, 7]`` with `counts`.

    Raises
    ------
    DataError
        If a value is missing, a label is neither 0 nor 1, or the lengths differ.

    References
    ----------
    Ng & Briney, Patterns 2025, report these seven.

    Examples
    --------
    >>> values = classification_metrics([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0])
    >>> dict(zip(METRICS, values.round(3).tolist(), strict=True))
    {'accuracy': 0.5, 'precision': 0.5, 'recall': 0.5, 'f1': 0.5, 'auroc': 0.75, 'auprc': 0.833, 'mcc': 0.0}
    """
    scores = as_floats("probabilities", probabilities)
    truth = as_floats("labels", labels)
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise DataError(f"probabilities have shape {scores.shape}, labels {truth.shape}")
    if ((truth != 0) & (truth != 1)).any():
        raise DataError("labels: expected 0 or 1 only")
    rows = np.ones((1, len(scores))) if counts is None else as_floats("counts", counts)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    is_last_of_tie = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    weights, positive = rows[:, order], truth[order]
    found = np.cumsum(weights * positive, axis=1)[:, is_last_of_tie]
    called = np.cumsum(weights, axis=1)[:, is_last_of_tie]
    num_called = int((ordered[is_last_of_tie] >= THRESHOLD).sum())
    accuracy, precision, recall, f1, mcc = _at_threshold(found, called, num_called)
    auroc, auprc = _areas(found, called)
    result = np.column_stack([accuracy, precision, recall, f1, auroc, auprc, mcc])
    return result[0] if counts is None else result


def bootstrap_classification(
    repetitions: Sequence[Predictions], *, num_units: int, num_draws: int = 2000, seed: int = 0
) -> MetricDraws:
    """Give the metrics with draws over whole units, as a mean over repetitions with other splits or seeds.

    A draw takes the same units in every repetition, so that what is left is the spread over the data, not
    that of the repetitions around their mean.

    Parameters
    ----------
    repetitions
        At least one.
    num_units
        Units of resampling; each repetition's clusters are below it.
    num_draws
        Bootstrap samples.
    seed
        Of the draws. Methods that are compared must have the same.

    Raises
    ------
    DataError
        If there is no repetition, or one has clusters out of range.
    """
    if not repetitions:
        raise DataError("there are no predictions to judge")
    for each in repetitions:
        if len(each.clusters) != len(each.labels) or (each.clusters >= num_units).any():
            raise DataError(
                f"clusters: expected one below {num_units:,} for each of {len(each.labels):,} rows"
            )
    values = np.mean(
        [classification_metrics(each.probabilities, each.labels) for each in repetitions], axis=0
    )
    drawn = [
        np.mean(
            [
                classification_metrics(each.probabilities, each.labels, counts=counts[:, each.clusters])
                for each in repetitions
            ],
            axis=0,
        )
        for counts in resample_counts(num_units, num_draws, seed)
    ]
    rows = round(sum(len(each.labels) for each in repetitions) / len(repetitions))
    return MetricDraws(values, np.concatenate(drawn), rows, num_units)


def mean_and_sem(values: npt.ArrayLike) -> tuple[float, float]:
    """Give the mean of a metric over folds and its standard error, those without a value left out.

    Parameters
    ----------
    values
        One per fold; NaN where undefined.

    Returns
    -------
    tuple of float
        Mean, and standard deviation (n - 1) over the square root of n; NaN with fewer than two. Folds share
        most of their training data, so the standard error is too small; it is here because papers give it.

    Examples
    --------
    >>> [round(value, 3) for value in mean_and_sem([0.5, 0.7])]
    [0.6, 0.1]
    """
    column = np.asarray(values, dtype=np.float64)
    column = column[~np.isnan(column)]
    if len(column) == 0:
        return math.nan, math.nan
    if len(column) == 1:
        return float(column[0]), math.nan
    return float(column.mean()), float(column.std(ddof=1)) / math.sqrt(len(column))


def _at_threshold(found: np.ndarray, called: np.ndarray, num_called: int) -> list[np.ndarray]:
    """Give accuracy, precision, recall, F1 and MCC; the first `num_called` cumulative counts are calls."""
    total, positives = called[:, -1], found[:, -1]
    if num_called:
        true_positives, calls = found[:, num_called - 1], called[:, num_called - 1]
    else:
        true_positives, calls = np.zeros(len(found)), np.zeros(len(found))
    true_negatives = total - positives - (calls - true_positives)
    variance = calls * (total - calls) * positives * (total - positives)
    with np.errstate(divide="ignore", invalid="ignore"):
        return [
            (true_positives + true_negatives) / total,
            true_positives / calls,
            true_positives / positives,
            2 * true_positives / (calls + positives),
            (total * true_positives - calls * positives) / np.sqrt(variance),
        ]


def _areas(found: np.ndarray, called: np.ndarray) -> list[np.ndarray]:
    """Give AUROC and AUPRC from cumulative counts by descending score, ties in one step."""
    positives, negatives = found[:, -1], called[:, -1] - found[:, -1]
    missed = called - found
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(missed, axis=1, prepend=0)
        before = np.concatenate([np.zeros((len(found), 1)), found[:, :-1]], axis=1)
        area = (steps * (before + found) / 2).sum(axis=1) / (positives * negatives)
        precision = np.where(called > 0, found / called, 0.0)
        average = (np.diff(found, axis=1, prepend=0) * precision).sum(axis=1) / positives
    defined = (positives > 0) & (negatives > 0)
    return [np.where(defined, area, np.nan), np.where(defined, average, np.nan)]
