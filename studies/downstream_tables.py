"""Pool the study of downstream tasks: cards beside baselines, fine-tuned models on the same rows, curves."""

from pathlib import Path

import numpy as np
import polars as pl

from protlm.runs import Run
from protlm.statistics.predictions import PRIMARY, Draws, Judgement, bootstrap_predictions

NUM_DRAWS = 1000


def card_table(evaluation: Path) -> pl.DataFrame:
    """List each model on each split of each card, beside the best baseline of all.

    Parameters
    ----------
    evaluation
        A Run of ``evaluate tasks``.

    Returns
    -------
    polars.DataFrame
        ``task, split, metric, n, baseline, baseline_value``, then a column for each model with its value, its
        interval and a mark: ``+`` above the best baseline with an interval clear of zero, ``-`` below it.
    """
    verdicts = pl.read_parquet(Run.open(evaluation).table_path("verdicts"))
    marks = {"above": " +", "below": " -"}
    cells = verdicts.with_columns(
        pl.format(
            "{} [{}, {}]{}",
            *(pl.col(name).round(3) for name in ("value", "low", "high")),
            pl.col("verdict").replace_strict(marks, default=""),
        ).alias("cell")
    )
    keys = ["task", "split", "metric", "n", "baseline", pl.col("baseline_value").round(3)]
    return cells.select(*keys, "model", "cell").pivot(
        "model", index=["task", "split", "metric", "n", "baseline", "baseline_value"], values="cell"
    )


def compare_finetuned(card: str, tuned: Path, frozen: Path) -> pl.DataFrame:
    """Put a fine-tuned model beside all that was judged on the same rows, with paired intervals.

    Parameters
    ----------
    card
        Name of the card.
    tuned
        A Run of ``finetune`` on it; metrics are means over its seeds.
    frozen
        A Run of ``evaluate tasks`` on it with the same cut; its first seed has the same folds.

    Returns
    -------
    polars.DataFrame
        ``method, metric, value, low, high, difference, difference_low, difference_high, n, n_groups``;
        differences are the fine-tuned model's value minus the method's, on the same draws.

    Raises
    ------
    ValueError
        If the two did not judge the same rows.
    """
    facts = Run.open(frozen).read_json("data_manifest.json")["tasks"][card]
    kind, metric = facts["task"]["kind"], facts["task"]["primary"]
    others = pl.read_parquet(Run.open(frozen).table_path("predictions")).filter(pl.col("seed") == 0)
    others = others.filter(pl.col("split") == others["split"][0])
    own = _tuned(pl.read_parquet(Run.open(tuned).table_path("predictions")), kind, facts["classes"])
    draws = {}
    for (method,), rows in others.group_by("method", maintain_order=True):
        keys = ["id", "index"]
        joined = own.join(rows.select(*keys, "group", "label", "prediction"), on=keys, nulls_equal=True)
        if joined.height != rows.height * own["seed"].n_unique():
            raise ValueError(f"{tuned} and {frozen} did not judge the same rows of {card}")
        if not draws:
            draws["fine-tuned"] = _draws(kind, joined, "own")
        draws[str(method)] = _draws(kind, joined.filter(pl.col("seed") == joined["seed"][0]), "prediction")
    tuned_draws = draws["fine-tuned"]
    return pl.DataFrame([_line(name, each, tuned_draws, metric) for name, each in draws.items()])


def _tuned(table: pl.DataFrame, kind: str, classes: list[str]) -> pl.DataFrame:
    """Bring predictions of fine-tuned models to the form of those of cards."""
    if kind == "classes":
        own = pl.col("predicted").replace_strict({name: n for n, name in enumerate(classes)}).cast(pl.Float64)
    elif kind == "binary":
        own = pl.col([name for name in table.columns if name.startswith("probability_")][-1])
    else:
        own = pl.col("predicted")
    index = pl.col("index").cast(pl.Int32) if "index" in table.columns else pl.lit(None, dtype=pl.Int32)
    return table.select("seed", "id", index.alias("index"), own.alias("own"))


def _draws(kind: str, joined: pl.DataFrame, column: str) -> Draws:
    groups = np.unique(joined["group"].to_numpy())
    judgements = []
    for _, rows in joined.group_by("seed", maintain_order=True):
        truth = rows["label"].to_numpy()
        truth = truth.astype(bool if kind == "binary" else np.int64 if kind == "classes" else np.float64)
        units = np.searchsorted(groups, rows["group"].to_numpy())
        judgements.append(Judgement(rows[column].to_numpy().astype(np.float64), truth, units))
    return bootstrap_predictions(kind, judgements, num_units=len(groups), num_draws=NUM_DRAWS)


def _line(name: str, own: Draws, tuned: Draws, metric: str) -> dict[str, object]:
    value, gap = own.interval(metric), tuned.minus(own).interval(metric)
    return {
        "method": name,
        "metric": metric,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "n": own.n,
        "n_groups": own.num_units,
    }


def curve_table(trained: Path, fresh: Path) -> pl.DataFrame:
    """Give what is learned from few labels, beside a network with random weights and the best baseline.

    Parameters
    ----------
    trained, fresh
        Runs of ``finetune`` with the same subsets and seeds.

    Returns
    -------
    polars.DataFrame
        ``num_train, metric, n`` and for model, control and best baseline a text with the interval.
    """
    tables = {
        name: pl.read_parquet(Run.open(path).table_path("finetune_metrics"))
        for name, path in (("model", trained), ("random weights", fresh))
    }
    rows = []
    metric = PRIMARY["classes"]
    for (subset,), _ in tables["model"].group_by("subset", maintain_order=True):
        row: dict[str, object] = {}
        for name, table in tables.items():
            part = table.filter((pl.col("subset") == subset) & (pl.col("metric") == metric))
            own = part.filter(pl.col("kind") == "model").row(0, named=True)
            row |= {"num_train": own["num_train"], "metric": metric, "n": own["n"], name: _cell(own)}
            best = part.filter(pl.col("kind") == "baseline").sort("value").row(-1, named=True)
            row["best baseline"] = f"{best['method']} {_cell(best)}"
        rows.append(row)
    return pl.DataFrame(rows)


def _cell(row: dict[str, float]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
