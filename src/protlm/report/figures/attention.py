"""Attention against interfaces: every head, methods beside baselines, and one map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.attention_lines import CONDITION_NAMES, LEVEL_TITLES, row_names, shown_with
from protlm.report.figures.style import (
    BASELINE_COLOURS,
    INK,
    QUIET,
    axis,
    dress,
    model_colours,
    plain,
    symbol,
)
from protlm.report.tables import with_interval

HEAD_COLUMNS = (
    *("model", "level", "condition", "layer", "head", "n_cases", "n_groups"),
    *("auroc", "auroc_low", "auroc_high"),
)
EXAMPLE_COLUMNS = (
    *("model", "case", "layer", "head", "antibody_chain", "antibody_position", "antibody_residue"),
    *("antigen_chain", "antigen_position", "antigen_residue", "attention", "contact"),
)
_SHORT = {"pairs": "pairs", "antibody": "antibody residues", "antigen": "antigen residues"}
_SYMBOLS = {"true": "circle", "random": "circle-open", "shuffled": "diamond-open"}


@dataclass(frozen=True)
class HeadMaps:
    """The AUROC of every head of a model on all complexes, layers by heads, for each level and condition."""

    model: str
    table: pl.DataFrame
    """With `HEAD_COLUMNS`, of that model."""
    reach: float
    """How far from chance the colours go: the same for all models."""

    def figure(self) -> go.Figure:
        """Draw a row of panels for each level, and a column for what the antibody is shown with."""
        levels = [each for each in LEVEL_TITLES if each in set(self.table["level"])]
        conditions = [each for each in CONDITION_NAMES if each in set(self.table["condition"])]
        panels = [(level, condition) for level in levels for condition in conditions]
        parts = [
            self.table.filter((pl.col("level") == level) & (pl.col("condition") == condition))
            for level, condition in panels
        ]
        titles = [
            f"{_SHORT[level]}, {shown_with(level, condition)}" if len(part) else ""
            for (level, condition), part in zip(panels, parts, strict=True)
        ]
        figure = make_subplots(
            len(levels), len(conditions), subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.1
        )
        num_layers = int(self.table["layer"].max())  # pyright: ignore[reportArgumentType]
        for number, part in enumerate(parts):
            row, column = divmod(number, len(conditions))
            if len(part):
                figure.add_trace(
                    _head_map(part, self.reach, has_bar=number == 0), row=row + 1, col=column + 1
                )
        figure.update_xaxes(**axis(dtick=_step(self.table["head"]), showgrid=False))
        figure.update_yaxes(**axis(dtick=_step(self.table["layer"]), showgrid=False, autorange="reversed"))
        figure.update_xaxes(title_text="head", row=len(levels))
        figure.update_yaxes(title_text="layer", col=1)
        height = 90 + len(levels) * max(150, min(420, 18 * num_layers + 60))
        return dress(figure, height=height, margin={"r": 96})


def _head_map(part: pl.DataFrame, reach: float, *, has_bar: bool) -> go.Heatmap:
    lookup = {(row["layer"], row["head"]): row for row in part.iter_rows(named=True)}
    layers, heads = (sorted(set(part[name])) for name in ("layer", "head"))
    cells = [[lookup.get((layer, head)) for head in heads] for layer in layers]
    return go.Heatmap(
        x=heads,
        y=layers,
        z=[[None if cell is None else _number(cell["auroc"]) for cell in line] for line in cells],
        zmin=0.5 - reach,
        zmid=0.5,
        zmax=0.5 + reach,
        colorscale="RdBu_r",
        showscale=has_bar,
        colorbar={"title": {"text": "AUROC"}, "thickness": 12},
        customdata=[["" if cell is None else _head_text(cell) for cell in line] for line in cells],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _head_text(cell: Mapping[str, Any]) -> str:
    return f"layer {cell['layer']}, head {cell['head']}: {_auroc_text(cell)}"


def _auroc_text(row: Mapping[str, Any]) -> str:
    return f"{with_interval(row, 'auroc')}, n = {row['n_cases']:,}"


def _number(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _step(values: pl.Series) -> int:
    return max(1, int(values.max()) // 12)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class AttentionMethods:
    """AUROC of methods on complexes that they were not fitted to, with 95 % intervals, a panel per level."""

    table: pl.DataFrame
    """The table ``attention_summary``."""
    colours: Mapping[str, str]
    """By model."""

    def figure(self) -> go.Figure:
        """Draw a line per method, with filled points for the true antigen and open ones for controls."""
        levels = [each for each in LEVEL_TITLES if each in set(self.table["level"])]
        figure = make_subplots(
            1, len(levels), subplot_titles=[_SHORT[each] for each in levels], shared_yaxes=True
        )
        names = list(dict.fromkeys(row_names(row)[0] for row in self.table.iter_rows(named=True)))
        seen: set[str] = set()
        for column, level in enumerate(levels, start=1):
            for row in self.table.filter(pl.col("level") == level).iter_rows(named=True):
                kind = CONDITION_NAMES[row["condition"]] if row["model"] else "no model"
                point = self._point(row, names, kind, in_legend=kind not in seen)
                figure.add_trace(point, row=1, col=column)
                seen.add(kind)
            figure.add_vline(x=0.5, line={"color": QUIET, "dash": "dot", "width": 1}, row=1, col=column)  # pyright: ignore[reportArgumentType]
        figure.update_xaxes(**axis(title_text="AUROC"))
        ticks = {"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names]}
        figure.update_yaxes(**axis(range=[len(names) - 0.5, -0.5], **ticks))
        margin = 24 + 7 * min(46, max(len(name) for name in names))
        return dress(figure, height=130 + 34 * len(names), margin={"l": margin})

    def _point(self, row: Mapping[str, Any], names: list[str], kind: str, *, in_legend: bool) -> go.Scatter:
        colour = self.colours.get(row["model"], QUIET) if row["model"] else BASELINE_COLOURS[0]
        shift = {"true": -0.2, "random": 0.0, "shuffled": 0.2}[row["condition"]] if row["model"] else 0.0
        marker = _SYMBOLS[row["condition"]] if row["model"] else symbol(colour)
        return go.Scatter(
            x=[_number(row["auroc"])],
            y=[names.index(row_names(row)[0]) + shift],
            error_x={
                "array": [row["auroc_high"] - row["auroc"]],
                "arrayminus": [row["auroc"] - row["auroc_low"]],
                "color": colour,
                "thickness": 1.5,
                "width": 3,
            },
            mode="markers",
            marker={"color": colour, "symbol": marker, "size": 8},
            name=kind,
            legendgroup=kind,
            showlegend=in_legend,
            customdata=[f"{plain(row_names(row)[0])}, {kind}: {_auroc_text(row)}"],
            hovertemplate="%{customdata}<extra></extra>",
        )


@dataclass(frozen=True)
class AttentionMap:
    """The corrected attention of one head between the residues of one complex, and its contacts."""

    table: pl.DataFrame
    """With `EXAMPLE_COLUMNS`, of one model and case; a line per pair, antibody first."""

    def figure(self) -> go.Figure:
        """Draw the map with a ring on every contact."""
        antibody, antigen = _residues(self.table, "antibody"), _residues(self.table, "antigen")
        values = self.table["attention"].to_numpy().reshape(len(antibody), len(antigen))
        contacts = np.argwhere(self.table["contact"].to_numpy().reshape(values.shape))
        reach = float(np.quantile(np.abs(values), 0.995)) or 1.0
        figure = go.Figure(
            go.Heatmap(
                z=[[float(f"{value:.2g}") for value in line] for line in values.tolist()],
                x=list(range(len(antigen))),
                y=list(range(len(antibody))),
                zmin=-reach,
                zmid=0.0,
                zmax=reach,
                colorscale="RdBu_r",
                colorbar={"title": {"text": "attention − average product"}, "thickness": 12},
                hovertemplate="%{z}<extra></extra>",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=contacts[:, 1].tolist(),
                y=contacts[:, 0].tolist(),
                mode="markers",
                marker={"symbol": "circle-open", "color": INK, "size": 6},
                name="contact",
                showlegend=True,
                customdata=[f"{antibody[row]} – {antigen[column]}" for row, column in contacts.tolist()],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
        for side, names, update in (
            ("antigen", antigen, figure.update_xaxes),
            ("antibody", antibody, figure.update_yaxes),
        ):
            ticks = list(range(0, len(names), max(1, len(names) // 16)))
            update(
                **axis(
                    title_text=f"{side} residue", tickvals=ticks, ticktext=[names[tick] for tick in ticks]
                ),
                showgrid=False,
            )
        figure.update_xaxes(tickangle=-60)
        figure.update_yaxes(autorange="reversed")
        return dress(figure, height=620, margin={"l": 120, "b": 120})


def _residues(table: pl.DataFrame, side: str) -> list[str]:
    """Name the residues of a side in order, such as heavy W100."""
    names = [f"{side}_{part}" for part in ("chain", "residue", "position")]
    rows = table.select(names).unique(maintain_order=True).rows()
    return [f"{chain} {letter}{position}" for chain, letter, position in rows]


def head_maps(heads: pl.DataFrame) -> list[HeadMaps]:
    """Take the heads of each model.

    Parameters
    ----------
    heads
        With `HEAD_COLUMNS`.
    """
    distances = (heads["auroc"].drop_nans() - 0.5).abs()
    reach = max([0.05, *distances])
    return [
        HeadMaps(str(name), part, reach) for (name,), part in heads.group_by("model", maintain_order=True)
    ]


def attention_methods(summary: pl.DataFrame, colours: Mapping[str, str] | None = None) -> AttentionMethods:
    """Take all methods.

    Parameters
    ----------
    summary
        The table ``attention_summary``.
    colours
        By model; dealt out by default.
    """
    models = [name for name in summary["model"].unique(maintain_order=True) if name]
    return AttentionMethods(summary, colours or model_colours(models))


def attention_example(example: pl.DataFrame) -> list[AttentionMap]:
    """Take the map of each model.

    Parameters
    ----------
    example
        With `EXAMPLE_COLUMNS`.
    """
    return [AttentionMap(part) for _, part in example.group_by("model", maintain_order=True)]
