"""Results of an evaluation as text for the terminal: each number with n and its 95 % interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.figures.regions import KINDS
from protlm.report.figures.style import BASELINES
from protlm.report.tables import format_table, wide_table, with_interval

_FEW = ("framework", "CDRs", "CDR3", "all")
"""Regions where the whole list would be too long; the tables of the Run have the others."""


def accuracy_lines(summary: pl.DataFrame) -> list[str]:
    """Write accuracy per chain and region.

    Parameters
    ----------
    summary
        The table ``regions_summary``.
    """

    def title(chain: str, part: pl.DataFrame) -> str:
        sizes = f"{part['n_records'].max():,} records in {part['n_groups'].max():,} groups"
        return f"accuracy, {chain} chain [95 % interval]; {sizes}"

    return _each_chain(_overall(summary), title, ["region"], "accuracy")


def entropy_lines(summary: pl.DataFrame) -> list[str]:
    """Write cross-entropy per chain and region.

    Parameters
    ----------
    summary
        The table ``regions_summary``.
    """

    def title(chain: str, _: pl.DataFrame) -> str:
        return f"cross-entropy in nats, {chain} chain [95 % interval]; perplexity is its exponential"

    return _each_chain(_overall(summary), title, ["region"], "cross_entropy")


def mutation_lines(summary: pl.DataFrame) -> list[str]:
    """Write accuracy by mutation, where it is known, per chain and in a few regions.

    Parameters
    ----------
    summary
        The table ``regions_summary``.
    """
    lines: list[str] = []
    for (chain,), part in summary.group_by("chain", maintain_order=True):
        split = part.filter((pl.col("residues") != "all") & pl.col("region").is_in(_FEW))
        if not split.is_empty():
            order = (pl.col("residues").cast(pl.Enum(list(KINDS))), pl.col("region").cast(pl.Enum(_FEW)))
            kind = pl.col("residues").replace_strict(KINDS)
            lines += [f"accuracy by mutation, {chain} chain [95 % interval]"]
            ordered = split.sort(*order, maintain_order=True).with_columns(residues=kind)
            lines += [*_by_model(ordered, ["residues", "region"], "accuracy"), ""]
    return lines


def segment_lines(segments: pl.DataFrame) -> list[str]:
    """Write accuracy and cross-entropy by gene segment.

    Parameters
    ----------
    segments
        The table ``segments``.
    """
    lines: list[str] = []
    for (chain,), part in segments.group_by("chain", maintain_order=True):
        for metric, name in (("accuracy", "accuracy"), ("cross_entropy", "cross-entropy in nats")):
            lines += [f"{name} by gene segment, {chain} chain [95 % interval]"]
            lines += [*_by_model(part, ["region", "segment"], metric), ""]
    return lines


def calibration_lines(calibration: pl.DataFrame) -> list[str]:
    """Write the expected calibration error per chain.

    Parameters
    ----------
    calibration
        The table ``calibration``.
    """

    def title(chain: str, part: pl.DataFrame) -> str:
        chance = f"chance alone: up to {part['chance'].max():.3f}"
        return f"expected calibration error, {chain} chain [95 % interval]; {chance}"

    return _each_chain(calibration, title, ["region"], "error")


def germline_bias_lines(bias: pl.DataFrame) -> list[str]:
    """Write what is predicted at mutated residues, per chain and model.

    Parameters
    ----------
    bias
        The table ``germline_bias``.
    """
    lines: list[str] = []
    for (chain,), part in bias.filter(pl.col("region") == "all").group_by("chain", maintain_order=True):
        first = part.row(0, named=True)
        lines += [f"predicted at mutated residues, {chain} chain: share [95 % interval]; {_sizes(first)}"]
        outcomes = {"right": "right", "germline": "its germline", "other": "another"}
        rows = [
            [row["model"], *(with_interval(row, outcome) for outcome in outcomes)]
            for row in part.iter_rows(named=True)
        ]
        lines += [*format_table(["model", *outcomes.values()], rows), ""]
    return lines


def comparison_lines(comparisons: pl.DataFrame, *, kinds: str = "residues") -> list[str]:
    """Write differences in accuracy region by region, a column for each pair of models.

    Differences to the baselines are written only where there is a single model.

    Parameters
    ----------
    comparisons
        The table ``comparisons``, or ``sequences_comparisons``.
    kinds
        Column that says which residues or antibodies; only ``all`` is written.
    """
    lines: list[str] = []
    chosen = comparisons.filter((pl.col("metric") == "accuracy") & (pl.col(kinds) == "all"))
    of_models = chosen.filter(~pl.col("second").is_in(list(BASELINES)))
    chosen = chosen if of_models.is_empty() else of_models
    for (chain,), part in chosen.group_by("chain", maintain_order=True):
        regions = part["region"].unique(maintain_order=True).to_list()
        columns = {}
        for (first, second), own in part.group_by("first", "second", maintain_order=True):
            by_region = {row["region"]: row for row in own.iter_rows(named=True)}
            columns[f"{first} − {second}"] = [_difference(by_region.get(region)) for region in regions]
        first = part.row(0, named=True)
        sizes = f"{first['n_groups']:,} groups" if "n_groups" in first else f"{first['n_records']:,} records"
        lines += [f"differences in accuracy, {chain} chain, paired t-test with Bonferroni; {sizes}"]
        lines += [*wide_table({"region": regions}, columns), ""]
    return lines


def sequence_lines(summary: pl.DataFrame) -> list[str]:
    """Write the means over sequences, as Ng & Briney aggregate, of all antibodies.

    Parameters
    ----------
    summary
        The table ``sequences_summary``.
    """
    lines: list[str] = []
    everything = summary.filter(pl.col("antibodies") == "all")
    for (chain,), part in everything.group_by("chain", maintain_order=True):
        for metric, name in (("accuracy", "accuracy"), ("loss", "median loss in nats")):
            lines += [f"{name} by region of a sequence, mean over sequences, {chain} chain [95 % interval]"]
            lines += [*_by_model(part, ["region"], metric, n="n_records"), ""]
    return lines


def partner_lines(gains: pl.DataFrame) -> list[str]:
    """Write what the true partner saves over each other one, in nats per residue.

    Parameters
    ----------
    gains
        The table ``partner_gain``.
    """
    return _gain_lines(
        gains.filter(pl.col("metric") == "cross_entropy"),
        "nats per residue that the true partner saves over another or none",
    )


def mutation_masking_lines(summary: pl.DataFrame, gains: pl.DataFrame) -> list[str]:
    """Write what is predicted where all mutated residues of a chain are masked.

    Parameters
    ----------
    summary
        The table ``mutation_masking_summary``.
    gains
        The table ``mutation_masking_gain``.
    """
    lines: list[str] = []
    metrics = {"native": "native residue", "germline": "germline residue", "cross_entropy": "cross-entropy"}
    for (chain,), part in summary.filter(pl.col("region") == "all").group_by("chain", maintain_order=True):
        first = part.row(0, named=True)
        lines += [f"all mutated residues of the {chain} chain masked [95 % interval]; {_sizes(first)}"]
        rows = [
            [row["model"], row["partner"], *(with_interval(row, metric) for metric in metrics)]
            for row in part.iter_rows(named=True)
        ]
        rows += [
            [model, f"gain over {against}", *(_gain(own, metric) for metric in metrics)]
            for (model, against), own in gains.filter(
                (pl.col("chain") == chain) & (pl.col("region") == "all")
            ).group_by("model", "against", maintain_order=True)
        ]
        lines += [
            *format_table(["model", "partner", *metrics.values()], [list(map(str, r)) for r in rows]),
            "",
        ]
    return lines


def _gain_lines(gains: pl.DataFrame, title: str) -> list[str]:
    lines: list[str] = []
    for (chain,), part in gains.group_by("chain", maintain_order=True):
        regions = part["region"].unique(maintain_order=True).to_list()
        columns = {}
        for (model, against), own in part.group_by("model", "against", maintain_order=True):
            by_region = {row["region"]: row for row in own.iter_rows(named=True)}
            columns[f"{model}: {against}"] = [
                with_interval(by_region.get(region), "gain", sign="+") + _stars(by_region.get(region))
                for region in regions
            ]
        sizes = part.group_by("region", maintain_order=True).first()
        which = "both chains" if chain == "both" else f"{chain} chain"
        lines += [f"{title}, {which}; {part['n_groups'].max():,} groups"]
        counts = [f"{n:,}" for n in sizes["n_residues"]]
        lines += [*wide_table({"region": regions, "n": counts}, columns), ""]
    return lines


def _overall(summary: pl.DataFrame) -> pl.DataFrame:
    return summary.filter(pl.col("residues") == "all")


def _each_chain(
    table: pl.DataFrame, title: Callable[[str, pl.DataFrame], str], keys: Sequence[str], metric: str
) -> list[str]:
    """Lay out a metric under a title for each chain."""
    lines: list[str] = []
    for (chain,), part in table.group_by("chain", maintain_order=True):
        lines += [title(str(chain), part), *_by_model(part, keys, metric), ""]
    return lines


def _by_model(part: pl.DataFrame, keys: Sequence[str], metric: str, *, n: str = "n_residues") -> list[str]:
    """Lay out a metric with rows by `keys` and a column for each model or baseline."""
    models = part["model"].unique(maintain_order=True).to_list()
    labels: dict[str, list[str]] = {name: [] for name in (*keys, "n")}
    columns: dict[str, list[str]] = {model: [] for model in models}
    for values, own in part.group_by(*keys, maintain_order=True):
        by_model = {row["model"]: row for row in own.iter_rows(named=True)}
        for name, value in zip(keys, values, strict=True):
            labels[name].append(str(value))
        labels["n"].append(f"{own[n][0]:,}")
        for model, cells in columns.items():
            cells.append(with_interval(by_model.get(model), metric))
    return wide_table(labels, columns)


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    if "difference_low" in row:
        return with_interval(row, "difference", sign="+") + _stars(row)
    return f"{row['difference']:+.3f}" + _stars(row)


def _gain(lines: pl.DataFrame, metric: str) -> str:
    rows = lines.filter(pl.col("metric") == metric).to_dicts()
    return with_interval(rows[0] if rows else None, "gain", sign="+")


def _sizes(row: Mapping[str, Any]) -> str:
    return f"{row['n_residues']:,} residues, {row['n_groups']:,} groups"


def _stars(row: Mapping[str, Any] | None) -> str:
    return f" {row['stars']}" if row and row["stars"] else ""
