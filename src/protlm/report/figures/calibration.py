"""Reliability curves: how often predictions of some confidence are right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import QUIET, axis, dress, model_colours, plain, symbol

COLUMNS = (
    *("model", "chain", "region", "bin", "n_residues", "confidence"),
    *("accuracy", "accuracy_low", "accuracy_high"),
)
REGIONS = {"all": "all residues", "CDR3": "CDR3"}
"""Regions that are drawn, and their titles."""
_RANGE = [-0.03, 1.03]


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence in bins of equal mass, a panel for each chain and region."""

    table: pl.DataFrame
    """With `COLUMNS`; lines as in ``calibration_bins``."""
    colours: Mapping[str, str]
    """By model, in the order in which models are drawn."""

    def figure(self) -> go.Figure:
        """Draw the curves over the diagonal of perfect calibration."""
        chains = self.table["chain"].unique(maintain_order=True).to_list()
        regions = [region for region in REGIONS if region in set(self.table["region"])]
        panels = [(chain, region) for chain in chains for region in regions]
        figure = make_subplots(
            len(chains),
            len(regions),
            subplot_titles=[f"{plain(chain)}, {REGIONS[region]}" for chain, region in panels],
            horizontal_spacing=0.09,
            vertical_spacing=0.3 / len(chains) ** 1.3,
        )
        for number, (chain, region) in enumerate(panels):
            place: dict[str, Any] = {"row": number // len(regions) + 1, "col": number % len(regions) + 1}
            figure.add_trace(_diagonal(), **place)
            for model, colour in self.colours.items():
                own = self.table.filter(
                    (pl.col("model") == model) & (pl.col("chain") == chain) & (pl.col("region") == region)
                )
                figure.add_trace(_curve(model, own, colour, in_legend=number == 0), **place)
        figure.update_xaxes(**axis(range=_RANGE))
        figure.update_yaxes(**axis(range=_RANGE))
        figure.update_xaxes(title_text="confidence", row=len(chains))
        figure.update_yaxes(title_text="accuracy", col=1)
        return dress(figure, height=110 + 330 * len(chains))


def _diagonal() -> go.Scatter:
    line = {"color": QUIET, "width": 1, "dash": "dot"}
    return go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, showlegend=False, hoverinfo="skip")


def _curve(model: str, own: pl.DataFrame, colour: str, *, in_legend: bool) -> go.Scatter:
    return go.Scatter(
        x=own["confidence"].to_list(),
        y=own["accuracy"].to_list(),
        error_y={
            "array": (own["accuracy_high"] - own["accuracy"]).to_list(),
            "arrayminus": (own["accuracy"] - own["accuracy_low"]).to_list(),
            "color": colour,
            "thickness": 1,
            "width": 2,
        },
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"color": colour, "symbol": symbol(colour), "size": 7},
        name=plain(model),
        legendgroup=model,
        showlegend=in_legend,
        customdata=[
            f"says {row['confidence']:.3f}, right {row['accuracy']:.3f} "
            f"[{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}], n = {row['n_residues']:,}"
            for row in own.iter_rows(named=True)
        ],
        hovertemplate="%{customdata}",
    )


def reliability(bins: pl.DataFrame, colours: Mapping[str, str] | None = None) -> Reliability:
    """Take the curves of all residues and of CDR3 from the table ``calibration_bins``.

    Parameters
    ----------
    bins
        With `COLUMNS`.
    colours
        By model; dealt out by default.
    """
    models = bins["model"].unique(maintain_order=True).to_list()
    colours = colours or model_colours(models)
    drawn = bins.filter(pl.col("region").is_in(list(REGIONS)))
    return Reliability(drawn, {model: colours[model] for model in models})
