"""Masking rates: what a policy asked for beside what was drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import QUIET, axis, dress, model_colours, plain

COLUMNS = ("region", "asked", "observed", "n_residues")


@dataclass(frozen=True)
class MaskingRates:
    """Asked and observed rates of several Runs by region, as shares of the maskable residues."""

    tables: Mapping[str, pl.DataFrame]
    """By Run, with `COLUMNS`."""
    colours: Mapping[str, str]

    def figure(self) -> go.Figure:
        """Draw a panel for each Run: asked in outline, observed filled."""
        columns = min(2, len(self.tables))
        rows = -(-len(self.tables) // columns)
        titles = [plain(run) for run in self.tables]
        figure = make_subplots(
            rows,
            columns,
            subplot_titles=titles,
            shared_yaxes="all",  # type: ignore[arg-type]
            horizontal_spacing=0.05,
            vertical_spacing=0.4 / rows**1.5,
        )
        for number, (run, table) in enumerate(self.tables.items()):
            for trace in self._bars(run, table, is_first=number == 0):
                figure.add_trace(trace, row=number // columns + 1, col=number % columns + 1)
        figure.update_xaxes(**axis(ticks="", showgrid=False))
        figure.update_yaxes(**axis(tickformat=".0%", rangemode="tozero"))
        figure.update_yaxes(title_text="masked residues", col=1)
        figure.update_layout(bargap=0.25, bargroupgap=0.05)
        return dress(figure, height=100 + 230 * rows, margin={"b": 40})

    def _bars(self, run: str, table: pl.DataFrame, *, is_first: bool) -> list[go.Bar]:
        regions = table["region"].to_list()
        counts = [f"{count:,} residues" for count in table["n_residues"]]
        looks = {
            "asked": {"color": "white", "line": {"color": QUIET, "width": 1.5}},
            "observed": {"color": self.colours[run], "line": {"color": self.colours[run], "width": 1.5}},
        }
        return [
            go.Bar(
                x=regions,
                y=table[name].to_list(),
                name=name,
                legendgroup=name,
                showlegend=is_first,
                marker=look,
                customdata=counts,
                hovertemplate="%{x}: %{y:.2%} of %{customdata}",
            )
            for name, look in looks.items()
        ]


def masking_rates(
    tables: Mapping[str, pl.DataFrame], colours: Mapping[str, str] | None = None
) -> MaskingRates | None:
    """Collect the tables ``masking_rates`` of several Runs.

    Parameters
    ----------
    tables
        By Run, with `COLUMNS`.
    colours
        By Run; dealt out by default.

    Returns
    -------
    MaskingRates or None
        `None` where there is no table.
    """
    return MaskingRates(dict(tables), colours or model_colours(tables)) if tables else None
