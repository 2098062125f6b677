"""The baseline of residue counts by V or J gene, shrunk to the frequency at the IMGT position."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from scipy.optimize import minimize_scalar

from protlm.data.corpus import Corpus
from protlm.data.gene_names import gene_of
from protlm.evaluation.frequencies import PSEUDO_COUNT, FrequencyBaseline
from protlm.evaluation.letters import AMINO_ACIDS, NAMES_OF_REGIONS, letter_codes
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain
from protlm.types.regions import Region, imgt_regions

FIRST_BY_J = 112
"""IMGT position from which on the J gene is the context, before it the V gene: the middle of the CDR3."""
FIRST_BY_J_OF_LIGHT = 116
"""The same in light chains, where V genes encode all but the last two residues of most CDR3s."""
MAX_STRENGTH = 1e6
"""Highest strength of the shrinkage that is looked for."""

_CHUNK = 1 << 14
_LIGHT = ("K", "L")
_NUM_LETTERS = len(STANDARD)

GENE_COUNTS = pl.Schema(
    {"locus": pl.String, "gene": pl.String, "position": pl.UInt16, "residue": pl.String, "count": pl.Int64}
)


def count_genes(corpus: Corpus, rows: np.ndarray | None = None) -> pl.DataFrame:
    """Count residues by position and by V gene, from position 112 (light chains: 116) on by J gene.

    Parameters
    ----------
    corpus
        Numbered training chains with V or J calls.
    rows
        Records to count; all by default.

    Returns
    -------
    polars.DataFrame
        `GENE_COUNTS`; residues of chains without the call are not in it.
    """
    rows = np.arange(len(corpus)) if rows is None else rows
    keys = [name for name in GENE_COUNTS if name != "count"]
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    counts = [_count_chunk(corpus, some, keys) for some in chunks]
    return (
        pl.concat([pl.DataFrame(schema=GENE_COUNTS), *counts])
        .group_by(keys)
        .agg(pl.col("count").sum())
        .sort(keys)
    )


def _count_chunk(corpus: Corpus, rows: np.ndarray, keys: list[str]) -> pl.DataFrame:
    flat = corpus.gather(rows)
    if "position" not in flat.tracks:
        return pl.DataFrame(schema=GENE_COUNTS)
    chain_rows = corpus.chain_rows(rows)
    calls = {
        name: pl.Series(values=pl.from_arrow(corpus.chain_column(name).take(chain_rows)))
        for name in ("locus", "v_call", "j_call")
    }
    genes = {
        name: (pl.Series(values) if name == "locus" else values.str.split("*").list.first())
        for name, values in calls.items()
    }
    position, letter = flat.tracks["position"], letter_codes(flat.residues)
    counted = np.flatnonzero((position > 0) & (letter >= 0))
    chain = np.repeat(np.arange(len(chain_rows)), flat.chain_lengths)[counted]
    is_light = calls["locus"].is_in(_LIGHT).to_numpy()[chain]
    first_by_j = np.where(is_light, FIRST_BY_J_OF_LIGHT, FIRST_BY_J)
    by_j = pl.Series(position[counted] >> 8 >= first_by_j)
    table = pl.DataFrame(
        {
            "locus": genes["locus"].gather(chain),
            "gene": genes["j_call"].gather(chain).zip_with(by_j, genes["v_call"].gather(chain)),
            "position": position[counted],
            "residue": AMINO_ACIDS.gather(letter[counted]),
        }
    )
    return table.filter(pl.col("gene") != "").group_by(keys).agg(count=pl.len().cast(pl.Int64))


def fit_strengths(counts: pl.DataFrame) -> pl.DataFrame:
    r"""Fit how strongly counts by gene are shrunk to the frequencies by position, by locus and region.

    The strength :math:`\kappa` maximises the likelihood of each training residue given all others,

    .. math:: \sum_{c,a} n_{ca} \ln \frac{n_{ca} - 1 + \kappa f_{pa}^{-}}{n_c - 1 + \kappa}

    with :math:`n_{ca}` the count of residue a in context c (gene and position p) and :math:`f^{-}` the
    frequency at the position without the residue itself. So a gene with many chains speaks for itself and a
    rare one is held to the position.

    Parameters
    ----------
    counts
        From `count_genes`.

    Returns
    -------
    polars.DataFrame
        ``locus, region, strength, n_residues``; the strength is in residues, at most `MAX_STRENGTH`.
    """
    frame = counts.with_columns(
        region=NAMES_OF_REGIONS.gather(imgt_regions(counts["position"].to_numpy())),
        in_context=pl.col("count").sum().over("locus", "gene", "position"),
        of_residue=pl.col("count").sum().over("locus", "position", "residue"),
        at_position=pl.col("count").sum().over("locus", "position"),
    ).with_columns(
        others=(pl.col("of_residue") - 1 + PSEUDO_COUNT)
        / (pl.col("at_position") - 1 + PSEUDO_COUNT * _NUM_LETTERS),
    )
    rows = []
    for (locus, region), part in frame.group_by("locus", "region", maintain_order=True):
        columns = [part[name].to_numpy().astype(float) for name in ("count", "in_context", "others")]
        rows.append((locus, region, _strength(_left_out_loss(*columns)), int(part["count"].sum())))
    names = ["locus", "region", "strength", "n_residues"]
    schema = dict(zip(names, (pl.String, pl.String, pl.Float64, pl.Int64), strict=True))
    return pl.DataFrame(rows, schema=schema, orient="row").sort("locus", "region")


def _left_out_loss(own: np.ndarray, in_context: np.ndarray, others: np.ndarray) -> Callable[[float], float]:
    def loss(log_strength: float) -> float:
        strength = np.exp(log_strength)
        return -float((own * (np.log(own - 1 + strength * others) - np.log(in_context - 1 + strength))).sum())

    return loss


def _strength(loss: Callable[[float], float]) -> float:
    """Search on a grid of logarithms, then between the neighbours of the best one."""
    grid = np.linspace(np.log(1e-3), np.log(MAX_STRENGTH), 43)
    best = int(np.argmin([loss(value) for value in grid]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))  # type: ignore[attr-defined]


class GeneBaseline:
    r"""Predicts a residue from its IMGT position and the chain's V gene, near the end its J gene.

    .. math:: p(a \mid c) = \frac{n_{ca} + \kappa_r f_{pa}}{n_c + \kappa_r}

    with the counts of the gene at the position, shrunk to the frequency :math:`f` at the position by a
    strength fitted by locus and region, see `fit_strengths`. Positions up to 111 (light chains: 115) go by
    the V gene, the end of the CDR3 and framework 4 by the J gene, as the chain's calls name them; without a
    call, :math:`p = f`.

    Parameters
    ----------
    counts
        What `count_genes` gave.
    strengths
        What `fit_strengths` gave.
    frequencies
        The baseline by position.
    """

    name = "genes"

    def __init__(self, counts: pl.DataFrame, strengths: pl.DataFrame, frequencies: FrequencyBaseline) -> None:
        self._frequencies = frequencies
        self._strengths = {
            (locus, Region[region]): strength
            for locus, region, strength in strengths.select("locus", "region", "strength").iter_rows()
        }
        self._counts: dict[tuple[str, str, int], np.ndarray] = {}
        for locus, gene, position, residue, count in counts.select(*GENE_COUNTS).iter_rows():
            row = self._counts.setdefault((locus, gene, position), np.zeros(_NUM_LETTERS))
            row[STANDARD.index(residue)] += count

    def logprobs_of(self, chains: Sequence[Chain]) -> np.ndarray:
        """Give natural-log probabilities of the twenty amino acids at each residue, chain by chain.

        Parameters
        ----------
        chains
            Numbered, with the true `v_call` and `j_call` where they are known.

        Returns
        -------
        numpy.ndarray
            ``[r, 20]`` in the order of `STANDARD`.
        """
        logprobs = self._frequencies.logprobs_of(chains)
        start = 0
        for chain in chains:
            stop = start + len(chain)
            if "position" in chain.tracks:
                self._shrink(chain, logprobs[start:stop])
            start = stop
        return logprobs

    def _shrink(self, chain: Chain, logprobs: np.ndarray) -> None:
        """Put the counts of a chain's genes in, where there are any."""
        positions = chain.tracks["position"]
        genes = gene_of(chain.v_call), gene_of(chain.j_call)
        first_by_j = FIRST_BY_J_OF_LIGHT if chain.locus in _LIGHT else FIRST_BY_J
        known, rows = [], []
        for index, position in enumerate(positions.tolist()):
            gene = genes[position >> 8 >= first_by_j]
            counts = self._counts.get((chain.locus, gene, position)) if gene else None
            if counts is not None:
                known.append(index)
                rows.append(counts)
        if not known:
            return
        regions = imgt_regions(positions[known]).tolist()
        strengths = np.array([self._strengths[chain.locus, Region(region)] for region in regions])[:, None]
        counts = np.stack(rows)
        mixed = counts + strengths * np.exp(logprobs[known])
        logprobs[known] = np.log(mixed / (counts.sum(axis=1, keepdims=True) + strengths))
