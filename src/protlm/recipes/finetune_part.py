"""One training of a fine-tuning: a subset, a fold and a seed to a head, and what it says of the fold."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protlm.data.hashing import combine
from protlm.data.roles import with_roles
from protlm.models.features import cached_features, cached_residue_states, with_random_weights
from protlm.models.heads import Head, HeadFacts, load_head, views
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.models.predictor import HEAD_FOLDER, Predictor, load_predictor
from protlm.objectives.supervised import Supervised, balanced_weights, prior_outputs
from protlm.recipes.finetune_config import FinetuneConfig
from protlm.recipes.finetune_split import Fold, subset
from protlm.runs import Run
from protlm.statistics.predictions import METRICS, prediction_metrics
from protlm.training.loop import TrainingConfig, train
from protlm.training.processes import Processes
from protlm.training.supervised_job import (
    FeatureInputs,
    Inputs,
    Metric,
    RecordInputs,
    Rows,
    SupervisedJob,
    predict_rows,
    target_values,
)
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, LabelledRecords, Target

OUTPUTS = "outputs.npz"
"""What a training said of its fold, from which it is taken up."""
_SHUFFLE_STREAM = 302
_STANDARDISED_RECORDS = 2000


@dataclass(frozen=True)
class Part:
    """What is trained once."""

    subset: str
    fold: Fold
    seed: int
    path: Path

    def rows(self, records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
        """Give the rows to learn from and to choose the weights by, of these no more than of those.

        Parameters
        ----------
        records
            All of them.
        """
        train = subset(records, self.fold.train, self.subset, seed=self.seed)
        return train, subset(records, self.fold.valid, len(train), seed=self.seed)


def parts_of(config: FinetuneConfig, folds: Sequence[Fold], out: Path) -> list[Part]:
    """List the trainings; their folders say what there are several of.

    Parameters
    ----------
    config
        Settings.
    folds
        From `plan_folds`.
    out
        The Run.
    """
    made = []
    for name in map(str, config.subsets):
        for fold in folds:
            for seed in config.seeds:
                path = out
                path = path / f"n-{name}" if len(config.subsets) > 1 else path
                path = path / f"fold-{fold.name}" if len(folds) > 1 else path
                path = path / f"seed-{seed}" if len(config.seeds) > 1 else path
                made.append(Part(name, fold, seed, path))
    return made


def frozen_inputs(
    encoder: LanguageModel,
    labelled: LabelledRecords,
    facts: HeadFacts,
    folder: Path,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[FeatureInputs, bool]:
    """Read every record through a frozen encoder once, or take what an earlier Run kept.

    Parameters
    ----------
    encoder
        Stays as it is.
    labelled
        All records.
    facts
        Of the head.
    folder
        Where features are kept.
    on_batch
        Called with the number of inputs finished.

    Returns
    -------
    FeatureInputs
        For heads.
    bool
        Whether they were there already.
    """
    made = with_roles(views(labelled.records, facts), encoder.layout)
    lengths = Predictor(encoder, Head(facts).to(encoder.device)).lengths(labelled.records)
    if facts.target.level == "residue" or facts.settings.pooling == "attention":
        states, was_there = cached_residue_states(encoder, made, folder, on_batch=on_batch)
        sizes = [[len(each) for each in view.chains] for view in made]
        count = facts.num_views
        own = [list(chain(*sizes[row : row + count])) for row in range(0, len(sizes), count)]
        return FeatureInputs(states, lengths, facts, chain_lengths=own), was_there
    features, was_there = cached_features(
        encoder, made, folder, pooling=facts.settings.pooling, on_batch=on_batch
    )
    return FeatureInputs(features.reshape(len(labelled), -1), lengths, facts), was_there


def load_encoder(config: FinetuneConfig, device: str) -> LanguageModel:
    """Load the model that is fine-tuned, or the same network with fresh weights.

    Parameters
    ----------
    config
        Settings.
    device
        Where to.
    """
    encoder = load_model(config.model, device=device)
    return with_random_weights(encoder) if config.random_weights else encoder


def train_part(
    part: Part,
    config: FinetuneConfig,
    labelled: LabelledRecords,
    facts: HeadFacts,
    frozen: FeatureInputs | None,
    run: Run,
    *,
    device: str,
    processes: Processes,
) -> list[np.ndarray]:
    """Train one head, with the encoder where that is asked, and predict the fold.

    Parameters
    ----------
    part
        What.
    config
        Settings.
    labelled
        All records.
    facts
        Of the head, but for the scale of values.
    frozen
        Features of all records; `None` where the encoder is trained.
    run
        Where it goes.
    device, processes
        Where to train.

    Returns
    -------
    list of numpy.ndarray
        Predictions of the records of ``part.fold.test``.
    """
    rows, chosen_by = part.rows(labelled.records)
    learned = shuffled(labelled, [rows, chosen_by], part.seed) if config.shuffle_labels else labelled
    facts = _scaled(facts, learned, rows)
    weights = _weights(config, learned, rows, facts)
    head = Head(facts, seed=part.seed)
    head.begin_with(prior_outputs(facts.target, target_values(learned, rows, facts).numpy(), weights))
    model: Any = head
    inputs: Inputs
    if frozen is None:
        encoder = load_encoder(config, device)
        config.adapt.apply(encoder, seed=part.seed)  # type: ignore[attr-defined]
        model = Predictor(encoder, head.to(encoder.device))
        inputs = RecordInputs(model, labelled.records)
    else:
        inputs = frozen
        _standardise(head, frozen, rows)
        head.to(processes.device)
    job = SupervisedJob(
        train=Rows(learned.subset(rows), _Chosen(inputs, rows)),
        valid=Rows(learned.subset(chosen_by), _Chosen(inputs, chosen_by)) if len(chosen_by) else None,
        objective=Supervised(facts.target, weights=weights, regression=config.loss.regression),
        facts=facts,
        settings=_settings(config, inputs.lengths[rows]),
        run=run,
        seed=part.seed,
        metric=_metric(facts.target) if config.watch == "metric" else None,
    )
    train(model, job, job.settings, run, processes=processes, seed=part.seed)
    test = part.fold.test
    if frozen is None:
        model = load_predictor(run.path, device=str(processes.device))
        inputs = RecordInputs(model, labelled.records)
        budget = model.encoder.token_budget
    else:
        model, budget = load_head(run.path / HEAD_FOLDER).to(processes.device), 1 << 17
    return predict_rows(model, Rows(labelled.subset(test), _Chosen(inputs, test)), max_tokens=budget)


class _Chosen:
    """Some rows of other inputs, counted from 0."""

    def __init__(self, inputs: Inputs, rows: np.ndarray) -> None:
        self.inputs, self.rows, self.lengths = inputs, rows, inputs.lengths[rows]

    def of(self, rows: np.ndarray) -> Any:
        return self.inputs.of(self.rows[rows])


def clear_parts(out: Path) -> None:
    """Remove the trainings of an earlier Run.

    Parameters
    ----------
    out
        The Run.
    """
    own = [each for kind in ("n", "fold", "seed") for each in out.glob(f"{kind}-*") if each.is_dir()]
    for folder in [out / HEAD_FOLDER, *own]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in (OUTPUTS, "predictors.json"):
        (out / name).unlink(missing_ok=True)


def _settings(config: FinetuneConfig, lengths: np.ndarray) -> TrainingConfig:
    """Give the settings of the loop: so many steps as the epochs have."""
    settings = config.training
    if config.epochs is not None:
        whole = len(lengths) if settings.step_records else int(lengths.sum())
        steps = math.ceil(config.epochs * whole / (settings.step_records or settings.step_tokens))
        settings = settings.model_copy(update={"max_steps": max(1, steps)})
    return settings


def _scaled(facts: HeadFacts, labelled: LabelledRecords, rows: np.ndarray) -> HeadFacts:
    if facts.target.kind != "value":
        return facts
    values = np.concatenate([np.atleast_1d(np.asarray(labelled.values[row], dtype=float)) for row in rows])
    mean, sd = float(np.nanmean(values)), float(np.nanstd(values))
    return replace(facts, mean=mean, sd=sd if sd > 0 else 1.0)


def _standardise(head: Head, inputs: FeatureInputs, rows: np.ndarray) -> None:
    states = inputs.of(rows[:_STANDARDISED_RECORDS])
    head.standardise(states if isinstance(states, torch.Tensor) else states.values)


def _weights(
    config: FinetuneConfig, labelled: LabelledRecords, rows: np.ndarray, facts: HeadFacts
) -> np.ndarray | None:
    given = config.loss.weights
    if given == "balanced":
        return balanced_weights(facts.target, target_values(labelled, rows, facts).numpy())
    if not isinstance(given, dict):
        return None
    by_class = np.array([given.get(name, 1.0) for name in facts.target.classes])
    return by_class[1:] / by_class[:1] if facts.target.kind == "binary" else by_class


def shuffled(labelled: LabelledRecords, parts: Sequence[np.ndarray], seed: int) -> LabelledRecords:
    """Exchange the labels inside each part; of residues, inside each record.

    Parameters
    ----------
    labelled
        All records.
    parts
        Rows of each part; those of none keep their labels.
    seed
        Another seed exchanges others.
    """
    values = list(labelled.values)
    for part, rows in enumerate(parts):
        if labelled.target.level == "residue":
            for row in rows.tolist():
                order = np.argsort(combine(seed, _SHUFFLE_STREAM, row, np.arange(len(values[row]))))
                values[row] = np.asarray(values[row])[order]
        else:
            order = np.argsort(combine(seed, _SHUFFLE_STREAM, part, rows)).tolist()
            moved = [labelled.values[int(rows[place])] for place in order]
            for row, value in zip(rows.tolist(), moved, strict=True):
                values[row] = value
    return LabelledRecords(labelled.records, labelled.target, values, labelled.groups)


def _metric(target: Target) -> Metric:
    """Make the first metric of a kind a function of predictions; the ranking one of two classes."""
    name = "auroc" if target.kind == "binary" else METRICS[target.kind][0]
    place = METRICS[target.kind].index(name)

    def measure(found: list[np.ndarray], labelled: LabelledRecords) -> float:
        if target.level == "residue":
            values, truth = np.concatenate(found), np.concatenate(list(labelled.values))
            known = ~np.isnan(truth) if target.kind == "value" else truth != UNLABELLED
            values, truth = values[known], truth[known]
        else:
            values, truth = np.stack(found), np.asarray(labelled.values)
        outputs = {"binary": values[:, -1], "classes": values.argmax(axis=1), "value": values[:, 0]}
        return float(prediction_metrics(target.kind, outputs.get(target.kind, values), truth)[place])

    return measure
