"""finetune: a model and labels to a head that predicts them, judged on held-out records beside baselines."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from protlm.data.flat import record_key
from protlm.errors import ConfigError
from protlm.models.features import feature_folder
from protlm.models.heads import HeadFacts, head_facts
from protlm.models.language_model import LanguageModel
from protlm.models.loading import pick_device
from protlm.models.predictor import HEAD_FOLDER
from protlm.models.residue_level import require_residue_level
from protlm.progress import Progress
from protlm.recipes.finetune_baselines import RegressionInputs, regression_inputs
from protlm.recipes.finetune_config import ALL, FinetuneConfig
from protlm.recipes.finetune_data import Source, read_labelled
from protlm.recipes.finetune_judge import (
    Outcome,
    baseline_outcomes,
    best_baseline,
    differences_table,
    metrics_table,
    prediction_table,
    primary_metric,
)
from protlm.recipes.finetune_part import (
    OUTPUTS,
    Part,
    clear_parts,
    frozen_inputs,
    load_encoder,
    parts_of,
    train_part,
)
from protlm.recipes.finetune_split import Fold, Plan, plan_folds
from protlm.recipes.finetune_task import read_task
from protlm.recipes.finetune_values import refuse_unused
from protlm.recipes.resuming import changed_settings, refuse_changes
from protlm.runs import Run, file_hash
from protlm.scoring.wild_type import read_wild_type
from protlm.statistics.predictions import Draws
from protlm.training.processes import Processes, num_launched
from protlm.training.supervised_job import FeatureInputs
from protlm.types.target import Target

Say = Callable[[str], None]
METRICS_TABLE, DIFFERENCES_TABLE = "finetune_metrics", "finetune_differences"


def finetune(
    config: FinetuneConfig,
    out: Path | str,
    *,
    cache: Path | str | None = None,
    device: str = "auto",
    force: bool = False,
    say: Say = print,
) -> Run:
    """Fine-tune a model on labels and judge it; the same call resumes an interrupted Run.

    Parameters
    ----------
    config
        What to do.
    out
        The Run folder; tables ``predictions`` and ``finetune_metrics``, and one model per fold and seed.
    cache
        Where features of a frozen model are kept, for any later Run; `feature_folder` by default.
    device
        ``"auto"`` takes a GPU if there is one.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If the settings contradict each other.
    DataError
        If labels or records are not as the settings want them.
    RunError
        If the Run is finished, was interrupted under other settings, or training fails.
    """
    if num_launched() > 1:
        raise ConfigError(
            f"{num_launched()} processes were launched, and finetune trains in one",
            hint="start it without a launcher; seeds and folds can run side by side in folders of their own",
        )
    processes = Processes(pick_device(device))
    source, plan, encoder, facts = _prepare(config, device, say)
    path = Path(out)
    if force and Run.is_run(path) and Run(path).verb == "finetune":
        clear_parts(path)
    run = Run.create(path, verb="finetune", force=force)
    _refuse_other(run, config, source)
    run.write_config(config.dump())
    run.write_json("data_manifest.json", _manifest(config, source, plan, facts))
    plan.leakage.table.write_parquet(run.table_path("nearest"))
    frozen = None
    cache = feature_folder() if cache is None else Path(cache)
    if _is_frozen(config):
        frozen = _read_once(encoder, source, facts, cache, say)
        encoder.save(run.model_path)
    parts = parts_of(config, plan.folds, path)
    run.note(device=str(processes.device), threads=torch.get_num_threads(), computation=encoder.path)
    beside = _beside(config, encoder, source, plan, facts, cache, say)
    outcomes = [
        _one(part, number, len(parts), config, source, facts, frozen, run, device, processes, say)
        for number, part in enumerate(parts, 1)
    ]
    metrics, differences = _judge(config, source, plan, parts, outcomes, run, beside)
    kept = [part for part in parts if part.subset == _largest(config)]
    folders = [str(part.path.relative_to(path)) for part in kept]
    run.write_json("predictors.json", {"format_version": 1, "folders": folders})
    for line in summary_lines(metrics, differences, source.labelled.target, run.name):
        say(line)
    run.finish()
    return run


def describe(config: FinetuneConfig, out: Path | str, *, device: str = "auto", say: Say = print) -> str:
    """Say what a configuration would do, without training; leaves nothing behind.

    Parameters
    ----------
    config, out, device, say
        As for `finetune`.
    """
    source, plan, encoder, facts = _prepare(config, device, say)
    if not _is_frozen(config):
        config.adapt.apply(encoder, seed=0)  # type: ignore[attr-defined]
    parts = parts_of(config, plan.folds, Path(out))
    lines = [
        config.dump(),
        f"computation: {encoder.path}",
        f"inputs per record: {facts.num_views}",
        f"trainings: {len(parts)} (subsets {len(config.subsets)}, folds {len(plan.folds)})",
    ]
    for part in parts:
        rows, chosen = part.rows(source.labelled.records)
        lines.append(
            f"{part.path}: learns from {len(rows):,}, chosen by {len(chosen):,}, judged on "
            f"{len(part.fold.test):,} records"
        )
    return "\n".join(lines)


def summary_lines(metrics: pl.DataFrame, differences: pl.DataFrame, target: Target, name: str) -> list[str]:
    """Say how the model did by the metric of its kind, beside the best baseline.

    Parameters
    ----------
    metrics
        From `metrics_table`.
    differences
        From `differences_table`.
    target
        What was predicted.
    name
        Of the Run.
    """
    metric = primary_metric(target)
    lines = []
    own = metrics.filter((pl.col("kind") == "model") & (pl.col("metric") == metric))
    for row in own.iter_rows(named=True):
        best = best_baseline(metrics, row["subset"], metric)
        text = (
            f"{name}, {row['num_train']:,} training records: {metric} {row['value']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
        if row["sd_over_seeds"] is not None:
            text += f" ± {row['sd_over_seeds']:.3f} over {row['n_seeds']} seeds"
        if best is not None:
            gap = differences.filter(subset=row["subset"], second=best["method"], metric=metric)
            low, high = gap.select("low", "high").row(0)
            text += f"; best baseline '{best['method']}' {best['value']:.3f}"
            text += f", difference [{low:+.3f}, {high:+.3f}]"
            if not row["value"] > best["value"]:
                text += "  BELOW THE BASELINE"
            elif not low > 0:
                text += "  not clear of the baseline"
        lines.append(text)
    return lines


def _prepare(config: FinetuneConfig, device: str, say: Say) -> tuple[Source, Plan, LanguageModel, HeadFacts]:
    """Load, read and divide; nothing is written."""
    encoder = load_encoder(config, device)
    if config.data.level == "residue":
        require_residue_level(encoder, "finetune --level residue")
    limit = encoder.layout.max_tokens
    if limit is not None:
        num_chains = 2 if config.data.level == "pair" and config.head.encoder == "concatenated" else 1
        limit -= int(encoder.layout.num_specials(np.array([num_chains]))[0])
    if config.data.task is not None:
        source, plan = read_task(config.data)
    else:
        source = read_labelled(config.data, max_residues=limit)
        plan = plan_folds(source, config.data)
    if source.labelled.target.level == "residue":  # a card says so only now
        require_residue_level(encoder, "finetune --level residue")
    refuse_unused(config.data, source.labelled.target)
    if source.wild_type is not None:
        read_wild_type(source.wild_type)
    for line in [*source.lines, *plan.lines, *_unseen(source, plan)]:
        say(line)
    width = encoder.module.config.hidden_size
    facts = head_facts(source.labelled.target, config.head, width, source.labelled.records)
    say(f"{encoder.name}: {encoder.num_parameters:,} parameters; {encoder.path}")
    return source, plan, encoder, facts


def _unseen(source: Source, plan: Plan) -> list[str]:
    """Count records to judge on of a class that is not among the training records."""
    target = source.labelled.target
    if target.kind not in ("binary", "classes") or target.level == "residue":
        return []
    values, lines = np.asarray(source.labelled.values), []
    for fold in plan.folds:
        unseen = np.setdiff1d(values[fold.test], values[fold.train])
        if len(unseen):
            counts = Counter(values[fold.test].tolist())
            listed = ", ".join(f"{target.classes[each]} {counts[each]}" for each in unseen.tolist())
            lines.append(f"fold '{fold.name}': classes that are not in training, always wrong: {listed}")
    return lines


def _read_once(
    encoder: LanguageModel, source: Source, facts: HeadFacts, folder: Path, say: Say
) -> FeatureInputs:
    labelled = source.labelled
    with Progress("features", len(labelled) * facts.num_views, unit="input") as progress:
        inputs, was_there = frozen_inputs(
            encoder, labelled, facts, folder, on_batch=lambda done: progress.advance(units=done)
        )
    where = f"features of {len(labelled):,} records"
    say(f"{where} were in {folder}" if was_there else f"{where} are kept in {folder}")
    return inputs


def _one(
    part: Part,
    number: int,
    count: int,
    config: FinetuneConfig,
    source: Source,
    facts: HeadFacts,
    frozen: FeatureInputs | None,
    run: Run,
    device: str,
    processes: Processes,
    say: Say,
) -> Outcome:
    """Train a part, or take up what it said when it was trained."""
    labelled = source.labelled
    rows, _ = part.rows(labelled.records)
    is_own = part.path != run.path
    own = Run.create(part.path, verb="finetune", force=True) if _is_new(part.path, is_own) else Run(part.path)
    outputs = part.path / OUTPUTS
    if outputs.exists():
        stored = np.load(outputs)
        predictions = np.split(stored["values"], np.cumsum(stored["sizes"])[:-1])
        predictions = predictions if labelled.target.level == "residue" else [each[0] for each in predictions]
    else:
        if count > 1:
            say(f"training {number} of {count}: {part.path}, {len(rows):,} records")
        predictions = train_part(
            part, config, labelled, facts, frozen, own, device=device, processes=processes
        )
        rectangles = [np.atleast_2d(each) for each in predictions]
        partial = outputs.with_name("outputs.part.npz")
        np.savez(partial, values=np.concatenate(rectangles), sizes=[len(each) for each in rectangles])
        partial.replace(outputs)
        if is_own:
            own.finish()
        shutil.rmtree(own.checkpoints_path, ignore_errors=True)
        if part.subset != _largest(config):
            for name in ("model", "adapter", HEAD_FOLDER):
                shutil.rmtree(own.path / name, ignore_errors=True)
    return Outcome(part.subset, part.fold.name, part.seed, part.fold.test, predictions, len(rows))


def _is_new(path: Path, is_own: bool) -> bool:
    return is_own and not Run.is_run(path)


def _beside(
    config: FinetuneConfig,
    encoder: LanguageModel,
    source: Source,
    plan: Plan,
    facts: HeadFacts,
    cache: Path,
    say: Say,
) -> RegressionInputs:
    """Read what the baselines look at through the model as it was before it was tuned."""
    if config.baselines == "plain":
        return RegressionInputs()
    found = regression_inputs(
        encoder,
        source.labelled,
        facts,
        np.concatenate([fold.test for fold in plan.folds]),
        cache,
        wild_type=source.wild_type,
        most_contexts=config.zero_shot_contexts,
    )
    for line in found.lines:
        say(line)
    return found


def _judge(
    config: FinetuneConfig,
    source: Source,
    plan: Plan,
    parts: list[Part],
    outcomes: list[Outcome],
    run: Run,
    beside: RegressionInputs,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    labelled = source.labelled
    methods: dict[tuple[str, str], list[Outcome]] = {(run.name, "model"): outcomes}
    with Progress("baselines", len(parts), unit="fit") as progress:
        for part in parts:
            rows, chosen = part.rows(labelled.records)
            found = baseline_outcomes(labelled, part.fold, rows, chosen, part.subset, part.seed, beside)
            for name, outcome in found.items():
                methods.setdefault((name, "baseline"), []).append(outcome)
            progress.advance()
    drawn: dict[tuple[str, str, str], Draws] = {}
    metrics = metrics_table(labelled, plan.groups.codes, methods, num_draws=config.num_draws, drawn=drawn)
    metrics.write_parquet(run.table_path(METRICS_TABLE))
    differences = differences_table(metrics, drawn)
    differences.write_parquet(run.table_path(DIFFERENCES_TABLE))
    prediction_table(labelled, outcomes, plan.groups.codes).write_parquet(run.table_path("predictions"))
    manifest = run.read_json("data_manifest.json")
    run.write_json("data_manifest.json", {**manifest, "baselines": list(beside.lines)})
    return metrics, differences


def _largest(config: FinetuneConfig) -> str:
    sizes = {each: float(str(each).removesuffix("%")) for each in config.subsets if each != ALL}
    return ALL if ALL in config.subsets else str(max(sizes, key=lambda each: sizes[each]))


def _is_frozen(config: FinetuneConfig) -> bool:
    return getattr(config.adapt, "kind", "") == "frozen"


def _refuse_other(run: Run, config: FinetuneConfig, source: Source) -> None:
    """Refuse to resume under other settings or on other records."""
    changed = changed_settings(run, config)
    if (run.path / "data_manifest.json").exists():
        before = run.read_json("data_manifest.json").get("digest")
        changed += ["records"] if before != _digest(source) else []
    refuse_changes(run, changed)


def _digest(source: Source) -> str:
    keys = np.array([record_key(record) for record in source.labelled.records], dtype=np.uint64)
    return f"{int(np.bitwise_xor.reduce(keys * np.arange(1, len(keys) + 1, dtype=np.uint64))):016x}"


def _manifest(config: FinetuneConfig, source: Source, plan: Plan, facts: HeadFacts) -> dict[str, Any]:
    target = source.labelled.target
    files = [each for each in (config.data.input, config.data.valid, config.data.test) if each is not None]
    return {
        "num_records": len(source.labelled),
        "digest": _digest(source),
        "inputs": [
            {"path": each, "sha256": file_hash(Path(each)) if Path(each).is_file() else None}
            for each in files
        ],
        "target": {
            "name": target.name,
            "kind": target.kind,
            "level": target.level,
            "classes": list(target.classes),
            "best": target.best,
        },
        "inputs_per_record": facts.num_views,
        "left_out": dict(source.counts),
        "lines": [*source.lines, *plan.lines, *_unseen(source, plan)],
        "judged_on": plan.judged_on,
        "sides": plan.leakage.facts(),
        "folds": [_sizes(fold) for fold in plan.folds],
    }


def _sizes(fold: Fold) -> dict[str, Any]:
    return {
        "name": fold.name,
        "train": len(fold.train),
        "valid": len(fold.valid),
        "test": len(fold.test),
    }
