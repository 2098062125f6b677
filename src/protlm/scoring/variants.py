"""Score variants of one chain under one or several models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.errors import DataError
from protlm.models.language_model import MaskedModel
from protlm.scoring.chunks import cut
from protlm.scoring.contexts import ContextList
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, run_contexts
from protlm.scoring.plans import Plan, Terms, check_indels
from protlm.scoring.windows import LengthPolicy, Windows
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
    """Contexts run, masked or not, or pieces of them; those that variants share count once in a chunk."""
    num_masked_contexts: int
    cut_to: int | None = None
    """Residues of a piece, where the wild type was cut."""


WHOLE = LengthPolicy()
"""No chain is cut; one that a model does not take is an error."""


def plan_contexts(
    model: MaskedModel,
    plan: Plan,
    wild_type: Record,
    variants: Sequence[Variant],
    *,
    chain: int = 0,
    length: LengthPolicy = WHOLE,
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
    length
        What is done with a wild type, or a longer variant, that the model does not take.

    Raises
    ------
    DataError
        If the wild type is longer than the model allows and is not to be cut, or has several chains.
    """
    check_indels(plan, variants)
    windows = length.windows(model.layout, model.name)
    longest = max(
        [0, *(len(each.residues) - len(wild_type.chains[chain]) for each in variants if each.is_indel)]
    )
    _check_length(model.layout, model.name, wild_type, longest, windows)
    contexts = ContextList([wild_type], windows)
    return contexts, plan.prepare(contexts, 0, chain, variants, model.layout)


def _check_length(
    layout: TokenLayout, name: str, wild_type: Record, longest: int, windows: Windows | None
) -> None:
    """Refuse what a model does not take; `longest` is how many residues the longest variant has more."""
    num_chains, residues = len(wild_type.chains), len(wild_type) + longest
    and_longer = f", its longest variant {longest} more," if longest else ""
    if windows is not None and (num_chains == 1 or residues <= windows.size):
        return
    if windows is not None:
        raise DataError(
            f"the wild type '{wild_type.id}' has {num_chains} chains of together {len(wild_type)} "
            f"residues{and_longer} and a piece has {windows.size}, but only a single chain can be cut",
            hint="score the chain alone, without its partners, or use a model without a limit",
        )
    needed = layout.num_positions(residues, num_chains)
    if layout.max_tokens is not None and needed > layout.max_tokens:
        cut = "pass --long tile (or window) to cut it into pieces; or " if num_chains == 1 else ""
        raise DataError(
            f"the wild type '{wild_type.id}' has {len(wild_type)} residues{and_longer} and needs {needed} "
            f"tokens, but model '{name}' takes at most {layout.max_tokens}",
            hint=f"{cut}score a shorter domain, or use a model without a limit, such as esm2-650m",
        )


def score_variants(
    model: MaskedModel,
    plan: Plan,
    wild_type: Record,
    variants: Sequence[Variant],
    *,
    chain: int = 0,
    length: LengthPolicy = WHOLE,
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
    length
        What is done with a wild type that the model does not take.
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
        contexts, terms = plan_contexts(model, plan, wild_type, chunk, chain=chain, length=length)
        reads = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_batch)
        scores[rows], masked[rows] = terms.scores(reads), terms.num_masked_contexts(contexts.runs())
        num_contexts += contexts.num_contexts
        num_masked += contexts.num_masked_contexts
    windows = windows_of(model, wild_type, length)
    cut_to = None if windows is None else windows.size
    return VariantScores(model.name, scores, masked, num_contexts, num_masked, cut_to)


def windows_of(model: MaskedModel, wild_type: Record, length: LengthPolicy) -> Windows | None:
    """Give how a wild type is cut; `None` where it is not.

    Parameters
    ----------
    model, wild_type, length
        As for `score_variants`.
    """
    windows = length.windows(model.layout, model.name)
    return None if windows is None or len(wild_type) <= windows.size else windows
