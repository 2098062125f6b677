"""A table of variants under several models, with the score of their ensemble."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from protlm.errors import ConfigError
from protlm.models.language_model import LanguageModel
from protlm.models.residue_level import require_residue_level
from protlm.recipes.score_family import FamilyScorer
from protlm.recipes.score_run import run_plan
from protlm.recipes.score_structure import StructureScorer
from protlm.scoring.ensembles import WAYS, Way, check_way, combine
from protlm.scoring.inputs import VariantTable
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import WHOLE, VariantScores
from protlm.scoring.wild_type import WildType
from protlm.scoring.windows import LengthPolicy

Say = Callable[[str], None]

NOT_COVERED = "not covered by the alignment"
"""Note of a variant to which a model of a family gives no score."""
NOT_RESOLVED = "not resolved in the structure"
"""Note of a variant to which an inverse-folding model gives no score."""


def score_table(
    models: Sequence[LanguageModel],
    table: VariantTable,
    wild_type: WildType,
    *,
    plan: str = "masked_marginal",
    fill: str | None = None,
    length: LengthPolicy = WHOLE,
    ensemble: str | None = None,
    family: FamilyScorer | None = None,
    structure: StructureScorer | None = None,
    max_tokens: int | None = None,
    folder: Path | None = None,
    is_agreed: bool = True,
    say: Say = lambda _: None,
) -> tuple[pl.DataFrame, list[VariantScores]]:
    """Score a table of variants under each model; `score` is that of their ensemble.

    Parameters
    ----------
    models
        At least one, unless `family` or `structure` has members.
    table
        From `protlm.scoring.inputs` or `protlm.scoring.libraries`.
    wild_type
        The reference.
    plan
        A name in the registry `plans`, or ``"package.module:Name"``.
    fill, ensemble
        As for `protlm.recipes.score.score_file`.
    length
        What is done with a chain that a model does not take.
    family
        Models of an alignment: members of the ensemble behind the language models, and others beside.
    structure
        Inverse-folding plans: members of the ensemble behind these.
    max_tokens
        Token budget of a batch; by the device of each model if `None`.
    folder
        Where finished chunks are kept until all are done.
    is_agreed
        Whether a job of over an hour may start.
    say
        Tells the user how many contexts there are and how long they took.

    Returns
    -------
    polars.DataFrame
        The input columns, then ``score``, ``score_<model>`` for each, ``num_masked_contexts`` (those
        the row's own score rests on, per model) and ``note``.
    list of VariantScores
        Per language model.
    """
    of_family, beside = ((), ()) if family is None else (family.members, family.baselines)
    of_structure = () if structure is None else structure.members
    members = (*of_family, *of_structure)
    names = [*(model.name for model in models), *members, *beside]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two models are called '{repeated.pop()}'", hint="rename one of the folders; columns go by name"
        )
    check_ensemble(ensemble, len(models) + len(members))
    for model in models:
        require_residue_level(model, "score")
    known = [variant for variant in table.variants if variant is not None]
    others = {name: family.scores(name, known) for name in (*of_family, *beside)} if family else {}
    if structure is not None:
        others |= {name: structure.scores(name, known, folder=folder) for name in of_structure}
    results = [
        run_plan(
            model,
            make_plan(plan, fill=fill),
            plan if fill is None else f"{plan} with fill {fill}",
            wild_type.record,
            known,
            chain=wild_type.chain,
            length=length,
            max_tokens=max_tokens,
            folder=folder,
            keeps_all=len(models) > 1,
            is_agreed=is_agreed,
            say=say,
        )
        for model in models
    ]
    has_score = np.array([variant is not None for variant in table.variants])
    columns = {}
    for result in (*results, *others.values()):
        values = np.full(len(has_score), np.nan)
        values[has_score] = result.scores
        columns[f"score_{result.model}"] = pl.Series(values).fill_nan(None)
    together = np.full(len(has_score), np.nan)
    scored = [*results, *(others[name] for name in members)]
    together[has_score] = _together(scored, check_way(ensemble or "mean"), say)
    contexts = np.zeros(len(has_score), dtype=np.int32)
    contexts[has_score] = scored[0].own_masked_contexts
    frame = table.frame.with_columns(
        pl.Series("score", together).fill_nan(None),
        *(values.alias(name) for name, values in columns.items()),
        pl.Series("num_masked_contexts", contexts),
        pl.Series("note", _notes(table, scored, of_structure), dtype=pl.String),
    )
    return frame, results


def _notes(table: VariantTable, scored: Sequence[VariantScores], of_structure: Sequence[str]) -> list[str]:
    """Say of each variant without a score what its models lack, if nothing is said yet."""
    notes = list(table.notes)
    place = np.flatnonzero([variant is not None for variant in table.variants])
    for is_structure, reason in ((False, NOT_COVERED), (True, NOT_RESOLVED)):
        own = [each.scores for each in scored if (each.model in of_structure) is is_structure]
        lacks = np.any(~np.isfinite(own), axis=0) if own else np.zeros(len(place), dtype=bool)
        for row in place[lacks].tolist():
            told = table.notes[row]
            notes[row] = told or (f"{notes[row]}; {reason}" if notes[row] else reason)
    return notes


def check_ensemble(way: str | None, num_models: int) -> None:
    """Refuse a way of putting together where there is one model.

    Parameters
    ----------
    way
        As asked for.
    num_models
        All that score.

    Raises
    ------
    ConfigError
        If there is nothing to put together, or no such way.
    """
    if way is not None and check_way(way) and num_models < 2:
        raise ConfigError(
            f"--ensemble {way} puts several models together, and there is one",
            hint="repeat --model, or name a folder that pretrain --seeds made, or esm1v",
        )


def _together(results: Sequence[VariantScores], way: Way, say: Say) -> np.ndarray:
    if len(results) == 1:
        return results[0].scores
    names = [result.model for result in results]
    combined = combine([result.scores for result in results], way, names=names)
    say(f"score: {WAYS[way]}, {len(names)} models")
    for note in combined.notes:
        say(note)
    return combined.scores
