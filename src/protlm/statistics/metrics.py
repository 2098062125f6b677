"""Metrics for variant effects and per-residue predictions.

Every function takes the prediction first and the truth second, refuses NaN with a count, and returns
NaN where the metric is undefined. None depends on the order of the rows, tied scores included.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from protlm.errors import ConfigError, DataError


def as_floats(name: str, values: npt.ArrayLike, *, finite: bool = False) -> npt.NDArray[np.float64]:
    """Give the values as a float array without NaN.

    Parameters
    ----------
    name
        What the values are; used in the error.
    values
        Numbers, any shape. `None` counts as NaN.
    finite
        Refuse infinite values too.

    Returns
    -------
    numpy.ndarray
        float64, the shape of `values`.

    Raises
    ------
    DataError
        If a value is NaN (says how many), infinite where `finite`, or not a number.

    Examples
    --------
    >>> as_floats("scores", [1, 2])
    array([1., 2.])
    >>> as_floats("scores", [1, None])
    Traceback (most recent call last):
    protlm.errors.DataError: scores: 1 of 2 values is NaN
    hint: drop those rows, from every array alike, and report how many were dropped
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected numbers ({error})") from error
    bad = ~np.isfinite(array) if finite else np.isnan(array)
    count = int(bad.sum())
    if count:
        kind = "NaN" if np.isnan(array).sum() == count else "NaN or infinite"
        raise DataError(
            f"{name}: {count} of {array.size} values {'is' if count == 1 else 'are'} {kind}",
            hint="drop those rows, from every array alike, and report how many were dropped",
        )
    return array


def spearman(scores: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """Give Spearman's rank correlation, ties at their average rank.

    Parameters
    ----------
    scores
        Predictions, shape (rows,). Only their order matters; infinite values are allowed.
    target
        Measurements, shape (rows,).

    Returns
    -------
    float
        From -1 to 1. NaN where either is constant, so also for fewer than two rows.

    Raises
    ------
    DataError
        If a value is NaN, or the lengths differ.

    References
    ----------
    Spearman, Am. J. Psychol. 15 (1904) 72.

    Examples
    --------
    >>> spearman([1, 2, 3], [10, 30, 20])
    0.5
    """
    first, second = _same_length(scores=as_floats("scores", scores), target=as_floats("target", target))
    if _is_constant(first) or _is_constant(second):
        return math.nan
    centre = (len(first) + 1) / 2
    first_ranks, second_ranks = rankdata(first) - centre, rankdata(second) - centre
    scale = math.sqrt(float(first_ranks @ first_ranks) * float(second_ranks @ second_ranks))
    return min(1.0, max(-1.0, float(first_ranks @ second_ranks) / scale))


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Give the area under the receiver operating characteristic.

    It is the chance that a random positive scores above a random negative, a tie counting one half,
    so constant scores give 0.5.

    Parameters
    ----------
    scores
        Predictions, shape (rows,); higher means more likely positive. Only their order matters.
    labels
        0 or 1 (or booleans), shape (rows,).

    Returns
    -------
    float
        From 0 to 1. NaN where the labels are constant.

    Raises
    ------
    DataError
        If a value is NaN, a label is neither 0 nor 1, or the lengths differ.

    References
    ----------
    Hanley and McNeil, Radiology 143 (1982) 29.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    values, positive = _same_length(scores=as_floats("scores", scores), labels=_as_binary("labels", labels))
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        return math.nan
    rank_sum = float(rankdata(values)[positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Give the average precision: the step-wise area under precision over recall.

    One step per distinct score, without interpolation; tied rows enter together, so constant scores
    give the fraction of positives, which is also what a useless score tends to.

    Parameters
    ----------
    scores
        Predictions, shape (rows,); higher means more likely positive. Only their order matters.
    labels
        0 or 1 (or booleans), shape (rows,).

    Returns
    -------
    float
        Above 0, at most 1. NaN where the labels are constant.

    Raises
    ------
    DataError
        If a value is NaN, a label is neither 0 nor 1, or the lengths differ.

    References
    ----------
    Davis and Goadrich, ICML 2006, on why the area is not interpolated linearly.

    Examples
    --------
    >>> average_precision([4, 3, 2, 1], [1, 0, 0, 1])
    0.75
    """
    values, positive = _same_length(scores=as_floats("scores", scores), labels=_as_binary("labels", labels))
    num_positive = int(positive.sum())
    if num_positive in (0, len(positive)):
        return math.nan
    order = np.argsort(-values)
    descending = values[order]
    last_of_tie = np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(descending) - 1)
    found = np.cumsum(positive[order])[last_of_tie]
    precision = found / (last_of_tie + 1)
    return float(np.diff(found, prepend=0) @ precision) / num_positive


def mcc(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Give Matthews' correlation coefficient of two binary columns.

    Parameters
    ----------
    predicted
        0 or 1 (or booleans), shape (rows,). To judge a score, cut it first; ProteinGym cuts at its
        median.
    labels
        0 or 1 (or booleans), shape (rows,).

    Returns
    -------
    float
        From -1 to 1. NaN where either is constant. DISCREPANCY: scikit-learn, and so ProteinGym, give
        0 there.

    Raises
    ------
    DataError
        If a value is NaN, neither 0 nor 1, or the lengths differ.

    References
    ----------
    Matthews, Biochim. Biophys. Acta 405 (1975) 442.

    Examples
    --------
    >>> round(mcc([1, 1, 0, 0], [1, 0, 0, 0]), 4)
    0.5774
    """
    called, positive = _same_length(
        predicted=_as_binary("predicted", predicted), labels=_as_binary("labels", labels)
    )
    num_rows, num_called, num_positive = len(called), int(called.sum()), int(positive.sum())
    true_positives = int((called & positive).sum())
    variances = num_called * (num_rows - num_called) * num_positive * (num_rows - num_positive)
    if variances == 0:
        return math.nan
    return (num_rows * true_positives - num_called * num_positive) / math.sqrt(variances)


def accuracy(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Give the fraction of rows where the prediction is the label.

    Parameters
    ----------
    predicted
        Classes, shape (rows,): numbers, booleans or strings such as residues.
    labels
        Classes of the same kind, shape (rows,).

    Returns
    -------
    float
        From 0 to 1. NaN for no rows.

    Raises
    ------
    DataError
        If a value is NaN or missing, the lengths differ, or only one of the two is text.

    Examples
    --------
    >>> accuracy(list("MKTA"), list("MKTV"))
    0.75
    """
    first, second = _same_length(
        predicted=_as_classes("predicted", predicted), labels=_as_classes("labels", labels)
    )
    if len(first) == 0:
        return math.nan
    if (first.dtype.kind == "U") != (second.dtype.kind == "U"):
        raise DataError(
            f"predicted and labels cannot be compared: {first.dtype} against {second.dtype}",
            hint="give both as text or both as numbers",
        )
    return float((first == second).mean())


def ndcg(scores: npt.ArrayLike, target: npt.ArrayLike, top_fraction: float = 0.1) -> float:
    """Give ProteinGym's normalised discounted cumulative gain at the top.

    With n rows, k = floor(`top_fraction` · n) and gains g = (target - min) / (max - min) over all rows,
    it is Σ g / log2(rank + 1) over the k rows with the highest *scores*, divided by the same sum
    over the k rows with the highest *target*. Ranks start at 1.

    DISCREPANCY: tied scores get the mean gain of their tie, the expectation over random tie breaks
    (as in scikit-learn), where ProteinGym's code lets the row order decide; and k is at least 1,
    where that code gives 0 for fewer than 1 / `top_fraction` rows.

    Parameters
    ----------
    scores
        Predictions, shape (rows,). Only their order matters.
    target
        Measurements, shape (rows,), finite; higher is better.
    top_fraction
        Above 0, at most 1.

    Returns
    -------
    float
        From 0 to 1. NaN where the target is constant.

    Raises
    ------
    DataError
        If a value is NaN, a target is infinite, or the lengths differ.
    ConfigError
        If `top_fraction` is out of range.

    References
    ----------
    Järvelin and Kekäläinen, ACM TOIS 20 (2002) 422; Notin et al., ProteinGym, NeurIPS 2023,
    ``performance_DMS_benchmarks.py``.

    Examples
    --------
    The best of four is ranked second, after one of gain 1/2: (1/2) / 1 over the top 25 %.

    >>> ndcg([4, 3, 2, 1], [5, 10, 0, 0], top_fraction=0.25)
    0.5
    """
    _check_fraction("top_fraction", top_fraction)
    values, truth = _same_length(
        scores=as_floats("scores", scores), target=as_floats("target", target, finite=True)
    )
    if _is_constant(truth):
        return math.nan
    gains = (truth - truth.min()) / (truth.max() - truth.min())
    top = max(1, math.floor(round(top_fraction * len(gains), 9)))
    discount = 1 / np.log2(np.arange(top) + 2)
    distinct, tie, tie_size = np.unique(-values, return_inverse=True, return_counts=True)
    mean_gain = np.bincount(tie, weights=gains, minlength=len(distinct)) / tie_size
    achieved = np.repeat(mean_gain, tie_size)[:top]
    ideal = -np.sort(-gains)[:top]
    return float(achieved @ discount) / float(ideal @ discount)


def top_recall(scores: npt.ArrayLike, target: npt.ArrayLike, fraction: float = 0.1) -> float:
    """Give the share of the best rows by target that are among the best by score.

    Best by target: at or above the (1 - `fraction`) quantile, linearly interpolated, ties included.
    Best by score: as many rows as that quantile leaves without ties, k = n - ceil((1 - `fraction`)(n - 1)).

    DISCREPANCY: ProteinGym's code takes the rows strictly above the quantile, by score and by target alike;
    `protlm.evaluation.variants.strict_top_recall` is that. Score ties across the cut share the places
    left here, the expectation over random tie breaks, so that constant scores give k / n.

    Parameters
    ----------
    scores
        Predictions, shape (rows,). Only their order matters.
    target
        Measurements, shape (rows,); higher is better.
    fraction
        Above 0, at most 1.

    Returns
    -------
    float
        From 0 to 1. NaN where the target is constant.

    Raises
    ------
    DataError
        If a value is NaN, or the lengths differ.
    ConfigError
        If `fraction` is out of range.

    References
    ----------
    Notin et al., ProteinGym, NeurIPS 2023, ``performance_DMS_benchmarks.py``.

    Examples
    --------
    >>> top_recall([5, 4, 3, 2, 1], [9, 0, 8, 0, 0], fraction=0.4)
    0.5
    """
    _check_fraction("fraction", fraction)
    values, truth = _same_length(scores=as_floats("scores", scores), target=as_floats("target", target))
    if _is_constant(truth):
        return math.nan
    top = len(truth) - math.ceil(round((1 - fraction) * (len(truth) - 1), 9))
    best = truth >= np.sort(truth)[-top]
    cut = np.sort(values)[-top]
    above, tied = values > cut, values == cut
    share = (top - int(above.sum())) / int(tied.sum())
    return (int((best & above).sum()) + share * int((best & tied).sum())) / int(best.sum())


def _same_length(**arrays: npt.NDArray) -> list[npt.NDArray]:
    for name, array in arrays.items():
        if array.ndim != 1:
            raise DataError(f"{name}: expected one value per row, found an array of shape {array.shape}")
    if len({len(array) for array in arrays.values()}) > 1:
        listing = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise DataError(f"lengths differ: {listing}", hint="give one value per row, in the same row order")
    return list(arrays.values())


def _as_binary(name: str, values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    array = as_floats(name, values)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise DataError(f"{name}: expected 0 or 1, found {wrong.flat[0]:g}", hint="cut at a threshold first")
    return array == 1


def _as_classes(name: str, values: npt.ArrayLike) -> npt.NDArray:
    array = np.asarray(values)
    if array.dtype.kind == "O":
        missing = sum(value is None or value != value for value in array.flat)
        if missing:
            raise DataError(f"{name}: {missing} of {array.size} values missing")
        array = np.asarray(array.tolist())
    return as_floats(name, array) if array.dtype.kind == "f" else array


def _is_constant(array: npt.NDArray) -> bool:
    return len(array) == 0 or bool((array == array[0]).all())


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ConfigError(f"{name}: {value} is out of range", hint="give a number above 0, at most 1")
