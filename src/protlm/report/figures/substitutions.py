"""Substitution scans: scores of all single mutants along a wild type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import plotly.graph_objects as go
import polars as pl

from protlm.report.figures.style import INK, QUIET, axis, dress, plain
from protlm.report.score_rows import read_row, score_rows

GROUPS = {
    "small": "GP",
    "hydrophobic": "AVLIMC",
    "aromatic": "FYW",
    "polar": "STNQ",
    "positive": "HKR",
    "negative": "DE",
}
ORDER = "".join(GROUPS.values())
"""Rows of the heat map: the twenty amino acids by chemistry."""
REGION_COLOURS = {"CDR1": "#F0C05A", "CDR2": "#8CCBEF", "CDR3": "#DDA3C3"}
FRAMEWORK_COLOUR = "#E4E7EB"

CELL_WIDTH, CELL_HEIGHT = 13, 17
TOP, LEFT, RIGHT, BOTTOM = 74, 44, 24, 48
_LETTERS, _STRIP, _GAP, _MEAN = 20, 20, 14, 120
_HEAT = CELL_HEIGHT * len(ORDER)
HEIGHT = TOP + _HEAT + _LETTERS + _STRIP + _GAP + _MEAN + BOTTOM
"""In pixels."""


@dataclass(frozen=True, eq=False)
class SubstitutionScan:
    """Scores of single substitutions; higher is fitter."""

    wild_type: str
    offset: int
    """Printed position = index + 1 + offset."""
    scores: np.ndarray
    """Rows in `ORDER`, columns along the wild type; NaN where there is no score."""
    imgt_positions: tuple[str, ...]
    """Per residue; empty strings, or nothing at all, where not known."""
    regions: tuple[str, ...]
    num_left_out: int
    """Rows of the table that are no single substitution, or have no score."""

    @property
    def width(self) -> int:
        """Pixels that keep every column readable."""
        return max(560, LEFT + RIGHT + CELL_WIDTH * len(self.wild_type))

    @property
    def means(self) -> np.ndarray:
        """Mean over the substitutions at each position; NaN where there is none."""
        known = ~np.isnan(self.scores)
        counts = known.sum(axis=0)
        sums = np.where(known, self.scores, 0.0).sum(axis=0)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def figure(self) -> go.Figure:
        """Draw the heat map over the mean per position, with the regions between them."""
        figure = go.Figure([self._heat_map(), self._wild_type_marks(), self._mean_line()])
        dress(figure, height=HEIGHT, margin={"t": TOP, "l": LEFT, "r": RIGHT, "b": BOTTOM})
        inside = HEIGHT - TOP - BOTTOM
        columns = {"range": [-0.5, len(self.wild_type) - 0.5], "showgrid": False, "fixedrange": True}
        indices = list(range(len(self.wild_type)))
        tens = [index for index in indices if (index + 1 + self.offset) % 10 == 0 or index == 0]
        figure.update_layout(
            width=self.width,
            showlegend=False,
            xaxis=axis(
                **columns,
                anchor="y",
                tickvals=indices,
                ticktext=list(self.wild_type),
                tickangle=0,
                tickfont={"size": 11},
                ticks="",
            ),
            xaxis2=axis(
                **columns,
                anchor="y2",
                matches="x",
                tickvals=tens,
                ticktext=[str(index + 1 + self.offset) for index in tens],
                title_text="position",
            ),
            yaxis=axis(
                domain=[1 - _HEAT / inside, 1],
                tickvals=list(range(len(ORDER))),
                ticktext=list(ORDER),
                tickfont={"size": 11},
                range=[len(ORDER) - 0.5, -0.5],
                showgrid=False,
                ticks="",
                fixedrange=True,
            ),
            yaxis2=axis(domain=[0, _MEAN / inside], anchor="x2", nticks=5, fixedrange=True, zeroline=True),
            plot_bgcolor="#f4f5f7",
        )
        figure.add_annotation(
            text="mean",
            x=0,
            xref="paper",
            xanchor="left",
            y=_MEAN / inside,
            yref="paper",
            yanchor="top",
            showarrow=False,
        )
        add_regions(figure, self.regions, (_MEAN + _GAP) / inside, (_MEAN + _GAP + _STRIP) / inside)
        self._add_group_lines(figure)
        return figure

    def _name(self, row: int, index: int) -> str:
        return f"{self.wild_type[index]}{index + 1 + self.offset}{ORDER[row]}"

    def _where(self, index: int) -> str:
        if not self.imgt_positions or not self.imgt_positions[index]:
            return ""
        return f"<br>IMGT {plain(self.imgt_positions[index])}, {plain(self.regions[index])}"

    def _heat_map(self) -> go.Heatmap:
        known = np.abs(self.scores[~np.isnan(self.scores)])
        reach = float(np.quantile(known, 0.99)) or 1.0
        wheres = [self._where(index) for index in range(len(self.wild_type))]
        text = [
            [
                "" if np.isnan(score) else f"{self._name(row, index)}{wheres[index]}<br>score {score:+.3f}"
                for index, score in enumerate(line)
            ]
            for row, line in enumerate(self.scores)
        ]
        return go.Heatmap(
            z=[
                [None if np.isnan(score) else round(float(score), 4) for score in line]
                for line in self.scores
            ],
            text=text,
            hoverinfo="text",
            zmid=0,
            zmin=-reach,
            zmax=reach,
            colorscale="RdBu",
            xgap=1,
            ygap=1,
            colorbar={
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "xpad": 0,
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "ypad": 4,
                "len": 260,
                "lenmode": "pixels",
                "thickness": 10,
                "outlinewidth": 0,
                "title": {"text": "score", "side": "top"},
            },
        )

    def _wild_type_marks(self) -> go.Scatter:
        sites = [(index, ORDER.find(letter)) for index, letter in enumerate(self.wild_type)]
        sites = [(index, row) for index, row in sites if row >= 0]
        return go.Scatter(
            x=[index for index, _ in sites],
            y=[row for _, row in sites],
            mode="markers",
            marker={"color": INK, "size": 4},
            text=[
                f"{self.wild_type[index]}{index + 1 + self.offset}, wild type{self._where(index)}"
                for index, _ in sites
            ],
            hoverinfo="text",
        )

    def _mean_line(self) -> go.Scatter:
        means = [None if np.isnan(value) else round(float(value), 4) for value in self.means]
        names = [f"{letter}{index + 1 + self.offset}" for index, letter in enumerate(self.wild_type)]
        return go.Scatter(
            x=list(range(len(means))),
            y=means,
            xaxis="x2",
            yaxis="y2",
            mode="lines+markers",
            line={"color": QUIET, "width": 1.5},
            marker={"size": 4},
            text=[f"{name}{self._where(index)}" for index, name in enumerate(names)],
            hovertemplate="%{text}<br>mean %{y:+.3f}<extra></extra>",
        )

    def _add_group_lines(self, figure: go.Figure) -> None:
        for row in np.cumsum([len(letters) for letters in GROUPS.values()])[:-1]:
            figure.add_hline(y=float(row) - 0.5, line={"color": QUIET, "width": 1}, yref="y")


def substitution_scan(
    frame: pl.DataFrame, wild_type: str, offset: int = 0, *, column: str | None = None
) -> SubstitutionScan | None:
    """Arrange the single substitutions of a score table by position and amino acid.

    Parameters
    ----------
    frame
        A column of variants such as ``A42G``, ``score``, and perhaps ``imgt_position`` and
        ``region``. A substitution in several rows gets their mean.
    wild_type
        Residues of the reference.
    offset
        Subtracted from each printed position to give the 1-based one.
    column
        Which column holds the variants; where not said, the first usual name or the first that does.

    Returns
    -------
    SubstitutionScan or None
        `None` where the table has no scored single substitution.

    Raises
    ------
    DataError
        If no column holds variants of this wild type.

    Examples
    --------
    >>> scan = substitution_scan(pl.DataFrame({"mutant": ["M1L", "K2E:M1L"], "score": [-0.5, 1.0]}), "MK")
    >>> float(scan.means[0]), scan.num_left_out
    (-0.5, 1)
    """
    rows = score_rows(frame, wild_type, offset, column=column)
    tracks = {name: [""] * len(wild_type) for name in ("imgt_position", "region") if name in frame.columns}
    rows = rows.with_columns(frame[name] for name in tracks)
    sums, counts = (np.zeros((len(ORDER), len(wild_type))) for _ in range(2))
    for row in rows.filter((pl.col("kind") == "1") & pl.col("score").is_not_null()).iter_rows(named=True):
        (mutation,) = read_row(row["text"], wild_type, offset).mutations
        sums[ORDER.index(mutation.mutant), mutation.index] += row["score"]
        counts[ORDER.index(mutation.mutant), mutation.index] += 1
        for name, values in tracks.items():
            values[mutation.index] = str(row[name] or "")
    if not counts.any():
        return None
    scores = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return SubstitutionScan(
        wild_type,
        offset,
        scores,
        tuple(tracks.get("imgt_position", ())) if len(tracks) == 2 else (),
        tuple(tracks.get("region", ())) if len(tracks) == 2 else (),
        len(frame) - int(counts.sum()),
    )


def add_regions(
    figure: go.Figure, regions: Sequence[str], low: float, high: float, *, first: float = 0
) -> None:
    """Draw a strip of regions along the sequence.

    Parameters
    ----------
    figure
        Changed in place.
    regions
        One per residue, empty where not known; or none at all.
    low, high
        Where the strip is, as shares of the plot's height.
    first
        Where the first residue is on the x axis.
    """
    for region, members in groupby(range(len(regions)), key=lambda index: regions[index]):
        indices = list(members)
        if not region:
            continue
        figure.add_shape(
            type="rect",
            x0=first + indices[0] - 0.5,
            x1=first + indices[-1] + 0.5,
            y0=low,
            y1=high,
            yref="paper",
            fillcolor=REGION_COLOURS.get(region, FRAMEWORK_COLOUR),
            line={"color": "white", "width": 2},
        )
        figure.add_annotation(
            text=plain(region),
            x=first + (indices[0] + indices[-1]) / 2,
            y=(low + high) / 2,
            yref="paper",
            yanchor="middle",
            showarrow=False,
            font={"size": 11},
        )


def letter_tops() -> Mapping[str, int]:
    """Give each amino acid's distance from the figure's top edge to its row, in pixels."""
    return {letter: TOP + CELL_HEIGHT * row for row, letter in enumerate(ORDER)}
