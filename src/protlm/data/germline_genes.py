"""The V and J gene of each chain, by its calls or by nearness; and the germline residues in their places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.gene_names import call_name
from protlm.data.germline_alignment import (
    MIN_J_RESIDUES,
    MIN_V_RESIDUES,
    Block,
    Junctions,
    Nearest,
    mutation_rates,
    nearest_j,
    nearest_v,
)
from protlm.data.germline_report import (
    ASSIGNED,
    GIVEN,
    GIVEN_GENE,
    NOT_IN_SET,
    TOO_FAR,
    TOO_SHORT,
)
from protlm.data.germline_set import (
    ABSENT,
    FIRST_OF_J,
    J_LENGTH,
    LAST_OF_V,
    GermlineSet,
    GermlineTable,
)

UNKNOWN_RATE = 0.06
"""Mutation rate of a chain whose V gene is not known, so that none depends on its neighbours."""


@dataclass(frozen=True)
class FoundGenes:
    """The V or J gene of each chain of a block."""

    table: GermlineTable
    nearest: Nearest
    is_assigned: np.ndarray
    """Whether the gene counts, bool ``[n]``."""
    how: list[str]
    """How each chain came to it, in the words of `protlm.data.germline_report`."""

    @property
    def framework(self) -> np.ndarray:
        """Codes by chain and position of V or J, int8 ``[n, positions]``; see `GermlineTable`."""
        return self.table.framework[self.nearest.gene]

    @property
    def cdr3(self) -> np.ndarray:
        """Codes inside the CDR3 as in `GermlineTable`, int8 ``[n, longest]``; `ABSENT` without a gene."""
        codes = self.table.cdr3[self.nearest.gene]
        return np.where(self.is_assigned[:, None], codes, np.int8(ABSENT))

    @property
    def rates(self) -> np.ndarray:
        """Mutation rate of each chain by its V gene, `UNKNOWN_RATE` without one, float64 ``[n]``."""
        return np.where(self.is_assigned, mutation_rates(self.nearest), UNKNOWN_RATE)

    def name(self, chain: int) -> str:
        """Give the allele of a chain; empty where none counts.

        Parameters
        ----------
        chain
            Its index.
        """
        return self.table.names[self.nearest.gene[chain]] if self.is_assigned[chain] else ""


def find_v(
    block: Block, junctions: Junctions, table: GermlineTable, calls: Sequence[str], min_identity: float
) -> FoundGenes:
    """Give the V gene of each chain: its call's, if the table has it, else the nearest.

    Parameters
    ----------
    block, junctions
        Chains of the genes' locus.
    table
        V genes.
    calls
        Of the chains; empty where there is none.
    min_identity
        Below it no gene counts.
    """
    allowed, how = _allowed(calls, table)
    nearest = nearest_v(block, junctions, table, allowed)
    in_v = (block.numbers > 0) & (block.numbers <= LAST_OF_V) & (block.codes >= 0)
    own = np.bincount(block.chain, weights=in_v, minlength=len(block))
    return _found(table, nearest, how, own >= MIN_V_RESIDUES, min_identity)


def find_j(
    block: Block,
    junctions: Junctions,
    table: GermlineTable,
    calls: Sequence[str],
    min_identity: float,
    v: FoundGenes,
) -> FoundGenes:
    """Give the J gene of each chain in the same way.

    Parameters
    ----------
    block, junctions, table, calls, min_identity
        As for `find_v`, with J genes.
    v
        The V genes, which tell how mutated a chain is.
    """
    allowed, how = _allowed(calls, table)
    nearest = nearest_j(block, junctions, table, v.rates, allowed)
    return _found(table, nearest, how, nearest.compared >= MIN_J_RESIDUES, min_identity)


def _found(
    table: GermlineTable, nearest: Nearest, how: list[str], is_long: np.ndarray, min_identity: float
) -> FoundGenes:
    is_assigned = is_long & (nearest.identity >= min_identity)
    words = list(how)
    for index in np.flatnonzero(~is_assigned).tolist():
        words[index] = TOO_FAR if is_long[index] else TOO_SHORT
    return FoundGenes(table, nearest, is_assigned, words)


def _allowed(calls: Sequence[str], table: GermlineTable) -> tuple[np.ndarray | None, list[str]]:
    """Give the genes that each chain's call allows, and how it comes to its gene."""
    how: list[str] = []
    masks: dict[str, tuple[np.ndarray, str]] = {"": (np.ones(len(table.names), dtype=bool), ASSIGNED)}
    for call in calls:
        if call not in masks:
            named = named_genes(call, table.names)
            mask = np.ones(len(table.names), dtype=bool)
            if named:
                mask = np.isin(np.arange(len(table.names)), named)
            exact = len(named) == 1 and table.names[named[0]].upper() == call_name(call).upper()
            masks[call] = mask, (GIVEN if exact else GIVEN_GENE) if named else NOT_IN_SET
        how.append(masks[call][1])
    if len(masks) == 1:
        return None, how
    return np.stack([masks[call][0] for call in calls]), how


def named_genes(call: str, names: Sequence[str]) -> list[int]:
    """Give the places of the allele that a call names, or, if there is none, of all alleles of its gene.

    Parameters
    ----------
    call
        As found in a file.
    names
        Alleles.

    Examples
    --------
    >>> named_genes("IGHJ6*09", ("IGHJ4*02", "IGHJ6*02", "IGHJ6*03"))
    [1, 2]
    """
    wanted = call_name(call).upper()
    if not wanted:
        return []
    exact = [place for place, each in enumerate(names) if each.upper() == wanted]
    gene = wanted.partition("*")[0]
    return exact or [place for place, each in enumerate(names) if each.upper().partition("*")[0] == gene]


def framework_residues(block: Block, genes: FoundGenes, *, is_v: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give the germline residues of V from position 1 to 104, or of J from 118 on.

    Residues behind the last one of the germline gene, such as the first of a constant domain, are not the
    gene's.

    Parameters
    ----------
    block
        Chains.
    genes
        Of the chains.
    is_v
        V or J.

    Returns
    -------
    residue, codes : numpy.ndarray
        Indices in the block of the residues that the gene reaches, and the codes of the germline residues
        there, `ABSENT` for insertions.
    """
    first, last = (1, LAST_OF_V) if is_v else (FIRST_OF_J, FIRST_OF_J + J_LENGTH - 1)
    framework = genes.framework
    last_of_gene = last - (framework[:, ::-1] != ABSENT).argmax(axis=1)
    numbers, chain = block.numbers, block.chain
    residue = np.flatnonzero((numbers >= first) & (numbers <= last_of_gene[chain]) & genes.is_assigned[chain])
    codes = framework[chain[residue], numbers[residue] - first]
    return residue, np.where(block.positions[residue] & 255 == 0, codes, np.int8(ABSENT))


def unspliced_residues(
    block: Block, germline: GermlineSet, locus: str, v_calls: Sequence[str], j_calls: Sequence[str]
) -> np.ndarray:
    """Give the V and J germline residue at each place that the whole genes reach, trimmed or not.

    In the CDR3, V genes are laid on from the left and J genes from the right; where both reach, the one whose
    end is nearer counts. So whether there is a germline residue does not depend on the chain's residue, as it
    does in the track `germline`.

    Parameters
    ----------
    block
        Chains of one locus.
    germline
        The genes.
    locus
        Of the chains; without V genes in the set, no residue is known.
    v_calls, j_calls
        Of the chains.

    Returns
    -------
    numpy.ndarray
        Codes, int8 ``[r]``; `ABSENT` where there is none.
    """
    codes = np.full(len(block.letters), ABSENT, dtype=np.int8)
    table, j_table = germline.table(locus, "V"), germline.table(locus, "J")
    if table is None or not len(block):
        return codes
    junctions = Junctions.of(block)
    v = find_v(block, junctions, table, v_calls, 0.0)
    residue, framework = framework_residues(block, v, is_v=True)
    codes[residue] = framework
    codes[junctions.residue] = _at(v.cdr3, junctions.chain, junctions.offset)
    if j_table is None:
        return codes
    j = find_j(block, junctions, j_table, j_calls, 0.0, v)
    residue, framework = framework_residues(block, j, is_v=False)
    codes[residue] = framework
    from_right = junctions.lengths[junctions.chain] - 1 - junctions.offset
    of_j = _at(j.cdr3, junctions.chain, from_right)
    of_v = codes[junctions.residue]
    takes_j = (of_j != ABSENT) & ((of_v == ABSENT) | (from_right < junctions.offset))
    codes[junctions.residue] = np.where(takes_j, of_j, of_v)
    return codes


def _at(cdr3: np.ndarray, chain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Give the codes at places of CDR3s, `ABSENT` behind the end of the gene."""
    inside = offset < cdr3.shape[1]
    return np.where(inside, cdr3[chain, np.minimum(offset, cdr3.shape[1] - 1)], np.int8(ABSENT))
