"""score: variants of a wild type to a table of zero-shot scores."""

import importlib.metadata
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from protlm.errors import ConfigError
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress, duration
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET
from protlm.scoring.inputs import (
    VariantTable,
    describe_wild_type,
    read_variants,
    read_wild_type,
    single_substitutions,
)
from protlm.scoring.plans import plans
from protlm.scoring.variants import VariantScores, plan_contexts, score_variants
from protlm.types.record import Record
from protlm.types.variant import Variant, parse_variant

Say = Callable[[str], None]


def score_table(
    models: Sequence[LanguageModel],
    table: VariantTable,
    wild_type: Record,
    *,
    plan: str = "masked_marginal",
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    say: Say = lambda _: None,
) -> tuple[pl.DataFrame, list[VariantScores]]:
    """Score a table of variants under each model; `score` is their mean.

    Parameters
    ----------
    models
        At least one.
    table
        From `read_variants` or `single_substitutions`.
    wild_type
        The reference.
    plan
        ``"masked_marginal"`` or ``"wildtype_marginal"``.
    max_tokens
        Token budget of a batch.
    say
        Tells the user how many contexts there are and how long they took.

    Returns
    -------
    polars.DataFrame
        The input columns, then ``score``, ``score_<model>`` if there are several,
        ``num_masked_contexts`` (those the row's own score rests on, per model) and ``note``.
    """
    names = [model.name for model in models]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two models are called '{repeated.pop()}'", hint="rename one of the folders; columns go by name"
        )
    scorer = plans.get(plan)()
    known = [variant for variant in table.variants if variant is not None]
    results = [_run(model, scorer, plan, wild_type, known, max_tokens, say) for model in models]
    has_score = np.array([variant is not None for variant in table.variants])
    columns = {}
    for result in results:
        values = np.full(len(has_score), np.nan)
        values[has_score] = result.scores
        columns[f"score_{result.model}"] = pl.Series(values).fill_nan(None)
    stacked = np.stack([result.scores for result in results]).mean(axis=0)
    mean = np.full(len(has_score), np.nan)
    mean[has_score] = stacked
    masked = plan != "wildtype_marginal"
    contexts = [len(variant.mutations) if variant and masked else 0 for variant in table.variants]
    frame = table.frame.with_columns(
        pl.Series("score", mean).fill_nan(None),
        *(values.alias(name) for name, values in columns.items() if len(results) > 1),
        pl.Series("num_masked_contexts", contexts, dtype=pl.Int32),
        pl.Series("note", table.notes, dtype=pl.String),
    )
    return frame, results


def _run(
    model: LanguageModel,
    scorer: Any,
    plan: str,
    wild_type: Record,
    variants: Sequence[Variant],
    max_tokens: int,
    say: Say,
) -> VariantScores:
    import time

    contexts, _ = plan_contexts(model, scorer, wild_type, variants)
    say(
        f"{model.name}: {plan}, {contexts.num_masked_contexts:,} masked contexts "
        f"({contexts.num_contexts:,} in all) for {len(variants):,} variants; {getattr(model, 'path', '')}"
    )
    begin = time.perf_counter()
    with Progress(model.name, contexts.num_contexts, unit="context") as progress:
        result = score_variants(
            model,
            scorer,
            wild_type,
            variants,
            max_tokens=max_tokens,
            on_batch=lambda done: progress.advance(units=done),
        )
    spent = duration(time.perf_counter() - begin)
    say(f"{model.name}: ran {result.num_masked_contexts:,} masked contexts in {spent}")
    return result


def score(
    model: str | LanguageModel | Sequence[str | LanguageModel],
    wild_type: str | Record,
    variants: Path | str | Sequence[str] | None = None,
    *,
    plan: str = "masked_marginal",
    offset: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
) -> pl.DataFrame:
    """Score variants without any assay data; higher means fitter.

    Parameters
    ----------
    model
        A name, a folder, a loaded model, or several for an ensemble (their mean).
    wild_type
        A FASTA file, a sequence, or a record.
    variants
        A file, a list such as ``["A42G", "A42G:K50R"]``, or `None` for all single substitutions.
    plan
        ``"masked_marginal"`` (default) or ``"wildtype_marginal"``.
    offset
        Subtracted from each printed position.
    device, precision
        For models given by name.

    Returns
    -------
    polars.DataFrame
        Input columns, then ``score``, ``num_masked_contexts``, ``note``.
    """
    several = [model] if isinstance(model, str | LanguageModel) else list(model)
    loaded = [
        each if isinstance(each, LanguageModel) else load_model(each, device=device, precision=precision)
        for each in several
    ]
    reference = wild_type if isinstance(wild_type, Record) else read_wild_type(wild_type)
    if variants is None:
        table = single_substitutions(reference, offset=offset)
    elif isinstance(variants, str | Path):
        table = read_variants(variants, reference, offset=offset)
    else:
        residues = reference.chains[0].residues
        parsed = [parse_variant(text, residues, offset=offset) for text in variants]
        notes = ["" if variant.mutations else "wild type" for variant in parsed]
        table = VariantTable(pl.DataFrame({"mutant": list(variants)}), list(parsed), notes)
    return score_table(loaded, table, reference, plan=plan)[0]


def write_scores(frame: pl.DataFrame, out: Path, provenance: dict[str, Any]) -> None:
    """Write a score table with its provenance, whole or not at all.

    Parameters
    ----------
    frame
        From `score_table`.
    out
        ``.parquet`` holds the provenance in its metadata; ``.csv`` and ``.tsv`` get
        ``FILE.meta.json`` beside them.
    provenance
        Plain values.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    if out.suffix == ".parquet":
        arrow = frame.to_arrow()
        metadata = {**(arrow.schema.metadata or {}), b"protlm": json.dumps(provenance).encode()}
        pq.write_table(arrow.replace_schema_metadata(metadata), part)
    else:
        blank = frame.with_columns(pl.col("note").replace("", None))  # written as nothing, not as ""
        blank.write_csv(part, separator="\t" if out.suffix == ".tsv" else ",")
        Path(f"{out}.meta.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    part.replace(out)


def provenance(
    models: Sequence[LanguageModel],
    results: Sequence[VariantScores],
    wild_type: Record,
    *,
    plan: str,
    offset: int,
    precision: str,
) -> dict[str, Any]:
    """Describe how scores were made.

    Parameters
    ----------
    models, results
        What ran and what it gave.
    wild_type, plan, offset, precision
        As asked for.
    """
    return {
        "format_version": 1,
        "verb": "score",
        "plan": plan,
        "fill": "wildtype",
        "offset": offset,
        "precision": precision,
        "wild_type": {"id": wild_type.id, "residues": wild_type.chains[0].residues},
        "models": [
            {
                "name": model.name,
                "parameters": model.num_parameters,
                "revision": getattr(model.module.config, "_commit_hash", None),
                "num_contexts": result.num_contexts,
                "num_masked_contexts": result.num_masked_contexts,
            }
            for model, result in zip(models, results, strict=True)
        ],
        "ensemble": "mean" if len(models) > 1 else None,
        "versions": {name: _version(name) for name in ("protlm", "torch", "transformers")},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return None


__all__ = [
    "VariantTable",
    "describe_wild_type",
    "provenance",
    "read_variants",
    "read_wild_type",
    "score",
    "score_table",
    "single_substitutions",
    "write_scores",
]
