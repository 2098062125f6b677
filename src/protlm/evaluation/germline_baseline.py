"""The baseline of the nearest germline residue, mixed with the frequency at the IMGT position."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from scipy.optimize import brentq

from protlm.data.corpus import Corpus
from protlm.data.flat import expand_slices
from protlm.data.germline_alignment import Block
from protlm.data.germline_genes import unspliced_residues
from protlm.data.germline_set import GermlineSet
from protlm.evaluation.frequencies import FrequencyBaseline
from protlm.evaluation.letters import AMINO_ACIDS, NAMES_OF_REGIONS, letter_codes
from protlm.types.record import Chain
from protlm.types.regions import REGIONS, Region, imgt_regions

_CHUNK = 1 << 12

GERMLINE_COUNTS = pl.Schema(
    {
        "locus": pl.String,
        "position": pl.UInt16,
        "residue": pl.String,
        "is_germline": pl.Boolean,
        "count": pl.Int64,
    }
)


def count_germline(corpus: Corpus, germline: GermlineSet, rows: np.ndarray | None = None) -> pl.DataFrame:
    """Count residues by position, and by whether they are those of the nearest V or J gene.

    Parameters
    ----------
    corpus
        Numbered training chains; their calls are used where they have any.
    germline
        The genes.
    rows
        Records to count; all by default.

    Returns
    -------
    polars.DataFrame
        `GERMLINE_COUNTS`; residues that no V or J gene reaches are not in it.
    """
    rows = np.arange(len(corpus)) if rows is None else rows
    keys = ["locus", "position", "residue", "is_germline"]
    counts = [pl.DataFrame(schema=GERMLINE_COUNTS)]
    for start in range(0, len(rows), _CHUNK):
        for locus, block, of_germline in _blocks(corpus, rows[start : start + _CHUNK], germline):
            known = (of_germline >= 0) & (block.codes >= 0)
            residues = pl.DataFrame(
                {
                    "locus": pl.repeat(locus, int(known.sum()), eager=True, dtype=pl.String),
                    "position": block.positions[known],
                    "residue": AMINO_ACIDS.gather(block.codes[known]),
                    "is_germline": of_germline[known] == block.codes[known],
                }
            )
            counts.append(residues.group_by(keys).agg(count=pl.len().cast(pl.Int64)))
    return pl.concat(counts).group_by(keys).agg(pl.col("count").sum()).sort(keys)


def _blocks(
    corpus: Corpus, rows: np.ndarray, germline: GermlineSet
) -> Iterator[tuple[str, Block, np.ndarray]]:
    """Give the chains of some records by locus, with the germline code of each residue."""
    flat = corpus.gather(rows)
    if "position" not in flat.tracks:
        return
    chain_rows = corpus.chain_rows(rows)
    calls = [corpus.chain_column(name).take(chain_rows).to_pylist() for name in ("locus", "v_call", "j_call")]
    loci = np.array(calls[0], dtype=object)
    starts = np.cumsum(flat.chain_lengths) - flat.chain_lengths
    for locus in sorted(set(calls[0]) - {""}):
        some = np.flatnonzero(loci == locus)
        lengths = flat.chain_lengths[some]
        residues = expand_slices(starts[some], lengths)
        block = Block.of(flat.residues[residues], flat.tracks["position"][residues], lengths)
        v_calls, j_calls = ([own[index] for index in some] for own in calls[1:])
        yield locus, block, unspliced_residues(block, germline, locus, v_calls, j_calls)


def fit_germline_share(counts: pl.DataFrame, frequencies: FrequencyBaseline) -> pl.DataFrame:
    r"""Fit the share of residues that are not copied from the germline, by locus and region.

    :math:`\epsilon` maximises

    .. math:: \sum_{x_i = g_i} \ln(1 - \epsilon + \epsilon f_i) + \sum_{x_i \ne g_i} \ln(\epsilon f_i)

    with :math:`f_i` the frequency of the residue at its position. The sum is concave, and the root of its
    derivative is found by bisection. Where no training residue differs, :math:`\epsilon` would be 0 and any
    difference impossible; so half a residue is added to those that differ.

    Parameters
    ----------
    counts
        From `count_germline`.
    frequencies
        The baseline by position, of the same chains.

    Returns
    -------
    polars.DataFrame
        ``locus, region, epsilon, n_residues, n_germline``.
    """
    frame = counts.with_columns(
        region=NAMES_OF_REGIONS.gather(imgt_regions(counts["position"].to_numpy())),
        chance=np.exp(_of_rows(counts, frequencies)),
    )
    rows = []
    for (locus, region), part in frame.group_by("locus", "region", maintain_order=True):
        same = part.filter("is_germline")
        num_same, num_all = int(same["count"].sum()), int(part["count"].sum())
        epsilon = _share(num_all - num_same + 0.5, same["count"].to_numpy(), same["chance"].to_numpy())
        rows.append((locus, region, epsilon, num_all, num_same))
    names = ["locus", "region", "epsilon", "n_residues", "n_germline"]
    schema = dict(zip(names, (pl.String, pl.String, pl.Float64, pl.Int64, pl.Int64), strict=True))
    return pl.DataFrame(rows, schema=schema, orient="row").sort("locus", "region")


def _share(num_different: float, counts: np.ndarray, chances: np.ndarray) -> float:
    def slope(epsilon: float) -> float:
        return float(num_different / epsilon - (counts * (1 - chances) / (1 - epsilon * (1 - chances))).sum())

    return 1.0 if slope(1.0) >= 0 else float(brentq(slope, 1e-12, 1.0))  # type: ignore[arg-type]


def _of_rows(counts: pl.DataFrame, frequencies: FrequencyBaseline) -> np.ndarray:
    """Give the log-probability by position of the residue of each row."""
    contexts = list(counts.select("locus", "position").iter_rows())
    places = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
    rows = [frequencies.logprobs(locus, "", np.array([position])) for locus, position in places]
    if not rows:
        return np.zeros(0)
    letters = letter_codes("".join(counts["residue"]))
    return np.concatenate(rows)[[places[context] for context in contexts], letters]


class GermlineBaseline:
    r"""Predicts the residue of the nearest V or J gene, mixed with the frequency at the IMGT position.

    .. math:: p(a) = (1 - \epsilon_r)\,[a = g] + \epsilon_r f(a)

    with :math:`g` the residue of the chain's V or J gene (see `unspliced_residues`: its calls where it has
    any, else the nearest genes) and :math:`\epsilon_r` fitted by locus and region, see `fit_germline_share`.
    Where neither gene reaches, :math:`p = f`.

    The nearest gene is found with the residue itself in sight, as a model that has to predict a masked
    residue does not have it. This favours the baseline slightly: of alleles that differ there, the one that
    fits is taken. Where V ends and J begins in the CDR3 is not used, because that would give the residue
    away; the genes are laid on whole, trimmed or not.

    Parameters
    ----------
    shares
        What `fit_germline_share` gave.
    germline
        The genes.
    frequencies
        The baseline by position.
    """

    name = "germline"

    def __init__(self, shares: pl.DataFrame, germline: GermlineSet, frequencies: FrequencyBaseline) -> None:
        self._frequencies, self._germline = frequencies, germline
        self._shares: dict[str, np.ndarray] = {}
        for locus, region, epsilon in shares.select("locus", "region", "epsilon").iter_rows():
            own = self._shares.setdefault(locus, np.full(len(REGIONS) + 1, np.nan))
            own[Region[region]] = epsilon

    def logprobs_of(self, chains: Sequence[Chain]) -> np.ndarray:
        """Give natural-log probabilities of the twenty amino acids at each residue, chain by chain.

        Parameters
        ----------
        chains
            Numbered; other ones get equal probabilities. Many at once are faster.

        Returns
        -------
        numpy.ndarray
            ``[r, 20]`` in the order of `STANDARD`.
        """
        logprobs = self._frequencies.logprobs_of(chains)
        lengths = np.array([len(chain) for chain in chains], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        for locus, shares in self._shares.items():
            some = [
                index
                for index, chain in enumerate(chains)
                if chain.locus == locus and "position" in chain.tracks
            ]
            if some:
                residues = expand_slices(starts[some], lengths[some])
                logprobs[residues] = self._mixed([chains[i] for i in some], locus, shares, logprobs[residues])
        return logprobs

    def _mixed(
        self, chains: Sequence[Chain], locus: str, shares: np.ndarray, logprobs: np.ndarray
    ) -> np.ndarray:
        block = Block.of(
            np.frombuffer("".join(chain.residues for chain in chains).encode(), dtype=np.uint8),
            np.concatenate([chain.tracks["position"] for chain in chains]),
            np.array([len(chain) for chain in chains], dtype=np.int64),
        )
        calls = [chain.v_call for chain in chains], [chain.j_call for chain in chains]
        letter = unspliced_residues(block, self._germline, locus, *calls)
        share = shares[imgt_regions(block.positions)]
        known = np.flatnonzero((letter >= 0) & ~np.isnan(share))
        mixed = share[known, None] * np.exp(logprobs[known])
        mixed[np.arange(len(known)), letter[known]] += 1 - share[known]
        logprobs = logprobs.copy()
        logprobs[known] = np.log(mixed)
        return logprobs
