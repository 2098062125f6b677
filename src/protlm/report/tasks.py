"""Section on a task: models beside baselines, the verdict, differences, and published numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures.tasks import COLUMNS, task_scores
from protlm.report.sources import RunSource, read_table
from protlm.report.task_lines import CALLING, NAMES, RANKING, mean_over_folds, verdict_lines, with_interval

_DIFFERENCES = ("split", "first", "second", "metric", "difference", "low", "high", "n", "n_groups")


def task_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show a task with its baselines.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run is no task.
    """
    metrics = read_table(source.run, "metrics", COLUMNS)
    if metrics is None:
        return None
    facts = source.run.read_json("data_manifest.json")
    card = facts["task"]
    blocks: list[Block] = [
        Paragraph(f"{card['title']} (card '{card['name']}', version {card['version']}). {card['about']}"),
        *_verdicts(facts["confounded"]),
        Paragraph(
            "A point is a metric of what a logistic regression on frozen features predicts for folds that it "
            "was not fitted to: a mean over seeds, with its 95 % interval from resampling groups. Grey open "
            "diamonds are baselines that need no model. The dotted line is chance."
        ),
        Figure(task_scores(metrics, colours).figure(), f"Metrics of models and baselines on {card['name']}"),
        *_shortfalls(metrics),
        *(table for (split,), part in _by_split(metrics) for table in _metric_tables(str(split), part)),
    ]
    differences = read_table(source.run, "differences", _DIFFERENCES)
    if differences is not None:
        blocks.append(_difference_table(differences))
    blocks += [*_splits(facts["splits"]), *_published(card)]
    return Section(f"task-{source.label}", f"Task: {source.label}", blocks)


def _by_split(table: pl.DataFrame) -> Any:
    return table.group_by("split", maintain_order=True)


def _verdicts(confounded: Mapping[str, Any]) -> list[Block]:
    return [
        Paragraph(f"Split '{split}': {line}.", tone="bad" if facts["is_confounded"] else "plain")
        for split, facts in confounded.items()
        for line in verdict_lines(facts)
    ]


def _shortfalls(metrics: pl.DataFrame) -> list[Block]:
    """Say which models are not above the best baseline."""
    blocks: list[Block] = []
    for (split,), part in _by_split(metrics.filter(pl.col("metric") == "auroc")):
        baselines = part.filter(pl.col("kind") == "baseline").sort("value", descending=True, nulls_last=True)
        if baselines.is_empty():
            continue
        best = baselines.row(0, named=True)
        for row in part.filter(pl.col("kind") == "model").iter_rows(named=True):
            if not row["value"] > best["value"]:
                text = (
                    f"Split '{split}': {row['method']} is not above the baseline '{best['method']}' in AUROC "
                )
                blocks.append(
                    Paragraph(f"{text}({row['value']:.3f} against {best['value']:.3f}).", tone="bad")
                )
    return blocks


def _metric_tables(split: str, part: pl.DataFrame) -> list[Table]:
    first = part.row(0, named=True)
    rows = f"{first['n']:,} rows, {first['n_groups']:,} groups, {first['n_seeds']} seeds"
    return [
        _metric_table(part, RANKING, with_interval, f"Split '{split}': {rows} [95 % interval]."),
        _metric_table(
            part,
            CALLING,
            with_interval,
            f"Split '{split}' [95 % interval]; positive is called at a probability of 0.5 or more.",
        ),
        _metric_table(
            part,
            tuple(NAMES),
            mean_over_folds,
            f"Split '{split}': mean ± standard error over folds, as papers have it (too small, as folds "
            "share training rows).",
            is_folded=True,
        ),
    ]


def _metric_table(
    part: pl.DataFrame,
    metrics: Sequence[str],
    write: Callable[[Any], str],
    caption: str,
    *,
    is_folded: bool = False,
) -> Table:
    shown = [metric for metric in metrics if metric in set(part["metric"])]
    rows = []
    for (method, kind), own in part.group_by("method", "kind", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        name = str(method) if kind == "model" else f"{method} (baseline)"
        rows.append([Cell(name), *(Cell(write(by_metric.get(metric))) for metric in shown)])
    return Table(caption, ["method", *(NAMES[metric] for metric in shown)], rows, is_folded=is_folded)


def _difference_table(differences: pl.DataFrame) -> Table:
    found = set(differences["metric"])
    shown = [metric for metric in (*RANKING, "accuracy", "f1") if metric in found]
    rows = []
    for (split, first, second), own in differences.group_by("split", "first", "second", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [Cell(_difference(by_metric.get(metric))) for metric in shown]
        rows.append([Cell(f"{split}: {first} minus {second}"), *cells])
    caption = "Differences on the same resampled groups [95 % interval]; to a model or to the best baseline."
    return Table(caption, ["difference", *(NAMES[metric] for metric in shown)], rows)


def _splits(splits: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for name, facts in splits.items():
        others = "; ".join(
            f"{each['shared']:,} of {each['distinct']:,} values of '{key}'"
            for key, each in facts["shared_values"].items()
        )
        text = (
            f"Leakage of split '{name}', on more than one side: {facts['shared_groups']:,} of "
            f"{facts['num_groups']:,} groups; {facts['shared_chains']:,} of {facts['num_chains']:,} chains"
        )
        blocks.append(Paragraph(f"{text}{'; ' if others else ''}{others}."))
    return blocks


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
