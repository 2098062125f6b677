"""How much of some records a corpus holds already."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.types.record import Record


def overlap(records: Iterable[Record], *corpora: Corpus) -> dict[str, int]:
    """Count the distinct chains and groups of some records that a corpus, or one of several, holds too.

    Parameters
    ----------
    records
        What a model is judged on; gone through once, so they need not be held.
    *corpora
        What it was trained on; their chains are never held as Python objects.

    Returns
    -------
    dict
        ``shared_chains, chains, shared_groups, groups``; identical chains and equal groups only.
    """
    distinct: tuple[set[str], set[str]] = (set(), set())
    for record in records:
        distinct[0].update(chain.residues for chain in record.chains)
        distinct[1].update([record.group] if record.group else [])
    chains, groups = map(sorted, distinct)
    known_chains, known_groups = np.zeros(len(chains), dtype=bool), np.zeros(len(groups), dtype=bool)
    for corpus in corpora:
        used = np.unique(corpus.chain_rows(np.arange(len(corpus))))
        residues = pl.Series(values=pl.from_arrow(corpus.chain_column("residues").take(used)))
        known_chains |= _is_in(chains, residues)
        known_groups |= _is_in(groups, pl.Series(corpus.column("group"), dtype=pl.String))
    return {
        "shared_chains": int(known_chains.sum()),
        "chains": len(chains),
        "shared_groups": int(known_groups.sum()),
        "groups": len(groups),
    }


def _is_in(values: list[str], seen: pl.Series) -> np.ndarray:
    return pl.Series(values, dtype=pl.String).is_in(seen.implode()).to_numpy()
