"""Results on deep mutational scans as plain text for the terminal."""

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from protlm.report.tables import format_table

NAMES = {
    "spearman": "Spearman",
    "auroc": "AUROC",
    "mcc": "MCC",
    "ndcg": "NDCG@10%",
    "top_recall": "top-10% recall",
}
SUBSETS = {"all": "all variants", "covered": "variants that the alignments cover"}


def variant_lines(assays: pl.DataFrame, intervals: pl.DataFrame, baselines: Collection[str]) -> list[str]:
    """Write the averages with intervals, the Spearman of every assay, and who is below a baseline.

    Parameters
    ----------
    assays, intervals
        Tables of the Run.
    baselines
        Names of methods that are none of the user's models.
    """
    lines = []
    for (subset,), part in intervals.group_by("subset", maintain_order=True):
        most = part["n_assays"].max()
        lines.append(f"{SUBSETS[str(subset)]}: averages over {most} assays [95 % interval over proteins]")
        lines += [*_averages(part, baselines), ""]
    lines.append("Spearman by assay, all variants")
    lines += _by_assay(assays.filter((pl.col("subset") == "all") & (pl.col("depth") == "all")), baselines)
    return lines + [f"BELOW a baseline: {name}" for name in below_baselines(intervals, baselines)]


def _shown(name: str, baselines: Collection[str]) -> str:
    return f"({name})" if name in baselines else name


def _averages(part: pl.DataFrame, baselines: Collection[str]) -> list[str]:
    metrics = [metric for metric in NAMES if metric in set(part["metric"])]
    rows = []
    for (model,), own in part.group_by("model", maintain_order=True):
        values = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [with_interval(values.get(metric)) for metric in metrics]
        rows.append([_shown(str(model), baselines), str(values[metrics[0]]["n_assays"]), *cells])
    return format_table(["model (baseline)", "assays", *(NAMES[metric] for metric in metrics)], rows)


def with_interval(row: Mapping[str, Any] | None) -> str:
    """Write an average with its interval.

    Parameters
    ----------
    row
        Of the table ``intervals``; `None` where there is none.
    """
    if row is None or row["average"] is None:
        return "–"
    if row["low"] is None or row["low"] != row["low"]:  # one protein has no spread over proteins
        return f"{row['average']:.3f}"
    return f"{row['average']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _by_assay(assays: pl.DataFrame, baselines: Collection[str]) -> list[str]:
    models = assays["model"].unique(maintain_order=True).to_list()
    rows = []
    for (assay,), own in assays.group_by("assay", maintain_order=True):
        values = {row["model"]: row for row in own.iter_rows(named=True)}
        cells = [_number(values.get(model)) for model in models]
        rows.append([str(assay), f"{max(row['n'] for row in values.values()):,}", *cells])
    return format_table(["assay", "n", *(_shown(model, baselines) for model in models)], rows)


def _number(row: Mapping[str, Any] | None) -> str:
    if row is None or row["spearman"] is None:
        return "–"
    skipped = f" (n {row['n']:,})" if row["n_skipped"] else ""
    return f"{row['spearman']:.3f}{skipped}"


def below_baselines(intervals: pl.DataFrame, baselines: Collection[str]) -> list[str]:
    """Say which model has a lower average Spearman than which baseline on the same subset and assays.

    Parameters
    ----------
    intervals
        Table of the Run.
    baselines
        Names of methods that are none of the user's models.
    """
    found = []
    for (subset,), part in intervals.filter(pl.col("metric") == "spearman").group_by(
        "subset", maintain_order=True
    ):
        values = dict(part.select("model", "average").iter_rows())
        counts = dict(part.select("model", "n_assays").iter_rows())
        found += [
            f"{model} ({value:.3f}) is below {name} ({values[name]:.3f}) on {subset} variants"
            for model, value in values.items()
            for name in values
            if model not in baselines
            and name in baselines
            and counts[name] == counts[model]
            and None not in (value, values[name])  # no rank correlation, as of scores that are all the same
            and value < values[name]
        ]
    return found
