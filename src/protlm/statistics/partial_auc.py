"""The area under the first part of a ROC curve, where few negatives are let through."""

import numpy as np
import numpy.typing as npt

from protlm.errors import DataError
from protlm.statistics.metrics import as_floats


def partial_auc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    max_rate: float = 0.1,
    counts: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    r"""Give the area under the ROC curve up to a rate of false positives, scaled as McClish does.

    .. math:: \tfrac12 \left(1 + \frac{A - x^2/2}{x - x^2/2}\right)

    with :math:`A` the area up to the rate :math:`x`: 0.5 for chance, 1 for a perfect order.

    Parameters
    ----------
    scores
        Shape (rows,); higher means more likely positive. Ties are a slanted step.
    labels
        0 or 1, shape (rows,).
    max_rate
        Above 0, at most 1; IMMREP takes 0.1.
    counts
        How often each row is there in each resample, shape (resamples, rows).

    Returns
    -------
    numpy.ndarray
        One value, or one per resample; NaN where a class is missing.

    Raises
    ------
    DataError
        If the lengths differ, or `max_rate` is out of range.

    References
    ----------
    McClish 1989, doi:10.1177/0272989X8900900307.

    Examples
    --------
    >>> float(partial_auc([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0]))
    1.0
    """
    if not 0 < max_rate <= 1:
        raise DataError(f"max_rate {max_rate} is out of range", hint="expected above 0 and at most 1")
    values, truth = as_floats("scores", scores), as_floats("labels", labels)
    if values.ndim != 1 or values.shape != truth.shape:
        raise DataError(f"scores have shape {values.shape}, labels {truth.shape}")
    weights = np.ones((1, len(values))) if counts is None else as_floats("counts", counts)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    drawn, positive = weights[:, order], truth[order]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.cumsum(drawn * positive, axis=1)[:, ends]
        missed = np.cumsum(drawn * (1 - positive), axis=1)[:, ends]
        hits, misses = found / found[:, -1:], missed / missed[:, -1:]
        area = _area_up_to(misses, hits, max_rate)
    least = max_rate**2 / 2
    scaled = 0.5 * (1 + (area - least) / (max_rate - least))
    return scaled[0] if counts is None else scaled


def _area_up_to(misses: np.ndarray, hits: np.ndarray, limit: float) -> np.ndarray:
    """Sum the trapezoids under straight lines between the points, the last one cut at `limit`."""
    zero = np.zeros((len(misses), 1))
    before, low = np.concatenate([zero, misses[:, :-1]], axis=1), np.concatenate([zero, hits[:, :-1]], axis=1)
    width = np.clip(np.minimum(misses, limit) - np.minimum(before, limit), 0, None)
    whole = misses - before
    reached = low + np.where(whole > 0, (hits - low) * width / np.where(whole > 0, whole, 1), 0)
    return (width * (low + reached) / 2).sum(axis=1)
