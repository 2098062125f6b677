"""What each query chooses from: everything, its own cluster, items that look alike, or a random few."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from protlm.data.hashing import combine
from protlm.evaluation.retrieval_baselines import composition_of
from protlm.evaluation.retrieval_pairs import Pairs

GalleryName = Literal["full", "all", "in-cluster", "hard-composition", "hard-length", "cropped", "sampled"]
GALLERIES: tuple[GalleryName, ...] = get_args(GalleryName)
CROPPED: tuple[GalleryName, ...] = ("cropped", "sampled")
"""Galleries of pairs cropped to one length; the others are whole."""
DESCRIPTIONS = {
    "full": "every distinct sequence",
    "all": "every pair, repeats among them",
    "in-cluster": "the pairs of the query's cluster",
    "hard-composition": "those nearest in amino-acid composition",
    "hard-length": "those nearest in length",
    "cropped": "every distinct sequence, cropped",
    "sampled": "drawn at random, cropped",
}
_SAMPLE_STREAM = 212


@dataclass(frozen=True)
class Gallery:
    """Queries and what each chooses from; the true item is on the diagonal."""

    name: str
    candidates: np.ndarray
    """bool ``[pairs, pairs]``; row i is what query i chooses from, in either direction."""
    queries: np.ndarray
    """Those that have something to choose from, 0-based."""


def build_gallery(name: GalleryName, pairs: Pairs, *, others: int = 31, seed: int = 0) -> Gallery:
    """Make a gallery over some pairs.

    Parameters
    ----------
    name
        Its kind.
    pairs
        Distinct ones, cropped ones for a kind of `CROPPED`.
    others
        Items beside the true one in ``sampled`` and ``hard-`` galleries; all others where there are no more.
    seed
        Of the sample. Which others a query gets is decided by a hash of its key and theirs, so that neither
        the order nor a further item changes more than the one place it takes.
    """
    count = len(pairs)
    own = np.eye(count, dtype=bool)
    if name == "in-cluster":
        candidates = pairs.clusters[:, None] == pairs.clusters[None]
    elif name.startswith("hard-"):
        candidates = _nearest(_distances(name, pairs), others, pairs.keys) | own
    elif name == "sampled":
        candidates = _sampled(pairs.keys, others, seed) | own
    else:
        candidates = np.ones((count, count), dtype=bool)
    return Gallery(name, candidates, np.flatnonzero(candidates.sum(axis=1) > 1))


def _distances(name: str, pairs: Pairs) -> np.ndarray:
    if name == "hard-length":
        return np.abs(pairs.lengths[:, None] - pairs.lengths[None]).astype(np.float64)
    shares = composition_of(pairs)[:, 0]
    norms = (shares**2).sum(axis=1)
    return norms[:, None] + norms[None] - 2 * shares @ shares.T


def _nearest(distances: np.ndarray, others: int, keys: np.ndarray) -> np.ndarray:
    """Take the nearest of each row but itself; equal ones by their keys."""
    np.fill_diagonal(distances, np.inf)
    order = np.lexsort((np.broadcast_to(keys, distances.shape), np.round(distances, 9)), axis=1)
    return _first(order, min(others, len(keys) - 1))


def _sampled(keys: np.ndarray, others: int, seed: int) -> np.ndarray:
    drawn = combine(seed, _SAMPLE_STREAM, keys[:, None], keys[None])
    np.fill_diagonal(drawn, np.iinfo(np.uint64).max)
    return _first(np.argsort(drawn, axis=1, kind="stable"), min(others, len(keys) - 1))


def _first(order: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(chosen, order[:, :count], values=True, axis=1)
    return chosen
