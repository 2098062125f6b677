"""How near test sequences are to training: the share of them from each identity on, a curve per chain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from protlm.report.figures.style import MODEL_COLOURS, axis, dress, plain

COLUMNS = ("chain", "identity")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MOST_POINTS = 200


@dataclass(frozen=True, eq=False)
class IdentityCurves:
    """Falling curves: at x, the share of test sequences that have a training sequence at least so alike."""

    curves: Sequence[tuple[str, np.ndarray]]
    """Name of each curve, and its best identities in [0, 1], ascending."""

    def figure(self) -> go.Figure:
        """Draw them in a figure of their own."""
        figure = go.Figure()
        self.add_to(figure)
        return dress(figure, height=300)

    def add_to(self, figure: go.Figure, *, row: int | None = None, column: int | None = None) -> go.Figure:
        """Draw them into a given figure, or into one of its panels.

        Parameters
        ----------
        figure
            Changed in place, and given back.
        row, column
            1-based place of the panel, of a figure that has several.
        """
        for place, (name, identity) in enumerate(self.curves):
            reached, shares = _steps(identity)
            trace = go.Scatter(
                x=reached,
                y=shares,
                mode="lines",
                line={
                    "shape": "vh",
                    "color": MODEL_COLOURS[place % len(MODEL_COLOURS)],
                    "dash": _DASHES[place // len(MODEL_COLOURS) % len(_DASHES)],
                    "width": 1.8,
                },
                name=plain(f"{name} ({len(identity):,})"),
                showlegend=True,
                hovertemplate="%{y:.1%} have one of %{x:.0%} identity or more<extra></extra>",
            )
            figure.add_trace(trace, row=row, col=column)
        what = "identity to the nearest training sequence"
        figure.update_xaxes(axis(title_text=what, range=[-0.01, 1.01], tickformat=".0%"), row=row, col=column)
        share = axis(title_text="share of test sequences", range=[-0.02, 1.03], tickformat=".0%")
        figure.update_yaxes(share, row=row, col=column)
        return figure


def identity_curves(nearest: pl.DataFrame) -> IdentityCurves:
    """Take what is drawn from a table of nearest training sequences.

    Parameters
    ----------
    nearest
        With `COLUMNS`, as the table ``nearest`` of a Run or of `protlm.data.audit.nearest_table`; with a
        column ``split`` or ``part`` (as `protlm audit --out` writes it) there is a curve for each too.

    Examples
    --------
    >>> table = pl.DataFrame({"chain": ["heavy", "heavy"], "identity": [0.9, 0.4]})
    >>> [(name, identity.tolist()) for name, identity in identity_curves(table).curves]
    [('heavy', [0.4, 0.9])]
    """
    by = [name for name in ("split", "part") if name in nearest.columns and nearest[name].n_unique() > 1]
    curves = []
    for names, own in nearest.group_by(*by, "chain", maintain_order=True):
        curves.append((", ".join(map(str, names)), np.sort(own["identity"].to_numpy())))
    return IdentityCurves(curves)


def _steps(identity: np.ndarray) -> tuple[list[float], list[float]]:
    """Give the corners of the falling curve, thinned out to so many as can be told apart."""
    marks = np.unique(np.concatenate([[0.0], identity, [1.0]]).round(4))
    if len(marks) > _MOST_POINTS:
        marks = np.linspace(0, 1, _MOST_POINTS + 1).round(4)
    above = 1 - np.searchsorted(identity, marks - 1e-9) / len(identity)
    return marks.tolist(), above.round(4).tolist()
