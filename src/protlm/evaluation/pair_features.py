"""From features of single chains to those of a record of chains."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from protlm.types.record import Chain, Record


def distinct_chains(records: Sequence[Record]) -> tuple[list[Chain], np.ndarray]:
    """Give each distinct chain once, and which of them the chains of each record are.

    Parameters
    ----------
    records
        With the same number of chains each.

    Returns
    -------
    list of Chain
        Chains that differ in residues or role.
    numpy.ndarray
        Indices into it, int64 ``[n, chains]``.
    """
    place: dict[tuple[str, int], int] = {}
    chains: list[Chain] = []
    rows = np.zeros((len(records), len(records[0].chains)), dtype=np.int64)
    for row, record in enumerate(records):
        for slot, chain in enumerate(record.chains):
            number = place.setdefault((chain.residues, int(chain.role)), len(chains))
            if number == len(chains):
                chains.append(chain)
            rows[row, slot] = number
    return chains, rows


def join_chains(features: Any, rows: np.ndarray, *, is_ordered: bool) -> Any:
    """Give the features of records from those of their chains, whether dense or sparse.

    A record of one chain has its own. A pair with roles has [a, b, a·b], one without [a + b, |a - b|, a·b],
    which does not depend on the order. More chains are laid one after the other.

    Parameters
    ----------
    features
        Of the distinct chains, ``[chains, d]``.
    rows
        From `distinct_chains`.
    is_ordered
        Whether the chains have roles.

    Examples
    --------
    >>> table = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> join_chains(table, np.array([[0, 1], [1, 0]]), is_ordered=False).tolist()
    [[4.0, 7.0, 2.0, 3.0, 3.0, 10.0], [4.0, 7.0, 2.0, 3.0, 3.0, 10.0]]
    """
    parts = [features[rows[:, slot]] for slot in range(rows.shape[1])]
    if len(parts) == 2:
        one, other = parts
        is_sparse = sparse.issparse(features)
        both = one.multiply(other) if is_sparse else one * other
        parts = [one, other, both] if is_ordered else [one + other, abs(one - other), both]
    if len(parts) == 1:
        return parts[0]
    if sparse.issparse(features):
        return sparse.csr_array(sparse.hstack(parts, format="csr"))
    return np.concatenate(parts, axis=1)


def by_chain(make: Callable[[Sequence[Chain]], Any], records: Sequence[Record], *, is_ordered: bool) -> Any:
    """Make features of each distinct chain once and join them.

    Parameters
    ----------
    make
        Gives ``[n, d]`` of chains.
    records
        With the same number of chains each.
    is_ordered
        As for `join_chains`.
    """
    chains, rows = distinct_chains(records)
    return join_chains(make(chains), rows, is_ordered=is_ordered)
