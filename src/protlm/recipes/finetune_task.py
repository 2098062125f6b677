"""A task card as the data of a fine-tuning: its records, labels and folds."""

from collections import Counter
from dataclasses import replace

import numpy as np

from protlm.data.splits import Groups
from protlm.errors import ConfigError, did_you_mean
from protlm.evaluation.cards import load_card
from protlm.evaluation.task_data import TaskData, Trial, build_task
from protlm.evaluation.task_files import find_files
from protlm.recipes.finetune_config import LabelConfig
from protlm.recipes.finetune_data import Source
from protlm.recipes.finetune_split import Fold, Plan, finished_plan
from protlm.types.target import UNLABELLED, LabelledRecords


def read_task(settings: LabelConfig) -> tuple[Source, Plan]:
    """Read a task, and divide it as its card says.

    Each fold that the card has predicted is judged once; of the folds that the card chooses a penalty by, the
    next one chooses the weights, and where there is none, some groups of the training records do.

    Parameters
    ----------
    settings
        With a task.

    Raises
    ------
    ConfigError
        If there is no such task or split.
    DataError
        If its files are missing or wrong.
    """
    assert settings.task is not None
    card = load_card(settings.task)
    data = build_task(
        card, find_files(card, list(settings.task_data)), seeds=1, max_records=settings.max_records
    )
    trials = {trial.split: trial for trial in data.trials[::-1]}
    name = settings.task_split or data.trials[0].split
    if name not in trials:
        raise ConfigError(f"task '{card.name}' has no split '{name}'", hint=did_you_mean(name, trials))
    trial = trials[name]
    labelled, folds, codes = _labelled(data, trial)
    lines = [f"{card.title} ('{card.name}', version {card.version}), split '{name}'", *data.lines]
    if settings.best is not None and labelled.target.kind == "value":
        labelled = replace(labelled, target=replace(labelled.target, best=settings.best))
    wild_types = {each.wild_type for each in card.data}
    wild_type = settings.wild_type or (wild_types.pop() if len(wild_types) == 1 else None)
    source = Source(labelled, [""] * len(labelled), Counter(data.counts), lines, wild_type)
    names, places = np.unique(codes, return_inverse=True)
    groups = Groups(places.reshape(-1), tuple(str(each) for each in names.tolist()))
    made = [_fold(trial, folds, tested) for tested in trial.rounds.tested]
    return source, finished_plan(source, settings, made, groups, [], data.reports.get(name))


def _labelled(data: TaskData, trial: Trial) -> tuple[LabelledRecords, np.ndarray, np.ndarray]:
    """Give the records of a trial with their values, and the fold and unit of each."""
    target = data.target
    if target.level != "residue":
        values = trial.labels.astype(np.int64) if target.kind == "binary" else trial.labels
        records = [data.records[row] for row in trial.rows.tolist()]
        return LabelledRecords(records, target, list(values)), trial.folds, trial.groups
    sizes = np.array([len(record) for record in data.records])
    starts = np.cumsum(sizes) - sizes
    owner = np.searchsorted(starts, trial.rows, side="right") - 1
    used, first = np.unique(owner, return_index=True)
    empty = np.nan if target.kind == "value" else UNLABELLED
    flat = np.full(int(sizes.sum()), empty, dtype=np.float64 if target.kind == "value" else np.int64)
    flat[trial.rows] = trial.labels
    values = [flat[starts[row] : starts[row] + sizes[row]] for row in used.tolist()]
    records = [data.records[row] for row in used.tolist()]
    return LabelledRecords(records, target, values), trial.folds[first], trial.groups[first]


def _fold(trial: Trial, folds: np.ndarray, tested: int) -> Fold:
    others = trial.rounds.validated.get(tested, ())
    later = [fold for fold in others if fold > tested] or list(others)
    valid = folds == later[0] if later else np.zeros(len(folds), dtype=bool)
    test = folds == tested
    parts = (np.flatnonzero(mask) for mask in (~test & ~valid, valid, test))
    return Fold(str(tested), *parts)
