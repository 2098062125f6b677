"""The likelihood of records under a model that saw no labels, as a baseline of a number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.errors import DataError, ModelError
from protlm.models.language_model import LanguageModel
from protlm.progress import Progress
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.engine import run_contexts
from protlm.scoring.plans import every_residue_masked
from protlm.scoring.pseudo_likelihood import masked_from_visible
from protlm.scoring.wild_type import read_wild_type
from protlm.types.alphabet import STANDARD
from protlm.types.record import Record

_RECORDS_AT_ONCE = 256
_STANDARD = np.frombuffer(STANDARD.encode(), dtype=np.uint8)


@dataclass(frozen=True)
class ZeroShot:
    """Likelihoods of some records."""

    name: str
    """Of the baseline; says the plan."""
    scores: dict[int, float]
    """By row, in natural logarithms, turned so that higher goes with a higher value of the target."""
    lines: Sequence[str] = ()
    """What was done, or why nothing."""


def zero_shot(
    model: LanguageModel,
    records: Sequence[Record],
    rows: np.ndarray,
    *,
    wild_type: str | None = None,
    most_contexts: int,
    best: str = "",
) -> ZeroShot:
    """Score records by the cheapest exact plan that fits, else by one pass each.

    With a wild type of the same length: masked marginals, a masked context for each site that varies.
    Without: the pseudo-log-likelihood per residue, which masks every residue of every record, up to
    `most_contexts` of them; above, its estimate from one unmasked pass over each record (`OneFellSwoop`).

    Parameters
    ----------
    model
        Before it is tuned.
    records
        All of them.
    rows
        Which to score.
    wild_type
        A file or residues.
    most_contexts
        Records × residues up to which every residue is masked.
    best
        ``low`` where low values are the best: then the scores are turned, since a likely record is
        taken for a good one.

    Raises
    ------
    DataError
        If the wild type cannot be read.
    """
    rows = np.unique(rows)
    asked = [records[row] for row in rows.tolist()]
    lines = []
    reference = None if wild_type is None else read_wild_type(wild_type).record
    if reference is not None and any(_lengths(each) != _lengths(reference) for each in asked):
        count = sum(_lengths(each) != _lengths(reference) for each in asked)
        lines.append(
            f"{count:,} of {len(asked):,} records differ in length from the wild type: no masked marginals"
        )
        reference = None
    size = sum(len(record) for record in asked)
    if reference is not None:
        plan = "masked_marginal"
    else:
        plan = "pseudo_log_likelihood" if size <= most_contexts else "one_fell_swoop"
    try:
        scores = _marginals(model, reference, asked) if reference else _likelihoods(model, asked, plan)
    except (DataError, ModelError) as error:
        return ZeroShot("zero_shot", {}, [*lines, f"no baseline 'zero_shot': {error.message}"])
    if plan == "one_fell_swoop":
        lines.append(
            f"zero-shot likelihood from one pass over each record: {size:,} residues to mask one by one are "
            f"over zero_shot_contexts = {most_contexts:,}"
        )
    else:
        lines.append(f"zero-shot likelihood: {plan}, of the model as it was before tuning")
    sign = -1 if best == "low" else 1
    found = {row: sign * float(score) for row, score in zip(rows.tolist(), scores, strict=True)}
    return ZeroShot(f"zero_shot, {plan}", found, lines)


def _lengths(record: Record) -> list[int]:
    return [len(chain) for chain in record.chains]


def _marginals(model: LanguageModel, reference: Record, records: Sequence[Record]) -> np.ndarray:
    """Sum over the sites that differ: log p(new letter) − log p(old letter), that site alone masked."""
    contexts = ContextList([reference])
    old = [_letters(chain.residues) for chain in reference.chains]
    terms = []
    for number, record in enumerate(records):
        for place, chain in enumerate(record.chains):
            new = _letters(chain.residues)
            differs = (new != old[place]) & np.isin(new, _STANDARD) & np.isin(old[place], _STANDARD)
            for site in np.flatnonzero(differs).tolist():
                read = contexts.read(contexts.context(0, [(place, site, MASK)]), place, site)
                terms.append((number, read, int(new[site]), int(old[place][site])))
    scores = np.zeros(len(records))
    if terms:
        with Progress("zero-shot", contexts.num_contexts, unit="context") as progress:
            reads = run_contexts(model, contexts, on_batch=lambda done: progress.advance(units=done))
        number, read, new, old_letter = np.array(terms).T
        ids = model.layout.residue_ids
        np.add.at(scores, number, reads[read, ids[new]] - reads[read, ids[old_letter]])
    return scores


def _likelihoods(model: LanguageModel, records: Sequence[Record], plan: str) -> np.ndarray:
    """Give the mean over the standard residues of each record, by blocks that bound the memory."""
    scores = []
    with Progress("zero-shot", len(records), unit="record") as progress:
        for start in range(0, len(records), _RECORDS_AT_ONCE):
            block = records[start : start + _RECORDS_AT_ONCE]
            scores += _block(model, block, plan)
            progress.advance(units=len(block))
    return np.array(scores)


def _block(model: LanguageModel, records: Sequence[Record], plan: str) -> list[float]:
    contexts = ContextList([])
    rows = []
    for record in records:
        base = contexts.base(record)
        if plan == "pseudo_log_likelihood":
            rows.append(every_residue_masked(contexts, base))
        else:
            shown = contexts.context(base)
            places = [(each, index) for each, size in enumerate(_lengths(record)) for index in range(size)]
            rows.append(np.array([contexts.read(shown, *place) for place in places], dtype=np.int64))
    reads = run_contexts(model, contexts)
    return [_mean(reads[own], record, model.layout, plan) for own, record in zip(rows, records, strict=True)]


def _mean(reads: np.ndarray, record: Record, layout: TokenLayout, plan: str) -> float:
    letters = np.concatenate([_letters(chain.residues) for chain in record.chains])
    is_standard = np.isin(letters, _STANDARD)
    values = reads[np.arange(len(letters)), layout.residue_ids[letters]][is_standard].astype(np.float64)
    values = masked_from_visible(values) if plan == "one_fell_swoop" else values
    return float(values.mean()) if len(values) else 0.0


def _letters(residues: str) -> np.ndarray:
    return np.frombuffer(residues.encode(), dtype=np.uint8)
