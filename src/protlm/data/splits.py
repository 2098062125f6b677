"""Splits by group: a clonotype, donor or cluster is never on both sides."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from protlm.errors import DataError
from protlm.types.record import Record

Values = Sequence[Sequence[str]]
"""Under one key, the values that each record has: one clonotype, two chains, none."""


def is_held_out(record: Record, share: float, *, seed: int = 0) -> bool:
    """Decide by a hash of the record's group whether it is held out.

    The answer depends on nothing but group, share and seed: not on the order or the other records. A
    record without a group is its own, by its residues.

    Parameters
    ----------
    record
        With or without a group.
    share
        Expected share of groups that are held out, in [0, 1].
    seed
        Another seed gives another split.

    Examples
    --------
    >>> from protlm.types.record import Chain
    >>> pair = [Record(name, (Chain("MK"),), group="IGHV1-2|ARDY") for name in "ab"]
    >>> is_held_out(pair[0], 0.5) == is_held_out(pair[1], 0.5)
    True
    """
    group = record.group or "|".join(chain.residues for chain in record.chains)
    return text_hash(seed, group) / 2**64 < share


@dataclass(frozen=True)
class Groups:
    """Which records must stay together."""

    codes: np.ndarray
    """Group of each record, 0-based, int64 ``[n]``."""
    names: tuple[str, ...]
    """A name for each group that depends on its members alone, not on the order of the records."""

    @property
    def sizes(self) -> np.ndarray:
        """Records per group, int64."""
        return np.bincount(self.codes, minlength=len(self.names))


def connected_groups(*keys: Values, names: Sequence[str]) -> Groups:
    """Put records into one group that share a value under any key, directly or through others.

    Parameters
    ----------
    *keys
        For each key, the values of each record. Empty values link nothing.
    names
        A name for each record, all different; a group is named after the first of its records by
        name.

    Returns
    -------
    Groups
        The connected components.

    Raises
    ------
    DataError
        If a key has not one entry per record.

    Examples
    --------
    The first two share a clonotype, the last two a light chain:

    >>> groups = connected_groups([["c1"], ["c1"], [""]], [["L1"], ["L2"], ["L2"]], names=["a", "b", "c"])
    >>> groups.codes.tolist(), groups.names
    ([0, 0, 0], ('a',))
    """
    count = len(names)
    rows: list[int] = []
    nodes: list[int] = []
    number_of: dict[tuple[int, str], int] = {}
    for key, values in enumerate(keys):
        if len(values) != count:
            raise DataError(f"a key has values for {len(values):,} records, not for {count:,}")
        for row, own in enumerate(values):
            for value in own:
                if value:
                    rows.append(row)
                    nodes.append(count + number_of.setdefault((key, value), len(number_of)))
    size = count + len(number_of)
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, nodes)), shape=(size, size))
    codes = connected_components(links, directed=False)[1][:count]
    first: dict[int, str] = {}
    for code, name in zip(codes.tolist(), names, strict=True):
        first[code] = min(first.get(code, name), name)
    order = {code: place for place, code in enumerate(sorted(first, key=lambda each: first[each]))}
    return Groups(
        np.array([order[code] for code in codes.tolist()], dtype=np.int64), tuple(sorted(first.values()))
    )


def group_names(values: Iterable[Any]) -> list[str | None]:
    """Read the groups that a column names; empty, NaN and missing values name none.

    Parameters
    ----------
    values
        Of any type.

    Examples
    --------
    >>> group_names(["a", "", None, 0.0, float("nan")])
    ['a', None, None, '0.0', None]
    """
    return [None if _is_missing(value) else str(value) for value in values]


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def cluster_groups(clusters: np.ndarray, chains_per_record: np.ndarray, *, names: Sequence[str]) -> Groups:
    """Put records into one group that have chains of one cluster, directly or through others.

    Pairs of proteins link their clusters, so of a dense network nearly all records are one group; hold out
    clusters and leave out the pairs that straddle instead, as `protlm prepare --holdout` does.

    Parameters
    ----------
    clusters
        Cluster of each chain, record by record, int64; see `protlm.data.clusters.cluster_sequences`.
    chains_per_record
        int64 ``[n]``.
    names
        A name for each record, all different.

    Examples
    --------
    >>> cluster_groups(np.array([3, 5, 5, 8]), np.array([2, 1, 1]), names=["ab", "c", "d"]).codes.tolist()
    [0, 0, 1]
    """
    stops = np.cumsum(chains_per_record)
    texts = [str(cluster) for cluster in clusters.tolist()]
    values = [
        texts[stop - count : stop]
        for stop, count in zip(stops.tolist(), chains_per_record.tolist(), strict=True)
    ]
    return connected_groups(values, names=names)


def assign_folds(
    groups: Groups, shares: Sequence[float], *, strata: Sequence[str] | None = None, seed: int = 0
) -> np.ndarray:
    r"""Give each record a fold so that no group is in two and the folds have their shares of records.

    Groups are placed from the largest to the smallest, equal ones in an order drawn by hash, each where

    .. math:: S \frac{n_f^2}{w_f N} + \sum_s \frac{n_{fs}^2}{w_f N_s}

    grows least, with :math:`n_f` the records of fold :math:`f`, :math:`w_f` its share, :math:`n_{fs}` those
    of stratum :math:`s`, :math:`N` and :math:`N_s` all records and all of the stratum, and :math:`S` the
    number of strata. Without strata that is the emptiest fold for its share. A fold that stays empty, because
    its share is less than half of a group, then gets the smallest group of a fold with several.

    Parameters
    ----------
    groups
        What must stay together.
    shares
        Of each fold, above 0, with sum 1.
    strata
        A label per record whose shares should be alike in all folds.
    seed
        Another seed gives another split.

    Returns
    -------
    numpy.ndarray
        Fold of each record, 0-based, int64.

    Raises
    ------
    DataError
        If there are fewer groups than folds.

    Examples
    --------
    >>> groups = connected_groups(names=["a", "b", "c", "d"])
    >>> sorted(assign_folds(groups, [0.5, 0.5]).tolist())
    [0, 0, 1, 1]
    """
    weights = np.asarray(shares, dtype=np.float64)
    if (weights <= 0).any() or abs(weights.sum() - 1) > 1e-9:
        raise DataError(
            f"the shares of the folds are {list(shares)}", hint="expected shares above 0 with sum 1"
        )
    if len(groups.names) < len(weights):
        raise DataError(
            f"{len(groups.names):,} groups cannot fill {len(weights)} folds",
            hint="split by fewer or narrower keys, or into fewer folds",
        )
    counts = _counts_by_stratum(groups, strata)
    importance = np.ones(counts.shape[1])
    importance[0] = max(1, counts.shape[1] - 1)
    hashes = [text_hash(seed, name) for name in groups.names]
    sizes = groups.sizes
    order = sorted(range(len(sizes)), key=lambda code: (-sizes[code], hashes[code]))
    totals = counts.sum(axis=0)
    filled = np.zeros((len(weights), counts.shape[1]))
    fold_of_group = np.zeros(len(sizes), dtype=np.int64)
    for code in order:
        added = counts[code]
        growth = (importance * (2 * filled + added) * added / totals).sum(axis=1) / weights
        fold = int(growth.argmin())
        fold_of_group[code] = fold
        filled[fold] += added
    _fill_empty(fold_of_group, order, len(weights))
    return fold_of_group[groups.codes]


def _fill_empty(fold_of_group: np.ndarray, order: Sequence[int], num_folds: int) -> None:
    """Move to each empty fold the last group by `order` that is not alone in its fold, in place."""
    for fold in range(num_folds):
        num_groups = np.bincount(fold_of_group, minlength=num_folds)
        if not num_groups[fold]:
            code = next(code for code in reversed(order) if num_groups[fold_of_group[code]] > 1)
            fold_of_group[code] = fold


def random_groups(names: Sequence[str]) -> Groups:
    """Make each record a group of its own, for splits at random.

    Parameters
    ----------
    names
        A name for each record, all different.
    """
    return connected_groups(names=names)


def _counts_by_stratum(groups: Groups, strata: Sequence[str] | None) -> np.ndarray:
    """Give records by group: all of them, then those of each stratum; float64."""
    sizes = groups.sizes.astype(np.float64)[:, None]
    if strata is None:
        return sizes
    names, stratum = np.unique(np.asarray(strata, dtype=np.str_), return_inverse=True)
    counts = np.zeros((len(groups.names), len(names)))
    np.add.at(counts, (groups.codes, stratum.reshape(-1)), 1)
    return np.concatenate([sizes, counts], axis=1)


def text_hash(seed: int, text: str) -> int:
    """Give a number below 2⁶⁴ that depends on nothing but seed and text.

    Parameters
    ----------
    seed
        Another seed gives another number.
    text
        Any.
    """
    digest = hashlib.blake2b(f"{seed}\x1f{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
