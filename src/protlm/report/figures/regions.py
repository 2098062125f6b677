"""Accuracy and cross-entropy by region: models beside trivial baselines, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import axis, dress, is_baseline, model_colours, plain, symbol

METRICS = {"accuracy": "accuracy", "cross_entropy": "cross-entropy (nats)"}
"""Columns and what the axis says."""
COLUMNS = (
    *("model", "chain", "region", "residues", "n_residues", "n_records", "n_groups", "perplexity"),
    *(f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")),
)
KINDS = {
    "all": "all residues",
    "germline": "germline residues",
    "mutated": "mutated residues",
    "germline_antibodies": "germline antibodies",
    "mutated_antibodies": "mutated antibodies",
}
_TICKS = {"framework": "FR1–4", "CDRs": "CDR1–3"}
_SHARES = [-0.03, 1.03]
_WIDTH = 0.74
"""Share of a region's width over which its models are spread."""


@dataclass(frozen=True)
class RegionScores:
    """Values with 95 % intervals, a panel for each chain and kind of residue."""

    table: pl.DataFrame
    """With `COLUMNS`; lines as in ``regions_summary``."""
    chains: tuple[str, ...]
    kinds: tuple[str, ...]
    colours: Mapping[str, str]
    """By model, in the order in which models are drawn."""

    def figure(self) -> go.Figure:
        """Draw accuracy, with buttons that switch to cross-entropy and back."""
        rows, columns = len(self.chains), len(self.kinds)
        panels = [(chain, kind) for chain in self.chains for kind in self.kinds]
        figure = make_subplots(
            rows,
            columns,
            subplot_titles=[f"{plain(chain)}, {KINDS.get(kind, kind)}" for chain, kind in panels],
            horizontal_spacing=0.06,
            vertical_spacing=0.34 / rows**1.3,
        )
        metrics_of_traces = []
        for metric in METRICS:
            for number, panel in enumerate(panels):
                place: dict[str, Any] = {"row": number // columns + 1, "col": number % columns + 1}
                for trace in self._points(metric, *panel, in_legend=number == 0):
                    figure.add_trace(trace, **place)
                    metrics_of_traces.append(metric)
                figure.update_xaxes(**axis(**self._region_axis(*panel)), **place)
        figure.update_yaxes(**axis(range=_SHARES))
        figure.update_yaxes(title_text=METRICS["accuracy"], col=1)
        dress(figure, height=110 + 250 * rows, margin={"b": 40, "t": 84})
        figure.update_layout(updatemenus=[_switch(figure, metrics_of_traces, columns)])
        return figure

    def _part(self, chain: str, kind: str) -> pl.DataFrame:
        return self.table.filter((pl.col("chain") == chain) & (pl.col("residues") == kind))

    def _regions(self, chain: str, kind: str) -> list[str]:
        return self._part(chain, kind)["region"].unique(maintain_order=True).to_list()

    def _region_axis(self, chain: str, kind: str) -> dict:
        regions = self._regions(chain, kind)
        is_narrow = len(self.kinds) > 1 and len(regions) > 6
        return {
            "tickvals": list(range(len(regions))),
            "ticktext": [_TICKS.get(region, region) for region in regions],
            "range": [-0.5, len(regions) - 0.5],
            "showgrid": False,
            "ticks": "",
            "tickangle": 0,
            "tickfont": {"size": 10 if is_narrow else 13},
        }

    def _points(self, metric: str, chain: str, kind: str, *, in_legend: bool) -> list[go.Scatter]:
        regions, part, models = self._regions(chain, kind), self._part(chain, kind), list(self.colours)
        traces = []
        for number, model in enumerate(models):
            own = part.filter(pl.col("model") == model)
            shift = _WIDTH * ((number + 0.5) / len(models) - 0.5)
            value, low, high = (own[f"{metric}{end}"] for end in ("", "_low", "_high"))
            colour = self.colours[model]
            trace = go.Scatter(
                x=[regions.index(region) + shift for region in own["region"]],
                y=value.to_list(),
                error_y={
                    "array": (high - value).to_list(),
                    "arrayminus": (value - low).to_list(),
                    "color": colour,
                    "thickness": 1.5,
                    "width": 3,
                },
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": symbol(colour),
                    "size": 8,
                    "line": {"width": 1.5, "color": colour},
                },
                name=plain(model),
                legendgroup=model,
                showlegend=in_legend,
                visible=metric == "accuracy",
                customdata=[
                    f"{row['region']}: {row[metric]:.3f} [{row[f'{metric}_low']:.3f}, "
                    f"{row[f'{metric}_high']:.3f}], n = {row['n_residues']:,}"
                    for row in own.iter_rows(named=True)
                ],
                hovertemplate="%{customdata}",
            )
            traces.append(trace)
        return traces


def region_scores(
    summary: pl.DataFrame, kinds: Sequence[str] = ("all",), colours: Mapping[str, str] | None = None
) -> RegionScores | None:
    """Take the lines of some kinds of residue from the table ``regions_summary``.

    Parameters
    ----------
    summary
        With `COLUMNS`.
    kinds
        ``all``, ``germline``, ``mutated``; those without a line are left out.
    colours
        By model; dealt out by default.

    Returns
    -------
    RegionScores or None
        `None` where no line is left.
    """
    table = summary.filter(pl.col("residues").is_in(list(kinds)))
    if table.is_empty():
        return None
    models = table["model"].unique(maintain_order=True).to_list()
    colours = colours or model_colours(models)
    present = set(table["residues"])
    return RegionScores(
        table,
        tuple(table["chain"].unique(maintain_order=True)),
        tuple(kind for kind in kinds if kind in present),
        {model: colours[model] for model in models},
    )


@dataclass(frozen=True)
class Shortfall:
    """A region where a model does worse than the best trivial baseline."""

    model: str
    chain: str
    region: str
    residues: str
    metric: str
    value: float
    baseline: str
    baseline_value: float


def shortfalls(summary: pl.DataFrame, metric: str = "accuracy") -> list[Shortfall]:
    """Find every model and region where the best trivial baseline is better.

    Parameters
    ----------
    summary
        With `COLUMNS`.
    metric
        ``"accuracy"``, where more is better, or ``"cross_entropy"``, where less is.

    Returns
    -------
    list of Shortfall
        By the values alone, whatever their intervals.
    """
    found = []
    for (chain, region, residues), part in summary.group_by(
        "chain", "region", "residues", maintain_order=True
    ):
        values = dict(part.select("model", metric).iter_rows())
        baselines = {name: value for name, value in values.items() if is_baseline(name)}
        if not baselines:
            continue
        sign = 1 if metric == "accuracy" else -1
        best = max(baselines, key=lambda name, baselines=baselines, sign=sign: sign * baselines[name])
        found += [
            Shortfall(name, str(chain), str(region), str(residues), metric, value, best, baselines[best])
            for name, value in values.items()
            if not is_baseline(name) and sign * value < sign * baselines[best]
        ]
    return found


def _switch(figure: go.Figure, metrics_of_traces: Sequence[str], columns: int) -> dict:
    axes = [name for name in figure.layout.to_plotly_json() if name.startswith("yaxis")]
    firsts = {f"yaxis{number if number > 1 else ''}" for number in range(1, len(axes) + 1, columns)}
    buttons = []
    for metric, title in METRICS.items():
        changes: dict = {}
        for name in axes:
            if metric == "accuracy":
                changes[f"{name}.range"] = _SHARES
            else:
                changes[f"{name}.autorange"] = True
            if name in firsts:
                changes[f"{name}.title.text"] = title
        seen = [each == metric for each in metrics_of_traces]
        buttons.append(
            {"label": title.partition(" (")[0], "method": "update", "args": [{"visible": seen}, changes]}
        )
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 34},
        "bgcolor": "white",
        "font": {"size": 12},
    }
