"""Ensembles: the scores of several models of the same variants as one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from protlm.errors import ConfigError, DataError, did_you_mean

Way = Literal["mean", "z", "rank"]
"""How scores become one."""

WAYS: dict[Way, str] = {
    "mean": "mean of the scores",
    "z": "mean of the scores, each model's standardised over the variants",
    "rank": "mean of the ranks, each model's scaled to [0, 1]",
}
"""What each way is, for messages and help."""


@dataclass(frozen=True)
class Combined:
    """Scores of an ensemble, higher = fitter."""

    scores: npt.NDArray[np.float64]
    """Shape (variants,); NaN where a member has no score."""
    notes: list[str] = field(default_factory=list)
    """What the user should know."""


def check_way(name: str) -> Way:
    """Give the name of a way to combine back if there is such a one.

    Parameters
    ----------
    name
        One of `WAYS`.

    Raises
    ------
    ConfigError
        If there is no such way.
    """
    if name not in WAYS:
        raise ConfigError(f"there is no ensemble '{name}'", hint=did_you_mean(name, WAYS))
    return cast("Way", name)


def combine(scores: npt.ArrayLike, way: Way = "mean", *, names: Sequence[str] = ()) -> Combined:
    """Make one score of several models' scores of the same variants.

    A variant has one only if every member scored it. Under ``z`` and ``rank`` it depends on which variants
    are scored together: each member is standardised (population standard deviation) or ranked (ties at their
    average) over those that all members scored. A member that scores all of them alike says nothing: it adds
    0 under ``z`` and 0.5 under ``rank``.

    Parameters
    ----------
    scores
        Shape (models, variants), higher = fitter; NaN where a model has no score.
    way
        One of `WAYS`.
    names
        Of the models, for notes; their numbers from 1 where not given.

    Returns
    -------
    Combined
        In the unit of the scores under ``mean``, in standard deviations under ``z``, from 0 to 1 under
        ``rank``.

    Raises
    ------
    DataError
        If `scores` is not a table with at least one model.

    Examples
    --------
    >>> combine([[0.0, -1.0, -2.0], [0.0, -4.0, -2.0]]).scores.tolist()
    [0.0, -2.5, -2.0]
    >>> combine([[0.0, -1.0, -2.0], [0.0, -4.0, -2.0]], "rank").scores.tolist()
    [1.0, 0.25, 0.25]
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise DataError(f"scores have shape {table.shape}", hint="give one row per model, at least one")
    names = names or [f"model {number}" for number in range(1, len(table) + 1)]
    has_all = np.all(np.isfinite(table), axis=0)
    known = table[:, has_all]
    combined = np.full(table.shape[1], np.nan)
    combined[has_all] = {"mean": _mean, "z": _mean_of_standardised, "rank": _mean_rank}[check_way(way)](known)
    notes = []
    if without := int((~has_all).sum()):
        notes.append(
            f"{without:,} of {len(has_all):,} variants have no ensemble score: not every member scored them"
        )
    if way != "mean" and known.shape[1] > 1:
        notes += [
            f"'{name}' scores all {known.shape[1]:,} variants alike and tells none from another"
            for name, is_flat in zip(names, _is_constant(known), strict=True)
            if is_flat
        ]
    return Combined(combined, notes)


def _mean(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=0)


def _mean_of_standardised(scores: np.ndarray) -> np.ndarray:
    if not scores.shape[1]:
        return _mean(scores)
    centred = scores - scores.mean(axis=1, keepdims=True)
    deviation = scores.std(axis=1, keepdims=True)
    # not by the deviation, which rounding keeps from being 0
    flat = _is_constant(scores)[:, None]
    return _mean(np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation)))


def _mean_rank(scores: np.ndarray) -> np.ndarray:
    count = scores.shape[1]
    if count < 2:
        return np.full(count, 0.5)
    # sums of halves are exact, so that equal sums stay equal; scaled shares of them would not
    return (rankdata(scores, axis=1).sum(axis=0) / len(scores) - 1) / (count - 1)


def _is_constant(scores: np.ndarray) -> np.ndarray:
    return scores.min(axis=1, initial=np.inf) >= scores.max(axis=1, initial=-np.inf)


__all__ = ["WAYS", "Combined", "Way", "check_way", "combine"]
