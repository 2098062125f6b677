"""Sensitivity of each position: the mean score of its substitutions, along the sequence."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import plotly.graph_objects as go

from protlm.report.figures.style import QUIET, axis, dress, plain
from protlm.report.figures.substitutions import ORDER, SubstitutionScan, add_regions

SCALE = ((0.0, "#67001f"), (0.35, "#c4302b"), (0.7, "#f0936b"), (1.0, "#fad7b8"))
"""From the most sensitive position to the most tolerant one."""
_STRIP = 0.08
"""Share of the height that the regions take."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Mean score of the substitutions at each position; the lower, the more sensitive."""

    scan: SubstitutionScan

    @cached_property
    def means(self) -> np.ndarray:
        """One per residue; NaN where no substitution is scored."""
        return self.scan.means

    @cached_property
    def counts(self) -> np.ndarray:
        """Scored substitutions at each position."""
        return (~np.isnan(self.scan.scores)).sum(axis=0)

    @property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest mean, between which `SCALE` runs."""
        low, high = float(np.nanmin(self.means)), float(np.nanmax(self.means))
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def name(self, index: int) -> str:
        """Give wild-type letter and printed position.

        Parameters
        ----------
        index
            0-based in the wild type.
        """
        return f"{self.scan.wild_type[index]}{index + 1 + self.scan.offset}"

    def describe(self, index: int) -> str:
        """Give the name, region and mean of a position, for a label.

        Parameters
        ----------
        index
            0-based in the wild type.
        """
        region = self.scan.regions[index] if self.scan.regions else ""
        known = f"mean score {self.means[index]:+.3f} of {self.counts[index]}"
        value = "no scored substitution" if np.isnan(self.means[index]) else known
        return "<br>".join([self.name(index), *([plain(region)] if region else []), value])

    def most_sensitive(self, number: int = 10) -> list[int]:
        """Find the positions with the lowest means.

        Parameters
        ----------
        number
            At most this many.

        Returns
        -------
        list of int
            0-based, most sensitive first. Positions with less than half as many scored substitutions as
            the most scored one are left out, as their means are of other substitutions.
        """
        indices = np.flatnonzero(2 * self.counts >= max(1, self.counts.max()))
        return indices[np.argsort(self.means[indices], kind="stable")][:number].tolist()

    def worst(self, index: int) -> tuple[str, float]:
        """Give the substitution of a position that scores lowest, and its score.

        Parameters
        ----------
        index
            0-based in the wild type.
        """
        column = self.scan.scores[:, index]
        row = int(np.nanargmin(column))
        return f"{self.name(index)}{ORDER[row]}", float(column[row])

    def figure(self) -> go.Figure:
        """Draw a bar for each position, under the regions where they are known."""
        known = np.flatnonzero(~np.isnan(self.means)).tolist()
        first = 1 + self.scan.offset
        bars = go.Bar(
            x=[index + first for index in known],
            y=[round(float(self.means[index]), 4) for index in known],
            width=0.85 if len(self.means) < 300 else 1,
            marker={"color": self._colours(self.means[known]), "line": {"width": 0}},
            hovertext=[self.describe(index) for index in known],
            hoverinfo="text",
        )
        figure = go.Figure(bars)
        has_regions = any(self.scan.regions)
        dress(figure, height=290, margin={"t": 36})
        figure.update_layout(
            showlegend=False,
            xaxis=axis(
                range=[first - 0.5, first + len(self.means) - 0.5], title_text="position", showgrid=False
            ),
            yaxis=axis(
                title_text="mean score",
                domain=[0, 1 - 1.5 * _STRIP if has_regions else 1],
                zeroline=True,
                zerolinecolor=QUIET,
            ),
        )
        add_regions(figure, self.scan.regions, 1 - _STRIP, 1, first=first)
        return figure

    def _colours(self, values: np.ndarray) -> list[str]:
        """Take colours from `SCALE`; plotly warns of each number that it is given as a bar's colour."""
        low, high = self.reach
        stops = [stop for stop, _ in SCALE]
        channels = zip(*(bytes.fromhex(colour[1:]) for _, colour in SCALE), strict=True)
        shares = (values - low) / (high - low)
        mixed = np.stack([np.interp(shares, stops, channel) for channel in channels], axis=1)
        return [f"rgb({red},{green},{blue})" for red, green, blue in mixed.round().astype(int).tolist()]


def sensitivity(scan: SubstitutionScan) -> Sensitivity:
    """Average the scores of each position.

    Parameters
    ----------
    scan
        From `protlm.report.figures.substitutions.substitution_scan`.

    Examples
    --------
    >>> import polars as pl
    >>> from protlm.report.figures.substitutions import substitution_scan
    >>> table = pl.DataFrame({"mutant": ["M1L", "M1V", "K2E"], "score": [-1.0, -2.0, 1.0]})
    >>> found = sensitivity(substitution_scan(table, "MK"))
    >>> found.most_sensitive(1), found.worst(0)
    ([0], ('M1V', -2.0))
    """
    return Sensitivity(scan)
