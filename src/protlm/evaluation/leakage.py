"""How much of some records a corpus holds already."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.types.record import Record


def overlap(records: Sequence[Record], corpus: Corpus) -> dict[str, int]:
    """Count the distinct chains and groups of some records that a corpus holds too.

    Parameters
    ----------
    records
        What a model is judged on.
    corpus
        What it was trained on; its chains are never held as Python objects.

    Returns
    -------
    dict
        ``shared_chains, chains, shared_groups, groups``; identical chains and equal groups only.
    """
    chains = sorted({chain.residues for record in records for chain in record.chains})
    groups = sorted({record.group for record in records if record.group})
    used = np.unique(corpus.chain_rows(np.arange(len(corpus))))
    residues = pl.Series(values=pl.from_arrow(corpus.chain_column("residues").take(used)))
    return {
        "shared_chains": _count(chains, residues),
        "chains": len(chains),
        "shared_groups": _count(groups, pl.Series(corpus.column("group"), dtype=pl.String)),
        "groups": len(groups),
    }


def _count(values: list[str], seen: pl.Series) -> int:
    return int(pl.Series(values, dtype=pl.String).is_in(seen.implode()).sum())
