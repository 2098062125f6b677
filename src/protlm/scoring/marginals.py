"""Marginals: the new letter against the old one, at the mutated sites alone."""

from collections.abc import Sequence
from typing import Literal, Protocol

from protlm.data.layout import TokenLayout
from protlm.errors import ConfigError
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.plans import Terms
from protlm.types.variant import Mutation, Variant

Fill = Literal["wildtype", "joint", "mutant"]
FILLS: tuple[Fill, ...] = ("wildtype", "joint", "mutant")


class _ReadsMutatedSites:
    accepts_indels = False

    def num_reads(self, variant: Variant, _: int, /) -> int:
        """Count the sites; see `protlm.scoring.plans.Plan`."""
        return len(variant.mutations)


class WildtypeMarginal(_ReadsMutatedSites):
    r"""One pass over the unmasked wild type.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid x^{wt}) - \log p(x_i^{wt} \mid x^{wt})

    References
    ----------
    Meier et al. 2021, appendix A, doi:10.1101/2021.07.09.450648.
    """

    shares_contexts = True

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context, and one read per mutated site; see `protlm.scoring.plans.Plan`."""

        def read(_: Variant, mutation: Mutation) -> int:
            return contexts.read(contexts.context(base), chain, mutation.index)

        return _terms(variants, layout, read)


class MaskedMarginal(_ReadsMutatedSites):
    r"""The mutated site masked, in a context that `fill` names.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid c_{\setminus i}) - \log p(x_i^{wt} \mid c_{\setminus i})

    DISCREPANCY: the paper's equation masks all sites of a multiple mutant at once (``joint``); the default
    sums sites in the wild-type context, as ProteinGym does. For single substitutions all are the same.

    Parameters
    ----------
    fill
        What stands at the other mutated sites: ``wildtype`` (one pass per distinct site), ``joint`` (masked
        too; one pass per distinct set of sites) or ``mutant`` (one pass per variant and site).

    References
    ----------
    Meier et al. 2021, equation 1 and appendix A; ProteinGym issues 82 and 99.
    """

    fill: Fill = "wildtype"

    def __init__(self, fill: Fill = "wildtype") -> None:
        if fill not in FILLS:
            raise ConfigError(f"unknown fill {fill!r}", hint=f"expected one of {', '.join(FILLS)}")
        self.fill = fill

    @property
    def shares_contexts(self) -> bool:
        """Whether no context depends on more than a site."""
        return self.fill == "wildtype"

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for the masked contexts, and one read per mutated site; see `protlm.scoring.plans.Plan`."""

        def read(variant: Variant, mutation: Mutation) -> int:
            changes = [(chain, mutation.index, MASK)]
            if self.fill == "joint":
                changes = [(chain, each.index, MASK) for each in variant.mutations]
            elif self.fill == "mutant":
                others = [each for each in variant.mutations if each is not mutation]
                changes += [(chain, each.index, each.mutant) for each in others]
            return contexts.read(contexts.context(base, changes), chain, mutation.index)

        return _terms(variants, layout, read)


class MutantMarginal(_ReadsMutatedSites):
    r"""One pass over each unmasked variant.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid x^{mt}) - \log p(x_i^{wt} \mid x^{mt})

    References
    ----------
    Meier et al. 2021, appendix A.
    """

    shares_contexts = False

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context per variant, and one read per mutated site; see `protlm.scoring.plans.Plan`."""

        def read(variant: Variant, mutation: Mutation) -> int:
            context = contexts.context(base, [(chain, each.index, each.mutant) for each in variant.mutations])
            return contexts.read(context, chain, mutation.index)

        return _terms(variants, layout, read)


class ReadSite(Protocol):
    """Gives the result row of a mutated site."""

    def __call__(self, variant: Variant, mutation: Mutation, /) -> int:
        """Give the row."""
        ...


def _terms(variants: Sequence[Variant], layout: TokenLayout, read: ReadSite) -> Terms:
    entries = []
    for number, variant in enumerate(variants):
        for mutation in variant.mutations:
            row = read(variant, mutation)
            entries.append((number, row, layout.ids[mutation.mutant], 1.0))
            entries.append((number, row, int(layout.residue_ids[ord(mutation.wild_type)]), -1.0))
    return Terms.build(entries, len(variants))
