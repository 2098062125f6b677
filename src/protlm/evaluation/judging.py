"""Judge methods on a task: out-of-fold predictions, metrics with intervals, differences on the same draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import polars as pl

from protlm.evaluation.cards import BySource, TaskCard
from protlm.evaluation.probes import majority, num_paths, out_of_fold
from protlm.evaluation.task_data import TaskData, Trial
from protlm.evaluation.trivial import CONFOUNDED_ABOVE, end_features, mutation_features, v_gene_features
from protlm.statistics.bootstrap import Interval
from protlm.statistics.classification import (
    METRICS,
    MetricDraws,
    Predictions,
    bootstrap_classification,
    classification_metrics,
    mean_and_sem,
)

NUM_DRAWS = 2000
_CONFOUNDERS = ("ends", "ends_and_source")


@dataclass(frozen=True)
class Method:
    """A model or a baseline: one vector for each record of the task."""

    name: str
    kind: Literal["model", "baseline"]
    features: np.ndarray | None
    """``[n, d]``; `None` for the majority class, which looks at nothing."""


@dataclass(frozen=True)
class Judged:
    """The tables of a task."""

    predictions: pl.DataFrame
    """``split, seed, method, kind, id, label, probability, fold, group``."""
    metrics: pl.DataFrame
    """``split, method, kind, metric, value, low, high, n, n_groups, n_seeds, fold_mean, fold_sem``."""
    differences: pl.DataFrame
    """``split, first, second, metric, first_value, second_value, difference, low, high, n, n_groups``."""
    confounded: dict[str, dict[str, Any]]
    """By split: which baseline of ends, length and source is best, its AUROC with interval, the verdict."""
    notes: list[str]


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
    makers: dict[str, tuple[Callable[[], np.ndarray | None], str]] = {
        "mutation_count": (
            lambda: mutation_features(data.records),
            "chains have no germline to count from",
        ),
        "v_gene": (lambda: v_gene_features(data.records), "no chain has a V call"),
        "ends": (lambda: end_features(data.records), ""),
        "ends_and_source": (lambda: end_features(data.records, data.sources), ""),
    }
    methods, notes = [], []
    for name in card.baselines:
        if name == "majority":
            methods.append(Method(name, "baseline", None))
            continue
        make, reason = makers[name]
        features = make()
        if features is None:
            notes.append(f"no baseline '{name}': {reason}")
        else:
            methods.append(Method(name, "baseline", features))
    return methods, notes


def num_fits(data: TaskData, methods: Sequence[Method]) -> int:
    """Give how often `judge` reports progress.

    Parameters
    ----------
    data, methods
        As for `judge`.
    """
    fitted = sum(method.features is not None for method in methods)
    return fitted * sum(num_paths(len(np.unique(trial.folds))) for trial in data.trials)


def judge(
    card: TaskCard,
    data: TaskData,
    methods: Sequence[Method],
    *,
    num_draws: int = NUM_DRAWS,
    on_fit: Callable[[], None] | None = None,
) -> Judged:
    """Fit every method on every trial and compare them.

    Intervals resample whole groups, the same ones for every method and every seed; values are means over
    the seeds.

    Parameters
    ----------
    card
        The task.
    data
        From `build_task`.
    methods
        Models and baselines.
    num_draws
        Bootstrap samples.
    on_fit
        Called `num_fits` times.
    """
    tables, notes = [], []
    by_split: dict[str, dict[str, list[tuple[Trial, np.ndarray]]]] = {}
    for method in methods:
        unconverged = 0
        for trial in data.trials:
            chances, failed = _predict(method, trial, on_fit)
            unconverged += failed
            by_split.setdefault(trial.split, {}).setdefault(method.name, []).append((trial, chances))
            tables.append(_prediction_table(data, method, trial, chances))
        if unconverged:
            notes.append(f"{method.name}: {unconverged} fits stopped at the most iterations")
    kinds = {method.name: method.kind for method in methods}
    metric_rows: list[dict[str, Any]] = []
    difference_rows: list[dict[str, Any]] = []
    confounded = {}
    for split, found in by_split.items():
        draws = {name: _draws(results, num_draws) for name, results in found.items()}
        metric_rows += [
            row for name in found for row in _metric_rows(split, name, kinds[name], found[name], draws[name])
        ]
        for first, second in _comparisons(draws, kinds):
            difference_rows += _difference_rows(split, first, second, draws)
        confounded[split] = _verdict(card, draws)
    return Judged(
        predictions=pl.concat(tables),
        metrics=pl.DataFrame(metric_rows).filter(pl.col("metric").is_in(card.metrics)),
        differences=pl.DataFrame(difference_rows, schema=_DIFFERENCES),
        confounded=confounded,
        notes=notes,
    )


def best_baseline(metrics: pl.DataFrame, split: str) -> str | None:
    """Name the baseline with the highest AUROC; `None` where there is none.

    Parameters
    ----------
    metrics
        The table of `Judged`.
    split
        One of its splits.
    """
    rows = metrics.filter(
        (pl.col("split") == split) & (pl.col("kind") == "baseline") & (pl.col("metric") == "auroc")
    ).sort("value", descending=True, nulls_last=True, maintain_order=True)
    return None if rows.is_empty() else str(rows["method"][0])


def _predict(method: Method, trial: Trial, on_fit: Callable[[], None] | None) -> tuple[np.ndarray, int]:
    if method.features is None:
        return majority(trial.labels, trial.folds), 0
    found = out_of_fold(method.features[trial.rows], trial.labels, trial.folds, on_fit=on_fit)
    return found.probabilities, found.num_unconverged


def _prediction_table(data: TaskData, method: Method, trial: Trial, chances: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [data.records[row].id for row in trial.rows.tolist()],
            "label": trial.labels,
            "probability": chances,
            "fold": trial.folds.astype(np.int32),
            "group": trial.groups.astype(np.int32),
        }
    ).select(
        pl.lit(trial.split).alias("split"),
        pl.lit(trial.seed, dtype=pl.Int32).alias("seed"),
        pl.lit(method.name).alias("method"),
        pl.lit(method.kind).alias("kind"),
        pl.all(),
    )


def _draws(results: Sequence[tuple[Trial, np.ndarray]], num_draws: int) -> MetricDraws:
    repetitions = [Predictions(chances, trial.labels, trial.groups) for trial, chances in results]
    return bootstrap_classification(repetitions, num_units=results[0][0].num_groups, num_draws=num_draws)


def _metric_rows(
    split: str, name: str, kind: str, results: Sequence[tuple[Trial, np.ndarray]], draws: MetricDraws
) -> list[dict[str, Any]]:
    by_fold = np.array([_fold_statistics(trial, chances) for trial, chances in results]).mean(axis=0)
    return [
        {
            "split": split,
            "method": name,
            "kind": kind,
            "metric": metric,
            **_bounds(draws.interval(metric)),
            "n": draws.n,
            "n_groups": draws.num_units,
            "n_seeds": len(results),
            "fold_mean": float(by_fold[place, 0]),
            "fold_sem": float(by_fold[place, 1]),
        }
        for place, metric in enumerate(METRICS)
    ]


def _fold_statistics(trial: Trial, chances: np.ndarray) -> list[tuple[float, float]]:
    """Give mean and standard error over the folds of one trial, by metric."""
    by_fold = [
        classification_metrics(chances[trial.folds == fold], trial.labels[trial.folds == fold])
        for fold in np.unique(trial.folds)
    ]
    return [mean_and_sem(column) for column in np.array(by_fold).T]


def _bounds(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _comparisons(draws: dict[str, MetricDraws], kinds: dict[str, str]) -> list[tuple[str, str]]:
    """List each pair of models, and each model with the baseline of the highest AUROC."""
    models = [name for name in draws if kinds[name] == "model"]
    place = METRICS.index("auroc")
    baselines = [name for name in draws if kinds[name] == "baseline"]
    best = max(baselines, key=lambda name: draws[name].values[place], default=None)
    return [*combinations(models, 2), *((name, best) for name in models if best is not None)]


_DIFFERENCES = pl.Schema(
    {
        "split": pl.String,
        "first": pl.String,
        "second": pl.String,
        "metric": pl.String,
        "first_value": pl.Float64,
        "second_value": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n": pl.Int64,
        "n_groups": pl.Int64,
    }
)


def _difference_rows(
    split: str, first: str, second: str, draws: dict[str, MetricDraws]
) -> list[dict[str, Any]]:
    difference = draws[first].minus(draws[second])
    rows = []
    for place, metric in enumerate(METRICS):
        interval = difference.interval(metric)
        rows.append(
            {
                "split": split,
                "first": first,
                "second": second,
                "metric": metric,
                "first_value": float(draws[first].values[place]),
                "second_value": float(draws[second].values[place]),
                "difference": interval.value,
                "low": interval.low,
                "high": interval.high,
                "n": difference.n,
                "n_groups": difference.num_units,
            }
        )
    return rows


def _verdict(card: TaskCard, draws: dict[str, MetricDraws]) -> dict[str, Any]:
    place = METRICS.index("auroc")
    names = [name for name in _CONFOUNDERS if name in draws]
    by_construction = isinstance(card.target, BySource)
    facts: dict[str, Any] = {"threshold": CONFOUNDED_ABOVE, "by_construction": by_construction}
    if not names:
        return {**facts, "is_confounded": by_construction, "baseline": None}
    worst = max(names, key=lambda name: draws[name].values[place])
    interval = draws[worst].interval("auroc")
    is_confounded = by_construction or interval.value > CONFOUNDED_ABOVE
    return {**facts, "is_confounded": is_confounded, "baseline": worst, "auroc": _bounds(interval)}
