"""evaluate partner: what models learn of one chain of a pair from the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.errors import ConfigError, DataError
from protlm.evaluation.mutation_masking import (
    MIN_MUTATIONS,
    has_mutations,
    mutation_masking_tables,
    predict_masked_mutations,
)
from protlm.evaluation.partner import (
    NONE,
    RANDOM,
    SAME_LOCUS,
    TRUE,
    PairIndex,
    partner_tables,
    predict_with_partners,
)
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.residue_level import require_residue_level
from protlm.recipes.evaluated import (
    ChosenRecords,
    Say,
    choose_rows,
    evaluate_in_parts,
    known_leakage,
    load_models,
    open_evaluation,
    refuse_too_long,
)
from protlm.recipes.table_parts import TableParts, discard, join_parts
from protlm.runs import Run


def evaluate_partner(
    models: Sequence[str],
    source: Path | str,
    out: Path | str,
    *,
    max_records: int | None = None,
    min_mutations: int = MIN_MUTATIONS,
    turns: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Mask every residue of each chain given the true, a random and no partner, and compare the losses.

    Random partners come from other groups of the whole input, once among all pairs and once among pairs
    of the same loci. Where germline residues are known, all mutated residues of one chain are also masked
    together, with the partner native and reverted to germline. An interrupted evaluation goes on where it
    was when it is called again.

    Parameters
    ----------
    models
        Runs, folders or names of models that take pairs.
    source
        A corpus or any file that `prepare` reads, with pairs; held out from training.
    out
        The Run folder. Tables ``partner`` (every residue under every partner), ``partner_summary``,
        ``partner_gain``, and where mutations are known ``mutation_masking``, its ``_summary`` and
        ``_gain``.
    max_records
        Take at most this many pairs, chosen by their content keys; all by default.
    min_mutations
        Mutated residues that each chain needs to be in the second test.
    turns
        Mask a chain's residues in so many turns rather than one by one; see `predict_with_partners`.
    seed
        Of the random partners.
    device, precision
        Where and in what precision to run the models.
    max_tokens
        Token budget of a batch; by the device if not said.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If the input has no pairs, or none with a partner of another group.
    """
    if turns is not None and turns < 2:
        raise ConfigError(f"--turns {turns}: a chain would be masked whole", hint="expected 2 or more")
    loaded = load_models(models, device, precision)
    for model in loaded:
        require_residue_level(model, "evaluate partner")
    settings = {
        "kind": "partner",
        "models": list(map(str, models)),
        "max_records": max_records,
        "min_mutations": min_mutations,
        "turns": turns,
        "seed": seed,
        "precision": precision,
    }
    run, corpus = open_evaluation(out, source, settings, force=force, say=say)
    index = PairIndex.build(corpus)
    pairs, partners = _choose(corpus, index, max_records, seed, say)
    for those in (pairs, *partners.values()):
        refuse_too_long(those, loaded, where=f"{corpus.name}: ")
    run.write_json(
        "data_manifest.json",
        {
            "num_records": len(pairs),
            "num_left_out": len(corpus) - len(index.rows),
            "corpus": corpus.manifest,
            "leakage": known_leakage(models, pairs, say),
        },
    )
    folder = run.checkpoints_path / "partner"
    parts = [_predict(model, pairs, partners, folder, turns, seed, max_tokens, say) for model in loaded]
    join_parts(parts, run.table_path("partner"))
    summary, gains = partner_tables(pl.scan_parquet(run.table_path("partner")))
    summary.write_parquet(run.table_path("partner_summary"))
    gains.write_parquet(run.table_path("partner_gain"))
    _mask_mutations(run, loaded, pairs, folder, min_mutations, max_tokens, say)
    discard(folder)
    run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def _choose(
    corpus: Corpus, index: PairIndex, max_records: int | None, seed: int, say: Say
) -> tuple[ChosenRecords, dict[str, ChosenRecords]]:
    """Choose pairs that have every kind of random partner, and the partners; count the others."""
    if not len(index.rows):
        raise DataError(
            f"{corpus.name} has no record of two chains that have different roles, or none",
            hint="this evaluation needs pairs; protlm prepare --heavy COL --light COL reads those of "
            "antibodies, --sequences those of other proteins",
        )
    if others := len(corpus) - len(index.rows):
        say(
            f"{others:,} of {len(corpus):,} records are no pair of two chains with different roles, or none, "
            "and are left out"
        )
    drawn = {RANDOM: index.draw(seed=seed, same_locus=False)}
    if len(np.unique(index.loci)) > 1:
        drawn[SAME_LOCUS] = index.draw(seed=seed, same_locus=True)
    else:
        say("all pairs are of the same loci, so there is no second kind of random partner")
    has_all = np.all([those >= 0 for those in drawn.values()], axis=0)
    if not has_all.any():
        raise DataError(
            f"{corpus.name}: no pair has a partner of another group to be shown with",
            hint="the input needs pairs of two groups (V gene and CDR3) or more, of the same loci",
        )
    if lacking := int((~has_all).sum()):
        say(f"{lacking:,} of {len(index.rows):,} pairs have no random partner of another group: left out")
    rows = choose_rows(corpus, index.rows[has_all], max_records)
    place = np.full(len(corpus), -1, dtype=np.int64)
    place[index.rows] = np.arange(len(index.rows))
    partners = {name: ChosenRecords(corpus, index.rows[those[place[rows]]]) for name, those in drawn.items()}
    return ChosenRecords(corpus, rows), partners


def _predict(
    model: LanguageModel,
    pairs: ChosenRecords,
    partners: dict[str, ChosenRecords],
    folder: Path,
    turns: int | None,
    seed: int,
    max_tokens: int | None,
    say: Say,
) -> TableParts:
    return evaluate_in_parts(
        model,
        pairs,
        folder,
        contexts_per_residue=_contexts_per_residue(pairs, len({TRUE, NONE, *partners}), turns),
        predict=lambda some, on_contexts: predict_with_partners(
            model,
            pairs[some],
            {name: those[some] for name, those in partners.items()},
            turns=turns,
            max_tokens=max_tokens or model.token_budget,
            on_contexts=on_contexts,
        ),
        what=["partner", turns, seed, {name: those.digest() for name, those in partners.items()}],
        say=say,
    )


def _contexts_per_residue(pairs: ChosenRecords, conditions: int, turns: int | None) -> float:
    share = 1.0 if turns is None else min(1.0, 2 * turns * len(pairs) / pairs.num_residues)
    return conditions * share


def _mask_mutations(
    run: Run,
    models: Sequence[LanguageModel],
    pairs: ChosenRecords,
    folder: Path,
    min_mutations: int,
    max_tokens: int | None,
    say: Say,
) -> None:
    enough = np.array([has_mutations(record, min_mutations) for record in pairs])
    say(
        f"mutation masking: {int(enough.sum()):,} of {len(pairs):,} pairs have at least {min_mutations} "
        "mutated residues with a known germline in each chain"
    )
    if not enough.any():
        return
    chosen = ChosenRecords(pairs.corpus, pairs.rows[enough])
    parts = [
        evaluate_in_parts(
            model,
            chosen,
            folder,
            contexts_per_residue=4 * len(chosen) / chosen.num_residues,
            predict=lambda some, on_contexts, model=model: predict_masked_mutations(
                model, chosen[some], max_tokens=max_tokens or model.token_budget, on_contexts=on_contexts
            ),
            what="mutation masking",
            say=say,
        )
        for model in models
    ]
    join_parts(parts, run.table_path("mutation_masking"))
    summary, gains = mutation_masking_tables(pl.scan_parquet(run.table_path("mutation_masking")))
    summary.write_parquet(run.table_path("mutation_masking_summary"))
    gains.write_parquet(run.table_path("mutation_masking_gain"))
