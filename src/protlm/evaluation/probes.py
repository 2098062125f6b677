"""Linear probes on fixed features: what a frozen encoder knows, judged on folds it was not fitted to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.learners import (
    FEW_STRENGTHS,
    LARGE,
    STRENGTHS,
    Features,
    fit_path,
    loss,
    num_numbers,
)
from protlm.types.target import Kind


@dataclass(frozen=True)
class Rounds:
    """Which folds are predicted, and which choose the strength of the penalty for each of them."""

    tested: tuple[int, ...]
    """Each is predicted by a fit on all other folds."""
    validated: dict[int, tuple[int, ...]]
    """By tested fold, those of the other folds that are left out in turn to choose the strength."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The two folds that a fit for the choice leaves out; one fit serves either for the other."""
        return sorted({(min(a, b), max(a, b)) for a, others in self.validated.items() for b in others})

    def __len__(self) -> int:
        return len(self.pairs) + len(self.tested)


def all_rounds(folds: np.ndarray, *, tested: int | None = None, inner: str = "all") -> Rounds:
    """Predict every fold, or the first `tested`; each other fold, or the next one, chooses the strength.

    Parameters
    ----------
    folds
        Whole numbers, ``[n]``.
    tested
        How many folds are predicted; all, if not given.
    inner
        ``all`` or ``next``.

    Examples
    --------
    >>> all_rounds(np.array([0, 1, 2]), inner="next").pairs
    [(0, 1), (0, 2), (1, 2)]
    """
    names = np.unique(folds).tolist()
    chosen = tuple(names[:tested])
    if len(names) < 3:
        return Rounds(chosen, dict.fromkeys(chosen, ()))
    if inner == "all":
        return Rounds(chosen, {name: tuple(each for each in names if each != name) for name in chosen})
    following = {name: names[(place + 1) % len(names)] for place, name in enumerate(names)}
    return Rounds(chosen, {name: (following[name],) for name in chosen})


@dataclass(frozen=True)
class OutOfFold:
    """What a probe says of each row when it was fitted without that row's fold."""

    outputs: np.ndarray
    """Chance of the positive class, or a number, ``[n]``; chances of several, ``[n, classes]``. NaN in folds
    that are not predicted."""
    strengths: tuple[float, ...]
    """The C that the inner folds chose, by tested fold."""
    num_unconverged: int
    """Fits that reached the most iterations."""


def out_of_fold(
    features: Features,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    kind: Kind = "binary",
    num_classes: int = 2,
    rounds: Rounds | None = None,
    strengths: Sequence[float] | None = None,
    on_fit: Callable[[], None] | None = None,
) -> OutOfFold:
    """Fit a linear model on all folds but one and apply it to that one, for every fold that is predicted.

    Dense features are standardised by the training rows. The strength of the penalty is chosen per outer fold
    by the loss on other folds, each left out in turn: the inner folds are the outer ones, so what the
    split keeps apart (a clonotype, a chain that is once native and once shuffled) is kept apart there too.

    Parameters
    ----------
    features
        ``[n, d]``, dense or sparse.
    labels
        One per row, as in `protlm.statistics.predictions.Judgement`.
    folds
        Whole numbers, ``[n]``; at least 2 different ones. With 2 there is no inner fold, and the middle one
        of `strengths` is taken.
    kind
        Of the target: logistic, multinomial or ridge regression.
    num_classes
        Of several classes or labels.
    rounds
        Which folds are predicted and chosen by; each by all others, if not given.
    strengths
        Values of C to choose from, ascending; fewer by default where there is much to fit.
    on_fit
        Called after each path of fits; there are ``len(rounds)``.

    Raises
    ------
    DataError
        If there are fewer than two folds, or the training rows of one have a single class.

    Examples
    --------
    >>> features = np.array([[0.0], [1.0], [0.1], [0.9], [0.2], [1.1]])
    >>> found = out_of_fold(features, np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2]))
    >>> (found.outputs > 0.5).astype(int).tolist()
    [0, 1, 0, 1, 0, 1]
    """
    if len(np.unique(folds)) < 2:
        raise DataError("a probe needs at least 2 folds", hint="split into more")
    labels = np.asarray(labels).astype(bool) if kind == "binary" else np.asarray(labels)
    rounds = rounds or all_rounds(folds)
    is_large = num_numbers(features) > LARGE
    if strengths is None:
        strengths = FEW_STRENGTHS if is_large else STRENGTHS
    if not is_large and isinstance(features, np.ndarray):
        features = features.astype(np.float64)
    losses = {name: np.zeros(len(strengths)) for name in rounds.tested}
    unconverged = 0
    for first, second in rounds.pairs:  # fitted once, it validates either fold for the other
        inside = (folds != first) & (folds != second)
        path = fit_path(
            kind, features[inside], labels[inside], strengths, f"folds {first} and {second}", num_classes
        )
        unconverged += path.num_unconverged
        for held_out, validated in ((first, second), (second, first)):
            if validated in rounds.validated.get(held_out, ()):
                rows = folds == validated
                for place, outputs in enumerate(path.outputs(features[rows])):
                    losses[held_out][place] += loss(kind, outputs, labels[rows])
        if on_fit is not None:
            on_fit()
    shape = (len(folds), num_classes) if kind in ("classes", "labels") else (len(folds),)
    results = np.full(shape, np.nan)
    chosen = []
    for name in rounds.tested:
        best = int(losses[name].argmin()) if rounds.validated[name] else len(strengths) // 2
        inside = folds != name
        path = fit_path(
            kind, features[inside], labels[inside], strengths[best : best + 1], f"fold {name}", num_classes
        )
        unconverged += path.num_unconverged
        rows = folds == name
        results[rows] = path.outputs(features[rows])[0]
        chosen.append(float(strengths[best]))
        if on_fit is not None:
            on_fit()
    return OutOfFold(results, tuple(chosen), unconverged)


def majority(
    labels: np.ndarray, folds: np.ndarray, *, kind: Kind = "binary", rounds: Rounds | None = None
) -> np.ndarray:
    """Give every row of a fold what is most frequent in the other folds, or their mean.

    Parameters
    ----------
    labels
        One per row.
    folds
        Whole numbers, ``[n]``.
    kind
        ``binary`` gives 1 or 0, 1 where equal; ``classes`` the number of a class, the first where equal;
        ``labels`` the share of each; ``value`` the mean.
    rounds
        Which folds are predicted; all, if not given. The others are NaN.
    """
    labels = np.asarray(labels)
    calls = np.full(labels.shape, np.nan)
    for name in (rounds or all_rounds(folds)).tested:
        inside = labels[folds != name]
        if kind == "binary":
            calls[folds == name] = float(inside.astype(bool).mean() >= 0.5)
        elif kind == "classes":
            names, counts = np.unique(inside, return_counts=True)
            calls[folds == name] = float(names[counts.argmax()])
        else:
            calls[folds == name] = inside.mean(axis=0)
    return calls
