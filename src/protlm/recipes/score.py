"""score: variants of a wild type to a table of zero-shot scores."""

import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from protlm.data.readers import ReadReport
from protlm.errors import ConfigError
from protlm.models.default import default_model
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress, duration
from protlm.recipes.outputs import claim_file
from protlm.scoring.engine import run_contexts
from protlm.scoring.inputs import (
    VariantTable,
    describe_wild_type,
    read_variants,
    read_wild_type,
    single_substitutions,
)
from protlm.scoring.plans import Plan, plans
from protlm.scoring.variants import VariantScores, plan_contexts
from protlm.types.record import Record
from protlm.types.variant import Variant, parse_variant

Say = Callable[[str], None]

SUFFIXES = (".csv", ".tsv", ".parquet")
"""Of files that scores are written to."""


def score_file(
    models: Sequence[str],
    wild_type: str,
    out: Path,
    *,
    variants: Path | None = None,
    plan: str = "masked_marginal",
    offset: int = 0,
    mutant_column: str | None = None,
    invalid: Literal["error", "drop"] = "error",
    gaps: Literal["error", "remove"] = "error",
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    force: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Score a file of variants, or all single substitutions, and write the table with its provenance.

    Everything that can be wrong with the input and the place is found before a model is loaded.

    Parameters
    ----------
    models
        Names or folders; several make an ensemble. None takes the packaged antibody model.
    wild_type
        A FASTA file with one record, or a sequence.
    out
        ``.csv``, ``.tsv`` or ``.parquet``.
    variants
        A CSV, TSV or Parquet file; `None` for all single substitutions.
    plan
        ``"masked_marginal"``, ``"wildtype_marginal"``, or ``"package.module:Name"``.
    offset
        Subtracted from each printed position.
    mutant_column
        Column with the variants, where it has no usual name.
    invalid
        Wrong rows: stop, or leave them without a score.
    gaps
        What to do with ``-`` and ``.`` in the wild type.
    device, precision
        Of the models.
    max_tokens
        Token budget of a batch; by the device if `None`.
    force
        Replace a table that is there.
    say
        Tells the user what happens.

    Returns
    -------
    polars.DataFrame
        What was written; see `score_table`.
    """
    claim_file(out, SUFFIXES, force=force)
    plans.get(plan)
    reading = ReadReport()
    reference = read_wild_type(wild_type, gaps=gaps, report=reading)
    for line in [describe_wild_type(reference), *reading.lines()]:
        say(line)
    models = models or [default_model([reference], say=say)]
    if variants is None:
        table = single_substitutions(reference, offset=offset)
    else:
        as_text = out.suffix != ".parquet"
        table = read_variants(
            variants, reference, column=mutant_column, offset=offset, invalid=invalid, as_text=as_text
        )
    for old, new in table.renamed.items():
        say(f"input column '{old}' is written as '{new}'")
    without = sum(variant is None for variant in table.variants)
    if without:
        say(f"{without:,} of {len(table.variants):,} rows get no score; the column note says why")
    loaded = [load_model(name, device=device, precision=precision) for name in models]
    frame, results = score_table(loaded, table, reference, plan=plan, max_tokens=max_tokens, say=say)
    facts = provenance(
        loaded,
        results,
        reference,
        plan=plan,
        offset=offset,
        precision=precision,
        mutant_column=table.column,
    )
    write_scores(frame, out, facts)
    return frame


def score_table(
    models: Sequence[LanguageModel],
    table: VariantTable,
    wild_type: Record,
    *,
    plan: str = "masked_marginal",
    max_tokens: int | None = None,
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
        A name in the registry `plans`, or ``"package.module:Name"``.
    max_tokens
        Token budget of a batch; by the device of each model if `None`.
    say
        Tells the user how many contexts there are and how long they took.

    Returns
    -------
    polars.DataFrame
        The input columns, then ``score``, ``score_<model>`` for each, ``num_masked_contexts`` (those
        the row's own score rests on, per model) and ``note``.
    list of VariantScores
        Per model.
    """
    names = [model.name for model in models]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two models are called '{repeated.pop()}'", hint="rename one of the folders; columns go by name"
        )
    scorer = plans.get(plan)()
    known = [variant for variant in table.variants if variant is not None]
    runs = [_run(model, scorer, plan, wild_type, known, max_tokens, say) for model in models]
    results = [result for result, _ in runs]
    has_score = np.array([variant is not None for variant in table.variants])
    columns = {}
    for result in results:
        values = np.full(len(has_score), np.nan)
        values[has_score] = result.scores
        columns[f"score_{result.model}"] = pl.Series(values).fill_nan(None)
    stacked = np.stack([result.scores for result in results]).mean(axis=0)
    mean = np.full(len(has_score), np.nan)
    mean[has_score] = stacked
    contexts = np.zeros(len(has_score), dtype=np.int32)
    contexts[has_score] = runs[0][1]
    frame = table.frame.with_columns(
        pl.Series("score", mean).fill_nan(None),
        *(values.alias(name) for name, values in columns.items()),
        pl.Series("num_masked_contexts", contexts),
        pl.Series("note", table.notes, dtype=pl.String),
    )
    return frame, results


def _run(
    model: LanguageModel,
    scorer: Plan,
    plan: str,
    wild_type: Record,
    variants: Sequence[Variant],
    max_tokens: int | None,
    say: Say,
) -> tuple[VariantScores, np.ndarray]:
    """Score under one model; also give how many masked contexts each variant rests on."""
    contexts, terms = plan_contexts(model, scorer, wild_type, variants)
    say(
        f"{model.name}: {plan}, {contexts.num_masked_contexts:,} masked contexts "
        f"({contexts.num_contexts:,} in all) for {len(variants):,} variants; {getattr(model, 'path', '')}"
    )
    begin = time.perf_counter()
    with Progress(model.name, contexts.num_contexts, unit="context") as progress:
        reads = run_contexts(
            model,
            contexts,
            max_tokens=max_tokens or model.token_budget,
            on_batch=lambda done: progress.advance(units=done),
        )
    say(f"{model.name}: took {duration(time.perf_counter() - begin)}")
    result = VariantScores(
        model.name, terms.scores(reads), contexts.num_contexts, contexts.num_masked_contexts
    )
    return result, terms.num_masked_contexts


def score(
    model: str | LanguageModel | Sequence[str | LanguageModel] | None,
    wild_type: str | Record,
    variants: Path | str | Sequence[str] | None = None,
    *,
    plan: str = "masked_marginal",
    offset: int = 0,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
) -> pl.DataFrame:
    """Score variants without any assay data; higher means fitter.

    Parameters
    ----------
    model
        A name, a folder, a loaded model, or several for an ensemble (their mean). `None` takes the
        packaged antibody model, ``protlm-ab-mini``.
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
    max_tokens
        Token budget of a batch; by the device if `None`.

    Returns
    -------
    polars.DataFrame
        Input columns, then ``score``, ``score_<model>``, ``num_masked_contexts``, ``note``.
    """
    reference = wild_type if isinstance(wild_type, Record) else read_wild_type(wild_type)
    model = default_model([reference], say=lambda _: None) if model is None else model
    several = [model] if isinstance(model, str | LanguageModel) else list(model)
    loaded = [
        each if isinstance(each, LanguageModel) else load_model(each, device=device, precision=precision)
        for each in several
    ]
    if variants is None:
        table = single_substitutions(reference, offset=offset)
    elif isinstance(variants, str | Path):
        table = read_variants(variants, reference, offset=offset)
    else:
        residues = reference.chains[0].residues
        parsed = [parse_variant(text, residues, offset=offset) for text in variants]
        notes = ["" if variant.mutations else "wild type" for variant in parsed]
        table = VariantTable(pl.DataFrame({"mutant": list(variants)}), list(parsed), notes)
    return score_table(loaded, table, reference, plan=plan, max_tokens=max_tokens)[0]


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
    mutant_column: str = "mutant",
) -> dict[str, Any]:
    """Describe how scores were made.

    Parameters
    ----------
    models, results
        What ran and what it gave.
    wild_type, plan, offset, precision
        As asked for.
    mutant_column
        Which column of the result has the variants.
    """
    return {
        "format_version": 1,
        "verb": "score",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan,
        "fill": "wildtype",
        "offset": offset,
        "mutant_column": mutant_column,
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
    "score_file",
    "score_table",
    "single_substitutions",
    "write_scores",
]
