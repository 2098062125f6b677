"""evaluate tasks: frozen models and trivial baselines on a task card, fold by fold."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from protlm.data.pairs import Negatives
from protlm.data.token_counts import record_lengths
from protlm.errors import ConfigError, did_you_mean
from protlm.evaluation.cards import TaskCard, load_card
from protlm.evaluation.judging import NUM_DRAWS, Judged, Method, baseline_methods, judge, num_fits
from protlm.evaluation.task_data import TaskData, build_task
from protlm.evaluation.task_files import find_files
from protlm.models.digest import model_digest
from protlm.models.features import POOLINGS, Pooling, cached_features, with_random_weights
from protlm.models.language_model import LanguageModel, Precision
from protlm.progress import Progress
from protlm.recipes.evaluated import Say, known_leakage, load_models, refuse_too_long
from protlm.runs import Run, file_hash
from protlm.types.record import Record


def evaluate_task(
    task: str | TaskCard,
    models: Sequence[str],
    data: Sequence[Path | str],
    out: Path | str,
    *,
    pooling: Pooling = "mean",
    seeds: int | None = None,
    skip_filters: Sequence[str] = (),
    random_weights: bool = False,
    cache: Path | str | None = None,
    num_draws: int = NUM_DRAWS,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Judge frozen models on a task by a logistic regression on their features.

    Parameters
    ----------
    task
        A card, its name, or the path of one.
    models
        Runs, folders or names; may be none, for the baselines alone.
    data
        Folders or files, as `find_files` takes them.
    out
        The Run folder; tables ``predictions``, ``metrics`` and ``differences``.
    pooling
        What of the last hidden states is used; see `record_features`.
    seeds
        Repetitions; as the card says if not given.
    skip_filters
        Filters of the card that are not applied.
    random_weights
        Also judge each network with random weights, as a baseline; models of the same shape share one,
        which bears the name of the first.
    cache
        Where features are kept, for any later Run; `feature_folder` by default.
    num_draws
        Bootstrap samples.
    device, precision, max_tokens
        As for the other evaluations.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If there is no such card, filter or pooling.
    DataError
        If a file is missing or wrong, or a record is over a model's limit.
    """
    card = load_card(task) if isinstance(task, str) else task
    if pooling not in POOLINGS:
        raise ConfigError(f"--pooling '{pooling}' is not a choice", hint=did_you_mean(pooling, POOLINGS))
    paths = find_files(card, list(map(str, data)))
    loaded = load_models(models, device, precision)
    run = Run.create(out, verb="evaluate", force=force)
    settings = {
        "task": card.name,
        "models": list(map(str, models)),
        "input": ", ".join(str(path) for path in paths.values()),
        "pooling": pooling,
        "seeds": card.seeds if seeds is None else seeds,
        "skip_filters": list(skip_filters),
        "random_weights": random_weights,
        "num_draws": num_draws,
        "precision": precision,
    }
    run.write_config(yaml.safe_dump(settings, sort_keys=False))
    say(f"{card.title} ('{card.name}', version {card.version})")
    examples = build_task(card, paths, seeds=seeds, skip_filters=skip_filters)
    for line in _lines(card, paths, examples):
        say(line)
    leakage = known_leakage(models, examples.records, say)
    networks = _random_networks(loaded) if random_weights else []
    folder = feature_folder() if cache is None else Path(cache)
    methods = [
        Method(
            model.name,
            "model" if model in loaded else "baseline",
            _features(model, examples.records, folder, pooling, max_tokens, say),
        )
        for model in [*loaded, *networks]
    ]
    baselines, notes = baseline_methods(card, examples)
    methods += baselines
    with Progress("fitting", max(1, num_fits(examples, methods)), unit="fit") as progress:
        judged = judge(card, examples, methods, num_draws=num_draws, on_fit=progress.advance)
    for note in [*notes, *judged.notes]:
        say(note)
    _write(run, card, paths, examples, judged, leakage, notes)
    if loaded:
        run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def _random_networks(models: Sequence[LanguageModel]) -> list[LanguageModel]:
    """Make each model's network anew; those that came out alike are one."""
    networks = {}
    for network in map(with_random_weights, models):
        networks.setdefault(model_digest(network), network)
    return list(networks.values())


def evaluate_pairs(
    models: Sequence[str],
    source: Path | str,
    out: Path | str,
    *,
    heavy: str | None = None,
    light: str | None = None,
    negatives: Negatives = "random",
    within: str | None = None,
    folds: int = 5,
    cdr3_identity: float = 0.8,
    seeds: int = 3,
    **options: Any,
) -> Run:
    """Judge models on native against shuffled pairs of any file: a card made on the spot.

    Parameters
    ----------
    models, out
        As for `evaluate_task`.
    source
        A table of pairs.
    heavy, light
        Its columns; looked for by their usual names if not given.
    negatives, within
        How light chains are exchanged; see `shuffle_pairs`.
    folds, cdr3_identity
        Of the split by chain and clonotype.
    seeds
        Repetitions with other folds and another shuffle.
    **options
        As for `evaluate_task`.
    """
    path = Path(source)
    values = {
        "name": f"native-pairs: {path.name}",
        "version": 1,
        "title": f"Native against shuffled antibody pairs, {path.name}",
        "about": "Made on the command line: whether a model knows which light chain goes with a heavy chain.",
        "data": [
            {
                "name": "pairs",
                "file": path.name,
                "heavy": heavy,
                "light": light,
                "licence": "as the file's",
                "citation": "the user's own file",
                "origin": "the user's own file",
            }
        ],
        "target": {"kind": "shuffled-pairs", "negatives": negatives, "within": within},
        "splits": [
            {"name": "chain", "by": ["chain", "clonotype"], "folds": folds, "cdr3_identity": cdr3_identity}
        ],
        "seeds": seeds,
        "baselines": ["majority", "mutation_count", "v_gene", "ends"],
    }
    card = TaskCard.from_dict(values, source="evaluate pairs")
    return evaluate_task(card, models, [f"pairs={path}"], out, **options)


def feature_folder() -> Path:
    """Give where features are kept: in ``$PROTLM_CACHE``, else in ``protlm`` of the user's cache."""
    own = os.environ.get("PROTLM_CACHE")
    if own:
        return Path(own) / "features"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "protlm" / "features"


def _lines(card: TaskCard, paths: dict[str, Path], examples: TaskData) -> list[str]:
    lines = [
        f"{source.name}: {paths[source.name]} is not the file that the card was made with"
        for source in card.data
        if source.sha256 and file_hash(paths[source.name]) != source.sha256
    ]
    lines += examples.lines
    for split, report in examples.reports.items():
        lines += [f"split '{split}': {line}" for line in report.lines()]
    return lines


def _features(
    model: LanguageModel,
    records: Sequence[Record],
    folder: Path,
    pooling: Pooling,
    max_tokens: int | None,
    say: Say,
) -> np.ndarray:
    """Read the records through a model once, or take what an earlier Run kept."""
    refuse_too_long(records, [model])
    tokens = int(record_lengths(records, model.layout).sum())
    say(f"{model.name}: features of {len(records):,} records, {tokens:,} tokens; {model.path}")
    with Progress(model.name, len(records), unit="record") as progress:
        features, was_there = cached_features(
            model,
            records,
            folder,
            pooling=pooling,
            max_tokens=max_tokens,
            on_batch=lambda done: progress.advance(units=done),
        )
    if was_there:
        say(f"{model.name}: features were in {folder}")
    elif model.padding_note:
        say(f"{model.name}: {model.padding_note}")
    return features


def _write(
    run: Run,
    card: TaskCard,
    paths: dict[str, Path],
    examples: TaskData,
    judged: Judged,
    leakage: dict[str, Any],
    notes: Sequence[str],
) -> None:
    judged.predictions.write_parquet(run.table_path("predictions"))
    judged.metrics.write_parquet(run.table_path("metrics"))
    judged.differences.write_parquet(run.table_path("differences"))
    facts = {
        "num_records": len(examples.trials[0].rows),
        "num_distinct_records": len(examples.records),
        "task": card.model_dump(mode="json"),
        "inputs": [
            {"name": name, "path": str(path), "sha256": file_hash(path)} for name, path in paths.items()
        ],
        "left_out": examples.counts,
        "reading": examples.lines,
        "splits": {name: report.facts() for name, report in examples.reports.items()},
        "leakage": leakage,
        "confounded": judged.confounded,
        "notes": [*notes, *judged.notes],
    }
    run.write_json("data_manifest.json", facts)
