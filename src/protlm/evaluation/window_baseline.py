"""The letters up to seven residues away as a baseline of residue labels: a multinomial regression."""

from collections.abc import Sequence

import numpy as np

from protlm.data.flat import record_key
from protlm.evaluation.learners import FEW_STRENGTHS, fit_path, loss
from protlm.evaluation.residue_features import window_features
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, LabelledRecords

MOST_RESIDUES = 60_000
"""Training residues of a fit; of more, so many records by the hash of their content as have them."""


def window_baseline(
    labelled: LabelledRecords,
    train: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    *,
    most: int = MOST_RESIDUES,
) -> dict[str, list[np.ndarray]]:
    """Predict residue labels from the letters of seven residues to either side.

    The strength of the penalty is that with the least loss on the validation records; the middle one of
    three where there are none, or where they are judged too.

    Parameters
    ----------
    labelled
        All records.
    train, valid, test
        Rows of them.
    most
        Training residues; see `MOST_RESIDUES`.

    Returns
    -------
    dict
        By name, ``window`` or with a cut ``window, N records``: chances ``[residues, classes]`` of each
        record of `test`. Empty where labels are no classes of residues, or training has one class.
    """
    target = labelled.target
    if target.level != "residue" or target.kind not in ("binary", "classes"):
        return {}
    rows = _cut(labelled.records, train, most)
    features, labels = _examples(labelled, rows)
    if len(np.unique(labels)) < 2:
        return {}
    num_classes = len(target.classes)
    path = fit_path("classes", features, labels, FEW_STRENGTHS, "the records to judge on", num_classes)
    best = len(FEW_STRENGTHS) // 2
    if len(valid) and not np.intersect1d(valid, test).size:
        seen, right = _examples(labelled, valid)
        if len(right):
            best = int(np.argmin([loss("classes", each, right) for each in path.outputs(seen)]))
    asked = [labelled.records[row] for row in test.tolist()]
    outputs = path.outputs(window_features(asked))[best]
    name = "window" if len(rows) == len(train) else f"window, {len(rows):,} records"
    return {name: np.split(outputs, np.cumsum([len(record) for record in asked])[:-1])}


def _examples(labelled: LabelledRecords, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give features and labels of the residues that have one."""
    features = window_features([labelled.records[row] for row in rows.tolist()])
    labels = np.concatenate([np.asarray(labelled.values[row]) for row in rows.tolist()])
    is_known = np.flatnonzero(labels != UNLABELLED)
    return features[is_known], labels[is_known].astype(np.int64)


def _cut(records: Sequence[Record], rows: np.ndarray, most: int) -> np.ndarray:
    sizes = np.array([len(records[row]) for row in rows.tolist()])
    if sizes.sum() <= most:
        return rows
    keys = np.array([record_key(records[row]) for row in rows.tolist()], dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")))
    return np.sort(rows[order[:count]])
