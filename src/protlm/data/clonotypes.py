"""Clonotypes: V gene, J gene and CDR3 within an identity; and other keys that records can share."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from protlm.data.gene_names import gene_of
from protlm.data.groups import cdr3_of
from protlm.errors import ConfigError
from protlm.types.record import Chain, Record, Role

_PAIRS_PER_CHUNK = 1 << 22


def clonotype_keys(
    records: Sequence[Record], *, identity: float = 1.0, counts: Counter[str] | None = None
) -> list[tuple[str, ...]]:
    """Give the clonotype of each record: V gene, J gene and CDR3 of its heavy (else first) chain.

    Below identity 1, CDR3s of one length under the same V and J gene are one clonotype if a chain of
    steps joins them in which neighbours agree in at least this share of their residues (single linkage).

    Parameters
    ----------
    records
        Numbered records. Where a V or J call is missing, the locus or nothing stands for it.
    identity
        Above 0, at most 1. 0.8 is usual.
    counts
        Filled with how many records lacked something.

    Returns
    -------
    list of tuple of str
        One clonotype per record, such as ``IGHV3-66|IGHJ4|SRWGGDGFYAMDY``; a record without a CDR3 has
        its residues instead, so that only its copies go with it.

    Raises
    ------
    ConfigError
        If `identity` is out of range.
    """
    if not 0 < identity <= 1:
        raise ConfigError(f"CDR3 identity {identity} is out of range", hint="give a share such as 0.8")
    counts = counts if counts is not None else Counter()
    genes: list[str] = []
    cdr3s: list[str] = []
    for record in records:
        chain = main_chain(record)
        cdr3 = cdr3_of(chain)
        if not cdr3:
            counts["no CDR3, so grouped by their residues"] += 1
        else:
            counts["no V call, so grouped by locus and CDR3"] += not chain.v_call
            counts["no J call"] += not chain.j_call
        genes.append(f"{gene_of(chain.v_call) or chain.locus}|{gene_of(chain.j_call)}")
        cdr3s.append(cdr3)
    joined = _joined(genes, cdr3s, identity)
    return [
        (f"{gene}|{joined[gene, cdr3]}",)
        if cdr3
        else ("residues " + "|".join(chain.residues for chain in record.chains),)
        for record, gene, cdr3 in zip(records, genes, cdr3s, strict=True)
    ]


def chain_keys(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Give the residues of every chain of each record, so that records with an identical chain are linked.

    Parameters
    ----------
    records
        Any records.
    """
    return [tuple(chain.residues for chain in record.chains) for record in records]


def main_chain(record: Record) -> Chain:
    """Give the heavy (or beta, or delta) chain of a record, else its first.

    Parameters
    ----------
    record
        Any record.
    """
    leading = (Role.HEAVY, Role.BETA, Role.DELTA)
    return next((chain for chain in record.chains if chain.role in leading), record.chains[0])


def _joined(genes: Sequence[str], cdr3s: Sequence[str], identity: float) -> dict[tuple[str, str], str]:
    """Give for each gene pair and CDR3 the first CDR3, by the alphabet, of its clonotype."""
    buckets: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for gene, cdr3 in zip(genes, cdr3s, strict=True):
        if cdr3:
            buckets[gene, len(cdr3)].add(cdr3)
    joined: dict[tuple[str, str], str] = {}
    for (gene, _), found in buckets.items():
        distinct = sorted(found)
        for cdr3, first in zip(distinct, _first_linked(distinct, identity), strict=True):
            joined[gene, cdr3] = first
    return joined


def _first_linked(texts: list[str], identity: float) -> list[str]:
    """Link texts of one length by the share of equal letters; give the first text of each component."""
    if identity == 1 or len(texts) == 1:
        return texts
    letters = np.frombuffer("".join(texts).encode(), dtype=np.uint8).reshape(len(texts), -1)
    needed = identity * letters.shape[1] - 1e-9
    step = max(1, _PAIRS_PER_CHUNK // letters.size)
    rows, columns = [], []
    for start in range(0, len(texts), step):
        equal = (letters[start : start + step, None, :] == letters[None, :, :]).sum(axis=2)
        row, column = np.nonzero(equal >= needed)
        rows.append(row + start)
        columns.append(column)
    pairs = (np.concatenate(rows), np.concatenate(columns))
    links = coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(len(texts), len(texts)))
    codes = connected_components(links, directed=False)[1]
    first = {}
    for code, text in zip(codes.tolist(), texts, strict=True):  # sorted, so the first one seen is the least
        first.setdefault(code, text)
    return [first[code] for code in codes.tolist()]
