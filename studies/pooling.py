"""Pool the evaluations of several seeds: an arm is the mean of its models, intervals resample groups.

A model is named ``ARM-SEED``; what is named otherwise is a baseline, the same under every seed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from protlm.evaluation.regions import compare, region_cells, summarise, summarise_segments
from protlm.runs import Run
from protlm.statistics.classification import (
    METRICS,
    MetricDraws,
    Predictions,
    bootstrap_classification,
)

_SUMS = ("n", "hits", "loss")


def pool_regions(
    evaluations: Mapping[int, Path], arms: tuple[str, str], out: Path
) -> dict[str, pl.DataFrame]:
    """Pool Runs of ``evaluate regions`` into one Run, which ``protlm report`` shows like any other.

    Parameters
    ----------
    evaluations
        By seed; each with a model of both arms, on the same records.
    arms
        Compared: the first minus the second.
    out
        The Run to make.

    Returns
    -------
    dict
        Its tables, with ``seeds`` besides: the comparison under each seed alone.
    """
    cells = {seed: _arm_cells(path, arms, seed) for seed, path in evaluations.items()}
    same = [name for name in next(iter(cells.values())).columns if name not in _SUMS]
    pooled = (
        pl.concat(list(cells.values()))
        .group_by(same, maintain_order=True)
        .agg(pl.col(*_SUMS).sum() / len(cells))
    )
    tables = {
        "regions_summary": summarise(pooled),
        "segments": summarise_segments(pooled),
        "comparisons": compare(pooled, [arms]),
        "seeds": pl.concat(
            [compare(part, [arms]).with_columns(seed=pl.lit(seed)) for seed, part in cells.items()]
        ),
    }
    run = Run.create(out, verb="evaluate", force=True)
    run.write_config(f"kind: regions\nseeds: {list(cells)}\n")
    for name, table in tables.items():
        table.write_parquet(run.table_path(name))
    run.finish()
    return tables


def _arm_cells(evaluation: Path, arms: Sequence[str], seed: int) -> pl.DataFrame:
    """Read the cells of one seed, models named by their arms."""
    cells = region_cells(pl.scan_parquet(Run.open(evaluation).table_path("regions")))
    names = {f"{arm}-{seed}": arm for arm in arms}
    return cells.with_columns(pl.col("model", "chain").cast(pl.String)).with_columns(
        pl.col("model").replace(names)
    )


def pool_tasks(evaluation: Path, arms: tuple[str, str], seeds: Sequence[int]) -> pl.DataFrame:
    """Pool the models of a Run of ``evaluate tasks`` or ``evaluate pairs`` by arm.

    Parameters
    ----------
    evaluation
        With every arm under every seed.
    arms
        The last lines are the first minus the second.
    seeds
        Of training.

    Returns
    -------
    polars.DataFrame
        ``split, method, metric, value, low, high, n, n_groups``, and ``by_seed`` for the difference.
    """
    predictions = pl.read_parquet(Run.open(evaluation).table_path("predictions"))
    rows = []
    for (split,), part in predictions.group_by("split", maintain_order=True):
        num_units = int(part["group"].max()) + 1  # type: ignore[arg-type]
        methods = {arm: [f"{arm}-{seed}" for seed in seeds] for arm in arms}
        trained = set().union(*methods.values())
        methods |= {
            name: [name] for name in part["method"].unique(maintain_order=True) if name not in trained
        }
        draws = {
            title: bootstrap_classification(_repetitions(part, names), num_units=num_units)
            for title, names in methods.items()
        }
        rows += [_line(split, title, metric, own) for title, own in draws.items() for metric in METRICS]
        difference = draws[arms[0]].minus(draws[arms[1]])
        alone = [
            np.subtract(
                *(
                    bootstrap_classification(
                        _repetitions(part, [f"{arm}-{seed}"]), num_units=num_units, num_draws=1
                    ).values
                    for arm in arms
                )
            )
            for seed in seeds
        ]
        rows += [
            {
                **_line(split, " - ".join(arms), metric, difference),
                "by_seed": " ".join(f"{values[place]:+.4f}" for values in alone),
            }
            for place, metric in enumerate(METRICS)
        ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _repetitions(predictions: pl.DataFrame, methods: Sequence[str]) -> list[Predictions]:
    return [
        Predictions(
            own["probability"].to_numpy(), own["label"].to_numpy().astype(bool), own["group"].to_numpy()
        )
        for _, own in predictions.filter(pl.col("method").is_in(methods)).group_by(
            "method", "seed", maintain_order=True
        )
    ]


def _line(split: object, method: str, metric: str, draws: MetricDraws) -> dict[str, object]:
    found = draws.interval(metric)
    return {
        "split": split,
        "method": method,
        "metric": metric,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": draws.n,
        "n_groups": draws.num_units,
        "by_seed": "",
    }
