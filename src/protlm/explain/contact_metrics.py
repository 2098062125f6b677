"""How well scores of residue pairs, or of residues, find the interface of a complex.

Shapes: ``m`` methods or heads, ``a`` residues of the antibody, ``b`` of the antigen, ``n`` items of a level.
"""

from dataclasses import dataclass

import numpy as np

from protlm.explain.complexes import Complex

PAIRS, ANTIBODY, ANTIGEN = "pairs", "antibody", "antigen"
LEVELS: tuple[str, ...] = (PAIRS, ANTIBODY, ANTIGEN)
"""What is judged: residue pairs against contacts, or residues of one side, by the sum over the other side,
against whether they touch at all."""
METRICS = ("auroc", "precision_l", "precision_half_l", "precision_k")
"""Area under the ROC curve; precision among the highest L, L/2 and K items. L is the residues of the shorter
partner, and there for pairs only; K is how many are true."""


@dataclass(frozen=True)
class Truth:
    """The items of one level of one complex that are judged."""

    labels: np.ndarray
    """bool, of the judged items."""
    is_judged: np.ndarray
    """bool ``[n]``, over all items."""
    cuts: tuple[int, ...]
    """How many highest items each precision of `METRICS` looks at; 0 where there is no such metric."""

    @property
    def base_rate(self) -> float:
        """Share of judged items that are true: the precision of chance."""
        return float(self.labels.mean())


def truth_of(one: Complex, level: str) -> Truth:
    """Give the truth of a level.

    Parameters
    ----------
    one
        A complex.
    level
        One of `LEVELS`.
    """
    if level == PAIRS:
        labels, judged = one.contacts.ravel(), one.is_known.ravel()
        labels = labels[judged]
        return Truth(labels, judged, (one.shorter, max(1, one.shorter // 2), int(labels.sum())))
    across = 1 if level == ANTIBODY else 0
    judged = np.asarray(one.is_known.any(axis=across))
    labels = np.asarray(one.contacts.any(axis=across))[judged]
    return Truth(labels, judged, (0, 0, int(labels.sum())))


def scores_of(block: np.ndarray, level: str) -> np.ndarray:
    """Give the scores of a level's items.

    Parameters
    ----------
    block
        Of residue pairs, ``[m, a, b]``.
    level
        One of `LEVELS`.

    Returns
    -------
    numpy.ndarray
        ``[m, n]``.
    """
    if level == PAIRS:
        return block.reshape(len(block), -1)
    return block.sum(axis=2 if level == ANTIBODY else 1)


def judge(scores: np.ndarray, truth: Truth) -> np.ndarray:
    """Give the metrics of each row of scores.

    Parameters
    ----------
    scores
        ``[m, n]``; higher means more likely true. Equal scores have no order: an area counts them half, a
        precision takes their mean.
    truth
        Of the same level.

    Returns
    -------
    numpy.ndarray
        float64 ``[m, 4]`` in the order of `METRICS`; NaN where a metric is undefined.
    """
    judged = scores[:, truth.is_judged]
    found = np.full((len(scores), len(METRICS)), np.nan)
    for row, values in enumerate(judged):
        found[row, 0] = _area(values, truth.labels)
        for place, cut in enumerate(truth.cuts, start=1):
            if cut:
                found[row, place] = precision_at(values, truth.labels, cut)
    return found


def _area(values: np.ndarray, labels: np.ndarray) -> float:
    positive, negative = values[labels], np.sort(values[~labels])
    if not len(positive) or not len(negative):
        return np.nan
    below = np.searchsorted(negative, positive, side="left")
    equal = np.searchsorted(negative, positive, side="right") - below
    return float((below + equal / 2).mean() / len(negative))


def precision_at(values: np.ndarray, labels: np.ndarray, cut: int) -> float:
    """Give the share of true items among the `cut` highest ones.

    Parameters
    ----------
    values, labels
        ``[n]``.
    cut
        At least 1; no more than there are items are taken.

    Returns
    -------
    float
        Where equal values lie across the cut, the mean over all ways to take them.

    Examples
    --------
    >>> precision_at(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]), 2)
    0.75
    """
    cut = min(cut, len(values))
    least = np.partition(values, len(values) - cut)[len(values) - cut]
    above, level = values > least, values == least
    taken = labels[above].sum() + (cut - above.sum()) * labels[level].mean()
    return float(taken / cut)
