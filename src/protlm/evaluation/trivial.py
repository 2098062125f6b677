"""Features that need no model: what any result must be compared with."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from protlm.data.gene_names import gene_family, gene_of
from protlm.data.germline_assignment import num_mutations
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record

END_RESIDUES = 3
"""Residues at each end of a chain that the baseline of ends looks at."""
CONFOUNDED_ABOVE = 0.6
"""AUROC of ends, length and source above which a result is called confounded (design, section 7)."""


def one_hot(values: Sequence[str]) -> np.ndarray:
    """Give a column for each value but the empty one.

    Parameters
    ----------
    values
        A word per row.

    Returns
    -------
    numpy.ndarray
        Of 0 and 1, float32 ``[n, distinct values]``, columns in alphabetical order.

    Examples
    --------
    >>> one_hot(["b", "a", "", "b"]).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    names = sorted(set(values) - {""})
    table = np.zeros((len(values), len(names)), dtype=np.float32)
    place = {name: column for column, name in enumerate(names)}
    rows = [row for row, value in enumerate(values) if value]
    table[rows, [place[values[row]] for row in rows]] = 1
    return table


def v_gene_features(records: Sequence[Record]) -> np.ndarray | None:
    """Give V genes, V families and the product of the families of the chains, one-hot.

    The product is what a linear rule cannot make by itself, and what coupled V genes show in.

    Parameters
    ----------
    records
        With the same number of chains each.

    Returns
    -------
    numpy.ndarray or None
        ``[n, d]``; `None` where no chain has a V call.
    """
    calls = [[chain.v_call for chain in record.chains] for record in records]
    if not any(call for own in calls for call in own):
        return None
    chains = list(zip(*calls, strict=True))
    tables = [one_hot([gene_of(call) for call in column]) for column in chains]
    families = [[gene_family(call) for call in column] for column in chains]
    tables += [one_hot(column) for column in families]
    if len(families) > 1:
        joined = ["×".join(own) if all(own) else "" for own in zip(*families, strict=True)]
        tables.append(one_hot(joined))
    return np.concatenate(tables, axis=1)


def end_features(records: Sequence[Record], sources: Sequence[str] | None = None) -> np.ndarray:
    """Give the first and last three residues and the length of each chain, and the source.

    What tells apart how chains were cut, primed or deposited, and nothing of what they bind.

    Parameters
    ----------
    records
        With the same number of chains each.
    sources
        Where each is from, such as its publication; left out if not given.

    Returns
    -------
    numpy.ndarray
        float32 ``[n, d]``.
    """
    tables = []
    for chains in zip(*(record.chains for record in records), strict=True):
        places = [*range(END_RESIDUES), *range(-END_RESIDUES, 0)]
        tables += [one_hot([_letter(chain, place) for chain in chains]) for place in places]
        tables.append(np.array([[len(chain)] for chain in chains], dtype=np.float32))
    if sources is not None:
        tables.append(one_hot(sources))
    return np.concatenate(tables, axis=1)


def mutation_features(records: Sequence[Record]) -> np.ndarray | None:
    """Give by chain how many residues of V differ from germline, and how the chains compare.

    Parameters
    ----------
    records
        Of one or two chains each.

    Returns
    -------
    numpy.ndarray or None
        Per chain its count, whether it is 0, and whether it is not known (then the count is 0 too); for pairs
        also the difference of the counts and whether only one of the two is unmutated. `None` where no
        chain has the track ``mutated``.
    """
    given = [[num_mutations(chain) for chain in record.chains] for record in records]
    if all(count is None for own in given for count in own):
        return None
    counts = np.array([[count or 0 for count in own] for own in given], dtype=np.float32)
    missing = np.array([[count is None for count in own] for own in given], dtype=np.float32)
    tables = [counts, ((counts == 0) & (missing == 0)).astype(np.float32), missing]
    if counts.shape[1] == 2:
        tables.append(np.abs(counts[:, :1] - counts[:, 1:]))
        tables.append(((counts[:, :1] == 0) != (counts[:, 1:] == 0)).astype(np.float32))
    return np.concatenate(tables, axis=1)


def _letter(chain: Chain, place: int) -> str:
    return chain.residues[place] if len(chain) >= END_RESIDUES else ""


def length_features(records: Sequence[Record]) -> np.ndarray:
    """Give the length of each chain and its logarithm.

    Parameters
    ----------
    records
        With the same number of chains each.
    """
    lengths = np.array([[len(chain) for chain in record.chains] for record in records], dtype=np.float64)
    return np.concatenate([lengths, np.log(lengths)], axis=1)


def chain_composition(chains: Sequence[Chain]) -> np.ndarray:
    """Give the shares of the twenty residues in a chain, and the logarithm of its length, ``[n, 21]``.

    Parameters
    ----------
    chains
        At least one.
    """
    table = np.zeros((len(chains), len(STANDARD) + 1))
    for row, chain in enumerate(chains):
        table[row, :-1] = [chain.residues.count(letter) / len(chain) for letter in STANDARD]
        table[row, -1] = np.log(len(chain))
    return table


def chain_kmers(chains: Sequence[Chain], *, longest: int = 3) -> sparse.csr_array:
    """Give how often each word of 1 to `longest` residues is in a chain, as a row of Euclidean length 10.

    Parameters
    ----------
    chains
        At least one.
    longest
        3 gives 8,420 columns.

    Returns
    -------
    scipy.sparse.csr_array
        ``[n, words]``. Counts are square roots; each row is scaled to the Euclidean length `_ROW_LENGTH`, so
        that the strengths of a penalty mean the same for short and long chains.
    """
    rows, columns, values = [], [], []
    for row, chain in enumerate(chains):
        words, counts = _words(chain.residues, longest)
        scaled = np.sqrt(counts)
        rows.append(np.full(len(words), row))
        columns.append(words)
        values.append(scaled * _ROW_LENGTH / max(np.linalg.norm(scaled), 1e-9))
    width = sum(len(STANDARD) ** size for size in range(1, longest + 1))
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(data, shape=(len(chains), width))


def variant_one_hot(records: Sequence[Record]) -> sparse.csr_array | None:
    """Give a column for each residue at each place, those that all records share left out.

    Parameters
    ----------
    records
        Variants of one protein, or antibodies.

    Returns
    -------
    scipy.sparse.csr_array or None
        ``[n, distinct]``; the commonest residue of a place, or its absence, has no column. Chains of one
        length are compared place by place, others at their IMGT positions. `None` where lengths differ and a
        chain has no numbers.
    """
    parts = []
    for chains in zip(*(record.chains for record in records), strict=True):
        letters = _at_positions(chains)
        if letters is None:
            return None
        for place in range(letters.shape[1]):
            found, counts = np.unique(letters[:, place], return_counts=True)
            others = np.delete(found, counts.argmax())
            if len(others):
                parts.append(sparse.csr_array((letters[:, place, None] == others[None]).astype(np.float64)))
    return sparse.csr_array(sparse.hstack(parts, format="csr")) if parts else None


def _at_positions(chains: Sequence[Chain]) -> np.ndarray | None:
    """Lay chains out as a rectangle of letters, 0 where one has none; `None` where that cannot be."""
    letters = [np.frombuffer(chain.residues.encode(), dtype=np.uint8) for chain in chains]
    if len({len(own) for own in letters}) == 1:
        return np.stack(letters)
    places = [chain.tracks.get("position") for chain in chains]
    if any(own is None or not own.any() for own in places):
        return None
    codes = [np.asarray(own, dtype=np.int64) for own in places if own is not None]
    names = np.unique(np.concatenate(codes))
    table = np.zeros((len(chains), len(names)), dtype=np.uint8)
    for row, (own, code) in enumerate(zip(letters, codes, strict=True)):
        table[row, np.searchsorted(names, code[code > 0])] = own[code > 0]
    return table


def _words(residues: str, longest: int) -> tuple[np.ndarray, np.ndarray]:
    codes = _CODES[np.frombuffer(residues.encode(), dtype=np.uint8)]
    found, base = [], 0
    for size in range(1, longest + 1):
        count = len(codes) - size + 1
        if count > 0:
            word, is_plain = np.zeros(count, dtype=np.int64), np.ones(count, dtype=bool)
            for place in range(size):
                part = codes[place : place + count]
                is_plain &= part >= 0
                word = word * len(STANDARD) + part
            found.append(base + word[is_plain])
        base += len(STANDARD) ** size
    return np.unique(np.concatenate(found), return_counts=True)


_ROW_LENGTH = 10.0
_CODES = np.full(256, -1, dtype=np.int64)
_CODES[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(len(STANDARD))
