"""Retrieval as plain text for the terminal, and the words that the report shares."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.tables import format_table

COLUMNS = (
    *("model", "direction", "gallery", "metric", "value", "low", "high", "n", "n_groups", "n_seeds"),
    *("seed_deviation", "kind", "crop", "gallery_size"),
)
DIFFERENCE_COLUMNS = (
    *("model", "direction", "gallery", "metric", "beside", "baseline", "value", "baseline_value"),
    *("difference", "low", "high", "n", "n_groups", "verdict"),
)
SPACE_COLUMNS = ("model", "kind", "crop", "metric", "value", "low", "high", "n", "n_seeds", "seed_deviation")
NAMES = {
    "recall_1": "R@1",
    "recall_3": "R@3",
    "recall_5": "R@5",
    "recall_10": "R@10",
    "mrr": "MRR",
    "alignment": "alignment",
    "uniformity_sequence": "uniformity, sequences",
    "uniformity_structure": "uniformity, structures",
    "uniformity_notebook": "uniformity as in the notebook",
    "modality_gap": "modality gap",
    "effective_rank_sequence": "effective rank, sequences",
    "effective_rank_structure": "effective rank, structures",
}
"""Names of metrics for people."""
SHORT = ("recall_1", "recall_5", "recall_10", "mrr")
"""Metrics of the tables for people; all are in the table on disk."""
GALLERY_NAMES = {
    "full": "every distinct pair",
    "all": "all pairs, repeats too",
    "in-cluster": "pairs of the query's cluster",
    "hard-composition": "nearest in composition",
    "hard-length": "nearest in length",
    "cropped": "every distinct pair, cropped",
    "sampled": "a few at random, cropped",
}
KIND_NAMES = {"model": "model", "seed": "one seed", "ceiling": "ceiling", "chance": "chance"}
VERDICTS = {
    "above": "above",
    "not clear": "above, not clear of zero",
    "below": "BELOW OR EQUAL",
}
"""What is said of a model beside its best baseline."""


def retrieval_lines(
    metrics: pl.DataFrame, differences: pl.DataFrame, space: pl.DataFrame | None, *, full: bool = False
) -> list[str]:
    """Write every gallery in both directions, then models beside the best baseline, then the spaces.

    Parameters
    ----------
    metrics, differences, space
        Tables of the Run.
    full
        Each seed for itself too.
    """
    kept = metrics if full else metrics.filter(pl.col("kind") != "seed")
    lines: list[str] = []
    for (gallery, direction), part in kept.group_by("gallery", "direction", maintain_order=True):
        lines += [f"{heading(str(gallery), str(direction), part)} [95 % interval over clusters]"]
        lines += [*format_table(["", *(NAMES[each] for each in SHORT)], metric_rows(part)), ""]
    for row in differences.filter(pl.col("metric") == "recall_1").iter_rows(named=True):
        lines.append(verdict_line(row))
    if space is not None and len(space):
        lines += ["", *space_lines(space)]
    return lines


def heading(gallery: str, direction: str, part: pl.DataFrame) -> str:
    """Say what a table is of.

    Parameters
    ----------
    gallery, direction
        Which.
    part
        Rows of it.
    """
    first = part.row(0, named=True)
    cropped = f", {first['crop']} residues each" if first["crop"] else ""
    size = f"{first['gallery_size']:,.0f}{' on average' if gallery == 'in-cluster' else ''}"
    return (
        f"{gallery} ({GALLERY_NAMES[gallery]}{cropped}; {size} to choose from), "
        f"{direction}: {first['n']:,} queries, {first['n_groups']:,} clusters"
    )


def metric_rows(part: pl.DataFrame) -> list[list[str]]:
    """Give the cells of each method, those of `SHORT` with intervals.

    Parameters
    ----------
    part
        Rows of one gallery and direction.
    """
    rows = []
    for (name, kind), own in part.group_by("model", "kind", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        num_seeds = by_metric["mrr"]["n_seeds"]
        seeds = f", {num_seeds} seeds" if num_seeds > 1 else ""
        has_interval = kind not in ("chance", "ceiling")
        label = f"{name}{_kind(str(kind))}{seeds}"
        rows.append([label, *(_cell(by_metric[each], has_interval=has_interval) for each in SHORT)])
    return rows


def _kind(kind: str) -> str:
    return " (baseline)" if kind == "baseline" else ""


def _cell(row: Mapping[str, Any], *, has_interval: bool) -> str:
    if not has_interval or row["low"] != row["low"]:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def verdict_line(row: Mapping[str, Any]) -> str:
    """Set a model beside its best baseline in words.

    Parameters
    ----------
    row
        Of the table of differences.
    """
    return (
        f"{row['model']}, {row['gallery']}, {row['direction']}, beside {row['beside']} ('{row['baseline']}', "
        f"{row['baseline_value']:.3f}): {NAMES[row['metric']]} {row['value']:.3f}, difference "
        f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {VERDICTS[row['verdict']]}"
    )


def space_lines(space: pl.DataFrame) -> list[str]:
    """Write alignment, uniformity, gap and rank of each model.

    Parameters
    ----------
    space
        Of the Run.
    """
    lines = ["the space: alignment and uniformity are better when lower"]
    for (crop,), part in space.group_by("crop", maintain_order=True):
        names = part["metric"].unique(maintain_order=True).to_list()
        lines.append(f"{f'windows of {crop}' if crop else 'whole pairs'}: {part['n'][0]:,}")
        lines += format_table(["", *(_narrow(NAMES[name]) for name in names)], space_rows(part, names))
    return lines


def space_rows(part: pl.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """Give the cells of each model.

    Parameters
    ----------
    part
        Rows of one way of cropping.
    names
        Metrics in order.
    """
    rows = []
    for (model,), own in part.group_by("model", maintain_order=True):
        by_metric = dict(zip(own["metric"], own["value"], strict=True))
        rows.append([str(model), *(f"{by_metric[name]:.3f}" for name in names)])
    return rows


def _narrow(name: str) -> str:
    return name.replace("uniformity", "unif.").replace("effective rank", "rank").replace("as in the ", "")
