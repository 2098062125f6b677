"""Score variants of one chain under one or several models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protlm.errors import DataError
from protlm.models.language_model import MaskedModel
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, ContextList, run_contexts
from protlm.scoring.plans import Plan, Terms
from protlm.types.record import Record
from protlm.types.variant import Variant


@dataclass(frozen=True)
class VariantScores:
    """Scores of some variants under one model."""

    model: str
    scores: np.ndarray
    """Natural-log odds against the wild type, float64 ``[n]``; higher = fitter."""
    num_contexts: int
    """Distinct contexts run, masked or not."""
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
    limit = model.layout.max_tokens
    needed = model.layout.num_positions(len(wild_type), len(wild_type.chains))
    if limit is not None and needed > limit:
        raise DataError(
            f"the wild type '{wild_type.id}' has {len(wild_type)} residues and needs {needed} tokens, but "
            f"model '{model.name}' takes at most {limit}",
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
    contexts, terms = plan_contexts(model, plan, wild_type, variants, chain=chain)
    reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_batch)
    return VariantScores(model.name, terms.scores(reads), contexts.num_contexts, contexts.num_masked_contexts)
