"""score: variants of a wild type to a table of zero-shot scores."""

import importlib.metadata
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from protlm.data.numbering import number_chains
from protlm.data.readers import iterate_records
from protlm.data.readers.text import read_text
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_model
from protlm.progress import Progress, duration
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET
from protlm.scoring.plans import plans
from protlm.scoring.variants import VariantScores, plan_contexts, score_variants
from protlm.types.alphabet import clean_residues
from protlm.types.record import Chain, Record
from protlm.types.regions import Region, decode_position
from protlm.types.variant import Variant, all_single_substitutions, fitting_offsets, parse_variant

Say = Callable[[str], None]
MUTANT_COLUMNS = ("mutant", "variant", "mutation", "mutations")
_OWN_COLUMNS = ("score", "num_masked_contexts", "note")


@dataclass(frozen=True)
class VariantTable:
    """Variants to score, with the columns they came with."""

    frame: pl.DataFrame
    """Input columns, untouched."""
    variants: list[Variant | None]
    """Parsed; `None` where a row is left without a score."""
    notes: list[str]


def read_wild_type(source: str, *, gaps: Literal["error", "remove"] = "error") -> Record:
    """Read the reference from a FASTA file with one record, or take it as a sequence.

    Parameters
    ----------
    source
        A path that exists wins; else residues.
    gaps
        What to do with ``-`` and ``.``.

    Raises
    ------
    DataError
        If the file has several records, or the text is neither a file nor residues.
    """
    if Path(source).exists():
        records = list(iterate_records(source))
        if len(records) != 1:
            raise DataError(
                f"{source} has {len(records)} records; --wild-type needs exactly one",
                hint="pass the one you mean as a sequence or in a file of its own",
            )
        return records[0]
    if any(mark in source for mark in "/.\\"):
        raise DataError(f"no such file: {source}", hint="check the path, or pass the sequence itself")
    return Record("wild_type", (Chain(clean_residues(source, gaps=gaps)),))


def single_substitutions(wild_type: Record, *, offset: int = 0) -> VariantTable:
    """List all single substitutions; an antibody's rows also get IMGT position and region.

    Parameters
    ----------
    wild_type
        The reference.
    offset
        Added to the 1-based position to give the printed one.
    """
    residues = wild_type.chains[0].residues
    names, variants = [], []
    for name, variant in all_single_substitutions(residues, offset=offset):
        names.append(name)
        variants.append(variant)
    frame = pl.DataFrame({"mutant": names})
    numbered = number_chains([wild_type.chains[0]])[0]
    if isinstance(numbered, Chain):
        index = np.array([variant.mutations[0].index for variant in variants])
        positions, regions = numbered.tracks["position"][index], numbered.tracks["region"][index]
        frame = frame.with_columns(
            imgt_position=pl.Series([decode_position(code) for code in positions]),
            region=pl.Series([Region(code).name if code else "" for code in regions]),
        )
    return VariantTable(frame, variants, [""] * len(variants))


def read_variants(
    path: Path | str,
    wild_type: Record,
    *,
    column: str | None = None,
    offset: int = 0,
    invalid: Literal["error", "drop"] = "error",
    as_text: bool = False,
) -> VariantTable:
    """Read a CSV, TSV or Parquet file of variants and check every one against the wild type.

    Parameters
    ----------
    path
        The file.
    wild_type
        The reference.
    column
        Column with variants such as ``A42G:K50R``; by default the first of `MUTANT_COLUMNS`.
    offset
        Subtracted from each printed position.
    invalid
        ``"drop"`` leaves wrong rows without a score, with a note.
    as_text
        Keep the columns of a text file as the very text they are.

    Raises
    ------
    DataError
        Naming file, row, value and remedy.
    """
    path = Path(path)
    frame = _read_frame(path, as_text=as_text)
    column = column or next((name for name in MUTANT_COLUMNS if name in frame.columns), None)
    if column is None or column not in frame.columns:
        wanted = f"'{column}'" if column else f"one of {', '.join(MUTANT_COLUMNS)}"
        raise DataError(
            f"{path}: there is no column {wanted}",
            hint=f"pass --mutant-column; {did_you_mean(column or 'mutant', frame.columns)}",
        )
    taken = [name for name in _OWN_COLUMNS if name in frame.columns]
    taken += [name for name in frame.columns if name.startswith("score_")]
    if taken:
        frame = frame.rename({name: f"input_{name}" for name in taken})
    texts = [None if value is None else str(value) for value in frame[f"{column}"].to_list()]
    residues = wild_type.chains[0].residues
    variants, notes, first_error, errors = [], [], None, 0
    for row, text in enumerate(texts, start=1):
        try:
            variants.append(parse_variant(text, residues, offset=offset))
            notes.append("" if variants[-1].mutations else "wild type")
        except DataError as error:
            errors += 1
            first_error = first_error or (row, error)
            variants.append(None)
            notes.append(error.message)
    if first_error is not None and invalid == "error":
        _refuse(path, first_error, errors, texts, residues, offset)
    return VariantTable(frame, variants, notes)


def _refuse(
    path: Path,
    first: tuple[int, DataError],
    count: int,
    texts: Sequence[str | None],
    residues: str,
    offset: int,
) -> None:
    row, error = first
    others = f" ({count:,} of {len(texts):,} rows are wrong)" if count > 1 else ""
    fits = [each for each in fitting_offsets([text for text in texts if text], residues) if each != offset]
    hint = f"with --offset {fits[0]} all {len(texts):,} rows agree" if fits else error.hint
    raise DataError(f"{path}, row {row}: {error.message}{others}", hint=hint)


def _read_frame(path: Path, *, as_text: bool) -> pl.DataFrame:
    if not path.exists():
        raise DataError(f"no such file: {path}", hint="check the path and the working directory")
    if path.suffix.lower() == ".parquet":
        return pl.read_parquet(path)
    separator = "," if ".csv" in [suffix.lower() for suffix in path.suffixes] else "\t"
    text = read_text(path)
    try:
        return pl.read_csv(
            io.StringIO(text), separator=separator, infer_schema=not as_text, infer_schema_length=None
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(f"cannot read {path} as a table: {error}", hint="is the separator right?") from error


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
    scorer = plans.get(plan)()
    known = [variant for variant in table.variants if variant is not None]
    results = [_run(model, scorer, plan, wild_type, known, max_tokens, say) for model in models]
    has_score = np.array([variant is not None for variant in table.variants])
    columns = {}
    for result in results:
        values = np.full(len(has_score), np.nan)
        values[has_score] = result.scores
        columns[f"score_{result.model}"] = pl.Series(values).fill_nan(None)
    if len(columns) != len(results):
        raise ConfigError("two models have the same name", hint="rename one of the folders")
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
    say(f"{model.name}: ran {result.num_masked_contexts:,} masked contexts in {duration(time.perf_counter() - begin)}")
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
        frame.write_csv(part, separator="\t" if out.suffix == ".tsv" else ",")
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
