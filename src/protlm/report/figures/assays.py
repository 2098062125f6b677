"""Models on deep mutational scans: averages with intervals, and Spearman's correlation on each assay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import (
    GRID,
    QUIET,
    VARIANT_BASELINES,
    axis,
    dress,
    model_colours,
    plain,
    symbol,
)
from protlm.report.variant_lines import NAMES

AVERAGE_COLUMNS = ("subset", "metric", "model", "average", "low", "high", "n_assays", "n_proteins")
ASSAY_COLUMNS = ("subset", "depth", "assay", "model", "n", "n_skipped", *NAMES)
MOST_LINES = 40
"""Assays that get a line each; of more, each model shows all on one line."""
_CHANCE = {"spearman": 0.0, "auroc": 0.5, "mcc": 0.0}


@dataclass(frozen=True)
class AssayAverages:
    """A forest plot with a panel per metric."""

    table: pl.DataFrame
    """With `AVERAGE_COLUMNS`, of one subset of variants."""
    colours: Mapping[str, str]
    """By model."""

    def figure(self) -> go.Figure:
        """Draw it; models from top to bottom in the order of the table."""
        metrics = [metric for metric in NAMES if metric in set(self.table["metric"])]
        names = [self._name(model) for model in self.table["model"].unique(maintain_order=True)]
        figure = make_subplots(
            1,
            len(metrics),
            shared_yaxes=True,
            subplot_titles=[NAMES[metric] for metric in metrics],
            horizontal_spacing=0.025,
        )
        for column, metric in enumerate(metrics, 1):
            place: dict[str, Any] = {"row": 1, "col": column}
            part = self.table.filter(pl.col("metric") == metric)
            for row in part.iter_rows(named=True):
                figure.add_trace(self._point(row), **place)
            if metric in _CHANCE:
                line = {"color": QUIET, "width": 1, "dash": "dot"}
                figure.add_vline(x=_CHANCE[metric], line=line, **place)
            figure.update_xaxes(**axis(range=_reach(part, metric), nticks=5, tickangle=0), **place)
            figure.update_yaxes(**_names_axis(names), **place)
        longest = max(len(name) for name in names)
        return dress(figure, height=110 + 26 * len(names), margin={"l": 24 + 8 * longest, "t": 52, "b": 36})

    def _name(self, model: str) -> str:
        """Name a model, with the number of its assays where others have more."""
        count = self.table.filter(pl.col("model") == model)["n_assays"].max()
        most = self.table["n_assays"].max()
        return plain(model) + (f" ({count} of {most})" if count != most else "")

    def _point(self, row: Mapping[str, Any]) -> go.Scatter:
        colour = self.colours[row["model"]]
        value, low, high = row["average"], row["low"], row["high"]
        written, bars = "–" if value is None else f"{value:.3f}", None
        if value is not None and low is not None and low == low:  # one protein has no spread over proteins
            written += f" [{low:.3f}, {high:.3f}]"
            bars = {"array": [high - value], "arrayminus": [value - low]}
            bars |= {"color": colour, "thickness": 1.5, "width": 3}
        return go.Scatter(
            x=[value],
            y=[self._name(row["model"])],
            error_x=bars,
            mode="markers",
            marker={
                "color": colour,
                "symbol": symbol(colour),
                "size": 9,
                "line": {"width": 1.5, "color": colour},
            },
            showlegend=False,
            hovertemplate=(
                f"{plain(row['model'])}: {written}, {row['n_assays']:,} assays, "
                f"{row['n_proteins']:,} proteins<extra></extra>"
            ),
        )


@dataclass(frozen=True)
class AssayCorrelations:
    """Spearman's correlation of each model on each assay."""

    table: pl.DataFrame
    """``assay, model, n, spearman``, without missing ones."""
    colours: Mapping[str, str]
    """By model."""

    @property
    def has_lines(self) -> bool:
        """Whether each assay gets a line of its own."""
        return self.table["assay"].n_unique() <= MOST_LINES

    def figure(self) -> go.Figure:
        """Draw a line per assay with a marker per model, or a line per model with a dot per assay."""
        models = [model for model in self.colours if model in set(self.table["model"])]
        lines = self._assays() if self.has_lines else models
        figure = go.Figure([self._dots(model, lines) for model in models])
        if not self.has_lines:
            figure.add_trace(self._medians(models))
        figure.add_vline(x=0, line={"color": QUIET, "width": 1, "dash": "dot"})
        longest = max(len(name) for name in lines)
        height = 110 + (22 if self.has_lines else 44) * len(lines)
        dress(
            figure, height=height, margin={"l": 24 + 8 * min(longest, 40), "t": 64 if self.has_lines else 24}
        )
        figure.update_layout(
            xaxis=axis(title_text="Spearman"),
            yaxis=axis(
                tickvals=list(range(len(lines))),
                ticktext=[plain(name if len(name) <= 40 else name[:39] + "…") for name in lines],
                range=[len(lines) - 0.5, -0.5],
                showgrid=self.has_lines,
                ticks="",
            ),
            showlegend=self.has_lines,
        )
        return figure

    def _assays(self) -> list[str]:
        """Order assays by the best correlation that a model has on them."""
        own = self.table.filter(~pl.col("model").is_in(list(VARIANT_BASELINES)))
        own = self.table if own.is_empty() else own
        best = own.group_by("assay", maintain_order=True).agg(pl.col("spearman").max())
        ordered = best.sort("spearman", descending=True, maintain_order=True)["assay"]
        return pl.concat([ordered, self.table["assay"]]).unique(maintain_order=True).to_list()

    def _dots(self, model: str, lines: list[str]) -> go.Scatter:
        own, colour = self.table.filter(pl.col("model") == model), self.colours[model]
        if self.has_lines:
            heights = [float(lines.index(assay)) for assay in own["assay"]]
        else:  # spread by golden ratio, so that neighbours in the table do not touch
            heights = (lines.index(model) + 0.5 * ((np.arange(len(own)) * 0.618) % 1 - 0.5)).round(3).tolist()
        return go.Scatter(
            x=own["spearman"].round(4).to_list(),
            y=heights,
            mode="markers",
            marker={
                "color": colour,
                "symbol": symbol(colour),
                "size": 8 if self.has_lines else 6,
                "opacity": 1 if self.has_lines else 0.75,
                "line": {"width": 1.5 if self.has_lines else 1, "color": colour},
            },
            name=plain(model),
            showlegend=self.has_lines,
            text=[
                f"{plain(row['assay'])}, {plain(model)}: {row['spearman']:.3f}, n = {row['n']:,}"
                for row in own.iter_rows(named=True)
            ],
            hoverinfo="text",
        )

    def _medians(self, models: list[str]) -> go.Scatter:
        medians = [self.table.filter(pl.col("model") == model)["spearman"].median() for model in models]
        return go.Scatter(
            x=medians,
            y=list(range(len(models))),
            mode="markers",
            marker={"symbol": "line-ns", "size": 26, "line": {"width": 2.5}},
            text=[f"{plain(m)}: median {v:.3f}" for m, v in zip(models, medians, strict=True)],
            hoverinfo="text",
            showlegend=False,
        )


def assay_averages(
    intervals: pl.DataFrame, subset: str = "all", colours: Mapping[str, str] | None = None
) -> AssayAverages | None:
    """Take what is drawn from the table ``intervals`` of a Run.

    Parameters
    ----------
    intervals
        With `AVERAGE_COLUMNS`.
    subset
        Of the variants: ``all``, or ``covered`` by the alignments.
    colours
        By model; dealt out by default.

    Returns
    -------
    AssayAverages or None
        `None` where there is no such line.
    """
    table = intervals.filter(pl.col("subset") == subset)
    if table.is_empty():
        return None
    return AssayAverages(table, {**model_colours(intervals["model"]), **(colours or {})})


def assay_correlations(
    assays: pl.DataFrame, colours: Mapping[str, str] | None = None
) -> AssayCorrelations | None:
    """Take each assay's correlations on all variants from the table ``assays`` of a Run.

    Parameters
    ----------
    assays
        With `ASSAY_COLUMNS`.
    colours
        By model; dealt out by default.

    Returns
    -------
    AssayCorrelations or None
        `None` where there is none.
    """
    table = assays.filter(
        (pl.col("subset") == "all") & (pl.col("depth") == "all") & pl.col("spearman").is_finite()
    )
    if table.is_empty():
        return None
    dealt = {**model_colours(table["model"]), **(colours or {})}
    models = table["model"].unique(maintain_order=True).to_list()
    return AssayCorrelations(
        table.select("assay", "model", "n", "spearman"), {model: dealt[model] for model in models}
    )


def _reach(part: pl.DataFrame, metric: str) -> list[float]:
    ends = [value for name in ("low", "average", "high") for value in part[name].to_list()]
    known = [_CHANCE.get(metric, ends[0]), *ends]
    known = [float(value) for value in known if value is not None and value == value] or [0.0, 1.0]
    room = 0.06 * (max(known) - min(known)) or 0.05
    return [min(known) - room, max(known) + room]


def _names_axis(names: list[str]) -> dict[str, Any]:
    return axis(
        categoryorder="array",
        categoryarray=names,
        range=[len(names) - 0.5, -0.5],
        gridcolor=GRID,
        ticks="",
    )
