"""Baselines that look up training rows: the nearest ones, and how often a chain is positive."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from protlm.evaluation.pair_features import distinct_chains
from protlm.evaluation.probes import Rounds
from protlm.evaluation.trivial import chain_kmers
from protlm.types.record import Record
from protlm.types.target import Kind

NEIGHBOURS = 5
"""How many of the nearest training rows vote, each with its likeness."""
_CELLS_PER_CHUNK = 1 << 22


class Likeness:
    """How alike records are, chain by chain.

    Chains of one length everywhere are compared place by place: the share of equal residues. Others by the
    words of three residues that they share (cosine of square-rooted counts), which needs no alignment and
    falls with identity. A pair is as alike as its chains on average; without roles, in the better order.

    Parameters
    ----------
    records
        With the same number of chains each.
    is_ordered
        Whether the chains of a pair have roles.
    """

    def __init__(self, records: Sequence[Record], *, is_ordered: bool) -> None:
        chains, self.rows = distinct_chains(records)
        self.is_ordered = is_ordered or self.rows.shape[1] != 2
        self.letters: np.ndarray | None = None
        if len({len(chain) for chain in chains}) == 1:
            text = "".join(chain.residues for chain in chains).encode()
            self.letters = np.frombuffer(text, dtype=np.uint8).reshape(len(chains), -1)
        else:
            words = chain_kmers(chains)[:, 420:]  # those of three residues
            norms = np.sqrt(words.multiply(words).sum(axis=1))
            self.words = sparse.csr_array(sparse.diags_array(1 / np.maximum(norms, 1e-9)) @ words)

    def of(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Compare rows of records, ``[first, second]``.

        Parameters
        ----------
        first, second
            Indices of records.
        """
        slots = range(self.rows.shape[1])
        straight = self._mean([(first, slot, second, slot) for slot in slots])
        if self.is_ordered:
            return straight
        return np.maximum(straight, self._mean([(first, slot, second, 1 - slot) for slot in slots]))

    def _mean(self, sides: Sequence[tuple[np.ndarray, int, np.ndarray, int]]) -> np.ndarray:
        total = 0
        for first, slot, second, other in sides:
            one, where = np.unique(self.rows[first, slot], return_inverse=True)
            two, there = np.unique(self.rows[second, other], return_inverse=True)
            total = total + self._chains(one, two)[where][:, there]
        return np.asarray(total, dtype=np.float32) / len(sides)

    def _chains(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        if self.letters is None:
            return np.asarray((self.words[one] @ self.words[two].T).todense(), dtype=np.float32)
        equal = np.zeros((len(one), len(two)), dtype=np.float32)
        for place in range(self.letters.shape[1]):
            equal += self.letters[one, place][:, None] == self.letters[two, place][None]
        return equal / self.letters.shape[1]


def nearest(
    records: Sequence[Record],
    rows: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    rounds: Rounds,
    kind: Kind,
    *,
    is_ordered: bool,
    on_fit: Callable[[], None] | None = None,
) -> np.ndarray:
    """Let the nearest rows of the other folds vote, each with its likeness.

    Parameters
    ----------
    records
        All of them.
    rows
        Which are judged, as indices into `records`.
    labels, folds
        Of each row.
    rounds
        Which folds are predicted.
    kind
        Of the target; of several classes the number of the class with most votes is given.
    is_ordered
        Whether the chains of a pair have roles.
    on_fit
        Called after each fold.
    """
    likeness = Likeness(records, is_ordered=is_ordered)
    values = np.asarray(labels)
    votes = np.eye(int(values.max()) + 1)[values.astype(int)] if kind == "classes" else values.astype(float)
    votes = votes if votes.ndim == 2 else votes[:, None]
    results = np.full((len(rows), votes.shape[1]), np.nan)
    for name in rounds.tested:
        known, asked = np.flatnonzero(folds != name), np.flatnonzero(folds == name)
        step = max(1, _CELLS_PER_CHUNK // max(1, len(known)))
        count = min(NEIGHBOURS, len(known))
        for start in range(0, len(asked), step):
            part = asked[start : start + step]
            alike = likeness.of(rows[part], rows[known])
            best = np.argsort(-alike, axis=1, kind="stable")[:, :count]
            weights = np.take_along_axis(alike, best, axis=1) + 1e-6
            chosen = votes[known[best]]
            results[part] = (weights[:, :, None] * chosen).sum(axis=1) / weights.sum(axis=1)[:, None]
        if on_fit is not None:
            on_fit()
    if kind == "classes":
        is_there = ~np.isnan(results[:, 0])
        return np.where(is_there, np.nan_to_num(results).argmax(axis=1), np.nan)
    return results if kind == "labels" else results[:, 0]


def degree(
    records: Sequence[Record], rows: np.ndarray, labels: np.ndarray, folds: np.ndarray, rounds: Rounds
) -> np.ndarray:
    """Give the mean label of the training pairs that a chain is in, over the chains of a pair.

    A network's hubs are positive more often than not, whoever the partner is; so is a frequent epitope. What
    this alone tells is no knowledge of binding. Means are drawn to that of all training rows by one row.

    Parameters
    ----------
    records
        Pairs.
    rows
        Which are judged.
    labels, folds
        Of each row.
    rounds
        Which folds are predicted.
    """
    _, chains = distinct_chains(records)
    own, values = chains[rows], np.asarray(labels, dtype=np.float64)
    results = np.full(len(rows), np.nan)
    for name in rounds.tested:
        inside = folds != name
        mean, size = values[inside].mean(), int(chains.max()) + 1
        sums = counts = np.zeros(size)
        for slot in range(own.shape[1]):
            sums = sums + np.bincount(own[inside, slot], weights=values[inside], minlength=size)
            counts = counts + np.bincount(own[inside, slot], minlength=size)
        rates = (sums + mean) / (counts + 1)
        results[~inside & (folds == name)] = rates[own[folds == name]].mean(axis=1)
    return results
