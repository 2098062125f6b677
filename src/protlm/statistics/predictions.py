"""Metrics of predictions: two classes, several, several at once, numbers; on all rows or on resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protlm.errors import DataError
from protlm.statistics.bootstrap import Interval, percentile_interval, resample_counts
from protlm.statistics.classification import METRICS as BINARY_METRICS
from protlm.statistics.classification import classification_metrics
from protlm.statistics.partial_auc import partial_auc
from protlm.statistics.rank_bootstrap import resampled_spearman
from protlm.statistics.top_bootstrap import resampled_top_recall

METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": (*BINARY_METRICS, "auc01", "macro_auroc", "macro_auc01"),
    "classes": ("accuracy", "balanced_accuracy", "macro_f1", "mcc"),
    "labels": ("macro_auroc", "macro_auprc", "micro_f1", "macro_f1"),
    "value": ("spearman", "pearson", "rmse", "r2", "top_recall"),
}
"""By kind of target. `macro_auroc` and `macro_auc01` of a binary target are means over its parts. Those of
labels, and of classes ranked as labels are, are means over labels; `macro_auprc` is of average precision.
`top_recall` is of the tenth with the highest values; see `towards_best`."""
PRIMARY: Mapping[str, str] = {
    "binary": "auroc",
    "classes": "accuracy",
    "labels": "macro_auroc",
    "value": "spearman",
}
"""The metric that methods are ranked by, unless a card names another."""
SMALLER_IS_BETTER = ("rmse",)
OF_ONE_END = "top_recall"
"""The metric of values that means something only where it is said which end is the best."""
IN_UNITS = ("rmse", "r2")
"""Metrics of values that ask for predictions in the unit of the target, as a likelihood is not."""
_LEAST_SPREAD = 1e-12
"""Standard deviation below which values count as one, as a share of the largest: a Kd in M is no constant."""
_CELLS_PER_CHUNK = 1 << 22


@dataclass(frozen=True)
class Judgement:
    """What one method said of some rows, and the truth."""

    outputs: npt.NDArray[np.float64]
    """`binary`: chance of the positive class, ``[n]``. `classes`: number of the class, ``[n]``. `labels`:
    chance of each, ``[n, labels]``. `value`: ``[n]``."""
    truth: npt.NDArray
    """Bool ``[n]``, class numbers ``[n]``, bool ``[n, labels]``, or floats ``[n]``."""
    clusters: npt.NDArray[np.int64]
    """Unit of resampling of each row, 0-based; the same numbers mean the same units in all repetitions."""
    parts: npt.NDArray[np.int64] | None = None
    """For means over parts, such as epitopes: part of each row, 0-based."""


@dataclass(frozen=True)
class Draws:
    """The metrics of one method, and the same on resampled units."""

    metrics: tuple[str, ...]
    values: npt.NDArray[np.float64]
    """``[metrics]``; a mean over the repetitions."""
    draws: npt.NDArray[np.float64]
    """``[draws, metrics]``."""
    n: int
    """Rows of one repetition, on average."""
    num_units: int

    def interval(self, metric: str, *, confidence: float = 0.95) -> Interval:
        """Give a metric with its percentile interval.

        Parameters
        ----------
        metric
            One of `metrics`.
        confidence
            Above 0 and below 1.
        """
        column = self.metrics.index(metric)
        return percentile_interval(
            float(self.values[column]), self.draws[:, column], self.n, self.num_units, confidence
        )

    def minus(self, other: "Draws") -> "Draws":
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
        values, draws = self.values - other.values, self.draws - other.draws
        return Draws(self.metrics, values, draws, self.n, self.num_units)


def prediction_metrics(
    kind: str,
    outputs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    counts: npt.NDArray | None = None,
    parts: npt.NDArray | None = None,
) -> npt.NDArray[np.float64]:
    """Give the metrics of a kind, on all rows or on many resamples of them at once.

    Undefined values are NaN. Means over classes are over those that are there in the truth of a resample.

    Parameters
    ----------
    kind
        A key of `METRICS`.
    outputs, truth
        As in `Judgement`.
    counts
        How often each row is there in each resample, shape (resamples, rows).
    parts
        Part of each row, for means over parts.

    Returns
    -------
    numpy.ndarray
        In the order of ``METRICS[kind]``: ``[metrics]``, or ``[resamples, metrics]`` with `counts`.

    Examples
    --------
    >>> prediction_metrics("classes", [0, 1, 1, 2], [0, 1, 2, 2]).round(3).tolist()
    [0.75, 0.833, 0.778, 0.7]
    """
    given, right = np.asarray(outputs, dtype=np.float64), np.asarray(truth)
    if given.shape != right.shape:
        raise DataError(f"predictions have shape {given.shape}, the truth {right.shape}")
    drawn = np.ones((1, len(given))) if counts is None else np.asarray(counts, dtype=np.float64)
    if kind == "binary":
        result = _binary(given, right, drawn, parts)
    elif kind == "classes":
        result = _classes(given, right, drawn)
    elif kind == "labels":
        result = _labels(given, right, drawn)
    else:
        result = _value(given, right.astype(np.float64), drawn)
    return result[0] if counts is None else result


def towards_best(values: npt.NDArray[np.float64], best: str) -> npt.NDArray[np.float64]:
    """Turn numbers so that the highest are the best.

    Predictions and truth are turned alike, which no metric of values but `OF_ONE_END` depends on.

    Parameters
    ----------
    values
        Any shape.
    best
        ``high``, ``low``, or empty where it is not said.

    Examples
    --------
    >>> towards_best(np.array([1.5, 2.0]), "low").tolist()
    [-1.5, -2.0]
    """
    return -values if best == "low" else values


def bootstrap_predictions(
    kind: str, repetitions: Sequence[Judgement], *, num_units: int, num_draws: int = 2000, seed: int = 0
) -> Draws:
    """Give the metrics with draws over whole units, as a mean over repetitions with other splits or seeds.

    A draw takes the same units in every repetition, so that what is left is the spread over the data, not
    that of the repetitions around their mean.

    Parameters
    ----------
    kind
        A key of `METRICS`.
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
        if len(each.clusters) != len(each.truth) or (each.clusters >= num_units).any():
            raise DataError(
                f"clusters: expected one below {num_units:,} for each of {len(each.truth):,} rows"
            )
    values = np.mean(
        [prediction_metrics(kind, each.outputs, each.truth, parts=each.parts) for each in repetitions], axis=0
    )
    longest = max(len(each.truth) for each in repetitions)
    step = max(1, _CELLS_PER_CHUNK // max(1, longest))
    drawn = [
        np.mean([_resampled(kind, each, counts[start : start + step]) for each in repetitions], axis=0)
        for counts in resample_counts(num_units, num_draws, seed)
        for start in range(0, len(counts), step)
    ]
    rows = round(sum(len(each.truth) for each in repetitions) / len(repetitions))
    return Draws(METRICS[kind], values, np.concatenate(drawn), rows, num_units)


def _resampled(kind: str, judgement: Judgement, counts: np.ndarray) -> np.ndarray:
    counts = counts[:, judgement.clusters]
    return prediction_metrics(kind, judgement.outputs, judgement.truth, counts=counts, parts=judgement.parts)


def _binary(given: np.ndarray, truth: np.ndarray, drawn: np.ndarray, parts: np.ndarray | None) -> np.ndarray:
    whole = classification_metrics(given, truth, counts=drawn)
    partial = partial_auc(given, truth, counts=drawn)[:, None]
    if parts is None:
        return np.concatenate([whole, partial, np.full((len(drawn), 2), np.nan)], axis=1)
    by_part = []
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        if truth[rows].all() or not truth[rows].any():
            continue
        own = drawn[:, rows]
        area = classification_metrics(given[rows], truth[rows], counts=own)[:, BINARY_METRICS.index("auroc")]
        by_part.append(np.stack([area, partial_auc(given[rows], truth[rows], counts=own)], axis=1))
    means = _mean(np.stack(by_part), axis=0) if by_part else np.full((len(drawn), 2), np.nan)
    return np.concatenate([whole, partial, means], axis=1)


def _classes(given: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    names, codes = np.unique(np.concatenate([given, truth]), return_inverse=True)
    called, actual = np.split(codes.reshape(-1), 2)
    right = called == actual
    hits = _by_class(actual[right], drawn[:, right], len(names))
    calls, members = _by_class(called, drawn, len(names)), _by_class(actual, drawn, len(names))
    total, num_right = drawn.sum(axis=1), hits.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        there = members > 0
        recall = np.where(there, hits / members, np.nan)
        f1 = np.where(there, 2 * hits / (members + calls), np.nan)
        shared = (calls * members).sum(axis=1)
        scale = np.sqrt((total**2 - (calls**2).sum(axis=1)) * (total**2 - (members**2).sum(axis=1)))
        mcc = (num_right * total - shared) / np.where(scale > 0, scale, np.nan)
        return np.column_stack([num_right / total, _mean(recall, axis=1), _mean(f1, axis=1), mcc])


def _by_class(codes: np.ndarray, drawn: np.ndarray, num_classes: int) -> np.ndarray:
    """Sum the counts of the rows of each class, ``[resamples, classes]``."""
    table = np.zeros((drawn.shape[1], num_classes))
    table[np.arange(len(codes)), codes] = 1
    return drawn @ table


def _labels(given: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    places = [BINARY_METRICS.index(name) for name in ("auroc", "auprc")]
    areas, hits, sums = [], [], []
    for column in range(truth.shape[1]):
        own = truth[:, column].astype(bool)
        areas.append(classification_metrics(given[:, column], own, counts=drawn)[:, places])
        called = given[:, column] >= 0.5
        hits.append(drawn @ (called & own).astype(np.float64))
        sums.append(drawn @ (called.astype(np.float64) + own))
    found, both = np.stack(hits, axis=1), np.stack(sums, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        micro = 2 * found.sum(axis=1) / both.sum(axis=1)
        macro = _mean(np.where(both > 0, 2 * found / both, np.nan), axis=1)
    return np.column_stack([_mean(np.stack(areas, axis=1), axis=1), micro, macro])


def _value(given: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    total = drawn.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = drawn @ (given - truth) ** 2 / total
        # shifted by the overall means, which no metric below depends on, so that squares stay small
        one, other = given - given.mean(), truth - truth.mean()
        first, second = drawn @ one / total, drawn @ other / total
        spread = drawn @ other**2 / total - second**2
        own = drawn @ one**2 / total - first**2
        together = drawn @ (one * other) / total - first * second
        varies = spread > (_LEAST_SPREAD * np.abs(truth).max()) ** 2
        is_there = varies & (own > (_LEAST_SPREAD * np.abs(given).max()) ** 2)
        pearson = np.where(is_there, together / np.sqrt(np.where(is_there, own * spread, 1)), np.nan)
        explained = np.where(varies, 1 - error / np.where(varies, spread, 1), np.nan)
    ranks, top = resampled_spearman(given, truth, drawn), resampled_top_recall(given, truth, drawn)
    return np.column_stack([ranks, pearson, np.sqrt(error), explained, top])


def _mean(table: np.ndarray, axis: int) -> np.ndarray:
    """Give the mean of what is not NaN; NaN where all is."""
    there = ~np.isnan(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(there, table, 0).sum(axis=axis) / there.sum(axis=axis)
