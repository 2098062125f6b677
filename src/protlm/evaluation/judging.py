"""Judge methods on a task: out-of-fold predictions, metrics with intervals, differences on the same draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from protlm.evaluation.cards import BySource, TaskCard
from protlm.evaluation.methods import Method, predict
from protlm.evaluation.task_data import TaskData, Trial
from protlm.evaluation.trivial import CONFOUNDED_ABOVE
from protlm.statistics.bootstrap import Interval
from protlm.statistics.classification import mean_and_sem
from protlm.statistics.predictions import (
    METRICS,
    SMALLER_IS_BETTER,
    Draws,
    Judgement,
    bootstrap_predictions,
    prediction_metrics,
    towards_best,
)

_CONFOUNDERS = ("ends", "ends_and_source")


@dataclass(frozen=True)
class Judged:
    """The tables of a task."""

    predictions: pl.DataFrame
    """``split, seed, method, kind, id, index, class, label, prediction, fold, group``: `label` is the number
    of a class or a value, `index` the 0-based one of a residue, `class` that of several labels."""
    metrics: pl.DataFrame
    """``split, method, kind, metric, value, low, high, n, n_groups, n_seeds, fold_mean, fold_sem``."""
    differences: pl.DataFrame
    """``split, first, second, metric, first_value, second_value, difference, low, high, n, n_groups``."""
    verdicts: pl.DataFrame
    """``split, model, metric, value, low, high, n, n_groups, baseline, baseline_value, difference,
    difference_low, difference_high, verdict``: each model beside the best baseline."""
    confounded: dict[str, dict[str, Any]]
    """By split: which baseline of ends, length and source is best, its AUROC with interval, the verdict."""
    notes: list[str]


def judge(
    card: TaskCard,
    data: TaskData,
    methods: Sequence[Method],
    *,
    num_draws: int | None = None,
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
        Bootstrap samples; as the card says if not given.
    on_fit
        Called `num_steps` times.
    """
    num_draws = card.num_draws if num_draws is None else num_draws
    tables, notes = [], []
    by_split: dict[str, dict[str, list[tuple[Trial, np.ndarray]]]] = {}
    for method in methods:
        unconverged = 0
        for trial in data.trials:
            outputs, failed = predict(method, data, trial, is_ordered=card.is_ordered, on_fit=on_fit)
            unconverged += failed
            by_split.setdefault(trial.split, {}).setdefault(method.name, []).append((trial, outputs))
            tables.append(_prediction_table(data, method, trial, outputs))
        if unconverged:
            notes.append(f"{method.name}: {unconverged} fits stopped at the most iterations")
    kinds = {method.name: method.kind for method in methods}
    rows: dict[str, list[dict[str, Any]]] = {"metrics": [], "differences": [], "verdicts": []}
    confounded = {}
    for split, found in by_split.items():
        draws = {name: _draws(card, results, num_draws) for name, results in found.items()}
        for name, results in found.items():
            rows["metrics"] += _metric_rows(card, split, name, kinds[name], results, draws[name])
        best = _best(card, draws, kinds)
        models = [name for name in draws if kinds[name] == "model"]
        beside = [(name, best) for name in models if best is not None]
        for first, second in [*combinations(models, 2), *beside]:
            rows["differences"] += _difference_rows(card, split, first, second, draws)
        rows["verdicts"] += [_verdict_row(card, split, name, best, draws) for name in models]
        confounded[split] = _confounding(card, draws)
    return Judged(
        predictions=pl.concat(tables),
        metrics=pl.DataFrame(rows["metrics"]),
        differences=pl.DataFrame(rows["differences"], schema=_DIFFERENCES),
        verdicts=pl.DataFrame(rows["verdicts"], schema=_VERDICTS),
        confounded=confounded,
        notes=notes,
    )


def _prediction_table(data: TaskData, method: Method, trial: Trial, outputs: np.ndarray) -> pl.DataFrame:
    chosen = np.flatnonzero(trial.tested)
    names, places = data.names(trial.rows[chosen])
    table = pl.DataFrame(
        {
            "id": names,
            "index": pl.Series(places if places is not None else [None] * len(names), dtype=pl.Int32),
            "fold": trial.folds[chosen].astype(np.int32),
            "group": trial.groups[chosen].astype(np.int32),
        }
    )
    given, right = outputs[chosen], trial.labels[chosen].astype(np.float64)
    classes: list[str | None] = [None] if given.ndim == 1 else list(data.target.classes)
    parts = [
        table.with_columns(
            pl.Series("label", right if name is None else right[:, column]),
            pl.Series("prediction", given if name is None else given[:, column]),
            pl.lit(name, dtype=pl.String).alias("class"),
        )
        for column, name in enumerate(classes)
    ]
    return pl.concat(parts).select(
        pl.lit(trial.split).alias("split"),
        pl.lit(trial.seed, dtype=pl.Int32).alias("seed"),
        pl.lit(method.name).alias("method"),
        pl.lit(method.kind).alias("kind"),
        "id",
        "index",
        "class",
        "label",
        "prediction",
        "fold",
        "group",
    )


def _draws(card: TaskCard, results: Sequence[tuple[Trial, np.ndarray]], num_draws: int) -> Draws:
    repetitions, units = [], 0
    used = np.unique(np.concatenate([trial.groups[trial.tested] for trial, _ in results]))
    for trial, outputs in results:
        chosen = trial.tested
        groups = np.searchsorted(used, trial.groups[chosen])
        parts = None if trial.parts is None else trial.parts[chosen]
        given, right = towards_best(outputs[chosen], card.best), towards_best(trial.labels[chosen], card.best)
        repetitions.append(Judgement(given, right, groups, parts))
        units = len(used)
    return bootstrap_predictions(card.kind, repetitions, num_units=units, num_draws=num_draws)


def _metric_rows(
    card: TaskCard,
    split: str,
    name: str,
    kind: str,
    results: Sequence[tuple[Trial, np.ndarray]],
    draws: Draws,
) -> list[dict[str, Any]]:
    by_fold = np.array([_fold_statistics(card, *result) for result in results]).mean(axis=0)
    known = METRICS[card.kind]
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
            "fold_mean": float(by_fold[known.index(metric), 0]),
            "fold_sem": float(by_fold[known.index(metric), 1]),
        }
        for metric in card.shown
    ]


def _fold_statistics(card: TaskCard, trial: Trial, outputs: np.ndarray) -> list[tuple[float, float]]:
    """Give mean and standard error over the folds of one trial, by metric."""
    given, right = towards_best(outputs, card.best), towards_best(trial.labels, card.best)
    by_fold = [
        prediction_metrics(card.kind, given[trial.folds == fold], right[trial.folds == fold])
        for fold in trial.rounds.tested
    ]
    return [mean_and_sem(column) for column in np.array(by_fold).T]


def _bounds(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _best(card: TaskCard, draws: dict[str, Draws], kinds: dict[str, str]) -> str | None:
    """Name the baseline that is best by the primary metric; `None` where none has a value."""
    place = METRICS[card.kind].index(card.primary)
    sign = -1 if card.primary in SMALLER_IS_BETTER else 1
    values = {name: sign * draws[name].values[place] for name in draws if kinds[name] == "baseline"}
    there = {name: value for name, value in values.items() if not np.isnan(value)}
    return max(there, key=lambda name: there[name]) if there else next(iter(values), None)


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
_VERDICTS = pl.Schema(
    {
        "split": pl.String,
        "model": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n": pl.Int64,
        "n_groups": pl.Int64,
        "baseline": pl.String,
        "baseline_value": pl.Float64,
        "difference": pl.Float64,
        "difference_low": pl.Float64,
        "difference_high": pl.Float64,
        "verdict": pl.String,
    }
)


def _difference_rows(
    card: TaskCard, split: str, first: str, second: str, draws: dict[str, Draws]
) -> list[dict[str, Any]]:
    difference = draws[first].minus(draws[second])
    rows = []
    for metric in card.shown:
        interval, place = difference.interval(metric), METRICS[card.kind].index(metric)
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


def _verdict_row(
    card: TaskCard, split: str, name: str, best: str | None, draws: dict[str, Draws]
) -> dict[str, Any]:
    own = draws[name]
    row: dict[str, Any] = {"split": split, "model": name, "metric": card.primary}
    row |= {**_bounds(own.interval(card.primary)), "n": own.n, "n_groups": own.num_units}
    if best is None:
        return row | {"verdict": "no baseline"}
    gap = own.minus(draws[best]).interval(card.primary)
    return row | {
        "baseline": best,
        "baseline_value": draws[best].interval(card.primary).value,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "verdict": _verdict(gap, is_smaller_better=card.primary in SMALLER_IS_BETTER),
    }


def _verdict(gap: Interval, *, is_smaller_better: bool) -> str:
    """Say on which side of the best baseline a model is: ``above`` where the interval is clear of zero."""
    value, low = (-gap.value, -gap.high) if is_smaller_better else (gap.value, gap.low)
    if np.isnan(value):
        return "undefined"
    return "below" if value <= 0 else "above" if low > 0 else "not clear"


def _confounding(card: TaskCard, draws: dict[str, Draws]) -> dict[str, Any]:
    by_construction = isinstance(card.target, BySource)
    names = [name for name in _CONFOUNDERS if name in draws and card.kind == "binary"]
    facts: dict[str, Any] = {"threshold": CONFOUNDED_ABOVE, "by_construction": by_construction}
    facts["is_asked"] = card.kind == "binary" and any(name in card.baselines for name in _CONFOUNDERS)
    if not names:
        return {**facts, "is_confounded": by_construction, "baseline": None}
    worst = max(names, key=lambda name: draws[name].interval("auroc").value)
    interval = draws[worst].interval("auroc")
    is_confounded = by_construction or interval.value > CONFOUNDED_ABOVE
    return {**facts, "is_confounded": is_confounded, "baseline": worst, "auroc": _bounds(interval)}
