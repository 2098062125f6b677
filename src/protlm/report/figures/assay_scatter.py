"""Scores of an assay's variants against their measured values, a panel for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from protlm.report.figures.style import MODEL_COLOURS, axis, dress, plain
from protlm.statistics.bootstrap import Interval
from protlm.statistics.rank_bootstrap import bootstrap_spearman

MAX_POINTS = 2_000
"""Drawn in a panel."""
COLUMNS = ("mutant", "value", "is_fit")
_CELLS, _FEWEST, _MOST = 4_000_000, 200, 1_000
"""Rows times draws of the bootstrap, about; and how many draws at least and at most."""


@dataclass(frozen=True, eq=False)
class AssayScatter:
    """Measured values against scores."""

    table: pl.DataFrame
    """``mutant``, ``value``, and a column of scores for each model; the variants that are drawn."""
    correlations: Mapping[str, Interval]
    """Spearman's correlation by model, on all variants with a score."""
    colours: Mapping[str, str]
    """By model."""

    def figure(self) -> go.Figure:
        """Draw a panel for each model."""
        models = list(self.correlations)
        figure = make_subplots(
            1,
            len(models),
            shared_yaxes=True,
            subplot_titles=[f"{_short(model)}<br>{_written(self.correlations[model])}" for model in models],
            horizontal_spacing=0.03,
        )
        for column, model in enumerate(models, 1):
            figure.add_trace(self._points(model), row=1, col=column)
            figure.update_xaxes(**axis(title_text="score", nticks=6), row=1, col=column)
            figure.update_yaxes(**axis(title_text="measured" if column == 1 else ""), row=1, col=column)
        dress(figure, height=346, margin={"t": 76})
        return figure

    def _points(self, model: str) -> go.Scatter:
        known = self.table.filter(pl.col(model).is_not_null())
        return go.Scatter(
            x=[float(f"{value:.4g}") for value in known[model]],
            y=[float(f"{value:.4g}") for value in known["value"]],
            mode="markers",
            marker={"color": self.colours.get(model, MODEL_COLOURS[0]), "size": 4, "opacity": 0.45},
            text=[_short(name) for name in known["mutant"]],
            hovertemplate="%{text}<br>score %{x}, measured %{y}<extra></extra>",
            showlegend=False,
        )


def assay_scatter(
    scores: pl.DataFrame,
    models: Sequence[str],
    colours: Mapping[str, str] | None = None,
    *,
    max_points: int = MAX_POINTS,
    seed: int = 0,
) -> AssayScatter:
    """Correlate scores with measured values, and draw a sample of the points.

    Parameters
    ----------
    scores
        ``mutant``, ``value``, and a column of scores for each model, null where there is none.
    models
        Columns to show.
    colours
        By model.
    max_points
        Variants to draw at most, the same ones for every model; the correlations use all.
    seed
        Of the sample and of the bootstrap over variants.
    """
    correlations = {}
    for model in models:
        known = scores.select("value", pl.col(model).cast(pl.Float64).fill_nan(None)).drop_nulls()
        draws = int(np.clip(_CELLS // max(1, len(known)), _FEWEST, _MOST))
        correlations[model] = bootstrap_spearman(known[model], known["value"], num_draws=draws, seed=seed)
    drawn = scores.select(
        "mutant", "value", *(pl.col(model).cast(pl.Float64).fill_nan(None) for model in models)
    )
    if len(drawn) > max_points:
        drawn = drawn.sample(max_points, seed=seed)
    return AssayScatter(drawn, correlations, colours or {})


def representative(correlations: Mapping[str, float], number: int) -> list[str]:
    """Choose assays from the best to the worst correlation, evenly by rank.

    Parameters
    ----------
    correlations
        By assay.
    number
        At most this many.

    Examples
    --------
    >>> representative({"a": 0.1, "b": 0.5, "c": 0.3, "d": 0.4}, 3)
    ['b', 'c', 'a']
    """
    ordered = sorted(correlations, key=lambda name: -correlations[name])
    if len(ordered) <= number:
        return ordered
    places: Any = np.linspace(0, len(ordered) - 1, number).round().astype(int)
    return [ordered[place] for place in places]


def _short(name: str, most: int = 28) -> str:
    return plain(name if len(name) <= most else f"{name[: most - 1]}…")


def _written(interval: Interval) -> str:
    if interval.value != interval.value:
        return "no Spearman"
    if interval.low != interval.low:
        return f"Spearman {interval.value:.3f}"
    return f"Spearman {interval.value:.3f}<br>[{interval.low:.3f}, {interval.high:.3f}]"
