"""What can be said of labels without a model: majority or mean, length, composition, the residue alone."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protlm.types.alphabet import STANDARD
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, LabelledRecords, Target

_ROW_OF = np.full(256, len(STANDARD), dtype=np.int64)
_ROW_OF[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(len(STANDARD))

Baseline = Callable[[LabelledRecords, Sequence[Record]], list[np.ndarray]]
"""Training records, and records to predict: an array of probabilities or numbers for each of these."""


def label_baselines(target: Target) -> Mapping[str, Baseline]:
    """Give the baselines of a target by name.

    Parameters
    ----------
    target
        What is predicted.

    Returns
    -------
    mapping
        Predictions are as `Predictor.read` has them: ``[columns]``, or ``[residues, columns]``.
    """
    if target.level == "residue":
        return {"majority": _majority_of_residues, "residue": _by_residue}
    name = "mean" if target.kind == "value" else "majority"
    return {name: _majority, "length": _by(length_features), "composition": _by(composition_features)}


def length_features(records: Sequence[Record]) -> np.ndarray:
    """Give the logarithm of the length of each chain.

    Parameters
    ----------
    records
        With equally many chains.
    """
    return np.log([[len(chain) for chain in record.chains] for record in records])


def composition_features(records: Sequence[Record]) -> np.ndarray:
    """Give the shares of the twenty amino acids in each chain, and the logarithm of its length.

    Parameters
    ----------
    records
        With equally many chains.
    """
    shares = [
        np.concatenate(
            [np.bincount(_letters(chain.residues), minlength=21)[:20] / len(chain) for chain in each]
        )
        for each in (record.chains for record in records)
    ]
    return np.concatenate([np.stack(shares), length_features(records)], axis=1)


def _by(features: Callable[[Sequence[Record]], np.ndarray]) -> Baseline:
    def predict(train: LabelledRecords, records: Sequence[Record]) -> list[np.ndarray]:
        values, seen, asked = np.asarray(train.values), features(train.records), features(records)
        target = train.target
        if target.kind == "value":
            return list(_ridge(seen, values, asked)[:, None])
        if target.kind == "labels":
            columns = [_logistic(seen, column, asked, 2)[:, 1] for column in values.T.astype(np.int64)]
            return list(np.stack(columns, axis=1))
        return list(_logistic(seen, values, asked, len(target.classes)))

    return predict


def _logistic(seen: np.ndarray, values: np.ndarray, asked: np.ndarray, num_classes: int) -> np.ndarray:
    """Fit a regression of classes; those that are not there have a chance of 0."""
    found = np.zeros((len(asked), num_classes))
    classes = np.unique(values)
    if len(classes) == 1:
        found[:, classes[0]] = 1
        return found
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(seen, values)
    found[:, classes] = model.predict_proba(asked)
    return found


def _ridge(seen: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 4, 7)))
    return model.fit(seen, values).predict(asked)


def _majority(train: LabelledRecords, records: Sequence[Record]) -> list[np.ndarray]:
    return [_share(np.asarray(train.values), train.target)] * len(records)


def _share(values: np.ndarray, target: Target) -> np.ndarray:
    """Give the shares of classes or labels, or the mean of numbers, as a prediction."""
    if target.kind == "value":
        return np.array([np.nanmean(values)])
    if target.kind == "labels":
        return values.mean(axis=0)
    counts = np.bincount(values[values != UNLABELLED], minlength=len(target.classes))
    return counts / max(1, counts.sum())


def _majority_of_residues(train: LabelledRecords, records: Sequence[Record]) -> list[np.ndarray]:
    share = _share(np.concatenate(list(train.values)), train.target)
    return [np.tile(share, (len(record), 1)) for record in records]


def _by_residue(train: LabelledRecords, records: Sequence[Record]) -> list[np.ndarray]:
    values = np.concatenate(list(train.values))
    letters = np.concatenate([_letters_of(record) for record in train.records])
    overall = _share(values, train.target)
    is_known = ~np.isnan(values) if train.target.kind == "value" else values != UNLABELLED
    table = np.tile(overall, (len(STANDARD) + 1, 1))
    for row in range(len(table)):
        own = values[(letters == row) & is_known]
        if len(own):
            table[row] = _share(own, train.target)
    return [table[_letters_of(record)] for record in records]


def _letters_of(record: Record) -> np.ndarray:
    return np.concatenate([_letters(chain.residues) for chain in record.chains])


def _letters(residues: str) -> np.ndarray:
    return _ROW_OF[np.frombuffer(residues.encode(), dtype=np.uint8)]
