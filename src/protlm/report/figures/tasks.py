"""Methods on a task: a metric with its interval for each model and baseline, a row of panels per split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import (
    BASELINE_COLOURS,
    GRID,
    QUIET,
    axis,
    dress,
    model_colours,
    plain,
    symbol,
)

COLUMNS = ("split", "method", "kind", "metric", "value", "low", "high", "n", "n_groups", "n_seeds")
PANELS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "macro_auc01": "macro AUC0.1",
    "macro_auroc": "macro AUROC",
    "macro_auprc": "macro AUPRC",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "spearman": "Spearman",
    "rmse": "RMSE",
    "mcc": "MCC",
}
"""Metrics that are drawn, at most `_MOST_PANELS` of them; all are in the table."""
_MOST_PANELS = 3
_CHANCE = {"auroc": 0.5, "macro_auroc": 0.5, "macro_auc01": 0.5, "mcc": 0.0, "spearman": 0.0}


@dataclass(frozen=True)
class TaskScores:
    """A forest plot of methods."""

    table: pl.DataFrame
    """With `COLUMNS`."""
    colours: Mapping[str, str]
    """By model; baselines are grey."""

    def figure(self) -> go.Figure:
        """Draw it; methods from top to bottom in the order of the table."""
        splits = self.table["split"].unique(maintain_order=True).to_list()
        found = self.table["metric"].unique(maintain_order=True).to_list()
        metrics = [metric for metric in found if metric in PANELS][:_MOST_PANELS]
        methods = self.table["method"].unique(maintain_order=True).to_list()
        figure = make_subplots(
            len(splits),
            len(metrics),
            shared_yaxes=True,
            subplot_titles=[
                f"{PANELS[metric]}, split '{plain(split)}'" for split in splits for metric in metrics
            ],
            horizontal_spacing=0.04,
            vertical_spacing=0.32 / len(splits) ** 1.3,
        )
        for row, split in enumerate(splits, 1):
            for column, metric in enumerate(metrics, 1):
                place: dict[str, Any] = {"row": row, "col": column}
                part = self.table.filter((pl.col("split") == split) & (pl.col("metric") == metric))
                for trace in self._points(part):
                    figure.add_trace(trace, **place)
                if metric in _CHANCE:
                    figure.add_vline(
                        x=_CHANCE[metric], line={"color": QUIET, "width": 1, "dash": "dot"}, **place
                    )
                figure.update_xaxes(**axis(range=_reach(self.table, metric), nticks=6), **place)
                figure.update_yaxes(
                    **axis(
                        categoryorder="array",
                        categoryarray=[plain(name) for name in methods],
                        autorange="reversed",
                        gridcolor=GRID,
                        ticks="",
                    ),
                    **place,
                )
        height = 90 + len(splits) * (70 + 26 * len(methods))
        longest = max(len(name) for name in methods)
        return dress(figure, height=height, margin={"l": 20 + 8 * longest, "t": 40, "b": 36})

    def _points(self, part: pl.DataFrame) -> list[go.Scatter]:
        traces = []
        for row in part.iter_rows(named=True):
            if row["value"] is None or row["value"] != row["value"]:
                continue
            is_model = row["kind"] == "model"
            colour = self.colours[row["method"]] if is_model else BASELINE_COLOURS[0]
            traces.append(
                go.Scatter(
                    x=[row["value"]],
                    y=[plain(row["method"])],
                    error_x={
                        "array": [row["high"] - row["value"]],
                        "arrayminus": [row["value"] - row["low"]],
                        "color": colour,
                        "thickness": 1.5,
                        "width": 3,
                    },
                    mode="markers",
                    marker={"color": colour, "symbol": symbol(colour), "size": 9, "line": {"width": 1.5}},
                    showlegend=False,
                    hovertemplate=(
                        f"{plain(row['method'])}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
                        f"n = {row['n']:,}, {row['n_groups']:,} groups<extra></extra>"
                    ),
                )
            )
        return traces


def task_scores(metrics: pl.DataFrame, colours: Mapping[str, str] | None = None) -> TaskScores:
    """Take what is drawn from the table ``metrics`` of a task.

    Parameters
    ----------
    metrics
        With `COLUMNS`.
    colours
        By model; dealt out by default.
    """
    models = metrics.filter(pl.col("kind") == "model")["method"].unique(maintain_order=True).to_list()
    return TaskScores(metrics, {**model_colours(models), **(colours or {})})


def _reach(table: pl.DataFrame, metric: str) -> Sequence[float]:
    """Give one range for all splits, so that they can be compared by eye."""
    part = table.filter((pl.col("metric") == metric) & pl.col("value").is_not_nan())
    ends = [*part["low"].drop_nans().to_list(), *part["high"].drop_nans().to_list()]
    ends += [_CHANCE.get(metric, 0.0)] if metric in _CHANCE or not ends else []
    room = 0.05 * (max(ends) - min(ends)) or 0.05
    return [min(ends) - room, max(ends) + room]
