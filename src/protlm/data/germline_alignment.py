"""Which germline V and J gene is nearest: chains of one locus against all genes at once, without alignment.

Letters of the shapes: ``n`` chains, ``r`` residues, ``g`` genes, ``p`` positions.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protlm.data.germline import GENETIC_CODE, NUCLEOTIDES
from protlm.data.germline_set import ABSENT, CODE, FIRST_OF_J, J_LENGTH, LAST_OF_V, GermlineTable
from protlm.types.alphabet import STANDARD

UNKNOWN = -2
"""Code of a residue that is none of the twenty: neither equal to a germline residue nor different from it."""
MIN_V_RESIDUES = 30
"""Fewest residues up to position 104 by which a V gene is told."""
MIN_J_RESIDUES = 4
"""Fewest residues from position 118 on by which a J gene is told: the motif [WF]-G-X-G."""

_CDR3_OF_V = 2  # residues behind position 104 that help to tell V genes; N additions are rare there
_LETTERS = np.arange(len(STANDARD), dtype=np.int8)
_N_COMPOSITION = dict(zip(NUCLEOTIDES, (0.19, 0.31, 0.19, 0.31), strict=True))


def _chance() -> np.ndarray:
    """Give the share of each residue among codons of N additions, which are rich in G and C."""
    shares = dict.fromkeys(STANDARD, 0.0)
    codons = (
        first + second + third for first in NUCLEOTIDES for second in NUCLEOTIDES for third in NUCLEOTIDES
    )
    for codon, residue in zip(codons, GENETIC_CODE, strict=True):
        if residue != "*":
            shares[residue] += float(np.prod([_N_COMPOSITION[base] for base in codon]))
    return np.array(list(shares.values())) / sum(shares.values())


CHANCE = _chance()
"""Probability of each of the twenty at a residue that no germline gene encodes, in the order of `STANDARD`.

From the composition of N additions (62 % G and C) by the genetic code.
"""


@dataclass(frozen=True)
class Block:
    """Numbered chains of one locus, their residues end to end."""

    letters: np.ndarray
    """Bytes, uint8 ``[r]``."""
    codes: np.ndarray
    """Places in `STANDARD`, `UNKNOWN` for other letters, int8 ``[r]``."""
    positions: np.ndarray
    """Packed IMGT positions, uint16 ``[r]``; 0 outside of the domain."""
    lengths: np.ndarray
    """Residues per chain, int64 ``[n]``."""

    @classmethod
    def of(cls, letters: np.ndarray, positions: np.ndarray, lengths: np.ndarray) -> "Block":
        """Make a block of flat residues.

        Parameters
        ----------
        letters, positions, lengths
            See the attributes.
        """
        codes = CODE[letters]
        return cls(letters, np.where(codes == ABSENT, np.int8(UNKNOWN), codes), positions, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def numbers(self) -> np.ndarray:
        """IMGT positions without insertion letters, int64 ``[r]``."""
        return (self.positions >> 8).astype(np.int64)

    @cached_property
    def chain(self) -> np.ndarray:
        """Index of the chain of each residue, int64 ``[r]``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def columns(self, first: int, last: int) -> np.ndarray:
        """Give codes by chain and position, `ABSENT` where a chain has no residue; insertions are left out.

        Parameters
        ----------
        first, last
            IMGT positions, both included.

        Returns
        -------
        numpy.ndarray
            int8 ``[n, last - first + 1]``.
        """
        table = np.full((len(self), last - first + 1), ABSENT, dtype=np.int8)
        numbers = self.numbers
        inside = (numbers >= first) & (numbers <= last) & (self.positions & 255 == 0)
        table[self.chain[inside], numbers[inside] - first] = self.codes[inside]
        return table


@dataclass(frozen=True)
class Junctions:
    """The CDR3s of a block, as rectangles."""

    residue: np.ndarray
    """Index in the block of each residue inside a CDR3, int64 ``[c]``."""
    chain: np.ndarray
    """Its chain, int64 ``[c]``."""
    offset: np.ndarray
    """Its place in its CDR3 from the left, int64 ``[c]``."""
    lengths: np.ndarray
    """Residues per CDR3, int64 ``[n]``."""
    codes: np.ndarray
    """Codes from the left, `ABSENT` behind the end, int8 ``[n, longest]``."""

    @classmethod
    def of(cls, block: Block) -> "Junctions":
        """Cut the CDR3s, positions 105 to 117, out of a block.

        Parameters
        ----------
        block
            Numbered chains.
        """
        numbers = block.numbers
        residue = np.flatnonzero((numbers > LAST_OF_V) & (numbers < FIRST_OF_J))
        chain = block.chain[residue]
        lengths = np.bincount(chain, minlength=len(block)).astype(np.int64)
        offset = np.arange(len(residue)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        codes = np.full((len(block), max(1, int(lengths.max(initial=0)))), ABSENT, dtype=np.int8)
        codes[chain, offset] = block.codes[residue]
        return cls(residue, chain, offset, lengths, codes)

    def from_right(self) -> np.ndarray:
        """Give the codes from the right end to the left, as `codes` otherwise."""
        turned = np.full_like(self.codes, ABSENT)
        turned[self.chain, self.lengths[self.chain] - 1 - self.offset] = self.codes[self.chain, self.offset]
        return turned


@dataclass(frozen=True)
class Nearest:
    """The nearest gene of each chain."""

    gene: np.ndarray
    """Row of the table, int64 ``[n]``."""
    matches: np.ndarray
    """Positions where both have the same residue, int64 ``[n]``."""
    compared: np.ndarray
    """Positions where at least one has a residue, from the chain's first to its last, int64 ``[n]``."""

    @property
    def identity(self) -> np.ndarray:
        """Share of the compared positions that match, float64 ``[n]``; 0 where nothing is compared."""
        return self.matches / np.maximum(self.compared, 1)


def nearest_v(
    block: Block, junctions: Junctions, table: GermlineTable, allowed: np.ndarray | None = None
) -> Nearest:
    """Give the V gene with the highest identity at IMGT positions 1 to 104.

    Of equal ones, the gene that also agrees in more of the first two residues of the CDR3, then the first by
    name. A residue that only one of the two has is a difference; what lies before a chain's first numbered
    residue, as in a chain that was sequenced in part, does not count.

    Parameters
    ----------
    block, junctions
        Chains of the genes' locus.
    table
        V genes.
    allowed
        Genes that a chain may have, bool ``[n, g]``; all by default.
    """
    matches, compared = _compare(block.columns(1, LAST_OF_V), table.framework)
    width = min(_CDR3_OF_V, junctions.codes.shape[1], table.cdr3.shape[1])
    tied = np.zeros_like(matches)
    for place in range(width):
        tied += junctions.codes[:, place, None] == table.cdr3[None, :, place]
    order = matches / np.maximum(compared, 1) + 1e-4 * tied
    return _best(order, matches, compared, allowed)


def _compare(query: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count matching and compared positions of every chain with every gene, ``[n, g]`` each.

    A product of one-hot codes counts the matches. Those compared are the chain's own and the gene's within
    the chain's span, less those of both; positions with an unknown residue are left out.
    """
    present = query >= 0
    known = query != UNKNOWN
    reached = np.logical_or.accumulate(query != ABSENT, axis=1)
    span = reached & np.logical_or.accumulate((query != ABSENT)[:, ::-1], axis=1)[:, ::-1] & known
    matches = _one_hot(query) @ _one_hot(genes).T
    has = (genes != ABSENT).astype(np.float32).T
    in_span = span.astype(np.float32) @ has
    both = present.astype(np.float32) @ has
    return matches, present.sum(axis=1, dtype=np.float32)[:, None] + in_span - both


def _one_hot(codes: np.ndarray) -> np.ndarray:
    return (codes[:, :, None] == _LETTERS).reshape(len(codes), -1).astype(np.float32)


def _best(
    order: np.ndarray, matches: np.ndarray, compared: np.ndarray, allowed: np.ndarray | None
) -> Nearest:
    if allowed is not None:
        order = np.where(allowed, order, -np.inf)
    gene = order.argmax(axis=1)
    rows = np.arange(len(gene))
    return Nearest(gene, matches[rows, gene].astype(np.int64), compared[rows, gene].astype(np.int64))


def mutation_rates(nearest: Nearest) -> np.ndarray:
    """Estimate each chain's share of mutated residues from its V region: (differences + 1) / (compared + 10).

    Parameters
    ----------
    nearest
        V genes.

    Returns
    -------
    numpy.ndarray
        Above 0 and below 1, float64 ``[n]``.
    """
    return (nearest.compared - nearest.matches + 1) / (nearest.compared + 10)


def log_odds(chain: np.ndarray, germline: np.ndarray, rates: np.ndarray) -> np.ndarray:
    r"""Give how much more likely residues are if a germline residue encodes them than if none does.

    .. math:: \ln\frac{1-\mu}{q_a} \text{ where they are equal, else } \ln\mu

    with :math:`\mu` the chain's mutation rate and :math:`q_a` of `CHANCE`; a mutated residue is taken to be
    drawn from :math:`q` too.

    Parameters
    ----------
    chain, germline
        Codes, the same shape ``[n, …]``.
    rates
        Mutation rate of each chain ``[n]``.

    Returns
    -------
    numpy.ndarray
        Nats, float64; 0 where the chain's residue is unknown, minus infinity where either is absent.
    """
    rates = rates.reshape(-1, *(1,) * (chain.ndim - 1))
    equal = np.log1p(-rates) - np.log(CHANCE)[chain]
    odds = np.where(chain == germline, equal, np.log(rates))
    odds = np.where(chain == UNKNOWN, 0.0, odds)
    return np.where((chain == ABSENT) | (germline == ABSENT), -np.inf, odds)


def extension_scores(odds: np.ndarray) -> np.ndarray:
    """Give the score of an extension by 0, 1, 2 … residues.

    Parameters
    ----------
    odds
        Log-odds of the residues from the anchor on ``[n, k]``.

    Returns
    -------
    numpy.ndarray
        ``[n, k + 1]``, the first column 0.
    """
    return np.concatenate([np.zeros((len(odds), 1)), np.cumsum(odds, axis=1)], axis=1)


def nearest_j(
    block: Block,
    junctions: Junctions,
    table: GermlineTable,
    rates: np.ndarray,
    allowed: np.ndarray | None = None,
) -> Nearest:
    """Give the J gene with the highest score over positions 118 to 128 and the end of the CDR3.

    The score is the sum of `log_odds` over framework 4 and over as much of the CDR3 before it as makes it
    highest. Of equal genes the first by name. `Nearest.matches` and `compared` are of framework 4.

    Parameters
    ----------
    block, junctions
        Chains of the genes' locus.
    table
        J genes.
    rates
        Mutation rate of each chain ``[n]``.
    allowed
        Genes that a chain may have, bool ``[n, g]``; all by default.
    """
    query = block.columns(FIRST_OF_J, FIRST_OF_J + J_LENGTH - 1)
    turned = junctions.from_right()
    width = min(turned.shape[1], table.cdr3.shape[1])
    shape = len(block), len(table.names)
    order, matches, compared = (np.zeros(shape) for _ in range(3))
    for gene, (framework, cdr3) in enumerate(zip(table.framework, table.cdr3, strict=True)):
        odds = log_odds(query, np.broadcast_to(framework, query.shape), rates)
        inside = np.isfinite(odds) & (query >= 0)
        ends = log_odds(turned[:, :width], np.broadcast_to(cdr3[:width], (len(block), width)), rates)
        order[:, gene] = np.where(inside, odds, 0.0).sum(axis=1) + extension_scores(ends).max(axis=1)
        matches[:, gene] = (inside & (query == framework)).sum(axis=1)
        compared[:, gene] = inside.sum(axis=1)
    return _best(order.round(6), matches, compared, allowed)
