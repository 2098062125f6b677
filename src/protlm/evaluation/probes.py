"""Linear probes on fixed features: what a frozen encoder knows, judged on folds it was not fitted to."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from protlm.errors import DataError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths C of the L2 penalty that are tried, from strong to weak."""
_MAX_ITERATIONS = 500
_DECIMALS = 9
_WIDEST_FOR_NEWTON = 1024
"""Features up to which Newton steps are used: few, exact, but each costs rows × features²."""


@dataclass(frozen=True)
class OutOfFold:
    """What a probe says of each row when it was fitted without that row's fold."""

    probabilities: np.ndarray
    """Of the positive class, float64 ``[n]``."""
    strengths: tuple[float, ...]
    """The C that the inner folds chose, by outer fold."""
    num_unconverged: int
    """Fits that reached the most iterations."""


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    strengths: Sequence[float] = STRENGTHS,
    on_fit: Callable[[], None] | None = None,
) -> OutOfFold:
    """Fit a logistic regression on all folds but one and apply it to that one, for every fold.

    Features are standardised by the training rows. The strength of the penalty is chosen per outer fold by
    the log-loss on the other folds, each left out in turn: the inner folds are the outer ones, so what the
    split keeps apart (a clonotype, a chain that is once native and once shuffled) is kept apart there too.

    Parameters
    ----------
    features
        ``[n, d]``.
    labels
        0 or 1, ``[n]``.
    folds
        Whole numbers, ``[n]``; at least 2 different ones. With 2 there is no inner fold, and the middle one
        of `strengths` is taken.
    strengths
        Values of C to choose from, ascending.
    on_fit
        Called after each path of fits; there are as many as `num_paths` says.

    Raises
    ------
    DataError
        If there are fewer than two folds, or the training rows of one have a single class.

    Examples
    --------
    >>> features = np.array([[0.0], [1.0], [0.1], [0.9], [0.2], [1.1]])
    >>> found = out_of_fold(features, np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2]))
    >>> (found.probabilities > 0.5).astype(int).tolist()
    [0, 1, 0, 1, 0, 1]
    """
    names = np.unique(folds)
    if len(names) < 2:
        raise DataError("a probe needs at least 2 folds", hint="split into more")
    labels, features = np.asarray(labels).astype(bool), np.asarray(features, dtype=np.float64)
    losses = {name: np.zeros(len(strengths)) for name in names.tolist()}
    unconverged = 0
    pairs = list(combinations(names.tolist(), 2)) if len(names) > 2 else []
    for first, second in pairs:  # fitted once, it validates either fold for the other
        inside = (folds != first) & (folds != second)
        path = _path(features[inside], labels[inside], strengths, _what(first, second))
        unconverged += path.num_unconverged
        for held_out, validated in ((first, second), (second, first)):
            rows = folds == validated
            for place, chance in enumerate(path.probabilities(features[rows])):
                losses[held_out][place] += _log_loss(chance, labels[rows])
        if on_fit is not None:
            on_fit()
    probabilities = np.zeros(len(labels))
    chosen = []
    for name in names.tolist():
        best = int(losses[name].argmin()) if pairs else len(strengths) // 2
        inside = folds != name
        path = _path(features[inside], labels[inside], strengths[best : best + 1], _what(name))
        unconverged += path.num_unconverged
        probabilities[~inside] = path.probabilities(features[~inside])[0]
        chosen.append(float(strengths[best]))
        if on_fit is not None:
            on_fit()
    return OutOfFold(probabilities, tuple(chosen), unconverged)


def num_paths(num_folds: int) -> int:
    """Give how often `out_of_fold` reports a fit.

    Parameters
    ----------
    num_folds
        At least 2.
    """
    return num_folds + (num_folds * (num_folds - 1) // 2 if num_folds > 2 else 0)


def majority(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Give 1 or 0 for every row of a fold: the more frequent class of the other folds, 1 where equal.

    Parameters
    ----------
    labels
        0 or 1, ``[n]``.
    folds
        Whole numbers, ``[n]``.
    """
    labels = np.asarray(labels).astype(bool)
    calls = np.zeros(len(labels))
    for name in np.unique(folds):
        inside = folds != name
        calls[~inside] = float(labels[inside].mean() >= 0.5)
    return calls


@dataclass(frozen=True)
class _Path:
    """Fitted coefficients for each strength, with the standardisation they need."""

    scaler: StandardScaler
    coefficients: np.ndarray
    intercepts: np.ndarray
    num_unconverged: int

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Give ``[strengths, n]``."""
        scaled = np.asarray(self.scaler.transform(features))
        logits = self.coefficients @ scaled.T + self.intercepts[:, None]
        # where features say nothing, coefficients are rounding errors: rows then tie, they have no order
        return np.round(1 / (1 + np.exp(-np.clip(logits, -500, 500))), _DECIMALS)


def _path(features: np.ndarray, labels: np.ndarray, strengths: Sequence[float], what: str) -> _Path:
    """Fit one model per strength, each starting where the one before ended."""
    if labels.all() or not labels.any():
        raise DataError(
            f"outside {what} there are only {'positive' if labels.all() else 'negative'} rows to train on",
            hint="split into fewer folds, or stratify by the label",
        )
    scaler = StandardScaler().fit(features)
    scaled = np.asarray(scaler.transform(features))
    solver = "newton-cholesky" if scaled.shape[1] <= _WIDEST_FOR_NEWTON else "lbfgs"
    model = LogisticRegression(solver=solver, max_iter=_MAX_ITERATIONS, warm_start=True)
    coefficients, intercepts, unconverged = [], [], 0
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
            model.fit(scaled, labels)
        unconverged += int(model.n_iter_.max() >= _MAX_ITERATIONS)
        coefficients.append(model.coef_[0].copy())
        intercepts.append(float(np.asarray(model.intercept_)[0]))
    return _Path(scaler, np.stack(coefficients), np.array(intercepts), unconverged)


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    chance = np.where(labels, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(chance, 1e-15)).sum())


def _what(*folds: int) -> str:
    return f"fold {folds[0]}" if len(folds) == 1 else f"folds {folds[0]} and {folds[1]}"
