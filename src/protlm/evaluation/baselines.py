"""The baselines beside every model, under one interface: fitted on training chains, kept as small tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.germline_set import GermlineSet, open_germline
from protlm.evaluation.frequencies import FrequencyBaseline, count_residues
from protlm.evaluation.gene_baseline import GeneBaseline, count_genes, fit_strengths
from protlm.evaluation.germline_baseline import GermlineBaseline, count_germline, fit_germline_share
from protlm.types.record import Chain

FREQUENCIES = "train_frequencies"
SHARES = "train_germline_shares"
GERMLINE = "train_germline_genes"
GENES = "train_genes"
STRENGTHS = "train_gene_strengths"
TABLES = (FREQUENCIES, SHARES, GERMLINE, GENES, STRENGTHS)
"""Names of the tables of a Run that hold the baselines."""


class Baseline(Protocol):
    """Probabilities of residues without a network."""

    name: str

    def logprobs_of(self, chains: Sequence[Chain]) -> np.ndarray:
        """Give natural-log probabilities of the twenty at each residue, chain by chain, ``[r, 20]``."""
        ...


def fit_baselines(
    corpus: Corpus, rows: np.ndarray | None = None, *, germline: GermlineSet | None = None
) -> dict[str, pl.DataFrame]:
    """Count and fit what all baselines need.

    Parameters
    ----------
    corpus
        Training chains.
    rows
        Records to count; all by default.
    germline
        Genes to compare with; the package's human ones by default.

    Returns
    -------
    dict of polars.DataFrame
        By the names of `TABLES`; a table is empty where the chains lack positions or calls.
    """
    return fit_together([(corpus, rows)], germline=germline)


def fit_together(
    sources: Sequence[tuple[Corpus, np.ndarray | None]],
    *,
    germline: GermlineSet | None = None,
    use_germline: bool = True,
) -> dict[str, pl.DataFrame]:
    """Do the same on several corpora at once, each residue counted as often as it is there.

    Parameters
    ----------
    sources
        Training chains, and the records of them to count, `None` for all.
    germline
        Genes to compare with; the package's human ones by default.
    use_germline
        Whether to compare at all; without it the tables of the germline baseline are empty.
    """
    germline = open_germline() if germline is None else germline
    germline = germline if use_germline else GermlineSet("none", ())
    counts = _added([count_residues(*source) for source in sources])
    by_germline = _added([count_germline(corpus, germline, rows) for corpus, rows in sources])
    genes = _added([count_genes(*source) for source in sources])
    return {
        FREQUENCIES: counts,
        SHARES: fit_germline_share(by_germline, FrequencyBaseline(counts, use_v_gene=False)),
        GERMLINE: germline.to_table(),
        GENES: genes,
        STRENGTHS: fit_strengths(genes),
    }


def _added(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Add counts of several tables up."""
    if len(tables) == 1:
        return tables[0]
    keys = [name for name in tables[0].columns if name != "count"]
    return pl.concat(tables).group_by(keys).agg(pl.col("count").sum()).sort(keys)


def load_baselines(tables: Mapping[str, pl.DataFrame]) -> list[Baseline]:
    """Make the baselines that the tables allow.

    Parameters
    ----------
    tables
        What `fit_baselines` gave, or some of it.

    Returns
    -------
    list of Baseline
        ``position_mode``; with V genes ``v_gene_majority``; with loci that the germline set knows
        ``germline``; with calls
        ``genes``. Empty where nothing was numbered.
    """
    counts = tables.get(FREQUENCIES)
    if counts is None or counts.is_empty():
        return []
    by_position = FrequencyBaseline(counts, use_v_gene=False)
    baselines: list[Baseline] = [by_position]
    if (counts["v_gene"] != "").any():
        baselines.append(FrequencyBaseline(counts, use_v_gene=True))
    shares, germline = tables.get(SHARES), tables.get(GERMLINE)
    if shares is not None and germline is not None and not shares.is_empty():
        baselines.append(GermlineBaseline(shares, GermlineSet.from_table(germline), by_position))
    genes, strengths = tables.get(GENES), tables.get(STRENGTHS)
    if genes is not None and strengths is not None and not genes.is_empty():
        baselines.append(GeneBaseline(genes, strengths, by_position))
    return baselines


def read_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Read the tables of baselines that a Run keeps.

    Parameters
    ----------
    folder
        The Run's ``tables``; those that are not there, as in Runs of earlier versions, are left out.
    """
    paths = {name: folder / f"{name}.parquet" for name in TABLES}
    return {name: pl.read_parquet(path) for name, path in paths.items() if path.exists()}
