"""Retrieval: R@1 of models and baselines by gallery and direction, and the similarities of some pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import (
    BASELINE_COLOURS,
    GRID,
    INK,
    QUIET,
    axis,
    dress,
    model_colours,
    plain,
    symbol,
)

SIMILARITY_COLUMNS = ("model", "sequence", "structure", "cluster", "similarity")
_LINES = ("chance", "ceiling")
"""Kinds that are drawn as lines, because they are known exactly."""
_MOST_TICKS = 30


@dataclass(frozen=True)
class RetrievalScores:
    """Share of queries whose true item comes first [95 %], a panel for each gallery and direction."""

    table: pl.DataFrame
    """The table ``retrieval``, without single seeds."""
    colours: Mapping[str, str]
    """By model; baselines are grey."""
    metric: str = "recall_1"

    def figure(self) -> go.Figure:
        """Draw it; a dotted line is chance, a dashed one the most that repeats allow."""
        own = self.table.filter(pl.col("metric") == self.metric)
        galleries = own["gallery"].unique(maintain_order=True).to_list()
        directions = own["direction"].unique(maintain_order=True).to_list()
        shown = own.filter(~pl.col("kind").is_in(_LINES))
        figure = make_subplots(
            len(galleries),
            len(directions),
            shared_yaxes=True,
            subplot_titles=[f"{gallery}, {direction}" for gallery in galleries for direction in directions],
            horizontal_spacing=0.04,
            vertical_spacing=0.3 / max(1, len(galleries)) ** 1.2,
        )
        for row, gallery in enumerate(galleries, 1):
            part = shown.filter(pl.col("gallery") == gallery)
            methods = [plain(name) for name in part["model"].unique(maintain_order=True)]
            for column, direction in enumerate(directions, 1):
                place: dict[str, Any] = {"row": row, "col": column}
                for each in part.filter(pl.col("direction") == direction).iter_rows(named=True):
                    figure.add_trace(self._point(each), **place)
                where = (pl.col("gallery") == gallery) & (pl.col("direction") == direction)
                for each in own.filter(where & pl.col("kind").is_in(_LINES)).iter_rows(named=True):
                    dash = "dot" if each["kind"] == "chance" else "dash"
                    figure.add_vline(
                        x=each["value"], line={"color": QUIET, "width": 1, "dash": dash}, **place
                    )
                figure.update_xaxes(**axis(range=[-0.02, 1.02], nticks=6), **place)
                figure.update_yaxes(
                    **axis(
                        categoryorder="array",
                        categoryarray=methods,
                        autorange="reversed",
                        gridcolor=GRID,
                        ticks="",
                    ),
                    **place,
                )
        most = max(shown["model"].n_unique(), 1)
        longest = max((len(name) for name in shown["model"]), default=4)
        height = 90 + len(galleries) * (70 + 26 * most)
        return dress(figure, height=height, margin={"l": 20 + 8 * longest, "t": 40, "b": 36})

    def _point(self, row: Mapping[str, Any]) -> go.Scatter:
        is_model = row["kind"] == "model"
        colour = self.colours[row["model"]] if is_model else BASELINE_COLOURS[0]
        return go.Scatter(
            x=[row["value"]],
            y=[plain(row["model"])],
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
                f"{plain(row['model'])}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
                f"n = {row['n']:,}, {row['n_groups']:,} clusters<extra></extra>"
            ),
        )


@dataclass(frozen=True)
class SimilarityMap:
    """Cosines of some sequences with some structures, pairs on the diagonal, clusters side by side."""

    table: pl.DataFrame
    """With `SIMILARITY_COLUMNS`, of one model; a row for each sequence and structure, sequence first."""

    def figure(self) -> go.Figure:
        """Draw the map, with lines between clusters."""
        names = self.table["sequence"].unique(maintain_order=True).to_list()
        clusters = self.table.group_by("sequence", maintain_order=True).first()["cluster"].to_list()
        count = len(clusters)
        values = self.table["similarity"].to_numpy().reshape(count, -1)
        figure = go.Figure(
            go.Heatmap(
                z=[[float(f"{value:.3g}") for value in line] for line in values.tolist()],
                x=list(range(count)),
                y=list(range(count)),
                colorscale="Viridis",
                colorbar={"title": {"text": "cosine"}, "thickness": 12},
                customdata=_labels(names, clusters),
                hovertemplate="%{customdata}: %{z}<extra></extra>",
            )
        )
        edges = np.flatnonzero(np.array(clusters[1:]) != np.array(clusters[:-1])) + 0.5
        for edge in edges.tolist():
            for add in (figure.add_vline, figure.add_hline):
                add(edge, line={"color": INK, "width": 0.5})
        ticks = list(range(0, count, -(-count // _MOST_TICKS)))
        texts = [f"{plain(names[tick])} ({plain(clusters[tick])})" for tick in ticks]
        settings: dict[str, Any] = {"tickvals": ticks, "ticktext": texts, "showgrid": False}
        figure.update_xaxes(**axis(title_text="structure"), **settings, tickangle=-60)
        figure.update_yaxes(**axis(title_text="sequence"), **settings, autorange="reversed")
        return dress(figure, height=760, margin={"l": 180, "b": 170})


def _labels(names: Sequence[str], clusters: Sequence[str]) -> list[list[str]]:
    full = [f"{plain(name)} ({plain(cluster)})" for name, cluster in zip(names, clusters, strict=True)]
    return [[f"sequence of {one}, structure of {other}" for other in full] for one in full]


def retrieval_scores(metrics: pl.DataFrame, colours: Mapping[str, str] | None = None) -> RetrievalScores:
    """Take what is drawn from the table ``retrieval``.

    Parameters
    ----------
    metrics
        Of a Run of evaluate retrieval.
    colours
        By model; dealt out by default.
    """
    models = metrics.filter(pl.col("kind") == "model")["model"].unique(maintain_order=True).to_list()
    shown = metrics.filter(pl.col("kind") != "seed")
    return RetrievalScores(shown, {**model_colours(models), **(colours or {})})


def similarity_maps(table: pl.DataFrame) -> list[SimilarityMap]:
    """Take the map of each model.

    Parameters
    ----------
    table
        With `SIMILARITY_COLUMNS`.
    """
    return [SimilarityMap(part) for _, part in table.group_by("model", maintain_order=True)]
