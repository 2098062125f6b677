"""Attributions: shares of regions beside their lengths, masking curves, and a heat map by antibody."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.attribution_lines import METHOD_NAMES
from protlm.report.figures.style import BASELINE_COLOURS, INK, QUIET, axis, dress, model_colours, plain
from protlm.report.tables import with_interval
from protlm.types.regions import REGIONS

RESIDUE_COLUMNS = ("method", "id", "chain", "position", "index", "imgt", "region", "residue", "attribution")
RECORD_COLUMNS = ("model", "method", "id", "group", "class", "predicted", "sum", "gap")
CURVE_COLUMNS = ("method", "order", "kind", "fraction", "output", "output_low", "output_high")
NUMBERED = 0.9
"""Share of residues with an IMGT position from which on chains are laid out by it."""
MOST_ROWS = 50
"""As many antibodies as Ng & Briney show."""
_REGION_NAMES = [region.name for region in REGIONS]
_BACKWARDS = (33, 61, 112)
"""IMGT positions whose insertions stand before them, the last letter first."""
_LABEL = re.compile(r"(\d+)([A-Z]*)")


@dataclass(frozen=True)
class RegionShares:
    """Share of the absolute attribution in each region: a row of panels per chain, a column per method."""

    shares: pl.DataFrame
    """The table ``attribution_shares``, lines of single chains and regions."""
    control: pl.DataFrame | None = None
    """The table ``attribution_control``."""

    def figure(self) -> go.Figure:
        """Draw bars for the share of residues, points for that of attribution, crosses for the control."""
        chains = self.shares["chain"].unique(maintain_order=True).to_list()
        methods = self.shares["method"].unique(maintain_order=True).to_list()
        colours = model_colours(methods)
        figure = make_subplots(
            len(chains),
            len(methods),
            shared_yaxes="all",  # type: ignore[arg-type]
            shared_xaxes=True,
            subplot_titles=[f"{plain(chain)}, {METHOD_NAMES[each]}" for chain in chains for each in methods],
            horizontal_spacing=0.03,
            vertical_spacing=0.24 / len(chains),
        )
        for row, chain in enumerate(chains, 1):
            for column, method in enumerate(methods, 1):
                is_own = (pl.col("chain") == chain) & (pl.col("method") == method)
                own = self.shares.filter(is_own)
                other = None if self.control is None else self.control.filter(is_own)
                for trace in self._traces(own, other, colours[method], in_legend=row == column == 1):
                    figure.add_trace(trace, row=row, col=column)
        figure.update_xaxes(**axis(showgrid=False, tickangle=-60))
        figure.update_yaxes(**axis(rangemode="tozero", tickformat=".0%"))
        figure.update_yaxes(title_text="share", col=1)
        figure.update_layout(bargap=0.25)
        return dress(figure, height=110 + 240 * len(chains), margin={"b": 64, "t": 84})

    def _traces(
        self, own: pl.DataFrame, control: pl.DataFrame | None, colour: str, *, in_legend: bool
    ) -> list[Any]:
        regions = own["region"].to_list()
        value = own["share"].to_numpy()
        bars = go.Bar(
            x=regions,
            y=own["length_share"].round(4).to_list(),
            marker={"color": "#d5dae0"},
            name="share of residues",
            showlegend=in_legend,
            hovertemplate="%{x}: %{y:.1%} of residues<extra></extra>",
        )
        points = go.Scatter(
            x=regions,
            y=value.round(4).tolist(),
            error_y={
                "array": (own["share_high"].to_numpy() - value).round(4).tolist(),
                "arrayminus": (value - own["share_low"].to_numpy()).round(4).tolist(),
                "color": colour,
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "size": 8},
            name="share of attribution",
            showlegend=in_legend,
            customdata=[
                f"{row['region']}: {with_interval(row, 'share')}" for row in own.iter_rows(named=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
        if control is None:
            return [bars, points]
        crosses = go.Scatter(
            x=control["region"].to_list(),
            y=control["control_share"].round(4).to_list(),
            mode="markers",
            marker={"color": BASELINE_COLOURS[3], "symbol": "x-thin-open", "size": 9, "line": {"width": 2}},
            name="share in the control",
            showlegend=in_legend,
            hovertemplate="%{x}: %{y:.1%} in the control<extra></extra>",
        )
        return [bars, points, crosses]


@dataclass(frozen=True)
class MaskingCurves:
    """Mean output of the explained class as residues are masked, or brought back, in each method's order."""

    table: pl.DataFrame
    """The table ``attribution_curves``."""

    def figure(self) -> go.Figure:
        """Draw a panel for deletion and one for insertion; random order is grey and dotted."""
        kinds = {"deletion": "masking the highest first", "insertion": "bringing back the highest first"}
        figure = make_subplots(1, 2, subplot_titles=list(kinds.values()), shared_yaxes=True)
        shown = self.table.filter(pl.col("order").is_in(["", "signed"]))
        methods = [each for each in shown["method"].unique(maintain_order=True) if each != "random"]
        colours = {**model_colours(methods), "random": QUIET}
        for column, kind in enumerate(kinds, 1):
            for method in ["random", *methods]:
                own = shown.filter((pl.col("kind") == kind) & (pl.col("method") == method))
                line = go.Scatter(
                    x=own["fraction"].to_list(),
                    y=own["output"].round(4).to_list(),
                    mode="lines+markers",
                    line={"color": colours[method], "dash": "dot" if method == "random" else "solid"},
                    marker={"size": 6},
                    name=METHOD_NAMES.get(method, "random order"),
                    legendgroup=method,
                    showlegend=column == 1,
                    customdata=[with_interval(row, "output", digits=2) for row in own.iter_rows(named=True)],
                    hovertemplate="%{x:.0%}: %{customdata}",
                )
                figure.add_trace(line, row=1, col=column)
        figure.update_xaxes(**axis(title_text="share of residues", tickformat=".0%"))
        figure.update_yaxes(**axis())
        figure.update_yaxes(title_text="output of the class", col=1)
        return dress(figure, height=380)


@dataclass(frozen=True)
class AttributionMap:
    """Attributions of one method, a line per record, chains side by side and aligned by IMGT position."""

    method: str
    table: pl.DataFrame
    """With `RESIDUE_COLUMNS`, of that method and of the records that are shown."""
    rows: Sequence[tuple[str, str]]
    """Id and label of each line, from the top."""
    is_numbered: bool

    def figure(self) -> go.Figure:
        """Draw each record in units of its largest attribution."""
        columns = self._columns()
        place = {key: number for number, (key, _) in enumerate(columns)}
        values = np.full((len(self.rows), len(columns)), np.nan)
        letters = [[""] * len(columns) for _ in self.rows]
        number_of = {name: number for number, (name, _) in enumerate(self.rows)}
        for row in self.table.iter_rows(named=True):
            key = (row["chain"], self._label(row))
            if key in place:
                values[number_of[row["id"]], place[key]] = row["attribution"]
                letters[number_of[row["id"]]][place[key]] = row["residue"]
        largest = np.nanmax(np.abs(values), axis=1, keepdims=True)
        values = values / np.where(largest > 0, largest, 1.0)
        figure = go.Figure(
            go.Heatmap(
                z=[[None if each != each else round(each, 2) for each in line] for line in values.tolist()],
                x=list(range(len(columns))),
                y=list(range(len(self.rows))),
                text=letters,
                zmin=-1,
                zmid=0,
                zmax=1,
                colorscale="RdBu_r",
                hoverongaps=False,
                colorbar={"title": {"text": "of largest"}, "thickness": 12, "tickvals": [-1, 0, 1]},
                customdata=[[f"{chain} {label}" for (chain, label), _ in columns]] * len(self.rows),
                hovertemplate="%{customdata} %{text}: %{z}<extra></extra>",
            )
        )
        self._mark_regions(figure, columns)
        labels = [plain(label) for _, label in self.rows]
        figure.update_yaxes(
            **axis(autorange="reversed", showgrid=False, tickfont={"size": 10}),
            tickvals=list(range(len(labels))),
            ticktext=labels,
        )
        height = 130 + max(120, 15 * len(labels))
        margin = {"l": 24 + 6 * max(map(len, labels)), "b": 64, "t": 24}
        return dress(figure, height=height, margin=margin)

    def _label(self, row: Mapping[str, Any]) -> str:
        return row["imgt"] if self.is_numbered else str(row["position"])

    def _columns(self) -> list[tuple[tuple[str, str], str]]:
        """Give chain, label and region of each column, from the left."""
        name = "imgt" if self.is_numbered else "position"
        found = (
            self.table.with_columns(pl.col(name).cast(pl.String).alias("label"))
            .filter(pl.col("label") != "")
            .group_by("chain", "label", maintain_order=True)
            .agg(pl.col("region").mode(maintain_order=True).first())
        )
        chains = self.table["chain"].unique(maintain_order=True).to_list()
        lines = sorted(found.iter_rows(), key=lambda each: (chains.index(each[0]), imgt_order(each[1])))
        return [((chain, label), region) for chain, label, region in lines]

    def _mark_regions(self, figure: go.Figure, columns: Sequence[tuple[tuple[str, str], str]]) -> None:
        """Name regions and chains below, and part them by lines."""
        parts = [(chain, region if self.is_numbered else "") for (chain, _), region in columns]
        edges = [0, *(n for n in range(1, len(parts)) if parts[n] != parts[n - 1]), len(parts)]
        ticks, texts = [], []
        for start, stop in pairwise(edges):
            chain, region = parts[start]
            ticks.append((start + stop - 1) / 2)
            texts.append(plain(f"{chain[:1].upper()} {region}" if region else chain))
            if start:
                width = 2 if parts[start - 1][0] != chain else 0.7
                figure.add_vline(x=start - 0.5, line={"color": INK, "width": width})  # pyright: ignore[reportArgumentType]
        figure.update_xaxes(**axis(showgrid=False, tickangle=-60), tickvals=ticks, ticktext=texts)


def imgt_order(label: str) -> tuple[int, int]:
    """Give what sorts IMGT positions along a chain.

    Parameters
    ----------
    label
        Such as 111A, or a plain number.

    Examples
    --------
    >>> sorted(["112", "111A", "112A", "111", "112B", "113"], key=imgt_order)
    ['111', '111A', '112B', '112A', '112', '113']
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        return 0, 0
    insertion = 0
    for letter in match[2]:
        insertion = insertion * 26 + ord(letter) - ord("A") + 1
    return int(match[1]), -insertion if int(match[1]) in _BACKWARDS else insertion


def region_shares(shares: pl.DataFrame, control: pl.DataFrame | None = None) -> RegionShares | None:
    """Take the lines of single chains and regions.

    Parameters
    ----------
    shares
        The table ``attribution_shares``.
    control
        The table ``attribution_control``.

    Returns
    -------
    RegionShares or None
        `None` where no regions are known.
    """
    is_single = (pl.col("chain") != "all") & pl.col("region").is_in(_REGION_NAMES)
    own = shares.filter(is_single)
    if own.is_empty():
        return None
    return RegionShares(own, None if control is None else control.filter(is_single))


def attribution_maps(residues: pl.DataFrame, records: pl.DataFrame) -> list[AttributionMap]:
    """Take a map of each method.

    Parameters
    ----------
    residues
        The table ``attribution``.
    records
        The table ``attribution_records``. Lines are sorted by class, then by what was predicted; of more than
        `MOST_ROWS`, evenly spaced ones are shown.
    """
    one = records.filter(pl.col("method") == records["method"][0])
    one = one.sort("class", "predicted", descending=[False, True], maintain_order=True)
    kept = np.unique(np.linspace(0, len(one) - 1, min(MOST_ROWS, len(one))).round().astype(int)).tolist()
    rows = [
        (row["id"], f"{row['id']} · {row['class']} {row['predicted']:.2f}")
        for row in one[kept].iter_rows(named=True)
    ]
    shown = residues.filter(pl.col("id").is_in([name for name, _ in rows]))
    num_numbered = int((shown["imgt"] != "").sum())
    return [
        AttributionMap(str(method), own, rows, num_numbered >= NUMBERED * len(shown))
        for (method,), own in shown.group_by("method", maintain_order=True)
    ]
