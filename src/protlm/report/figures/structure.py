"""Sensitivity on a structure: the Cα trace of a chain, coloured; other chains thin and grey."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from protlm.report.figures.sensitivity import SCALE, Sensitivity
from protlm.report.figures.style import dress, plain

MAX_STEP = 4.5
"""Å between Cα atoms; more is a gap in the chain (bonded residues are 3.8 apart, or 2.9)."""
_ZOOM = 1.9
"""Longest side of the box around the chain, in units of the scene."""
_NO_SCORE, _OTHER = "#9aa3ad", "#c9ced4"


@dataclass(frozen=True, eq=False)
class ChainTrace:
    """Cα atoms of the residues that are resolved, along one chain."""

    chain_id: str
    residues: str
    """One letter each."""
    residue_ids: tuple[str, ...]
    """As in the file."""
    places: np.ndarray
    """Of each residue in the construct, ascending; int64 [residues]."""
    atoms: np.ndarray
    """In Å, [residues, 3]."""

    @property
    def breaks(self) -> np.ndarray:
        """Whether the chain is broken behind each residue but the last, bool [residues - 1]."""
        steps = np.linalg.norm(np.diff(self.atoms, axis=0), axis=1)
        return (np.diff(self.places) != 1) | (steps > MAX_STEP)


@dataclass(frozen=True, eq=False)
class SensitivityTrace:
    """A chain coloured by the mean score of the substitutions at each position."""

    sensitivity: Sensitivity
    chain: ChainTrace
    sites: np.ndarray
    """0-based index in the wild type of each residue of the chain, or -1; int64."""
    others: Sequence[ChainTrace] = ()

    @property
    def values(self) -> np.ndarray:
        """Mean score at each residue of the chain; NaN where there is none."""
        return np.where(self.sites >= 0, self.sensitivity.means[self.sites], np.nan)

    @property
    def has_no_score(self) -> np.ndarray:
        """Whether a residue is not in the wild type, or nothing is scored there; drawn grey."""
        return np.isnan(self.values)

    def figure(self) -> go.Figure:
        """Draw it; drag to turn."""
        is_scored = ~self.has_no_score
        traces = [_line(other, other.breaks, _OTHER, 2, f"chain {other.chain_id}") for other in self.others]
        is_coloured = ~self.chain.breaks & is_scored[:-1] & is_scored[1:]
        if not is_coloured.all():
            traces.append(_line(self.chain, self.chain.breaks | is_coloured, _NO_SCORE, 3))
        traces.append(self._coloured_line(is_scored, is_coloured))
        if not is_scored.all():
            traces.append(self._points(~is_scored))
        traces.append(self._points(is_scored))
        figure = go.Figure(traces)
        dress(figure, height=560, margin={"l": 0, "r": 0, "t": 8, "b": 8})
        figure.update_layout(showlegend=False, scene=self._scene(self.chain.atoms[self.sites >= 0]))
        return figure

    def _scene(self, focus: np.ndarray) -> dict:
        """Centre what is in the wild type, seen from where all chains together are flattest."""
        atoms = np.concatenate([self.chain.atoms, *(other.atoms for other in self.others)])
        low, high = atoms.min(axis=0) - 1, atoms.max(axis=0) + 1
        middle, spans = (low + high) / 2, high - low
        scale = _ZOOM / np.ptp(self.chain.atoms, axis=0).max(initial=MAX_STEP)
        centre = (focus.mean(axis=0) - middle) * scale if len(focus) else np.zeros(3)
        view = np.linalg.svd(atoms - atoms.mean(axis=0), full_matrices=False)[2][-1]
        view = -view if view @ centre < 0 else view
        axes = {
            f"{name}axis": {"visible": False, "showspikes": False, "range": [float(start), float(stop)]}
            for name, start, stop in zip("xyz", low, high, strict=True)
        }
        return axes | {
            "aspectmode": "manual",
            "aspectratio": _named(spans * scale),
            "dragmode": "orbit",
            "camera": {
                "center": _named(centre),
                "eye": _named(centre + 2 * view),
                "projection": {"type": "orthographic"},
            },
        }

    def _label(self, place: int) -> str:
        here = f"{self.chain.residues[place]} {self.chain.residue_ids[place]} in the file"
        here = f"chain {plain(self.chain.chain_id)}, {plain(here)}"
        site = int(self.sites[place])
        return (
            f"{here}<br>not in the wild type" if site < 0 else f"{self.sensitivity.describe(site)}<br>{here}"
        )

    def _points(self, which: np.ndarray) -> go.Scatter3d:
        places = np.flatnonzero(which)
        values = self.values[places]
        marker: dict = {"size": 2.5, "color": _NO_SCORE}
        if not np.isnan(values).any():
            marker = {"size": 4.5, "color": np.round(values, 4).tolist(), **self._scale()}
            marker |= {"colorbar": _BAR, "line": {"width": 0}}
        return go.Scatter3d(
            **_axes(self.chain.atoms[places]),
            mode="markers",
            marker=marker,
            text=[self._label(place) for place in places.tolist()],
            hoverinfo="text",
        )

    def _coloured_line(self, is_scored: np.ndarray, is_coloured: np.ndarray) -> go.Scatter3d:
        """Join scored neighbours; colours run from one to the next."""
        order = _with_gaps(len(is_scored), ~is_coloured)
        values = np.where(is_scored, self.values, self.sensitivity.reach[0])
        colours = [round(float(values[place]), 4) for place in np.maximum(order, 0)]
        return go.Scatter3d(
            **_axes(self.chain.atoms, order),
            mode="lines",
            line={"width": 8, "color": colours, **self._scale()},
            hoverinfo="skip",
        )

    def _scale(self) -> dict:
        low, high = self.sensitivity.reach
        return {"colorscale": SCALE, "cmin": low, "cmax": high}


_BAR = {
    "title": {"text": "mean score", "side": "right"},
    "len": 0.6,
    "thickness": 12,
    "outlinewidth": 0,
    "x": 1,
    "xanchor": "right",
}


def sensitivity_trace(
    sensitivity: Sensitivity, chain: ChainTrace, places: np.ndarray, others: Sequence[ChainTrace] = ()
) -> SensitivityTrace:
    """Put the sensitivity of a wild type on a chain.

    Parameters
    ----------
    sensitivity
        Of the wild type.
    chain
        Resolved residues.
    places
        For each residue of the wild type its 0-based place in the chain's construct, or -1, as from
        `protlm.data.readers.structure.fit_on_chain`.
    others
        Further chains to show.
    """
    site_of = {int(place): site for site, place in enumerate(places.tolist()) if place >= 0}
    sites = np.array([site_of.get(place, -1) for place in chain.places.tolist()], dtype=np.int64)
    return SensitivityTrace(sensitivity, chain, sites, tuple(others))


def _line(chain: ChainTrace, breaks: np.ndarray, colour: str, width: float, name: str = "") -> go.Scatter3d:
    order = _with_gaps(len(chain.residues), breaks)
    labels = [
        "" if place < 0 else f"{plain(name)}, {chain.residues[place]} {plain(chain.residue_ids[place])}"
        for place in order.tolist()
    ]
    return go.Scatter3d(
        **_axes(chain.atoms, order),
        mode="lines",
        line={"width": width, "color": colour},
        text=labels if name else None,
        hoverinfo="text" if name else "skip",
    )


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", (round(float(value), 4) for value in values), strict=True))


def _with_gaps(size: int, breaks: np.ndarray) -> np.ndarray:
    """Give the indices 0 to `size` - 1 with -1 wherever the line is broken."""
    return np.insert(np.arange(size), np.flatnonzero(breaks) + 1, -1)


def _axes(atoms: np.ndarray, order: np.ndarray | None = None) -> dict[str, list[float | None]]:
    taken = atoms if order is None else np.where((order < 0)[:, None], np.nan, atoms[order])
    columns = [[None if np.isnan(value) else round(float(value), 2) for value in each] for each in taken.T]
    return dict(zip("xyz", columns, strict=True))
