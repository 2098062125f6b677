"""Retrieval: at which place the item that belongs to a query comes, with ties counted fairly.

A score that is the same for all items says nothing, and here gets exactly chance: where items tie, each
number is the mean over every order of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protlm.errors import DataError
from protlm.statistics.metrics import as_floats

RECALLS = (1, 3, 5, 10)
"""Numbers of first places that are looked at."""
METRICS = (*(f"recall_{count}" for count in RECALLS), "mrr")
"""Names of the columns of `Ranks.values`: R@1, R@3, R@5, R@10 and the mean reciprocal rank."""


@dataclass(frozen=True)
class Ranks:
    """Of each query, what stands before its best relevant item, int64 ``[queries]`` each."""

    above: np.ndarray
    """Items that do not belong to it and score higher than its best relevant item."""
    tied: np.ndarray
    """Items that do not belong to it and score the same."""
    relevant_tied: np.ndarray
    """Relevant items with that score, at least 1."""
    size: np.ndarray
    """Items of its gallery."""

    def __len__(self) -> int:
        return len(self.above)

    def take(self, rows: np.ndarray) -> "Ranks":
        """Keep some queries.

        Parameters
        ----------
        rows
            0-based, or bool.
        """
        return Ranks(self.above[rows], self.tied[rows], self.relevant_tied[rows], self.size[rows])

    @property
    def rank(self) -> np.ndarray:
        """Expected 1-based rank of the first relevant item, float64 ``[queries]``."""
        return self.above + 1 + self.tied / (self.relevant_tied + 1)

    def hits(self, count: int) -> np.ndarray:
        """Give the chance that a relevant item is among the first `count`, float64 ``[queries]``.

        Parameters
        ----------
        count
            At least 1.
        """
        return _over_ties(self, lambda above, first: float(first[: max(0, count - above)].sum()))

    @property
    def reciprocal(self) -> np.ndarray:
        """Expected reciprocal of the rank, float64 ``[queries]``."""
        return _over_ties(
            self, lambda above, first: float((first / (above + 1 + np.arange(len(first)))).sum())
        )

    @property
    def values(self) -> np.ndarray:
        """The `METRICS` of each query, float64 ``[queries, metrics]``; their means are the metrics."""
        return np.stack([*(self.hits(count) for count in RECALLS), self.reciprocal], axis=1)


def rank_relevant(
    similarity: npt.ArrayLike, relevant: npt.ArrayLike, candidates: npt.ArrayLike | None = None
) -> Ranks:
    """Rank the items of a gallery for each query.

    Parameters
    ----------
    similarity
        Shape (queries, items), finite; higher comes first.
    relevant
        bool, of the same shape: which items belong to a query, at least one each.
    candidates
        bool, of the same shape: which items a query chooses from, its relevant ones among them; all by
        default.

    Raises
    ------
    DataError
        If the shapes differ, a score is not finite, or a query has no relevant item to choose.

    Examples
    --------
    The item of the second query ties with one other:

    >>> ranks = rank_relevant([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1]], [[1, 0, 0], [0, 1, 0]])
    >>> ranks.rank.tolist(), ranks.hits(1).tolist()
    ([1.0, 1.5], [1.0, 0.5])
    """
    scores = as_floats("similarity", similarity, finite=True)
    belongs = np.asarray(relevant, dtype=bool)
    chosen = np.ones(scores.shape, dtype=bool) if candidates is None else np.asarray(candidates, dtype=bool)
    if scores.ndim != 2 or belongs.shape != scores.shape or chosen.shape != scores.shape:
        raise DataError(
            f"similarity has shape {scores.shape}, relevant {belongs.shape}, candidates {chosen.shape}",
            hint="all three need one row per query and one column per item",
        )
    belongs = belongs & chosen
    if not belongs.any(axis=1).all():
        query = int(np.flatnonzero(~belongs.any(axis=1))[0])
        raise DataError(
            f"query {query + 1} of {len(scores)} has no relevant item in its gallery",
            hint="leave it out, and count it",
        )
    best = np.where(belongs, scores, -np.inf).max(axis=1, keepdims=True)
    others = chosen & ~belongs
    return Ranks(
        (others & (scores > best)).sum(axis=1),
        (others & (scores == best)).sum(axis=1),
        (belongs & (scores == best)).sum(axis=1),
        chosen.sum(axis=1),
    )


def chance_ranks(relevant: npt.ArrayLike, candidates: npt.ArrayLike | None = None) -> Ranks:
    """Give the ranks of scores that say nothing, which is chance.

    Parameters
    ----------
    relevant, candidates
        As for `rank_relevant`.

    Examples
    --------
    >>> chance_ranks(np.eye(32, dtype=bool)).hits(1).mean()
    np.float64(0.03125)
    """
    belongs = np.asarray(relevant, dtype=bool)
    return rank_relevant(np.zeros(belongs.shape), belongs, candidates)


def ceiling_ranks(*codes: npt.ArrayLike, candidates: npt.ArrayLike | None = None) -> Ranks:
    """Give the ranks of one who knows everything but cannot tell alike items apart.

    Item i belongs to query i, and to no other.

    Parameters
    ----------
    *codes
        Of each pair, shape (pairs,): equal where two look the same, such as a code per distinct sequence and
        one per distinct structure. What is alike in any of them cannot be told apart.
    candidates
        As for `rank_relevant`.

    Examples
    --------
    Two of three have one sequence:

    >>> ceiling_ranks(np.array([0, 0, 1])).hits(1).tolist()
    [0.5, 0.5, 1.0]
    """
    columns = [np.asarray(code) for code in codes]
    alike = np.zeros((len(columns[0]), len(columns[0])), dtype=bool)
    for column in columns:
        alike |= column[:, None] == column[None]
    return rank_relevant(alike.astype(np.float64), np.eye(len(alike), dtype=bool), candidates)


def _over_ties(ranks: Ranks, read: Callable[[int, np.ndarray], float]) -> np.ndarray:
    """Read something of each query from the chances of the first relevant item among those that tie."""
    keys = np.stack([ranks.above, ranks.tied, ranks.relevant_tied], axis=1)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    known: dict[tuple[int, int], np.ndarray] = {}
    found = np.zeros(len(distinct))
    for row, (above, tied, relevant) in enumerate(distinct.tolist()):
        first = known.setdefault((tied, relevant), _first_among_ties(tied, relevant))
        found[row] = read(above, first)
    return found[which.reshape(-1)]


def _first_among_ties(tied: int, relevant: int) -> np.ndarray:
    """Give the chance of each 0-based place of the first of `relevant` items, shuffled with `tied` others."""
    later = np.arange(tied)  # others that came before
    stays = (tied - later) / (tied - later + relevant)  # that the next is again one of the others
    before = np.concatenate([[1.0], np.cumprod(stays)])
    return before - np.concatenate([before[1:], [0.0]])
