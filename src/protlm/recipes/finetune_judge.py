"""Predictions of held-out records to metrics with intervals, beside baselines that see no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from protlm.evaluation.label_baselines import label_baselines
from protlm.evaluation.window_baseline import window_baseline
from protlm.recipes.finetune_baselines import RegressionInputs, regress
from protlm.recipes.finetune_split import Fold
from protlm.statistics.predictions import (
    IN_UNITS,
    METRICS,
    OF_ONE_END,
    PRIMARY,
    Draws,
    Judgement,
    bootstrap_predictions,
    towards_best,
)
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, LabelledRecords, Target

NUM_RANKED = 20_000
"""Up to so many rows the classes are ranked too, which takes a sort per class."""
_RANKED = ("macro_auroc", "macro_auprc")


@dataclass(frozen=True)
class Outcome:
    """What was predicted of the records of a fold."""

    subset: str
    fold: str
    seed: int
    rows: np.ndarray
    """Records, 0-based."""
    predictions: list[np.ndarray]
    """As `Predictor.predict` has them."""
    num_train: int
    in_units: bool = True
    """Whether a value is predicted in its unit; else the metrics that ask for it are left out."""


def baseline_outcomes(
    labelled: LabelledRecords,
    fold: Fold,
    train: np.ndarray,
    valid: np.ndarray,
    subset: str,
    seed: int,
    inputs: RegressionInputs,
) -> dict[str, Outcome]:
    """Predict the records of a fold without the model, from the records that it learned from.

    Parameters
    ----------
    labelled
        All records.
    fold
        Which are judged.
    train
        Rows to learn from: all training records of the fold or a subset.
    valid
        Rows to choose the strength of a penalty by.
    subset, seed
        For the table.
    inputs
        What regressions look at, and the likelihood.
    """
    learned, asked = labelled.subset(train), [labelled.records[row] for row in fold.test.tolist()]
    found = {name: predict(learned, asked) for name, predict in label_baselines(labelled.target).items()}
    found |= window_baseline(labelled, train, fold.valid, fold.test)
    for name, features in inputs.features.items():
        found[name] = regress(features, labelled, train, valid, fold.test)
    made = {
        name: Outcome(subset, fold.name, seed, fold.test, predictions, len(train))
        for name, predictions in found.items()
    }
    if inputs.likelihood is not None and inputs.likelihood.scores:
        scores = [np.array([inputs.likelihood.scores[row]]) for row in fold.test.tolist()]
        own = Outcome(subset, fold.name, seed, fold.test, scores, len(train), in_units=False)
        made[inputs.likelihood.name] = own
    return made


def metrics_table(
    labelled: LabelledRecords,
    units: np.ndarray,
    methods: Mapping[tuple[str, str], Sequence[Outcome]],
    *,
    num_draws: int,
    drawn: dict[tuple[str, str, str], Draws] | None = None,
) -> pl.DataFrame:
    """Give the metrics of each method on each subset, with 95 % intervals by group.

    Parameters
    ----------
    labelled
        All records.
    units
        Group of each record, 0-based.
    methods
        Outcomes by name and kind (``model``, ``baseline``).
    num_draws
        Bootstrap samples; all methods see the same ones.
    drawn
        Filled with them, by name, kind and subset, for `differences_table`.

    Returns
    -------
    polars.DataFrame
        ``subset, num_train, method, kind, metric, value, low, high, sd_over_seeds, n, n_groups, n_seeds``.
    """
    lines: list[dict[str, Any]] = []
    for (name, kind), outcomes in methods.items():
        for subset in dict.fromkeys(each.subset for each in outcomes):
            own = [each for each in outcomes if each.subset == subset]
            names = {"subset": subset, "method": name, "kind": kind}
            more, draws = _lines(labelled, units, own, num_draws, names)
            lines += more
            if drawn is not None:
                drawn[name, kind, subset] = draws
    return pl.DataFrame(lines, schema_overrides={"sd_over_seeds": pl.Float64})


def differences_table(metrics: pl.DataFrame, drawn: Mapping[tuple[str, str, str], Draws]) -> pl.DataFrame:
    """Give the difference of the model to each baseline on the same resampled groups, by subset.

    Parameters
    ----------
    metrics
        From `metrics_table`; only what both have there is compared.
    drawn
        As it filled it.

    Returns
    -------
    polars.DataFrame
        ``subset, num_train, first, second, metric, first_value, second_value, difference, low, high, n,
        n_groups, n_seeds``: the model first, and the difference is first minus second.
    """
    own, others = (metrics.filter(kind=kind) for kind in ("model", "baseline"))
    both = own.join(others, on=["subset", "metric"], suffix="_second", maintain_order="left_right")
    rows = []
    for row in both.iter_rows(named=True):
        draws = drawn[row["method"], "model", row["subset"]]
        if row["metric"] not in draws.metrics:
            continue
        gap = draws.minus(drawn[row["method_second"], "baseline", row["subset"]]).interval(row["metric"])
        rows.append(
            {
                "subset": row["subset"],
                "num_train": row["num_train"],
                "first": row["method"],
                "second": row["method_second"],
                "metric": row["metric"],
                "first_value": row["value"],
                "second_value": row["value_second"],
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "n": row["n"],
                "n_groups": row["n_groups"],
                "n_seeds": row["n_seeds"],
            }
        )
    return pl.DataFrame(rows, schema=_DIFFERENCES)


_DIFFERENCES = pl.Schema(
    {
        "subset": pl.String,
        "num_train": pl.Int64,
        **dict.fromkeys(("first", "second", "metric"), pl.String),
        **dict.fromkeys(("first_value", "second_value", "difference", "low", "high"), pl.Float64),
        **dict.fromkeys(("n", "n_groups", "n_seeds"), pl.Int64),
    }
)


def prediction_table(
    labelled: LabelledRecords, outcomes: Sequence[Outcome], units: np.ndarray
) -> pl.DataFrame:
    """List what was predicted, with the truth: a row per record, or per residue that has a label.

    Parameters
    ----------
    labelled
        All records.
    outcomes
        Of the model.
    units
        Group of each record, 0-based.

    Returns
    -------
    polars.DataFrame
        ``subset, fold, seed, group, id``, at residue level ``chain, position`` (1-based) and ``index``
        (0-based), then ``truth, predicted`` and a probability for each class; a value has no probabilities.
    """
    return pl.concat([_outcome_table(labelled, each, units) for each in outcomes])


def class_columns(values: np.ndarray, target: Target) -> dict[str, Any]:
    """Name the columns of predictions.

    Parameters
    ----------
    values
        ``[n, columns]`` of a `Predictor`.
    target
        What they are of.
    """
    if target.kind == "value":
        return {"predicted": values[:, 0]}
    chances = {f"probability_{name}": values[:, place] for place, name in enumerate(target.classes)}
    if target.kind == "labels":
        names = [
            ";".join(name for name, chance in zip(target.classes, row, strict=True) if chance >= 0.5)
            for row in values
        ]
        return {"predicted": names, **chances}
    called = np.array(target.classes, dtype=object)[values.argmax(axis=1)] if len(values) else []
    return {"predicted": list(called), **chances}


def residue_places(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Name the residues of records: id, chain, 1-based position and 0-based index in the chain.

    Parameters
    ----------
    records
        In order.
    """
    ids: list[str] = []
    chains: list[str] = []
    indices: list[int] = []
    for record in records:
        for name, chain in zip(record.chain_names, record.chains, strict=True):
            ids += [record.id] * len(chain)
            chains += [name] * len(chain)
            indices += range(len(chain))
    return {"id": ids, "chain": chains, "position": [index + 1 for index in indices], "index": indices}


def _outcome_table(labelled: LabelledRecords, outcome: Outcome, units: np.ndarray) -> pl.DataFrame:
    target, rows = labelled.target, outcome.rows.tolist()
    groups = units[outcome.rows]
    if target.level == "residue":
        values, truth = (
            np.concatenate(outcome.predictions),
            np.concatenate([labelled.values[r] for r in rows]),
        )
        columns: dict[str, Any] = residue_places([labelled.records[row] for row in rows])
        groups = np.repeat(groups, [len(labelled.records[row]) for row in rows])
    else:
        values, truth = np.stack(outcome.predictions), np.asarray([labelled.values[row] for row in rows])
        columns = {"id": [labelled.records[row].id for row in rows]}
    table = pl.DataFrame(
        {
            "subset": [outcome.subset] * len(values),
            "fold": [outcome.fold] * len(values),
            "seed": [outcome.seed] * len(values),
            "group": groups.astype(np.int64),
            **columns,
            "truth": _truth(truth, target),
            **class_columns(values, target),
        }
    )
    is_known = ~np.isnan(truth) if target.kind == "value" else truth != UNLABELLED
    return table.filter(pl.Series(is_known)) if target.level == "residue" else table


def _truth(truth: np.ndarray, target: Target) -> list[Any]:
    if target.kind == "value":
        return truth.tolist()
    if target.kind == "labels":
        return [";".join(np.array(target.classes)[row]) for row in truth]
    return [target.classes[value] if value != UNLABELLED else None for value in truth.tolist()]


def _lines(
    labelled: LabelledRecords,
    units: np.ndarray,
    outcomes: Sequence[Outcome],
    num_draws: int,
    names: Mapping[str, str],
) -> tuple[list[dict[str, Any]], Draws]:
    target = labelled.target
    seeds = list(dict.fromkeys(each.seed for each in outcomes))
    by_seed = [[each for each in outcomes if each.seed == seed] for seed in seeds]
    found = _draws(target.kind, [_judgement(labelled, units, own) for own in by_seed], num_draws)
    hidden = () if target.best else (OF_ONE_END,)
    hidden += () if outcomes[0].in_units else IN_UNITS
    shown = {name: found for name in METRICS[target.kind] if name not in hidden}
    ranked = [_one_hot(labelled, units, own) for own in by_seed] if target.kind == "classes" else []
    if ranked and len(ranked[0].truth) <= NUM_RANKED:
        shown |= dict.fromkeys(_RANKED, _draws("labels", ranked, num_draws))
    lines = []
    for metric, draws in shown.items():
        interval = draws.interval(metric)
        if np.isnan(interval.value):
            continue
        kind = "labels" if metric in _RANKED and target.kind == "classes" else target.kind
        repeats = ranked if kind != target.kind else [_judgement(labelled, units, own) for own in by_seed]
        own = [_draws(kind, [each], 1).values[draws.metrics.index(metric)] for each in repeats]
        lines.append(
            {
                **names,
                "num_train": round(float(np.mean([each.num_train for each in outcomes]))),
                "metric": metric,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "sd_over_seeds": float(np.std(own, ddof=1)) if len(own) > 1 else None,
                "n": interval.n,
                "n_groups": draws.num_units,
                "n_seeds": len(seeds),
            }
        )
    return lines, found


def _draws(kind: str, repetitions: Sequence[Judgement], num_draws: int) -> Draws:
    used, codes = np.unique(np.concatenate([each.clusters for each in repetitions]), return_inverse=True)
    parts = np.split(codes.reshape(-1), np.cumsum([len(each.clusters) for each in repetitions])[:-1])
    own = [
        Judgement(each.outputs, each.truth, clusters.astype(np.int64))
        for each, clusters in zip(repetitions, parts, strict=True)
    ]
    return bootstrap_predictions(kind, own, num_units=len(used), num_draws=num_draws)


def _judgement(labelled: LabelledRecords, units: np.ndarray, outcomes: Sequence[Outcome]) -> Judgement:
    values, truth, clusters = _flat(labelled, units, outcomes)
    kind, best = labelled.target.kind, labelled.target.best
    if kind == "binary":
        return Judgement(values[:, 1], truth.astype(bool), clusters)
    if kind == "classes":
        return Judgement(values.argmax(axis=1).astype(np.float64), truth, clusters)
    if kind == "labels":
        return Judgement(values, truth.astype(bool), clusters)
    return Judgement(towards_best(values[:, 0], best), towards_best(truth.astype(np.float64), best), clusters)


def _one_hot(labelled: LabelledRecords, units: np.ndarray, outcomes: Sequence[Outcome]) -> Judgement:
    values, truth, clusters = _flat(labelled, units, outcomes)
    there = np.unique(truth)
    return Judgement(values[:, there], truth[:, None] == there[None], clusters)


def _flat(
    labelled: LabelledRecords, units: np.ndarray, outcomes: Sequence[Outcome]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give predictions, truth and unit of all rows that have a label."""
    rows = [row for each in outcomes for row in each.rows.tolist()]
    given = [each for outcome in outcomes for each in outcome.predictions]
    if labelled.target.level != "residue":
        return np.stack(given), np.asarray([labelled.values[row] for row in rows]), units[rows]
    values, truth = np.concatenate(given), np.concatenate([labelled.values[row] for row in rows])
    clusters = np.repeat(units[rows], [len(labelled.records[row]) for row in rows])
    is_known = ~np.isnan(truth) if labelled.target.kind == "value" else truth != UNLABELLED
    return values[is_known], truth[is_known], clusters[is_known]


def primary_metric(target: Target) -> str:
    """Name the metric that methods are ranked by.

    Parameters
    ----------
    target
        What is predicted.
    """
    return PRIMARY[target.kind]


def best_baseline(metrics: pl.DataFrame, subset: str, metric: str) -> dict[str, Any] | None:
    """Give the line of the best baseline on a subset.

    Parameters
    ----------
    metrics
        From `metrics_table`.
    subset
        Which.
    metric
        Higher is better.
    """
    own = metrics.filter(
        (pl.col("kind") == "baseline") & (pl.col("subset") == subset) & (pl.col("metric") == metric)
    ).sort("value", descending=True)
    return None if own.is_empty() else own.row(0, named=True)
