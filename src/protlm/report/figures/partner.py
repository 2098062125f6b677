"""What the true partner saves over another or none, region by region."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import QUIET, axis, dress, model_colours, plain, symbol

COLUMNS = (
    *("model", "against", "chain", "region", "metric", "value", "other_value", "gain", "gain_low"),
    *("gain_high", "p_adjusted", "stars", "n_residues", "n_records", "n_groups"),
)
CONDITIONS = {
    "random": "a random partner",
    "random_same_locus": "a random one of the same locus",
    "none": "no partner",
}
_TICKS = {"framework": "FR1–4", "CDRs": "CDR1–3"}
_WIDTH = 0.6


@dataclass(frozen=True)
class PartnerGains:
    """Nats per residue with 95 % intervals, a panel for each chain and other partner."""

    table: pl.DataFrame
    """With `COLUMNS`, of the cross-entropy."""
    colours: Mapping[str, str]
    """By model, in the order in which models are drawn."""

    def figure(self) -> go.Figure:
        """Draw points around the line of no gain."""
        chains = self.table["chain"].unique(maintain_order=True).to_list()
        conditions = [name for name in CONDITIONS if name in set(self.table["against"])]
        regions = self.table["region"].unique(maintain_order=True).to_list()
        panels = [(chain, condition) for chain in chains for condition in conditions]
        figure = make_subplots(
            len(chains),
            len(conditions),
            subplot_titles=[f"{plain(chain)}, over {CONDITIONS[condition]}" for chain, condition in panels],
            horizontal_spacing=0.06,
            vertical_spacing=0.5 / len(chains) ** 1.3,
        )
        for number, (chain, condition) in enumerate(panels):
            row, column = divmod(number, len(conditions))
            place: dict[str, Any] = {"row": row + 1, "col": column + 1}
            part = self.table.filter((pl.col("chain") == chain) & (pl.col("against") == condition))
            for order, model in enumerate(self.colours):
                shift = _WIDTH * ((order + 0.5) / len(self.colours) - 0.5)
                own = part.filter(pl.col("model") == model)
                figure.add_trace(self._points(own, regions, shift, in_legend=number == 0), **place)
            figure.add_hline(y=0, line={"color": QUIET, "width": 1}, **place)
            figure.update_yaxes(**axis(range=self._range(chain, condition)), **place)
        figure.update_xaxes(
            **axis(
                tickvals=list(range(len(regions))),
                ticktext=[_TICKS.get(region, region) for region in regions],
                range=[-0.5, len(regions) - 0.5],
                showgrid=False,
                ticks="",
                tickangle=-60,
                tickfont={"size": 11},
            )
        )
        figure.update_yaxes(title_text="nats saved per residue", title_standoff=4, col=1)
        return dress(figure, height=110 + 290 * len(chains), margin={"b": 64, "l": 76})

    def _range(self, chain: str, condition: str) -> list[float]:
        """Give the axis that a panel has in common with those of its row with any partner, or with none."""
        of_chain = self.table.filter(pl.col("chain") == chain)
        alike = of_chain.filter((pl.col("against") == "none") == (condition == "none"))
        values = [bound for name in ("gain", "gain_low", "gain_high") for bound in alike[name].drop_nans()]
        low, high = min([0.0, *values]), max([0.0, *values])
        space = 0.06 * (high - low) or 0.01
        return [low - space, high + space]

    def _points(self, own: pl.DataFrame, regions: list[str], shift: float, *, in_legend: bool) -> go.Scatter:
        model = own["model"][0] if len(own) else ""
        colour = self.colours.get(model, QUIET)
        return go.Scatter(
            x=[regions.index(region) + shift for region in own["region"]],
            y=own["gain"].to_list(),
            error_y={
                "array": (own["gain_high"] - own["gain"]).to_list(),
                "arrayminus": (own["gain"] - own["gain_low"]).to_list(),
                "color": colour,
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "symbol": symbol(colour), "size": 8},
            name=plain(model),
            legendgroup=model,
            showlegend=in_legend,
            customdata=[
                f"{row['region']}: {row['other_value']:.3f} − {row['value']:.3f} = {row['gain']:+.4f} "
                f"[{row['gain_low']:+.4f}, {row['gain_high']:+.4f}] {row['stars']}, n = {row['n_residues']:,}"
                for row in own.iter_rows(named=True)
            ],
            hovertemplate="%{customdata}",
        )


def partner_gains(gains: pl.DataFrame, colours: Mapping[str, str] | None = None) -> PartnerGains:
    """Take the lines of the cross-entropy from the table ``partner_gain``.

    Parameters
    ----------
    gains
        With `COLUMNS`.
    colours
        By model; dealt out by default.
    """
    models = gains["model"].unique(maintain_order=True).to_list()
    colours = colours or model_colours(models)
    return PartnerGains(
        gains.filter(pl.col("metric") == "cross_entropy"), {model: colours[model] for model in models}
    )
