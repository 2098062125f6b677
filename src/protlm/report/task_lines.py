"""Results of a task as plain text for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.tables import format_table

NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "auc01": "AUC0.1",
    "macro_auroc": "macro AUROC",
    "macro_auprc": "macro AUPRC",
    "macro_auc01": "macro AUC0.1",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "rmse": "RMSE",
    "r2": "R²",
    "top_recall": "best tenth",
}
"""Names of metrics for people."""
_MOST_WITH_INTERVAL = 4
"""Columns of the first table in the terminal; the report has all."""


def task_lines(
    metrics: pl.DataFrame, differences: pl.DataFrame, verdicts: pl.DataFrame, tasks: Mapping[str, Any]
) -> list[str]:
    """Write every split of every task: methods, differences, the verdict, published numbers; then a summary.

    Parameters
    ----------
    metrics, differences, verdicts
        Tables of the Run.
    tasks
        By name, what the Run knows of each: its card, and whether it is confounded.
    """
    lines: list[str] = []
    for name, facts in tasks.items():
        own = pl.col("task") == name
        lines += _one_task(metrics.filter(own), differences.filter(own), facts["task"], facts["confounded"])
        lines.append("")
    lines += summary_lines(verdicts)
    return lines if lines[-1] else lines[:-1]


def summary_lines(verdicts: pl.DataFrame) -> list[str]:
    """Write one table: a row for each model on each split of each task.

    Parameters
    ----------
    verdicts
        Of the Run.
    """
    rows = [
        [
            f"{row['task']}, {row['split']}",
            row["model"],
            NAMES[row["metric"]],
            f"{row['n']:,}",
            with_interval(row),
            "–" if row["baseline"] is None else f"{row['baseline']} {_number(row['baseline_value'])}",
            VERDICTS[row["verdict"]],
        ]
        for row in verdicts.iter_rows(named=True)
    ]
    head = ["task, split", "model", "metric", "n", "value [95 %]", "best baseline", "model beside it"]
    return format_table(head, rows) if rows else []


VERDICTS = {
    "above": "above",
    "not clear": "above, not clear of zero",
    "below": "BELOW OR EQUAL",
    "undefined": "undefined",
    "no baseline": "no baseline",
}
"""What is said of a model beside its best baseline."""


def _one_task(
    metrics: pl.DataFrame, differences: pl.DataFrame, card: Mapping[str, Any], confounded: Mapping[str, Any]
) -> list[str]:
    lines = [f"{card['title']} ('{card['name']}', version {card['version']})", ""]
    for (split,), part in metrics.group_by("split", maintain_order=True):
        first = part.row(0, named=True)
        lines.append(
            f"split '{split}': {first['n']:,} rows, {first['n_groups']:,} groups, {num_seeds(first)} "
            "[95 % interval over groups]"
        )
        known = part["metric"].unique(maintain_order=True).to_list()
        lines += [*_table(part, known[:_MOST_WITH_INTERVAL], with_interval), ""]
        if part["fold_sem"].is_not_nan().any():
            lines.append("mean ± standard error over folds, as papers have it")
            lines += [*_table(part, known, mean_over_folds), ""]
        own = differences.filter((pl.col("split") == split) & (pl.col("metric") == card["primary"]))
        if compared := _difference_lines(own, card["primary"]):
            lines += [*compared, ""]
        if said := verdict_lines(confounded.get(str(split))):
            lines += [*said, ""]
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
    if facts["baseline"] is None and not facts.get("is_asked", True):
        return []
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


def _difference_lines(differences: pl.DataFrame, metric: str) -> list[str]:
    rows = [
        [
            f"{row['first']} minus {row['second']}",
            f"{row['difference']:+.3f}",
            f"[{row['low']:+.3f}, {row['high']:+.3f}]",
        ]
        for row in differences.iter_rows(named=True)
    ]
    head = [f"{NAMES[metric]} on the same draws", "difference", "95 % interval"]
    return format_table(head, rows) if rows else []


def _published_lines(card: Mapping[str, Any]) -> list[str]:
    shown = [metric for metric in NAMES if any(metric in each["metrics"] for each in card["published"])]
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


def num_seeds(row: Mapping[str, Any]) -> str:
    """Write how many seeds a value is the mean of.

    Parameters
    ----------
    row
        Of the table ``metrics``.

    Examples
    --------
    >>> num_seeds({"n_seeds": 1}), num_seeds({"n_seeds": 3})
    ('1 seed', '3 seeds')
    """
    return f"{row['n_seeds']} seed{'s' * (row['n_seeds'] != 1)}"


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
