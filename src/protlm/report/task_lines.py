"""Results of a task as plain text for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.tables import format_table

RANKING = ("auroc", "auprc", "mcc")
"""Metrics of the first table, with intervals."""
CALLING = ("accuracy", "precision", "recall", "f1")
"""Metrics of the second one, which depend on the threshold and the share of the classes."""
NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mcc": "MCC",
}


def task_lines(
    metrics: pl.DataFrame, differences: pl.DataFrame, card: Mapping[str, Any], confounded: Mapping[str, Any]
) -> list[str]:
    """Write every split of a task: methods, differences, the verdict, and published numbers.

    Parameters
    ----------
    metrics, differences
        Tables of the Run.
    card
        The task card as plain values.
    confounded
        The verdict by split.
    """
    lines = [f"{card['title']} ('{card['name']}', version {card['version']})", ""]
    for (split,), part in metrics.group_by("split", maintain_order=True):
        first = part.row(0, named=True)
        lines.append(
            f"split '{split}': {first['n']:,} rows, {first['n_groups']:,} groups, {first['n_seeds']} seeds "
            "[95 % interval over groups]"
        )
        lines += [*_table(part, RANKING, with_interval), ""]
        lines.append("mean ± standard error over folds, as papers have it")
        lines += [*_table(part, CALLING, mean_over_folds), ""]
        if compared := _difference_lines(differences.filter(pl.col("split") == split)):
            lines += [*compared, ""]
        lines += [*verdict_lines(confounded.get(str(split))), ""]
    if card.get("published"):
        lines += [*_published_lines(card), ""]
    return lines[:-1]


def verdict_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Say whether ends, length and source alone could give the result.

    Parameters
    ----------
    facts
        The verdict of one split; `None` where there is none.
    """
    if facts is None:
        return []
    if facts["by_construction"]:
        text = "CONFOUNDED by construction: the classes come from different data sets"
        return [text if facts["baseline"] is None else f"{text}; {_ends(facts)}"]
    if facts["baseline"] is None:
        return ["not known whether it is confounded: no baseline of ends, length and source"]
    above = f"above {facts['threshold']}" if facts["is_confounded"] else f"not above {facts['threshold']}"
    return [f"{'CONFOUNDED' if facts['is_confounded'] else 'not confounded'}: {_ends(facts)}, {above}"]


def _ends(facts: Mapping[str, Any]) -> str:
    value = facts["auroc"]
    return (
        f"baseline '{facts['baseline']}' alone has AUROC {value['value']:.3f} "
        f"[{value['low']:.3f}, {value['high']:.3f}]"
    )


def _difference_lines(differences: pl.DataFrame) -> list[str]:
    rows = [
        [
            f"{row['first']} minus {row['second']}",
            f"{row['difference']:+.3f}",
            f"[{row['low']:+.3f}, {row['high']:+.3f}]",
        ]
        for row in differences.filter(pl.col("metric") == "auroc").iter_rows(named=True)
    ]
    return format_table(["AUROC on the same draws", "difference", "95 % interval"], rows) if rows else []


def _published_lines(card: Mapping[str, Any]) -> list[str]:
    shown = [
        metric
        for metric in (*RANKING, "accuracy")
        if any(metric in each["metrics"] for each in card["published"])
    ]
    rows = [
        [each["model"], each["data"], *(_number(each["metrics"].get(metric)) for metric in shown)]
        for each in card["published"]
    ]
    references = sorted({each["reference"] for each in card["published"]})
    return [
        f"published, on other data and so only for orientation ({'; '.join(references)})",
        *format_table(["model", "data", *(NAMES[metric] for metric in shown)], rows),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _table(part: pl.DataFrame, metrics: Sequence[str], write: Callable[[Any], str]) -> list[str]:
    shown = [metric for metric in metrics if metric in set(part["metric"])]
    rows = []
    for (method, kind), own in part.group_by("method", "kind", maintain_order=True):
        values = {row["metric"]: row for row in own.iter_rows(named=True)}
        name = str(method) if kind == "model" else f"({method})"
        rows.append([name, *(write(values.get(metric)) for metric in shown)])
    return format_table(["model (baseline)", *(NAMES[metric] for metric in shown)], rows)


def mean_over_folds(row: Mapping[str, Any] | None) -> str:
    """Write the mean over folds and its standard error.

    Parameters
    ----------
    row
        Of the table ``metrics``; `None` where there is none.
    """
    if row is None or row["fold_mean"] is None or row["fold_mean"] != row["fold_mean"]:
        return "–"
    return f"{row['fold_mean']:.3f} ± {row['fold_sem']:.3f}"


def with_interval(row: Mapping[str, Any] | None) -> str:
    """Write a value with its interval.

    Parameters
    ----------
    row
        Of the table ``metrics``; `None` where there is none.
    """
    if row is None or row["value"] is None or row["value"] != row["value"]:
        return "–"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
