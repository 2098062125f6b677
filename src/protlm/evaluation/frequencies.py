"""Residue counts by IMGT position and V gene: what the trivial antibody baselines know."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.gene_names import gene_of
from protlm.evaluation.letters import letter_codes
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain

PSEUDO_COUNT = 0.1
_CHUNK = 1 << 14


def count_residues(corpus: Corpus, rows: np.ndarray | None = None) -> pl.DataFrame:
    """Count residues by locus, V gene and packed position over the numbered chains.

    Parameters
    ----------
    corpus
        Training chains.
    rows
        Records to count; all by default.

    Returns
    -------
    polars.DataFrame
        ``locus, v_gene, position, residue, count``; empty where nothing is numbered.
    """
    rows = np.arange(len(corpus)) if rows is None else rows
    frames = [_count_chunk(corpus, rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
    keys = ["locus", "v_gene", "position", "residue"]
    joined = pl.concat(frames) if frames else _empty()
    return joined.group_by(keys).agg(pl.col("count").sum()).sort(keys)


def _count_chunk(corpus: Corpus, rows: np.ndarray) -> pl.DataFrame:
    flat = corpus.gather(rows)
    if "position" not in flat.tracks:
        return _empty()
    chain_rows = corpus.chain_rows(rows)
    chain = np.repeat(np.arange(len(chain_rows)), flat.chain_lengths)
    letter, position = letter_codes(flat.residues), flat.tracks["position"]
    counted = (position > 0) & (letter >= 0)
    residues = pl.DataFrame(
        {"chain": chain[counted], "position": position[counted], "letter": letter[counted]}
    )
    chains = pl.DataFrame(
        {
            "chain": np.arange(len(chain_rows)),
            "locus": pl.Series(corpus.chain_column("locus").take(chain_rows).combine_chunks()),
            "v_call": pl.Series(corpus.chain_column("v_call").take(chain_rows).combine_chunks()),
        }
    ).with_columns(v_gene=pl.col("v_call").str.split("*").list.first())
    letters = pl.DataFrame({"letter": np.arange(len(STANDARD)), "residue": list(STANDARD)})
    return (
        residues.join(chains, on="chain")
        .group_by("locus", "v_gene", "position", "letter")
        .agg(count=pl.len().cast(pl.Int64))
        .join(letters, on="letter")
        .select("locus", "v_gene", "position", "residue", "count")
    )


def _empty() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "locus": pl.String,
            "v_gene": pl.String,
            "position": pl.UInt16,
            "residue": pl.String,
            "count": pl.Int64,
        }
    )


class FrequencyBaseline:
    r"""Predicts a residue from its IMGT position alone, or from position and V gene.

    .. math:: p(a \mid c) = \frac{n_{ca} + 0.1}{\sum_b n_{cb} + 20 \cdot 0.1}

    with :math:`n_{ca}` the training count of residue :math:`a` in context :math:`c`: (locus,
    position), or (locus, V gene, position). A context without counts falls back to the position, and
    that to equal probabilities.

    Parameters
    ----------
    counts
        What `count_residues` gave.
    use_v_gene
        Whether the context holds the V gene.

    References
    ----------
    Ng & Briney 2025 have no such baseline; it is the one any antibody model must beat.
    """

    def __init__(self, counts: pl.DataFrame, *, use_v_gene: bool) -> None:
        self.name = "v_gene_majority" if use_v_gene else "position_mode"
        self._use_v_gene = use_v_gene
        self._by_position = _tables(counts, ["locus", "position"])
        self._by_gene = _tables(counts, ["locus", "v_gene", "position"]) if use_v_gene else {}
        self._uniform = np.full(len(STANDARD), -np.log(len(STANDARD)))

    def logprobs(self, locus: str, v_gene: str, positions: np.ndarray) -> np.ndarray:
        """Give natural-log probabilities of the twenty amino acids at each position.

        Parameters
        ----------
        locus, v_gene
            Of the chain, the true call.
        positions
            Packed positions ``[r]``; 0 gives equal probabilities.

        Returns
        -------
        numpy.ndarray
            ``[r, 20]`` in the order of `STANDARD`.
        """
        return np.stack([self._row(locus, v_gene, int(position)) for position in positions])

    def logprobs_of(self, chains: Sequence[Chain]) -> np.ndarray:
        """Give natural-log probabilities of the twenty amino acids at each residue, chain by chain.

        Parameters
        ----------
        chains
            Numbered; residues without a position get equal probabilities.

        Returns
        -------
        numpy.ndarray
            ``[r, 20]`` in the order of `STANDARD`.
        """
        rows = [
            self.logprobs(chain.locus, gene_of(chain.v_call), chain.tracks["position"])
            if "position" in chain.tracks
            else np.tile(self._uniform, (len(chain), 1))
            for chain in chains
        ]
        return np.concatenate(rows) if rows else np.zeros((0, len(STANDARD)))

    def _row(self, locus: str, v_gene: str, position: int) -> np.ndarray:
        by_gene = self._by_gene.get((locus, v_gene, position)) if self._use_v_gene and v_gene else None
        if by_gene is not None:
            return by_gene
        return self._by_position.get((locus, position), self._uniform)


def _tables(counts: pl.DataFrame, keys: list[str]) -> dict[tuple, np.ndarray]:
    wide = counts.group_by(*keys, "residue").agg(pl.col("count").sum())
    tables: dict[tuple, np.ndarray] = {}
    for *context, residue, count in wide.iter_rows():
        row = tables.setdefault(tuple(context), np.full(len(STANDARD), PSEUDO_COUNT))
        row[STANDARD.index(residue)] += count
    return {context: np.log(row / row.sum()) for context, row in tables.items()}


def load_counts(path: Path) -> pl.DataFrame:
    """Read a table of counts that a pre-training Run keeps.

    Parameters
    ----------
    path
        ``tables/train_frequencies.parquet``.
    """
    return pl.read_parquet(path)
