"""A fine-tuned model beside baselines, and what it gains from more training records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import BASELINE_COLOURS, axis, dress, plain, symbol

COLUMNS = (
    *("subset", "num_train", "method", "kind", "metric", "value", "low", "high", "sd_over_seeds"),
    *("n", "n_groups", "n_seeds"),
)
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "macro_auroc": "macro AUROC",
    "macro_auprc": "macro AUPRC",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "rmse": "RMSE",
    "r2": "R²",
    "top_recall": "recall of the best tenth",
}
"""Metrics that are shown, in order."""
_DRAWN = ("auroc", "spearman", "top_recall", "accuracy", "macro_auroc", "auprc", "macro_f1", "mcc", "r2")
_MOST_PANELS = 3
_DASHES = ("solid", "dot", "dash")
"""Of baselines, when there are more of them than greys."""


@dataclass(frozen=True)
class FinetuneScores:
    """Metrics against the number of training records; with one number, a point for each method."""

    table: pl.DataFrame
    """With `COLUMNS`."""
    colours: Mapping[str, str]
    """By model; baselines are grey."""

    def figure(self) -> go.Figure:
        """Draw a panel for each of the first metrics."""
        found = set(self.table["metric"])
        metrics = [metric for metric in _DRAWN if metric in found][:_MOST_PANELS]
        figure = make_subplots(
            1, len(metrics), subplot_titles=[NAMES[each] for each in metrics], horizontal_spacing=0.07
        )
        is_curve = self.table["num_train"].n_unique() > 1
        baselines = self.table.filter(kind="baseline")["method"].unique(maintain_order=True).to_list()
        for column, metric in enumerate(metrics, 1):
            part = self.table.filter(metric=metric)
            for (method, kind), own in part.group_by("method", "kind", maintain_order=True):
                colour = self.colours.get(str(method)) or next(iter(self.colours.values()), "#0072B2")
                dash = "solid"
                if kind == "baseline":
                    place = baselines.index(method)
                    colour = BASELINE_COLOURS[place % len(BASELINE_COLOURS)]
                    dash = _DASHES[place // len(BASELINE_COLOURS) % len(_DASHES)]
                trace = self._trace(own, str(method), colour, dash, is_curve, in_legend=column == 1)
                figure.add_trace(trace, row=1, col=column)
            if is_curve:
                figure.update_xaxes(**axis(type="log", title_text="training records"), row=1, col=column)
            else:
                figure.update_xaxes(**axis(), row=1, col=column)
            figure.update_yaxes(**axis(), row=1, col=column)
        return dress(figure, height=380)

    def _trace(
        self, own: pl.DataFrame, name: str, colour: str, dash: str, is_curve: bool, *, in_legend: bool
    ) -> go.Scatter:
        own = own.sort("num_train")
        values, low, high = (own[column].to_numpy() for column in ("value", "low", "high"))
        error: dict[str, Any] = {
            "type": "data",
            "symmetric": False,
            "array": high - values,
            "arrayminus": values - low,
            "color": colour,
            "thickness": 1.2,
        }
        hover = [
            f"{plain(name)}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]<br>"
            f"{row['num_train']:,} training records, n = {row['n']:,}"
            for row in own.iter_rows(named=True)
        ]
        return go.Scatter(
            x=own["num_train"].to_list() if is_curve else [plain(name)] * len(own),
            y=values.tolist(),
            error_y=error,
            mode="lines+markers" if is_curve else "markers",
            marker={"color": colour, "symbol": symbol(colour), "size": 8},
            line={"color": colour, "dash": dash},
            name=plain(name),
            legendgroup=name,
            showlegend=in_legend and is_curve,
            hovertext=hover,
            hoverinfo="text",
        )
