"""Methods that are judged: a model's features, or a baseline that needs none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from protlm.evaluation.cards import TaskCard
from protlm.evaluation.learners import Features
from protlm.evaluation.neighbours import degree, nearest
from protlm.evaluation.pair_features import by_chain
from protlm.evaluation.probes import majority, out_of_fold
from protlm.evaluation.residue_features import position_features, window_features
from protlm.evaluation.task_data import TaskData, Trial
from protlm.evaluation.trivial import (
    chain_composition,
    chain_kmers,
    end_features,
    length_features,
    mutation_features,
    v_gene_features,
    variant_one_hot,
)
from protlm.types.target import Target

LOOKED_UP = ("majority", "nearest", "degree")
"""Baselines that have no features."""


@dataclass(frozen=True)
class Method:
    """A model or a baseline."""

    name: str
    kind: Literal["model", "baseline"]
    features: Features | None
    """One row for each record of the task, or for each residue of all of them; `None` for `LOOKED_UP`."""


def baseline_methods(card: TaskCard, data: TaskData) -> tuple[list[Method], list[str]]:
    """Make the baselines that the data allow.

    Parameters
    ----------
    card
        Names them.
    data
        What they look at.

    Returns
    -------
    list of Method
        In the order of the card.
    list of str
        Which are missing, and why.
    """
    records, ordered = data.records, card.is_ordered
    makers: dict[str, tuple[Callable[[], Any], str]] = {
        "length": (lambda: length_features(records) if ordered else _length(data), ""),
        "composition": (lambda: by_chain(chain_composition, records, is_ordered=ordered), ""),
        "kmer": (lambda: by_chain(chain_kmers, records, is_ordered=ordered), ""),
        "one_hot": (lambda: variant_one_hot(records), "records differ in length, and a chain has no numbers"),
        "mutation_count": (lambda: mutation_features(records), "chains have no germline to count from"),
        "v_gene": (lambda: v_gene_features(records), "no chain has a V call"),
        "ends": (lambda: end_features(records), ""),
        "ends_and_source": (lambda: end_features(records, data.sources), ""),
        "residue": (lambda: window_features(records, reach=0), ""),
        "window": (lambda: window_features(records), ""),
        "position": (lambda: position_features(records), "no chain is numbered"),
    }
    methods, notes = [], []
    for name in card.baselines:
        if name in LOOKED_UP:
            methods.append(Method(name, "baseline", None))
            continue
        make, reason = makers[name]
        features = make()
        if features is None:
            notes.append(f"no baseline '{name}': {reason}")
        else:
            methods.append(Method(name, "baseline", features))
    return methods, notes


def predict(
    method: Method,
    data: TaskData,
    trial: Trial,
    *,
    is_ordered: bool,
    on_fit: Callable[[], None] | None = None,
) -> tuple[np.ndarray, int]:
    """Give what a method says of the examples of a trial, and how many of its fits did not converge.

    Parameters
    ----------
    method
        A model or baseline.
    data
        Of the task.
    trial
        One of its.
    is_ordered
        Whether the chains of a pair have roles.
    on_fit
        Called `num_steps` times.

    Returns
    -------
    numpy.ndarray
        As `protlm.statistics.predictions.Judgement` has it; NaN where the trial predicts nothing.
    int
        Fits that reached the most iterations.
    """
    target: Target = data.target
    if method.name == "majority" and method.features is None:
        return majority(trial.labels, trial.folds, kind=target.kind, rounds=trial.rounds), 0
    if method.name == "nearest" and method.features is None:
        found = nearest(
            data.records,
            trial.rows,
            trial.labels,
            trial.folds,
            trial.rounds,
            target.kind,
            is_ordered=is_ordered,
            on_fit=on_fit,
        )
        return found, 0
    if method.name == "degree" and method.features is None:
        return degree(data.records, trial.rows, trial.labels, trial.folds, trial.rounds), 0
    assert method.features is not None
    fitted = out_of_fold(
        method.features[trial.rows],
        trial.labels,
        trial.folds,
        kind=target.kind,
        num_classes=max(2, len(target.classes)),
        rounds=trial.rounds,
        on_fit=on_fit,
    )
    is_class = target.kind == "classes"
    return _called(fitted.outputs) if is_class else fitted.outputs, fitted.num_unconverged


def num_steps(data: TaskData, methods: Sequence[Method]) -> int:
    """Give how often `predict` reports progress over all methods and trials.

    Parameters
    ----------
    data, methods
        Of the task.
    """
    fitted = sum(method.features is not None for method in methods)
    looked_up = sum(method.features is None and method.name == "nearest" for method in methods)
    return sum(fitted * len(trial.rounds) + looked_up * len(trial.rounds.tested) for trial in data.trials)


def _called(chances: np.ndarray) -> np.ndarray:
    """Give the number of the likeliest class; NaN where nothing is predicted."""
    is_there = ~np.isnan(chances[:, 0])
    return np.where(is_there, np.nan_to_num(chances).argmax(axis=1), np.nan)


def _length(data: TaskData) -> np.ndarray:
    """Give the lengths of pairs without roles: sum and difference."""
    lengths = np.array([[len(chain) for chain in record.chains] for record in data.records], dtype=np.float64)
    logs = np.log(lengths)
    if lengths.shape[1] != 2:
        return np.concatenate([lengths, logs], axis=1)
    columns = [lengths.sum(axis=1), np.abs(lengths[:, 0] - lengths[:, 1]), logs.sum(axis=1)]
    return np.column_stack([*columns, np.abs(logs[:, 0] - logs[:, 1])])
