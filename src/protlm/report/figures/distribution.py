"""Distribution of the scores of a table, by number of substitutions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from protlm.report.figures.style import QUIET, axis, dress
from protlm.report.score_rows import INDEL, KINDS

NUM_BINS = 60
_COLOURS: dict[str, str] = dict(
    zip((*KINDS, INDEL), ("#2b3f73", "#2f8296", "#4da167", "#b0a72f", "#d0802a", "#8a4f7d"), strict=True)
)
_DASHES: dict[str, str] = dict(
    zip((*KINDS, INDEL), ("solid", "dash", "dot", "dashdot", "longdash", "solid"), strict=True)
)


@dataclass(frozen=True, eq=False)
class ScoreDistribution:
    """Counts in bins that all kinds of variant share; higher scores are fitter."""

    edges: np.ndarray
    """Of the bins, ascending."""
    counts: Mapping[str, np.ndarray]
    """By kind as in `KINDS`, or `INDEL`; one per bin."""
    medians: Mapping[str, float]
    """By kind."""

    def figure(self) -> go.Figure:
        """Draw counts where there is one kind, else the share of each kind's variants in each bin."""
        figure = go.Figure([self._outline(kind) for kind in self.counts])
        title = "variants" if len(self.counts) == 1 else "share of its variants"
        dress(figure, height=320, margin={"t": 40 if len(self.counts) == 1 else 64})
        figure.update_layout(
            xaxis=axis(title_text="score"),
            yaxis=axis(
                title_text=title, rangemode="tozero", tickformat="" if len(self.counts) == 1 else ".0%"
            ),
            showlegend=len(self.counts) > 1,
        )
        figure.add_vline(x=0, line={"color": QUIET, "width": 1, "dash": "dot"})
        return figure

    def _outline(self, kind: str) -> go.Scatter:
        counts, total = self.counts[kind], int(self.counts[kind].sum())
        heights = counts if len(self.counts) == 1 else counts / total
        edges = self.edges.tolist()
        text = [
            f"{kind_name(kind)}<br>{low:.2f} to {high:.2f}: {count:,} of {total:,}"
            for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False)
        ]
        return go.Scatter(
            x=[float(f"{edge:.5g}") for edge in edges],
            y=[*(float(f"{height:.4g}") for height in heights), 0],
            line={"shape": "hv", "color": _COLOURS[kind], "width": 1.8, "dash": _DASHES[kind]},
            mode="lines",
            fill="tozeroy" if len(self.counts) == 1 else None,
            name=f"{kind_name(kind)} ({total:,})",
            showlegend=True,
            text=[*text, ""],
            hoverinfo="text",
        )


def kind_name(kind: str) -> str:
    """Name a kind of variant.

    Parameters
    ----------
    kind
        One of `KINDS`, or `INDEL`.

    Examples
    --------
    >>> kind_name("1"), kind_name("5+")
    ('1 substitution', '5 or more substitutions')
    """
    if kind == INDEL:
        return "another length"
    if kind.endswith("+"):
        return f"{kind[:-1]} or more substitutions"
    return f"{kind} substitution{'s' * (kind != '1')}"


def score_distribution(rows: pl.DataFrame, *, num_bins: int = NUM_BINS) -> ScoreDistribution | None:
    """Count scores in bins, by number of substitutions.

    Parameters
    ----------
    rows
        From `protlm.report.score_rows.score_rows`.
    num_bins
        Over the whole range of scores.

    Returns
    -------
    ScoreDistribution or None
        `None` where no variant but the wild type has a score.

    Examples
    --------
    >>> rows = pl.DataFrame({"kind": ["1", "1", "2"], "score": [0.0, 1.0, 0.9]})
    >>> {kind: counts.tolist() for kind, counts in score_distribution(rows, num_bins=2).counts.items()}
    {'1': [1, 1], '2': [0, 1]}
    """
    known = rows.filter(pl.col("kind").is_in([*KINDS, INDEL]) & pl.col("score").is_finite())
    if known.is_empty():
        return None
    edges = np.histogram_bin_edges(known["score"].to_numpy(), bins=num_bins)
    by_kind = {str(kind): part["score"].to_numpy() for (kind,), part in known.group_by("kind")}
    kinds = [kind for kind in (*KINDS, INDEL) if kind in by_kind]
    return ScoreDistribution(
        edges,
        {kind: np.histogram(by_kind[kind], bins=edges)[0] for kind in kinds},
        {kind: float(np.median(by_kind[kind])) for kind in kinds},
    )
