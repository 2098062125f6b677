"""The section on a fine-tuned model: metrics beside baselines, the learning curve, how it was divided."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures.finetuning import COLUMNS, NAMES, FinetuneScores
from protlm.report.leakage import NEAREST, leakage_blocks
from protlm.report.sources import RunSource, read_table
from protlm.statistics.predictions import PRIMARY

TABLE, DIFFERENCES = "finetune_metrics", "finetune_differences"
DIFFERENCE_COLUMNS = (
    *("subset", "num_train", "first", "second", "metric", "first_value", "second_value"),
    *("difference", "low", "high", "n", "n_groups", "n_seeds"),
)


def finetuning_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show what a fine-tuned model predicts of records that it did not learn from.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run is no fine-tuning.
    """
    metrics = read_table(source.run, TABLE, COLUMNS)
    if metrics is None:
        return None
    facts = source.run.read_json("data_manifest.json")
    config = source.run.read_config()
    blocks: list[Block] = [
        Paragraph(_what(facts, config)),
        *_shortfalls(metrics, PRIMARY[facts["target"]["kind"]]),
        Paragraph(
            "A point is a metric on held-out records with its 95 % interval from resampling groups; with "
            "several seeds it is their mean. Grey marks are baselines: of no model; one-hot residues; and of "
            "the model as it was before it was tuned, a regression of its vectors (embeddings) and, without "
            "any label, its likelihood (zero_shot). Where there are several numbers of training records, "
            "each seed draws its own, every smaller draw inside the larger ones."
        ),
        Figure(FinetuneScores(metrics, colours).figure(), "Metrics of the model and of baselines"),
        *(_table(str(subset), own) for (subset,), own in metrics.group_by("subset", maintain_order=True)),
        *_differences(source),
        *(Paragraph(f"{line}.") for line in facts.get("lines", []) if _is_shown(line, facts)),
        *(Paragraph(f"{line}.") for line in facts.get("baselines", [])),
        *_leakage(source, facts),
    ]
    return Section(f"finetuning-{source.label}", f"Fine-tuning: {source.label}", blocks)


def _is_shown(line: str, facts: Mapping[str, Any]) -> bool:
    """Tell the lines on what is judged; older Runs have their leakage among them."""
    return "judge on" in line or "several values" in line or ("leakage" in line and "sides" not in facts)


def _leakage(source: RunSource, facts: Mapping[str, Any]) -> list[Block]:
    if "sides" not in facts:
        return []
    return leakage_blocks(
        {facts["judged_on"]: facts["sides"]}, read_table(source.run, "nearest", NEAREST[1:]), source.label
    )


def _what(facts: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    target = facts["target"]
    kind = {"binary": "two classes", "classes": "classes", "labels": "labels", "value": "a number"}
    trained = (config.get("adapt") or {}).get("kind", "frozen")
    controls = [name for name in ("random_weights", "shuffle_labels") if config.get(name)]
    text = (
        f"'{target['name']}' ({kind[target['kind']]}, by {target['level']}) from {config.get('model')}; "
        f"trained: {trained}. Judged on: {facts['judged_on']}."
    )
    return f"{text} Control: {', '.join(controls).replace('_', ' ')}." if controls else text


def _shortfalls(metrics: pl.DataFrame, metric: str) -> list[Block]:
    """Say in red where the model is not above the best baseline."""
    blocks: list[Block] = []
    for _, part in metrics.filter(metric=metric).group_by("subset", maintain_order=True):
        own, others = part.filter(kind="model"), part.filter(kind="baseline")
        if own.is_empty() or others.is_empty():
            continue
        best = others.sort("value", descending=True).row(0, named=True)
        value = own["value"][0]
        if not value > best["value"]:
            text = (
                f"With {own['num_train'][0]:,} training records the model is not above the baseline "
                f"'{best['method']}' in {NAMES.get(metric, metric)} "
                f"({value:.3f} against {best['value']:.3f})."
            )
            blocks.append(Paragraph(text, tone="bad"))
    return blocks


def _table(subset: str, own: pl.DataFrame) -> Table:
    first = own.row(0, named=True)
    shown = [metric for metric in NAMES if metric in set(own["metric"])]
    rows = []
    for (method, kind), part in own.group_by("method", "kind", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        name = str(method) if kind == "model" else f"{method} (baseline)"
        rows.append([Cell(name), *(Cell(_text(by_metric.get(metric))) for metric in shown)])
    size = f"{first['num_train']:,} training records"
    caption = (
        f"{size if subset == 'all' else f'Subset {subset}: {size}'}; {first['n']:,} judged in "
        f"{first['n_groups']:,} groups, {first['n_seeds']} seeds [95 % interval]."
    )
    return Table(caption, ["method", *(NAMES[metric] for metric in shown)], rows)


def _differences(source: RunSource) -> list[Block]:
    """Show the model minus each baseline; an older Run has no such table."""
    table = read_table(source.run, DIFFERENCES, DIFFERENCE_COLUMNS)
    if table is None:
        return []
    shown = [metric for metric in NAMES if metric in set(table["metric"])]
    rows = []
    for (subset, second), own in table.group_by("subset", "second", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        name = f"{second}, {subset} ({own['num_train'][0]:,} records)"
        rows.append([Cell(name), *(Cell(difference_text(by_metric.get(metric))) for metric in shown)])
    caption = (
        "The model minus each baseline on the same resampled groups [95 % interval]; of RMSE, less is better."
    )
    return [Table(caption, ["baseline", *(NAMES[metric] for metric in shown)], rows, is_folded=True)]


def difference_text(row: Mapping[str, Any] | None) -> str:
    """Write a difference with its interval and, where it is known, its spread over seeds.

    Parameters
    ----------
    row
        With `DIFFERENCE_COLUMNS`; `None` where a metric is not there.
    """
    if row is None or row["difference"] is None or row["difference"] != row["difference"]:
        return "–"
    spread = "" if row.get("sd_over_seeds") is None else f" ± {row['sd_over_seeds']:.3f}"
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{spread}"


def _text(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    spread = "" if row["sd_over_seeds"] is None else f" ± {row['sd_over_seeds']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{spread}"
