"""Attention against interfaces as plain text for the terminal."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from protlm.report.tables import format_table, with_interval

LEVEL_TITLES: Mapping[str, str] = {
    "pairs": "residue pairs against contacts",
    "antibody": "antibody residues against its interface",
    "antigen": "antigen residues against its interface",
}
METRIC_NAMES: Mapping[str, str] = {
    "auroc": "AUROC",
    "precision_l": "P@L",
    "precision_half_l": "P@L/2",
    "precision_k": "P@K",
}
CONDITION_NAMES: Mapping[str, str] = {
    "true": "true partner",
    "random": "another partner",
    "shuffled": "antigen shuffled",
}
_OTHER_SIDE = {"antibody": "antigen", "antigen": "antibody"}
SUMMARY_COLUMNS = (
    *("level", "model", "method", "condition", "n_cases", "n_groups"),
    *(f"{metric}{end}" for metric in METRIC_NAMES for end in ("", "_low", "_high")),
)
DIFFERENCE_COLUMNS = (
    *("level", "model", "method", "kind", "against", "metric"),
    *("difference", "low", "high", "n_cases", "n_groups"),
)


def attention_lines(summary: pl.DataFrame, differences: pl.DataFrame) -> list[str]:
    """Write how well methods find the interface, by level, and whether the true antigen matters.

    Parameters
    ----------
    summary, differences
        The tables ``attention_summary`` and ``attention_differences``.
    """
    lines: list[str] = []
    for level, title in LEVEL_TITLES.items():
        part = summary.filter(pl.col("level") == level)
        first = part.row(0, named=True)
        lines.append(
            f"{title}: {first['n_cases']:,} complexes, {first['n_groups']:,} groups of antigens "
            "[95 % interval over groups]"
        )
        metrics = shown_metrics(part)
        rows = [
            [*row_names(row), *(with_interval(row, metric) for metric in metrics)]
            for row in part.iter_rows(named=True)
        ]
        lines += format_table(["method", "shown with", *(METRIC_NAMES[each] for each in metrics)], rows)
        lines += ["", *verdicts(level, differences), ""]
    return lines[:-1]


def shown_metrics(part: pl.DataFrame) -> list[str]:
    """Give the metrics that a level has.

    Parameters
    ----------
    part
        Lines of one level of the summary.
    """
    return [metric for metric in METRIC_NAMES if part[metric].is_not_nan().any()]


def row_names(row: Mapping[str, Any]) -> tuple[str, str]:
    """Give a line's method and what the antibody was shown with.

    Parameters
    ----------
    row
        Of the summary.
    """
    if not row["model"]:
        return f"{row['method']} (baseline)", "no model"
    return f"{row['model']}: {row['method']}", shown_with(row["level"], row["condition"])


def shown_with(level: str, condition: str) -> str:
    """Say what a side was shown with.

    Parameters
    ----------
    level
        What is judged.
    condition
        As in the tables.

    Examples
    --------
    >>> shown_with("antigen", "random"), shown_with("pairs", "true")
    ('another antibody', 'true partner')
    """
    name = CONDITION_NAMES[condition]
    return name.replace("partner", _OTHER_SIDE[level]) if level in _OTHER_SIDE else name


def verdicts(level: str, differences: pl.DataFrame) -> list[str]:
    """Say of each model whether its AUROC is above that of the controls and of the best baseline.

    Parameters
    ----------
    level
        Which.
    differences
        The table ``attention_differences``.
    """
    areas = differences.filter((pl.col("level") == level) & (pl.col("metric") == "auroc"))
    lines = []
    for (model, method), own in areas.group_by("model", "method", maintain_order=True):
        controls = own.filter(pl.col("kind") == "control")
        lowest = own.filter(pl.col("kind") == "baseline").sort("difference", maintain_order=True).head(1)
        others = own.filter(pl.col("kind") == "model")
        parts = [
            *(
                f"over '{shown_with(level, row['against'])}' {_signed(row)}"
                for row in controls.iter_rows(named=True)
            ),
            *(f"over baseline '{row['against']}' {_signed(row)}" for row in lowest.iter_rows(named=True)),
            *(f"over {row['against']} {_signed(row)}" for row in others.iter_rows(named=True)),
        ]
        lines.append(f"{model}, {method}, AUROC: {'; '.join(parts)}")
    return lines


def _signed(row: Mapping[str, Any]) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
