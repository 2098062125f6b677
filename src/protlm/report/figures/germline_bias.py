"""Bars of what models predict at mutated residues: the residue there, its germline, or another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import INK, axis, dress, is_baseline, model_colours, plain
from protlm.report.tables import with_interval

OUTCOMES = {"right": "the residue there", "germline": "its germline residue", "other": "another residue"}
"""Columns and what the axis says."""
COLUMNS = (
    *("model", "chain", "region", "n_residues", "n_records", "n_groups"),
    *(f"{outcome}{end}" for outcome in (*OUTCOMES, "log_odds") for end in ("", "_low", "_high")),
)

_PATTERNS = ("/", ".", "x", "\\", "-")
"""What tells bars of baselines apart, whose colours are all grey."""


@dataclass(frozen=True)
class GermlineBias:
    """Shares of mutated residues with 95 % intervals, a panel for each chain."""

    table: pl.DataFrame
    """With `COLUMNS`, of all regions together."""
    colours: Mapping[str, str]
    """By model, in the order in which models are drawn."""

    def figure(self) -> go.Figure:
        """Draw grouped bars; those of one model sum to one."""
        chains = self.table["chain"].unique(maintain_order=True).to_list()
        sizes = dict(self.table.select("chain", "n_residues").unique().iter_rows())
        titles = [f"{plain(chain)}, {sizes[chain]:,} mutated residues" for chain in chains]
        figure = make_subplots(1, len(chains), subplot_titles=titles, horizontal_spacing=0.06)
        for number, chain in enumerate(chains):
            place: dict[str, Any] = {"row": 1, "col": number + 1}
            for order, (model, colour) in enumerate(self.colours.items()):
                own = self.table.filter((pl.col("chain") == chain) & (pl.col("model") == model))
                for row in own.iter_rows(named=True):
                    figure.add_trace(_bars(row, colour, _PATTERNS[order % 5], in_legend=number == 0), **place)
        figure.update_xaxes(**axis(showgrid=False, ticks=""))
        figure.update_yaxes(**axis(range=[0, 1.03]))
        figure.update_yaxes(title_text="share of mutated residues", col=1)
        dress(figure, height=400, margin={"b": 40})
        return figure.update_layout(barmode="group", bargap=0.25)


def _bars(row: Mapping[str, Any], colour: str, pattern: str, *, in_legend: bool) -> go.Bar:
    is_trivial = is_baseline(row["model"])
    look: dict[str, Any] = {"color": colour, "line": {"color": colour, "width": 1.5}}
    if is_trivial:
        look["pattern"] = {"shape": pattern, "fgcolor": colour, "bgcolor": "white", "size": 6}
    return go.Bar(
        x=list(OUTCOMES.values()),
        y=[row[name] for name in OUTCOMES],
        error_y={
            "array": [row[f"{name}_high"] - row[name] for name in OUTCOMES],
            "arrayminus": [row[name] - row[f"{name}_low"] for name in OUTCOMES],
            "color": INK,
            "thickness": 1,
            "width": 3,
        },
        marker=look,
        name=plain(row["model"]),
        legendgroup=row["model"],
        showlegend=in_legend,
        customdata=[with_interval(row, name) for name in OUTCOMES],
        hovertemplate="%{x}: %{customdata}",
    )


def germline_bias(bias: pl.DataFrame, colours: Mapping[str, str] | None = None) -> GermlineBias:
    """Take the lines of all regions together from the table ``germline_bias``.

    Parameters
    ----------
    bias
        With `COLUMNS`.
    colours
        By model; dealt out by default.
    """
    models = bias["model"].unique(maintain_order=True).to_list()
    colours = colours or model_colours(models)
    return GermlineBias(bias.filter(pl.col("region") == "all"), {model: colours[model] for model in models})
