"""evaluate tasks: frozen models and trivial baselines on task cards, fold by fold."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from protlm.data.pairs import Negatives
from protlm.data.token_counts import record_lengths
from protlm.errors import ConfigError, did_you_mean
from protlm.evaluation.cards import TaskCard, load_card
from protlm.evaluation.judging import Judged, judge
from protlm.evaluation.methods import Method, baseline_methods, num_steps
from protlm.evaluation.pair_features import distinct_chains, join_chains
from protlm.evaluation.split_leakage import SplitLeakage, split_leakage
from protlm.evaluation.task_data import TaskData, build_task
from protlm.evaluation.task_files import find_files
from protlm.models.digest import model_digest
from protlm.models.features import (
    POOLINGS,
    Pooling,
    cached_features,
    cached_residue_states,
    feature_folder,
    with_random_weights,
)
from protlm.models.language_model import LanguageModel, Precision
from protlm.progress import Progress
from protlm.recipes.evaluated import Say, known_leakage, load_models, refuse_too_long
from protlm.runs import Run, file_hash
from protlm.types.record import Record

TABLES = ("predictions", "metrics", "differences", "verdicts")
NEAREST = "nearest"
"""The table of the nearest training sequence of each test sequence."""
_FORMAT = 2
"""Raise it when the meaning of a finished card's tables changes, so that older ones are not taken up."""


def evaluate_tasks(
    tasks: Sequence[str | TaskCard],
    models: Sequence[str],
    data: Sequence[Path | str],
    out: Path | str,
    *,
    pooling: Pooling = "mean",
    seeds: int | None = None,
    skip_filters: Sequence[str] = (),
    max_records: int | None = None,
    random_weights: bool = True,
    cache: Path | str | None = None,
    num_draws: int | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    max_tokens: int | None = None,
    force: bool = False,
    say: Say = print,
) -> Run:
    """Judge frozen models on tasks by linear models on their features, beside trivial baselines.

    A card that was finished before an interruption is taken up; so are features that any Run made.

    Parameters
    ----------
    tasks
        Cards, their names, or the paths of some.
    models
        Runs, folders or names; may be none, for the baselines alone.
    data
        Folders or files, as `find_files` takes them.
    out
        The Run folder; tables ``predictions``, ``metrics``, ``differences``, ``verdicts`` and ``nearest``.
    pooling
        What of the last hidden states is used; see `record_features`. Residues have their own state.
    seeds
        Repetitions; as the cards say if not given.
    skip_filters
        Filters of the cards that are not applied.
    max_records
        Cut of either side of a given split, or of all records; as the cards say if not given.
    random_weights
        Also judge each network with random weights, as a baseline; models of the same shape share one,
        which bears the name of the first.
    cache
        Where features are kept, for any later Run; `feature_folder` by default.
    num_draws
        Bootstrap samples; as the cards say if not given.
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
    cards = [load_card(task) if isinstance(task, str) else task for task in tasks]
    if repeated := sorted({card.name for card in cards if [c.name for c in cards].count(card.name) > 1}):
        raise ConfigError(f"task '{repeated[0]}' is named twice", hint="name each task once")
    if pooling not in POOLINGS:
        raise ConfigError(f"--pooling '{pooling}' is not a choice", hint=did_you_mean(pooling, POOLINGS))
    paths = {card.name: find_files(card, list(map(str, data))) for card in cards}
    loaded = load_models(models, device, precision)
    run = Run.create(out, verb="evaluate", force=force)
    settings = {
        "tasks": [card.name for card in cards],
        "models": list(map(str, models)),
        "input": ", ".join(sorted({str(path) for own in paths.values() for path in own.values()})),
        "pooling": pooling,
        "seeds": seeds,
        "skip_filters": list(skip_filters),
        "max_records": max_records,
        "random_weights": random_weights,
        "num_draws": num_draws,
        "precision": precision,
    }
    run.write_config(yaml.safe_dump(settings, sort_keys=False))
    networks = _random_networks(loaded) if random_weights else []
    folder = feature_folder() if cache is None else Path(cache)
    done = {}
    for card in cards:
        say(f"{card.title} ('{card.name}', version {card.version})")
        what = [_FORMAT, settings | {"tasks": 0, "models": 0, "input": 0}, card.model_dump(mode="json")]
        what += [[model.name, model_digest(model)] for model in [*loaded, *networks]]
        what += [[name, file_hash(path)] for name, path in sorted(paths[card.name].items())]
        part = run.path / "cards" / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
        if (part / "facts.json").is_file():
            say(f"{card.name}: judged before the interruption")
        else:
            examples = build_task(
                card,
                paths[card.name],
                seeds=seeds,
                skip_filters=[name for name in skip_filters if name in _filters(card)]
                if len(cards) > 1
                else skip_filters,
                max_records=max_records,
            )
            splits = _leakage(card, examples, folder)
            for line in _lines(card, paths[card.name], examples, splits):
                say(line)
            leakage = known_leakage(models, examples.records, say)
            methods = [
                Method(
                    model.name,
                    "model" if model in loaded else "baseline",
                    model_features(model, card, examples, folder, pooling, max_tokens, say),
                )
                for model in [*loaded, *networks]
            ]
            baselines, notes = baseline_methods(card, examples)
            methods += baselines
            with Progress(
                f"{card.name}: fitting", max(1, num_steps(examples, methods)), unit="fit"
            ) as progress:
                judged = judge(card, examples, methods, num_draws=num_draws, on_fit=progress.advance)
            for note in [*notes, *judged.notes]:
                say(note)
            _write_part(part, card, paths[card.name], examples, judged, splits, leakage, notes)
        done[card.name] = part
    _combine(run, done)
    if loaded:
        run.note(device=str(loaded[0].device), computation=loaded[0].path)
    run.finish()
    return run


def evaluate_task(
    task: str | TaskCard, models: Sequence[str], data: Sequence[Path | str], out: Path | str, **options: Any
) -> Run:
    """Judge frozen models on one task.

    Parameters
    ----------
    task
        A card, its name, or the path of one.
    models, data, out
        As for `evaluate_tasks`.
    **options
        As for `evaluate_tasks`.
    """
    return evaluate_tasks([task], models, data, out, **options)


def _filters(card: TaskCard) -> set[str]:
    return {each.name for source in card.data for each in source.filters}


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


def _leakage(card: TaskCard, examples: TaskData, folder: Path) -> dict[str, SplitLeakage]:
    """Look at the first trial of each split."""
    trials = {trial.split: trial for trial in examples.trials[::-1]}
    with Progress(
        f"{card.name}: nearest training sequences", len(examples.reports), unit="split"
    ) as progress:
        found = {}
        for name in examples.reports:
            found[name] = split_leakage(examples, trials[name], is_ordered=card.is_ordered, folder=folder)
            progress.advance()
    return found


def _lines(
    card: TaskCard, paths: dict[str, Path], examples: TaskData, splits: dict[str, SplitLeakage]
) -> list[str]:
    lines = [
        f"{source.name}: {paths[source.name]} is not the file that the card was made with"
        for source in card.data
        if source.sha256 and file_hash(paths[source.name]) != source.sha256
    ]
    lines += examples.lines
    for name, leakage in splits.items():
        lines += [f"split '{name}': {line}" for line in leakage.lines()]
    if any(trial.seed != examples.trials[0].seed for trial in examples.trials):
        lines.append("leakage is that of the first seed's folds")
    return lines


def model_features(
    model: LanguageModel,
    card: TaskCard,
    examples: TaskData,
    folder: Path,
    pooling: Pooling,
    max_tokens: int | None,
    say: Say,
) -> np.ndarray:
    """Read what a task needs through a model once, or take what an earlier Run kept.

    Parameters
    ----------
    model
        Any language model.
    card, examples
        The task. Chains are read together or each alone, as the card says.
    folder
        Where features are kept.
    pooling, max_tokens
        As for `evaluate_tasks`.
    say
        Tells the user what happens.

    Returns
    -------
    numpy.ndarray
        float32, a row for each record, or for each residue of all records.
    """
    is_apart = card.encoder == "separate" and card.level != "residue"
    chains, rows = distinct_chains(examples.records) if is_apart else ([], np.zeros((0, 0), dtype=np.int64))
    records = [Record(f"chain {n}", (chain,)) for n, chain in enumerate(chains)] or examples.records
    refuse_too_long(records, [model])
    tokens = int(record_lengths(records, model.layout).sum())
    what = "distinct chains" if is_apart else "records"
    say(f"{model.name}: features of {len(records):,} {what}, {tokens:,} tokens; {model.path}")
    with Progress(model.name, len(records), unit="record") as progress:
        read: Any = cached_residue_states if card.level == "residue" else cached_features
        options = {} if card.level == "residue" else {"pooling": pooling}
        features, was_there = read(
            model,
            records,
            folder,
            max_tokens=max_tokens,
            on_batch=lambda done: progress.advance(units=done),
            **options,
        )
    if was_there:
        say(f"{model.name}: features were in {folder}")
    elif model.padding_note:
        say(f"{model.name}: {model.padding_note}")
    return join_chains(features, rows, is_ordered=card.is_ordered) if is_apart else features


def _write_part(
    part: Path,
    card: TaskCard,
    paths: dict[str, Path],
    examples: TaskData,
    judged: Judged,
    splits: dict[str, SplitLeakage],
    leakage: dict[str, Any],
    notes: Sequence[str],
) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in TABLES:
        table: pl.DataFrame = getattr(judged, name)
        table.insert_column(0, pl.lit(card.name).alias("task")).write_parquet(part / f"{name}.parquet")
    nearest = [own.table.with_columns(split=pl.lit(name)) for name, own in splits.items()]
    pl.concat(nearest).with_columns(task=pl.lit(card.name)).select(
        "task", "split", *nearest[0].columns[:-1]
    ).write_parquet(part / f"{NEAREST}.parquet")
    facts = {
        "num_records": len(examples.trials[0].rows),
        "num_distinct_records": len(examples.records),
        "classes": list(examples.target.classes),
        "task": card.model_dump(mode="json") | {"primary": card.primary, "kind": card.kind},
        "inputs": [
            {"name": name, "path": str(path), "sha256": file_hash(path)} for name, path in paths.items()
        ],
        "left_out": examples.counts,
        "reading": examples.lines,
        "splits": {name: own.facts() for name, own in splits.items()},
        "leakage": leakage,
        "confounded": judged.confounded,
        "notes": [*notes, *judged.notes],
    }
    whole = part / "facts.json.part"
    whole.write_text(json.dumps(facts, indent=1))
    whole.replace(part / "facts.json")


def _combine(run: Run, done: dict[str, Path]) -> None:
    """Write the tables of all cards as one, and what is known of each."""
    for name in (*TABLES, NEAREST):
        tables = [pl.read_parquet(part / f"{name}.parquet") for part in done.values()]
        pl.concat(tables).write_parquet(run.table_path(name))
    facts = {name: json.loads((part / "facts.json").read_text()) for name, part in done.items()}
    leakage: dict[str, Any] = {}
    for own in facts.values():
        for model, counts in own["leakage"].items():
            leakage.setdefault(model, counts)
    total = sum(own["num_records"] for own in facts.values())
    manifest = {"num_records": total, "tasks": facts, "leakage": leakage if len(facts) == 1 else {}}
    run.write_json("data_manifest.json", manifest)
