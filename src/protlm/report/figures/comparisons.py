"""Two models compared region by region: differences with intervals and adjusted p-values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import QUIET, axis, dress, model_colours, plain

COLUMNS = (
    *("first", "second", "chain", "region", "residues", "metric", "first_value", "second_value"),
    *("difference", "difference_low", "difference_high", "p_adjusted", "stars", "n_groups"),
)
METRICS = {
    "accuracy": "difference in accuracy (first better →)",
    "cross_entropy": "difference in cross-entropy (← first better)",
}
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """First minus second in each region, a panel for each chain and metric."""

    first: str
    second: str
    table: pl.DataFrame
    """With `COLUMNS`, of this pair and all residues."""
    colours: Mapping[str, str]

    def figure(self) -> go.Figure:
        """Draw a forest plot; a point has the colour of the model it significantly favours."""
        chains = self.table["chain"].unique(maintain_order=True).to_list()
        metrics = [metric for metric in METRICS if metric in set(self.table["metric"])]
        panels = [(chain, metric) for chain in chains for metric in metrics]
        figure = make_subplots(
            len(chains),
            len(metrics),
            subplot_titles=[plain(chain) for chain, _ in panels],
            horizontal_spacing=0.19,
            vertical_spacing=0.46 / len(chains) ** 1.5,
        )
        for number, (chain, metric) in enumerate(panels):
            part = self.table.filter((pl.col("chain") == chain) & (pl.col("metric") == metric))
            place: dict[str, Any] = {"row": number // len(metrics) + 1, "col": number % len(metrics) + 1}
            figure.add_trace(self._points(part, metric), **place)
            figure.add_vline(x=0, line={"color": QUIET, "width": 1}, **place)
            reach = 1.08 * max(part.select(pl.col("^difference.*$").abs().max()).row(0)) or 0.01
            figure.update_xaxes(**axis(title_text=METRICS[metric], range=[-reach, reach], nticks=7), **place)
            figure.update_yaxes(**axis(autorange="reversed", ticks="", showgrid=False), **place)
            axes = "" if number == 0 else str(number + 1)
            for row in part.iter_rows(named=True):
                figure.add_annotation(_p_value(row, f"x{axes} domain", f"y{axes}"))
        dress(figure, height=90 + 270 * len(chains), margin={"r": 110, "t": 48})
        return figure.update_annotations(selector={"name": "p"}, font_size=12)

    def _points(self, part: pl.DataFrame, metric: str) -> go.Scatter:
        colours = [self._colour(row, metric) for row in part.iter_rows(named=True)]
        value = part["difference"]
        return go.Scatter(
            x=value.to_list(),
            y=part["region"].to_list(),
            error_x={
                "array": (part["difference_high"] - value).to_list(),
                "arrayminus": (value - part["difference_low"]).to_list(),
                "color": QUIET,
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"size": 9, "color": colours, "opacity": 1},
            showlegend=False,
            customdata=[
                f"{row['region']}: {row['first_value']:.4f} − {row['second_value']:.4f} = "
                f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}], "
                f"{row['n_groups']:,} groups"
                for row in part.iter_rows(named=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )

    def _colour(self, row: Mapping, metric: str) -> str:
        if not row["p_adjusted"] < SIGNIFICANT:
            return QUIET
        first_is_better = (row["difference"] > 0) == (metric == "accuracy")
        return self.colours[self.first if first_is_better else self.second]


def comparisons(table: pl.DataFrame, colours: Mapping[str, str] | None = None) -> list[Comparison]:
    """Take the table ``comparisons`` apart into pairs of models, over all residues.

    Parameters
    ----------
    table
        With `COLUMNS`.
    colours
        By model; dealt out by default.
    """
    colours = colours or model_colours([*table["first"], *table["second"]])
    return [
        Comparison(str(first), str(second), part, colours)
        for (first, second), part in table.filter(pl.col("residues") == "all").group_by(
            "first", "second", maintain_order=True
        )
    ]


def p_text(row: Mapping) -> str:
    """Write the corrected p-value with its stars; a dash where there was no test.

    Parameters
    ----------
    row
        With ``p_adjusted`` and ``stars``.
    """
    value = row["p_adjusted"]
    return "–" if value is None or value != value else f"{value:.2g} {row['stars']}".rstrip()


def _p_value(row: Mapping, xref: str, yref: str) -> dict:
    text = p_text(row)
    text = "p –" if text == "–" else f"p = {text}"
    return {
        "name": "p",
        "text": text,
        "x": 1.01,
        "xref": xref,
        "xanchor": "left",
        "y": row["region"],
        "yref": yref,
        "showarrow": False,
    }
