"""Training curves: metrics of one or more Runs against tokens seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from protlm.report.figures.style import QUIET, axis, dress, model_colours, plain, symbol
from protlm.types.regions import REGIONS

Lines = Sequence[Mapping[str, Any]]

SPLITS = {"eval": "evaluation", "train": "training"}
REGION_LOSSES = tuple(f"loss_{region.name}" for region in REGIONS)
_MOST_COLUMNS = 4
_TITLES = {
    "loss": "loss (nats per masked residue)",
    "accuracy": "accuracy at masked residues",
    "loss_of_pairs": "loss (nats per pair)",
    "sequence_to_structure": "structure found",
    "structure_to_sequence": "sequence found",
}


@dataclass(frozen=True)
class Curve:
    """One metric of one Run on one split."""

    run: str
    split: str
    """``train`` or ``eval``."""
    metric: str
    x: tuple[float, ...]
    """Tokens or steps, as `TrainingCurves` says."""
    y: tuple[float, ...]


@dataclass(frozen=True)
class TrainingCurves:
    """Curves of several Runs, a panel for each metric."""

    unit: str
    """``tokens`` or ``steps``: what the x values count."""
    metrics: tuple[str, ...]
    curves: tuple[Curve, ...]
    colours: Mapping[str, str]
    """By Run."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """By metric, where it is known: a dotted line."""

    def figure(self) -> go.Figure:
        """Draw evaluation as solid lines with markers, and training lightly."""
        columns = min(len(self.metrics), _MOST_COLUMNS)
        rows = -(-len(self.metrics) // columns)
        titles = [_title(metric) for metric in self.metrics]
        figure = make_subplots(
            rows, columns, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.5 / rows**2
        )
        named: set[str] = set()
        for curve in sorted(self.curves, key=lambda curve: curve.split != "eval"):
            place = self.metrics.index(curve.metric)
            trace = self._trace(curve, named)
            figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
        for place, metric in enumerate(self.metrics):
            if metric in self.chance:
                panel: dict[str, Any] = {"row": place // columns + 1, "col": place % columns + 1}
                figure.add_hline(
                    self.chance[metric], line={"color": QUIET, "width": 1, "dash": "dot"}, **panel
                )
        figure.update_xaxes(**axis(rangemode="tozero", nticks=6))
        figure.update_yaxes(**axis())
        for column in range(1, columns + 1):
            figure.update_xaxes(title_text=f"training {self.unit}", row=rows, col=column)
        return dress(figure, height=380 if rows == 1 else 120 + 220 * rows)

    def _trace(self, curve: Curve, named: set[str]) -> go.Scatter:
        is_eval = curve.split == "eval"
        trace = go.Scatter(
            x=curve.x,
            y=curve.y,
            name=plain(curve.run),
            legendgroup=curve.run,
            showlegend=curve.run not in named,
            mode="lines+markers" if is_eval else "lines",
            opacity=1.0 if is_eval else 0.45,
            line={"color": self.colours[curve.run], "width": 2 if is_eval else 1.5},
            marker={"symbol": symbol(self.colours[curve.run]), "size": 7},
            hovertemplate=f"{SPLITS[curve.split]}: %{{y:.4f}} at %{{x:,.0f}} {self.unit}",
        )
        named.add(curve.run)
        return trace


def training_curves(
    runs: Mapping[str, Lines],
    *,
    metrics: Sequence[str] = ("loss", "accuracy"),
    splits: Sequence[str] = ("train", "eval"),
    colours: Mapping[str, str] | None = None,
    chance: Mapping[str, float] | None = None,
) -> TrainingCurves | None:
    """Collect metric lines into curves against tokens, or steps where tokens were not logged.

    Parameters
    ----------
    runs
        Lines of ``metrics.jsonl`` by Run. An evaluation gets the tokens seen up to its step.
    metrics, splits
        Which to take.
    colours
        By Run; dealt out by default.
    chance
        By metric.

    Returns
    -------
    TrainingCurves or None
        `None` where no line has any of the metrics.

    Examples
    --------
    >>> lines = [{"step": 2, "split": "train", "loss": 3.0, "tokens": 10}]
    >>> lines += [{"step": step, "split": "eval", "loss": 2.0} for step in (0, 1, 2)]
    >>> training_curves({"run": lines}).curves[1].x
    (0.0, 5.0, 10.0)
    """
    unit = "tokens" if all(tokens_seen(lines)[1][-1] > 0 for lines in runs.values()) else "steps"
    curves = [
        curve
        for metric in metrics
        for split in splits
        for run, lines in runs.items()
        if (curve := _curve(run, lines, split, metric, unit)) is not None
    ]
    if not curves:
        return None
    shown = tuple(metric for metric in metrics if any(curve.metric == metric for curve in curves))
    return TrainingCurves(unit, shown, tuple(curves), colours or model_colours(runs), chance or {})


def tokens_seen(lines: Lines) -> tuple[np.ndarray, np.ndarray]:
    """Give steps and the tokens seen up to each, starting from (0, 0).

    Parameters
    ----------
    lines
        Of ``metrics.jsonl``; each training line counts the tokens since the one before.
    """
    train = [line for line in lines if line.get("split") == "train"]
    steps = np.array([0, *(line["step"] for line in train)], dtype=float)
    return steps, np.cumsum([0.0, *(line.get("tokens", 0) for line in train)])


def _curve(run: str, lines: Lines, split: str, metric: str, unit: str) -> Curve | None:
    own = [line for line in lines if line.get("split") == split and metric in line]
    if not own:
        return None
    x: Iterable[float] = [float(line["step"]) for line in own]
    if unit == "tokens":
        x = np.interp(list(x), *tokens_seen(lines)).tolist()
    return Curve(run, split, metric, tuple(x), tuple(float(line[metric]) for line in own))


def _title(metric: str) -> str:
    return _TITLES.get(metric, metric.removeprefix("loss_"))
