"""Section on tasks: models beside baselines, the verdict, differences, and published numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures.tasks import COLUMNS, task_scores
from protlm.report.leakage import NEAREST, leakage_blocks
from protlm.report.sources import RunSource, read_table
from protlm.report.task_lines import NAMES, VERDICTS, mean_over_folds, num_seeds, verdict_lines, with_interval

_DIFFERENCES = ("split", "first", "second", "metric", "difference", "low", "high", "n", "n_groups")
_VERDICTS = ("task", "split", "model", "metric", "value", "baseline", "baseline_value", "verdict")


def task_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show tasks with their baselines.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run judged no task.
    """
    metrics = read_table(source.run, "metrics", COLUMNS)
    tasks = None if metrics is None else source.run.read_json("data_manifest.json").get("tasks")
    if metrics is None or not tasks:
        return None
    differences = read_table(source.run, "differences", _DIFFERENCES)
    verdicts = read_table(source.run, "verdicts", _VERDICTS)
    nearest = read_table(source.run, "nearest", ("task", *NEAREST))
    blocks: list[Block] = []
    if len(tasks) > 1 and verdicts is not None and not verdicts.is_empty():
        blocks.append(_summary(verdicts))
    for name, facts in tasks.items():
        own = pl.col("task") == name
        blocks += _task(
            facts,
            metrics.filter(own),
            None if differences is None else differences.filter(own),
            None if verdicts is None else verdicts.filter(own),
            None if nearest is None else nearest.filter(own),
            colours,
        )
    word = "Task" if len(tasks) == 1 else "Tasks"
    return Section(f"task-{source.label}", f"{word}: {source.label}", blocks)


def _task(
    facts: Mapping[str, Any],
    metrics: pl.DataFrame,
    differences: pl.DataFrame | None,
    verdicts: pl.DataFrame | None,
    nearest: pl.DataFrame | None,
    colours: Mapping[str, str],
) -> list[Block]:
    card = facts["task"]
    cuts = [line for line in facts.get("reading", []) if line.startswith("CUT")]
    blocks: list[Block] = [
        Paragraph(f"{card['title']} (card '{card['name']}', version {card['version']}). {card['about']}"),
        *(Paragraph(f"{line}.") for line in cuts),
        *_verdicts(facts["confounded"]),
        Paragraph(
            f"A point is a metric of what a {_JUDGES[card['kind']]} on frozen features predicts for rows "
            "it was not fitted to: a mean over seeds, with its 95 % interval from resampling groups. Grey "
            "open diamonds are baselines that need no trained model. The dotted line is chance."
        ),
        Figure(task_scores(metrics, colours).figure(), f"Metrics of models and baselines on {card['name']}"),
        *([] if verdicts is None else _shortfalls(verdicts)),
        *(table for (split,), part in _by_split(metrics) for table in _metric_tables(str(split), part)),
    ]
    if differences is not None and not differences.is_empty():
        blocks.append(_difference_table(differences))
    return [*blocks, *leakage_blocks(facts["splits"], nearest, card["name"]), *_published(card)]


_JUDGES = {
    "binary": "logistic regression",
    "classes": "multinomial regression",
    "labels": "logistic regression for each label",
    "value": "ridge regression",
}


def _summary(verdicts: pl.DataFrame) -> Table:
    rows = []
    for row in verdicts.iter_rows(named=True):
        best = "–" if row["baseline"] is None else f"{row['baseline']}, {row['baseline_value']:.3f}"
        gap = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
        cells = [f"{row['task']}, {row['split']}", row["model"], NAMES[row["metric"]], f"{row['n']:,}"]
        cells += [with_interval(row), best, gap if row["difference"] is not None else "–"]
        rows.append(
            [
                *(Cell(text) for text in cells),
                Cell(VERDICTS[row["verdict"]], is_bad=row["verdict"] == "below"),
            ]
        )
    head = ["task, split", "model", "metric", "n", "value [95 %]", "best baseline", "difference [95 %]"]
    caption = "All tasks: each model beside the best baseline, on the same resampled groups."
    return Table(caption, [*head, "model beside it"], rows)


def _by_split(table: pl.DataFrame) -> Any:
    return table.group_by("split", maintain_order=True)


def _verdicts(confounded: Mapping[str, Any]) -> list[Block]:
    return [
        Paragraph(f"Split '{split}': {line}.", tone="bad" if facts["is_confounded"] else "plain")
        for split, facts in confounded.items()
        for line in verdict_lines(facts)
    ]


def _shortfalls(verdicts: pl.DataFrame) -> list[Block]:
    """Say which models are not above the best baseline."""
    blocks: list[Block] = []
    for row in verdicts.filter(pl.col("verdict") == "below").iter_rows(named=True):
        text = (
            f"Split '{row['split']}': {row['model']} is not better than the baseline '{row['baseline']}' in "
        )
        text += f"{NAMES[row['metric']]} ({row['value']:.3f} against {row['baseline_value']:.3f})."
        blocks.append(Paragraph(text, tone="bad"))
    return blocks


def _metric_tables(split: str, part: pl.DataFrame) -> list[Table]:
    first = part.row(0, named=True)
    rows = f"{first['n']:,} rows, {first['n_groups']:,} groups, {num_seeds(first)}"
    known = part["metric"].unique(maintain_order=True).to_list()
    called = "; positive is called at a probability of 0.5 or more" if "precision" in known else ""
    tables = [_metric_table(part, known, with_interval, f"Split '{split}': {rows} [95 % interval]{called}.")]
    if part["fold_sem"].is_not_nan().any():
        caption = (
            f"Split '{split}': mean ± standard error over folds, as papers have it (too small, as folds "
        )
        caption += "share training rows)."
        tables.append(_metric_table(part, known, mean_over_folds, caption, is_folded=True))
    return tables


def _metric_table(
    part: pl.DataFrame,
    shown: Sequence[str],
    write: Callable[[Any], str],
    caption: str,
    *,
    is_folded: bool = False,
) -> Table:
    rows = []
    for (method, kind), own in part.group_by("method", "kind", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        name = str(method) if kind == "model" else f"{method} (baseline)"
        rows.append([Cell(name), *(Cell(write(by_metric.get(metric))) for metric in shown)])
    return Table(caption, ["method", *(NAMES[metric] for metric in shown)], rows, is_folded=is_folded)


def _difference_table(differences: pl.DataFrame) -> Table:
    shown = differences["metric"].unique(maintain_order=True).to_list()
    rows = []
    for (split, first, second), own in differences.group_by("split", "first", "second", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [Cell(_difference(by_metric.get(metric))) for metric in shown]
        rows.append([Cell(f"{split}: {first} minus {second}"), *cells])
    caption = "Differences on the same resampled groups [95 % interval]; to a model or to the best baseline."
    return Table(caption, ["difference", *(NAMES[metric] for metric in shown)], rows)


def _published(card: Mapping[str, Any]) -> list[Table]:
    if not card.get("published"):
        return []
    shown = [metric for metric in NAMES if any(metric in each["metrics"] for each in card["published"])]
    rows = [
        [
            Cell(f"{each['model']}: {each['data']}"),
            *(Cell(f"{each['metrics'][m]:.3f}" if m in each["metrics"] else "–") for m in shown),
        ]
        for each in card["published"]
    ]
    references = "; ".join(sorted({each["reference"] for each in card["published"]}))
    caption = f"Published, on other data and so only for orientation: {references}."
    return [Table(caption, ["model and data", *(NAMES[metric] for metric in shown)], rows)]


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None or row["difference"] is None or row["difference"] != row["difference"]:
        return "–"
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
