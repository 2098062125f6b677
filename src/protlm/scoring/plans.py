"""Scoring plans: which contexts a set of variants needs, and how reads become scores.

Higher means fitter. All logarithms are natural.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.registry import Registry
from protlm.scoring.engine import MASK, ContextList
from protlm.types.record import Record
from protlm.types.variant import Variant

plans = Registry(
    "plan",
    {
        "wildtype_marginal": "protlm.scoring.plans:WildtypeMarginal",
        "masked_marginal": "protlm.scoring.plans:MaskedMarginal",
    },
)
"""To add one: a class with `prepare`, and a line here. The engine stays as it is."""


@dataclass(frozen=True)
class Terms:
    """Scores as sums of differences of log-probabilities.

    Score of variant ``v`` = sum over its terms of ``read[row, mutant] - read[row, wild type]``.
    """

    variant: np.ndarray
    """Which variant a term belongs to, int64 ``[terms]``."""
    row: np.ndarray
    """Which read it uses."""
    mutant: np.ndarray
    """Token id of the new residue."""
    wild_type: np.ndarray
    """Token id of the old residue."""
    masked_context: np.ndarray
    """Which context it reads, where something in that is masked; else -1."""
    num_variants: int

    def scores(self, reads: np.ndarray) -> np.ndarray:
        """Give one score per variant, float64; 0 for the wild type.

        Parameters
        ----------
        reads
            Log-probabilities ``[rows, v]`` from the engine.
        """
        differences = reads[self.row, self.mutant].astype(np.float64) - reads[self.row, self.wild_type]
        return np.bincount(self.variant, weights=differences, minlength=self.num_variants)

    @property
    def num_masked_contexts(self) -> np.ndarray:
        """How many distinct masked contexts the score of each variant rests on, int64."""
        pairs = np.stack([self.variant, self.masked_context], axis=1)[self.masked_context >= 0]
        return np.bincount(np.unique(pairs, axis=0)[:, 0], minlength=self.num_variants)


class Plan(Protocol):
    """What the recipes need of a plan."""

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Add the contexts that the variants need, and say how to put their reads together."""
        ...


class WildtypeMarginal:
    r"""One pass over the unmasked wild type.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid x^{wt}) - \log p(x_i^{wt} \mid x^{wt})

    References
    ----------
    Meier et al. 2021, appendix A, doi:10.1101/2021.07.09.450648.
    """

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context, and one read per mutated site.

        Parameters
        ----------
        contexts
            Filled.
        base, chain
            The wild type.
        variants
            Checked against it.
        layout
            The model's.
        """
        context = contexts.context(base)
        return _terms(variants, layout, lambda index: (contexts.read(context, chain, index), -1))


class MaskedMarginal:
    r"""One pass per mutated site, that site masked and everything else as in the wild type.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid x^{wt}_{\setminus i})
                               - \log p(x_i^{wt} \mid x^{wt}_{\setminus i})

    DISCREPANCY: the paper's equation masks all sites of a multiple mutant at once; this sums sites in
    the wild-type context, as ProteinGym does. For single substitutions the two are the same.

    References
    ----------
    Meier et al. 2021, equation 1 and appendix A; ProteinGym issues 82 and 99.
    """

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context and one read per distinct mutated site.

        Parameters
        ----------
        contexts
            Filled.
        base, chain
            The wild type.
        variants
            Checked against it.
        layout
            The model's.
        """

        def read(index: int) -> tuple[int, int]:
            context = contexts.context(base, [(chain, index, MASK)])
            return contexts.read(context, chain, index), context

        return _terms(variants, layout, read)


def _terms(variants: Sequence[Variant], layout: TokenLayout, read: "ReadSite") -> Terms:
    entries = [
        (
            number,
            *read(mutation.index),
            layout.ids[mutation.mutant],
            layout.residue_ids[ord(mutation.wild_type)],
        )
        for number, variant in enumerate(variants)
        for mutation in variant.mutations
    ]
    variant, row, masked_context, mutant, wild_type = np.array(entries, dtype=np.int64).reshape(-1, 5).T
    return Terms(variant, row, mutant, wild_type, masked_context, len(variants))


class ReadSite(Protocol):
    """Gives the result row of a site, and which masked context it reads."""

    def __call__(self, index: int, /) -> tuple[int, int]:
        """Give the row for a 0-based residue index, and the context, -1 where nothing in it is masked."""
        ...


def every_residue_masked(contexts: ContextList, base: int) -> np.ndarray:
    """Ask for each residue of a record masked by itself; give the result rows, chain by chain.

    Parameters
    ----------
    contexts
        Filled.
    base
        Index of the record.
    """
    record: Record = contexts.bases[base]
    rows = [
        contexts.read(contexts.context(base, [(chain_number, index, MASK)]), chain_number, index)
        for chain_number, chain in enumerate(record.chains)
        for index in range(len(chain))
    ]
    return np.array(rows, dtype=np.int64)
