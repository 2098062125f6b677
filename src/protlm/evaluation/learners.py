"""Linear models on fixed features, one per strength of the penalty, for each kind of target."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from protlm.errors import DataError
from protlm.types.target import Kind

Features = Any
"""``[n, d]``, an array or a sparse matrix in rows."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths C of the L2 penalty that are tried, from strong to weak; of ridge it is 1 / C."""
FEW_STRENGTHS = (1e-4, 1e-2, 1.0)
"""Those that are tried where a fit has over `LARGE` numbers."""
LARGE = 20_000_000
_MAX_ITERATIONS = 500
_MAX_ITERATIONS_LARGE = 100
_DECIMALS = 9
_MOST_FOR_NEWTON = 2e9
"""Rows × features² up to which Newton steps are used: few, exact, but each costs that much."""


class Path(Protocol):
    """A fit for each strength."""

    num_unconverged: int

    def outputs(self, features: Features) -> np.ndarray:
        """Give chances or numbers, ``[strengths, n]`` or ``[strengths, n, classes]``."""
        ...


def num_numbers(features: Features) -> int:
    """Give how many numbers features hold, those that are zero in a sparse matrix not counted.

    Parameters
    ----------
    features
        Dense or sparse.
    """
    return int(features.nnz) if sparse.issparse(features) else int(np.prod(features.shape))


def fit_path(
    kind: Kind,
    features: Features,
    labels: np.ndarray,
    strengths: Sequence[float],
    what: str,
    num_classes: int,
) -> Path:
    """Fit one model per strength on standardised features; sparse ones are taken as they are.

    Parameters
    ----------
    kind
        Of the target.
    features, labels
        Of the training rows.
    strengths
        From strong to weak.
    what
        Which rows are left out, for the message.
    num_classes
        Columns of the outputs, of several classes or labels.

    Raises
    ------
    DataError
        If two classes are to be told apart and one is missing.
    """
    scaler = _Scaler(features)
    scaled = scaler(features)
    if kind == "value":
        return _RidgePath(scaler, scaled, labels.astype(np.float64), strengths)
    if kind == "labels":
        paths = [_ClassesPath(scaler, scaled, column.astype(np.int64), strengths, 2) for column in labels.T]
        return _LabelsPath(paths, sum(path.num_unconverged for path in paths))
    if kind == "classes":
        return _ClassesPath(scaler, scaled, labels.astype(np.int64), strengths, num_classes)
    if labels.all() or not labels.any():
        raise DataError(
            f"outside {what} there are only {'positive' if labels.all() else 'negative'} rows to train on",
            hint="split into fewer folds, or stratify by the label",
        )
    path = _ClassesPath(scaler, scaled, labels.astype(np.int64), strengths, 2)
    return _Positive(path, path.num_unconverged)


def loss(kind: Kind, outputs: np.ndarray, labels: np.ndarray) -> float:
    """Give the sum over rows of the log-loss, or of squared errors.

    Parameters
    ----------
    kind
        Of the target.
    outputs, labels
        Of some rows.
    """
    if kind == "value":
        return float(((outputs - labels) ** 2).sum())
    if kind == "classes":
        chance = outputs[np.arange(len(labels)), labels.astype(np.int64)]
    else:
        chance = np.where(labels.astype(bool), outputs, 1 - outputs)
    return float(-np.log(np.maximum(chance, 1e-15)).sum())


class _Scaler:
    """Standardises dense features by the training rows."""

    def __init__(self, features: Features) -> None:
        self.inner = None if sparse.issparse(features) else StandardScaler().fit(features)

    def __call__(self, features: Features) -> Features:
        return features if self.inner is None else np.asarray(self.inner.transform(features))


class _ClassesPath:
    """Logistic regressions, each starting where the one before ended."""

    def __init__(
        self, scaler: _Scaler, scaled: Features, labels: np.ndarray, strengths: Sequence[float], num: int
    ) -> None:
        self.scaler, self.num_classes, self.num_unconverged = scaler, num, 0
        self.there, codes = np.unique(labels, return_inverse=True)
        self.fits: list[tuple[np.ndarray, np.ndarray]] = []
        self.num_strengths = len(strengths)
        if len(self.there) == 1:
            return
        is_large = num_numbers(scaled) > LARGE
        is_newton = (
            not sparse.issparse(scaled)
            and len(self.there) == 2
            and scaled.shape[0] * scaled.shape[1] ** 2 <= _MOST_FOR_NEWTON
        )
        most = _MAX_ITERATIONS_LARGE if is_large else _MAX_ITERATIONS
        model = LogisticRegression(
            solver="newton-cholesky" if is_newton else "lbfgs",
            max_iter=most,
            warm_start=True,
            tol=1e-3 if is_large else 1e-4,
        )
        for strength in strengths:
            model.set_params(C=strength)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
                warnings.simplefilter("ignore", UserWarning)  # many classes are what some tasks have
                model.fit(scaled, codes)
            self.num_unconverged += int(model.n_iter_.max() >= most)
            self.fits.append((model.coef_.copy(), np.atleast_1d(model.intercept_).astype(np.float64)))

    def outputs(self, features: Features) -> np.ndarray:
        scaled = self.scaler(features)
        result = np.zeros((self.num_strengths, scaled.shape[0], self.num_classes))
        if not self.fits:
            result[:, :, self.there] = 1.0
        for place, (weights, intercepts) in enumerate(self.fits):
            logits = np.asarray(scaled @ weights.T) + intercepts
            if len(self.there) == 2:
                # where features say nothing, coefficients are rounding errors: rows then tie, in no order
                chance = np.round(1 / (1 + np.exp(-np.clip(logits[:, 0], -500, 500))), _DECIMALS)
                result[place][:, self.there] = np.stack([1 - chance, chance], axis=1)
            else:
                shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
                result[place][:, self.there] = shifted / shifted.sum(axis=1, keepdims=True)
        return result


@dataclass
class _Positive:
    path: _ClassesPath
    num_unconverged: int

    def outputs(self, features: Features) -> np.ndarray:
        return self.path.outputs(features)[:, :, 1]


@dataclass
class _LabelsPath:
    paths: Sequence[_ClassesPath]
    num_unconverged: int

    def outputs(self, features: Features) -> np.ndarray:
        return np.stack([path.outputs(features)[:, :, 1] for path in self.paths], axis=2)


class _RidgePath:
    """Ridge regressions with an intercept, solved exactly; sparse features by conjugate gradients.

    Labels are fitted in their standard deviation, so that rounding is not of their unit.
    """

    num_unconverged = 0

    def __init__(
        self, scaler: _Scaler, scaled: Features, labels: np.ndarray, strengths: Sequence[float]
    ) -> None:
        self.scaler, self.mean = scaler, float(labels.mean())
        spread = float(labels.std())
        self.unit = spread if spread > 1e-12 * abs(self.mean) else 1.0
        labels = (labels - self.mean) / self.unit
        if sparse.issparse(scaled):
            fits = [
                Ridge(alpha=1 / each, solver="sparse_cg", tol=1e-5).fit(scaled, labels) for each in strengths
            ]
            self.weights = np.stack([fit.coef_ for fit in fits])
            self.intercepts = np.array([float(fit.intercept_) for fit in fits])
        else:
            self.weights = _solve(np.asarray(scaled, dtype=np.float64), labels, strengths)
            self.intercepts = np.zeros(len(strengths))

    def outputs(self, features: Features) -> np.ndarray:
        found = np.asarray(self.scaler(features) @ self.weights.T).T + self.intercepts[:, None]
        return np.round(found, _DECIMALS) * self.unit + self.mean


def _solve(features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Solve the normal equations in the smaller of the two dimensions, ``[strengths, d]``."""
    is_wide = features.shape[1] > features.shape[0]
    product = features @ features.T if is_wide else features.T @ features
    target = labels if is_wide else features.T @ labels
    weights = []
    for strength in strengths:
        solved = cho_solve(cho_factor(product + np.eye(len(product)) / strength), target)
        weights.append(features.T @ solved if is_wide else solved)
    return np.stack(weights)
