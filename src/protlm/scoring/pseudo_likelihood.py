"""Pseudo-likelihoods: every residue of a sequence counts, so insertions and deletions can be scored."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.scoring.contexts import MASK, Change, ContextList
from protlm.scoring.plans import Sharing, Terms
from protlm.types.alphabet import STANDARD
from protlm.types.record import Record
from protlm.types.variant import Variant


class _ReadsEveryResidue:
    accepts_indels = True
    sharing: Sharing = "none"

    def num_reads(self, _: Variant, num_residues: int, /) -> int:
        """Count the residues; see `protlm.scoring.plans.Plan`."""
        return num_residues


class PseudoLogLikelihood(_ReadsEveryResidue):
    r"""Each residue of the variant masked by itself, against the same sum over the wild type.

    .. math:: s = \sum_i \log p(x_i^{mt} \mid x^{mt}_{\setminus i})
                - \sum_i \log p(x_i^{wt} \mid x^{wt}_{\setminus i})

    Sums run over all chains of the record. Residues that are none of the twenty do not count. One pass per
    residue and variant.

    References
    ----------
    Meier et al. 2021, appendix A; Salazar et al. 2020, doi:10.18653/v1/2020.acl-main.240.
    """

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for every residue of every variant masked once; see `protlm.scoring.plans.Plan`."""

        def read(home: int, changes: Sequence[Change], place: tuple[int, int]) -> int:
            return contexts.read(_masked(contexts, home, changes, place), *place)

        return _sums_over_residues(contexts, base, chain, variants, layout, read)


class OneFellSwoop(_ReadsEveryResidue):
    r"""The pseudo-log-likelihood estimated from one unmasked pass per variant.

    An approximation. Where a model at the optimum of its training sees letter x at a site that it has to
    predict, x is the true letter left unchanged (rate β) or one of twenty drawn at random (rate α), so

    .. math:: p_{visible} = p \, (\beta + \alpha/20) / (\beta p + \alpha/20)

    for the masked probability p of that letter. This is solved for p; with the usual α = β = 0.1,
    log p = log p_visible − log(21 − 20 p_visible). Trained models are not at that optimum: the measured
    error is in ``docs/scoring.md``.

    References
    ----------
    The idea of a single pass: Kantroo et al. 2024, arXiv:2407.07265 (a regression on embeddings); Gordon et
    al. 2024, arXiv:2410.05750 (a linear formula, cut off below p_visible = 1/2).
    """

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for one unmasked context per variant; see `protlm.scoring.plans.Plan`."""

        def read(home: int, changes: Sequence[Change], place: tuple[int, int]) -> int:
            return contexts.read(contexts.context(home, changes), *place)

        terms = _sums_over_residues(contexts, base, chain, variants, layout, read)
        return replace(terms, transform=masked_from_visible)


def masked_from_visible(visible: np.ndarray, *, alpha: float = 0.1, beta: float = 0.1) -> np.ndarray:
    """Estimate the log-probability of a shown letter, had it been masked; see `OneFellSwoop`.

    Parameters
    ----------
    visible
        Its natural-log probability while shown.
    alpha
        Share of the selected residues that training replaces by a random one of the twenty.
    beta
        Share that it leaves unchanged.

    Examples
    --------
    >>> np.exp(masked_from_visible(np.log([1.0, 0.5]))).round(4).tolist()
    [1.0, 0.0455]
    """
    random = alpha / len(STANDARD)
    return np.log(random) + visible - np.log(beta + random - beta * np.exp(visible))


class LegacyPseudoPerplexity(_ReadsEveryResidue):
    """The published script's pseudo-perplexity score with its defect, for reproduction alone.

    It masks the residue before the one whose letter it reads, since it forgets the begin token, leaves the
    first residue and the last unread, and subtracts no wild type.

    References
    ----------
    ``compute_pppl`` of facebookresearch/esm, examples/variant-prediction/predict.py, commit 2b36991.
    """

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Ask for the contexts of the script; see `protlm.scoring.plans.Plan`."""
        entries = []
        for number, variant in enumerate(variants):
            home, changes, record = _locate(contexts, base, chain, variant)
            residues = record.chains[chain].residues
            for index in range(1, len(residues) - 1):
                place = (chain, index - 1)
                context = _masked(contexts, home, changes, place)
                token = int(layout.residue_ids[ord(residues[index])])
                entries.append((number, contexts.read(context, *place), token, 1.0))
        return Terms.build(entries, len(variants))


def _sums_over_residues(
    contexts: ContextList,
    base: int,
    chain: int,
    variants: Sequence[Variant],
    layout: TokenLayout,
    read: "ReadResidue",
) -> Terms:
    """Sum over the residues of every variant, and of the wild type as the reference."""
    changed = [(number, variant) for number, variant in enumerate(variants) if not variant.is_wild_type]
    reference = [(len(variants), Variant(()))] if changed else []
    entries = []
    for number, variant in [*changed, *reference]:
        home, changes, record = _locate(contexts, base, chain, variant)
        for place, letter in _standard_residues(record):
            entries.append((number, read(home, changes, place), layout.ids[letter], 1.0))
    return Terms.build(entries, len(variants))


def _locate(
    contexts: ContextList, base: int, chain: int, variant: Variant
) -> tuple[int, list[Change], Record]:
    """Give the base record of a variant, what is changed in it, and the record that results."""
    wild_type = contexts.bases[base]
    chains = list(wild_type.chains)
    sequence = variant.apply(chains[chain].residues)
    chains[chain] = replace(chains[chain], residues=sequence, tracks={})
    record = replace(wild_type, chains=tuple(chains))
    if variant.is_indel:
        return contexts.base(record), [], record
    return base, [(chain, each.index, each.mutant) for each in variant.mutations], record


def _masked(contexts: ContextList, home: int, changes: Sequence[Change], place: tuple[int, int]) -> int:
    """Ask for a variant with one residue masked, whatever stands there."""
    others = [change for change in changes if change[:2] != place]
    return contexts.context(home, [*others, (*place, MASK)])


def _standard_residues(record: Record) -> Iterator[tuple[tuple[int, int], str]]:
    for number, chain in enumerate(record.chains):
        for index, letter in enumerate(chain.residues):
            if letter in STANDARD:
                yield (number, index), letter


class ReadResidue(Protocol):
    """Gives the result row of a residue in a variant."""

    def __call__(self, home: int, changes: Sequence[Change], place: tuple[int, int], /) -> int:
        """Give the row."""
        ...
