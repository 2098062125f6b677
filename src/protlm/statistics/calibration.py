"""Calibration: whether a model that says 80 % is right 80 % of the time."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from protlm.errors import ConfigError, DataError
from protlm.statistics.bootstrap import Interval, percentile_interval, resample_counts
from protlm.statistics.metrics import as_floats


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions of nearly equal confidence, and how often they were right.

    Examples
    --------
    >>> ReliabilityBin(confidence=0.8, accuracy=Interval(0.75, 0.7, 0.8, 100)).accuracy.n
    100
    """

    confidence: float
    """Mean probability that the model gave its prediction, from 0 to 1."""
    accuracy: Interval
    """Share of right predictions, with the number of predictions."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The expected calibration error and the bins behind it."""

    error: Interval
    """From 0 (calibrated) to 1."""
    chance: float
    """The error that a perfectly calibrated model would show with as many independent predictions."""
    bins: tuple[ReliabilityBin, ...]
    """By rising confidence; without empty ones."""


def calibration(
    confidences: npt.ArrayLike,
    hits: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    num_bins: int = 10,
    num_draws: int = 2000,
    seed: int = 0,
) -> Calibration:
    r"""Give the expected calibration error over bins of equal mass, with a 95 % bootstrap interval.

    .. math:: ECE = \sum_b \frac{n_b}{n} \left| acc_b - conf_b \right|

    Bins hold equal numbers of predictions; equal confidences share a bin, so the order of the rows
    does not matter. The bins stay as they are while clusters are resampled. The error cannot be
    negative, so noise alone makes it positive: `Calibration.chance` says how large. Resampling adds
    that noise once more, so the interval is the basic one: the percentile interval mirrored at the value.

    Parameters
    ----------
    confidences
        Probability of the prediction, shape (rows,), from 0 to 1.
    hits
        1 where the prediction was right and 0 where not, shape (rows,).
    clusters
        A label per row, shape (rows,). Rows with the same label are drawn together.
    num_bins
        At least 1.
    num_draws
        Bootstrap samples.
    seed
        Of the random draws.

    Returns
    -------
    Calibration
        With NaN for the error, and without bins, where there is no row.

    Raises
    ------
    DataError
        If a confidence is outside 0 to 1, a hit neither 0 nor 1, or the lengths differ.
    ConfigError
        If `num_bins` is below 1.

    References
    ----------
    Davison & Hinkley 1997, Bootstrap Methods and their Application, section 5.2 (the basic interval);
    Naeini et al. 2015, AAAI 29:2901 (the error); Nguyen & O'Connor 2015, arXiv:1508.05154 (bins of
    equal mass).

    Examples
    --------
    Two bins: confidence 0.6 with one of two right, and 0.9 with both right.

    >>> result = calibration([0.6, 0.6, 0.9, 0.9], [0, 1, 1, 1], num_bins=2)
    >>> round(result.error.value, 3), [each.confidence for each in result.bins]
    (0.1, [0.6, 0.9])
    """
    if num_bins < 1:
        raise ConfigError(f"num_bins: expected at least 1, found {num_bins}", hint="10 is usual")
    confidence, hit, codes, num_units = _checked(confidences, hits, clusters)
    if not len(confidence):
        return Calibration(Interval(math.nan, math.nan, math.nan, 0), math.nan, ())
    bin_of = ((rankdata(confidence) - 0.5) * num_bins / len(confidence)).astype(np.int64)
    sums = np.hstack(
        [
            _sums(codes, bin_of, values, num_units, num_bins)
            for values in (np.ones_like(confidence), confidence, hit)
        ]
    )
    total = sums.sum(axis=0)
    drawn = np.concatenate(
        [counts.astype(np.float64) @ sums for counts in resample_counts(num_units, num_draws, seed)]
    )
    counts, confidence_sums, hit_sums = np.split(total, 3)
    drawn_counts, _, drawn_hits = np.split(drawn, 3, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn_accuracy = drawn_hits / drawn_counts
    informative = (sums[:, :num_bins] > 0).sum(axis=0)
    bins = tuple(
        ReliabilityBin(
            float(confidence_sums[index] / counts[index]),
            percentile_interval(
                float(hit_sums[index] / counts[index]),
                drawn_accuracy[:, index],
                int(counts[index]),
                int(informative[index]),
                0.95,
            ),
        )
        for index in np.flatnonzero(counts)
    )
    error = _basic(percentile_interval(float(_error(total)), _error(drawn), len(hit), num_units, 0.95))
    return Calibration(error, _chance(confidence, bin_of, num_bins), bins)


def _checked(
    confidences: npt.ArrayLike, hits: npt.ArrayLike, clusters: npt.ArrayLike | None
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray, int]:
    confidence, hit = as_floats("confidences", confidences), as_floats("hits", hits)
    if confidence.ndim != 1 or confidence.shape != hit.shape:
        raise DataError(f"confidences have shape {confidence.shape}, hits {hit.shape}")
    outside = (confidence < 0) | (confidence > 1 + 1e-6)
    if outside.any():
        raise DataError(f"confidences: expected 0 to 1, found {confidence[outside][0]:g}")
    wrong = (hit != 0) & (hit != 1)
    if wrong.any():
        raise DataError(f"hits: expected 0 or 1, found {hit[wrong][0]:g}")
    if clusters is None:
        return confidence, hit, np.arange(len(hit)), len(hit)
    labels = np.asarray(clusters)
    if labels.shape != hit.shape:
        raise DataError(f"clusters: expected one label for each of {len(hit)} rows, found {labels.shape}")
    distinct, codes = np.unique(labels, return_inverse=True)
    return confidence, hit, codes, len(distinct)


def _basic(interval: Interval) -> Interval:
    """Mirror a percentile interval at the value, because resampling pushes the error up once more."""
    bounds = 2 * interval.value - np.array([interval.high, interval.low])
    low, high = (float(bound) for bound in np.maximum(bounds, 0.0))  # which keeps NaN
    return Interval(interval.value, low, high, interval.n)


def _sums(codes: npt.NDArray, bin_of: npt.NDArray, values: npt.NDArray, units: int, bins: int) -> npt.NDArray:
    return np.bincount(codes * bins + bin_of, weights=values, minlength=units * bins).reshape(units, bins)


def _error(sums: npt.NDArray) -> npt.NDArray:
    """Give the error from counts, confidences and hits summed by bin, along the last axis."""
    counts, confidence, hits = np.split(sums, 3, axis=-1)
    return np.abs(hits - confidence).sum(axis=-1) / counts.sum(axis=-1)


def _chance(confidence: npt.NDArray, bin_of: npt.NDArray, num_bins: int) -> float:
    """Give Σ E|N(0, s_b)| / n, with s_b² the variance of the hits of a bin at these confidences."""
    clipped = np.clip(confidence, 0, 1)
    variances = np.bincount(bin_of, weights=clipped * (1 - clipped), minlength=num_bins)
    return float(np.sqrt(2 * variances / math.pi).sum() / len(confidence))
