"""Marginals: the new letter against the old one, at the mutated sites alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.errors import ConfigError
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.plans import Sharing, Terms
from protlm.types.variant import Variant

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

    sharing: Sharing = "all"

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context, and one read per mutated site; see `protlm.scoring.plans.Plan`."""
        every = _Substitutions.of(variants, layout)
        return every.terms(
            every.rows_of_sites(lambda site: contexts.read(contexts.context(base), chain, site))
        )


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
    def sharing(self) -> Sharing:
        """Which variants share contexts; see `protlm.scoring.plans.Plan`."""
        return _SHARING[self.fill]

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for the masked contexts, and one read per mutated site; see `protlm.scoring.plans.Plan`."""
        every = _Substitutions.of(variants, layout)
        if self.fill == "mutant":
            return every.terms(_mutants_with_a_mask(contexts, base, chain, variants))

        def read(sites: Sequence[int]) -> list[int]:
            context = contexts.context(base, [(chain, site, MASK) for site in sites])
            return [contexts.read(context, chain, site) for site in sites]

        if self.fill == "joint":
            return every.terms(every.rows_of_sets(read))
        return every.terms(every.rows_of_sites(lambda site: read([site])[0]))


_SHARING: dict[Fill, Sharing] = {"wildtype": "all", "joint": "same_sites", "mutant": "none"}


def _mutants_with_a_mask(
    contexts: ContextList, base: int, chain: int, variants: Sequence[Variant]
) -> np.ndarray:
    """Ask for every variant with each of its sites masked in turn; give the row of every substitution."""
    rows = []
    for variant in variants:
        for masked in variant.mutations:
            others = [(chain, each.index, each.mutant) for each in variant.mutations if each is not masked]
            context = contexts.context(base, [(chain, masked.index, MASK), *others])
            rows.append(contexts.read(context, chain, masked.index))
    return np.array(rows, dtype=np.int32)


class MutantMarginal(_ReadsMutatedSites):
    r"""One pass over each unmasked variant.

    .. math:: s = \sum_{i \in M} \log p(x_i^{mt} \mid x^{mt}) - \log p(x_i^{wt} \mid x^{mt})

    References
    ----------
    Meier et al. 2021, appendix A.
    """

    sharing: Sharing = "none"

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one context per variant, and one read per mutated site; see `protlm.scoring.plans.Plan`."""
        rows = []
        for variant in variants:
            context = contexts.context(base, [(chain, each.index, each.mutant) for each in variant.mutations])
            rows += [contexts.read(context, chain, each.index) for each in variant.mutations]
        return _Substitutions.of(variants, layout).terms(np.array(rows, dtype=np.int32))


@dataclass(frozen=True)
class _Substitutions:
    """The substitutions of some variants, one after another."""

    starts: np.ndarray
    """``starts[v] : starts[v + 1]`` are those of variant v."""
    variant: np.ndarray
    index: np.ndarray
    """0-based in the chain, int32."""
    wild_type: np.ndarray
    """Token ids."""
    mutant: np.ndarray

    @classmethod
    def of(cls, variants: Sequence[Variant], layout: TokenLayout) -> "_Substitutions":
        """Lay them out."""
        counts = [len(variant.mutations) for variant in variants]
        every = [mutation for variant in variants for mutation in variant.mutations]
        wild_type = "".join([mutation.wild_type for mutation in every]).encode()
        mutant = "".join([mutation.mutant for mutation in every]).encode()
        return cls(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.repeat(np.arange(len(variants), dtype=np.int32), counts),
            np.fromiter((mutation.index for mutation in every), dtype=np.int32, count=len(every)),
            layout.residue_ids[np.frombuffer(wild_type, dtype=np.uint8)],
            layout.residue_ids[np.frombuffer(mutant, dtype=np.uint8)],
        )

    def rows_of_sites(self, read: Callable[[int], int]) -> np.ndarray:
        """Ask for a row for each distinct site; give the row of every substitution, int32."""
        rows = np.zeros(self.index.max(initial=-1) + 1, dtype=np.int32)
        for site in np.flatnonzero(np.bincount(self.index)).tolist():
            rows[site] = read(site)
        return rows[self.index]

    def rows_of_sets(self, read: Callable[[Sequence[int]], Sequence[int]]) -> np.ndarray:
        """Ask for the rows of each distinct set of sites; give the row of every substitution, int32."""
        text, width = self.index.tobytes(), self.index.itemsize
        known: dict[bytes, int] = {}
        rows: list[int] = []
        first = []
        for start, stop in pairwise((self.starts * width).tolist()):
            sites = text[start:stop]
            if sites not in known:
                known[sites] = len(rows)
                rows += read(self.index[start // width : stop // width].tolist())
            first.append(known[sites])
        shift = np.array(first, dtype=np.int64) - self.starts[:-1]
        places = np.arange(len(self.index)) + np.repeat(shift, np.diff(self.starts))
        return np.array(rows, dtype=np.int32)[places]

    def terms(self, row: np.ndarray) -> Terms:
        """Take the new letter minus the old one in the row of each substitution."""
        weight = np.broadcast_to(np.float64(1), len(row))
        num_variants = len(self.starts) - 1
        return Terms(self.variant, row, self.mutant, weight, num_variants, minus=self.wild_type)
