"""Score variants of one chain under one or several models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protlm.errors import DataError
from protlm.models.language_model import MaskedModel
from protlm.scoring.chunks import cut
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, ContextList, run_contexts
from protlm.scoring.plans import Plan, Terms, check_indels
from protlm.types.record import Record
from protlm.types.variant import Variant


@dataclass(frozen=True)
class VariantScores:
    """Scores of some variants under one model."""

    model: str
    scores: np.ndarray
    """Natural-log odds against the wild type, float64 ``[n]``; higher = fitter."""
    own_masked_contexts: np.ndarray
    """How many masked contexts of its own each score rests on, int64 ``[n]``."""
    num_contexts: int
    """Contexts run, masked or not; those that variants share count once in a chunk."""
    num_masked_contexts: int


def plan_contexts(
    model: MaskedModel, plan: Plan, wild_type: Record, variants: Sequence[Variant], *, chain: int = 0
) -> tuple[ContextList, Terms]:
    """Work out which contexts are needed, without running any.

    Parameters
    ----------
    model
        For its layout.
    plan
        From the registry `plans`.
    wild_type
        The reference.
    variants
        Parsed against ``wild_type.chains[chain]``.
    chain
        Which chain is mutated, 0-based.

    Raises
    ------
    DataError
        If the wild type is longer than the model allows.
    """
    check_indels(plan, variants)
    limit = model.layout.max_tokens
    longest = max(
        [0, *(len(each.residues) - len(wild_type.chains[chain]) for each in variants if each.is_indel)]
    )
    needed = model.layout.num_positions(len(wild_type) + longest, len(wild_type.chains))
    if limit is not None and needed > limit:
        and_longer = f", its longest variant {longest} more," if longest else ""
        raise DataError(
            f"the wild type '{wild_type.id}' has {len(wild_type)} residues{and_longer} and needs {needed} "
            f"tokens, but model '{model.name}' takes at most {limit}",
            hint="score a shorter domain, or use a model without a limit, such as esm2-650m",
        )
    contexts = ContextList([wild_type])
    return contexts, plan.prepare(contexts, 0, chain, variants, model.layout)


def score_variants(
    model: MaskedModel,
    plan: Plan,
    wild_type: Record,
    variants: Sequence[Variant],
    *,
    chain: int = 0,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_batch: Callable[[int], None] | None = None,
) -> VariantScores:
    """Score variants under one model; the wild type itself scores 0.

    Parameters
    ----------
    model
        Any masked model.
    plan
        From the registry `plans`.
    wild_type
        The reference.
    variants
        Parsed against ``wild_type.chains[chain]``.
    chain
        Which chain is mutated, 0-based.
    max_tokens
        Token budget of a batch.
    on_batch
        Called with the number of contexts finished.
    """
    scores = np.zeros(len(variants))
    masked = np.zeros(len(variants), dtype=np.int64)
    num_contexts = num_masked = 0
    for rows in cut(plan, variants, len(wild_type)):
        chunk = [variants[row] for row in rows]
        contexts, terms = plan_contexts(model, plan, wild_type, chunk, chain=chain)
        reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_batch)
        scores[rows], masked[rows] = terms.scores(reads), terms.num_masked_contexts
        num_contexts += contexts.num_contexts
        num_masked += contexts.num_masked_contexts
    return VariantScores(model.name, scores, masked, num_contexts, num_masked)
