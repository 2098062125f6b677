"""Colours, symbols and layout that all figures share."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#1f2933"
QUIET = "#6b7480"
GRID = "#e4e7eb"

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5B3A8C")
"""Okabe & Ito's palette, which colour-blind readers can tell apart, and one more."""
BASELINE_COLOURS = ("#5f6770", "#a3abb4", "#7d868f", "#343b42")
_LEGEND_LINE, _LEGEND_WIDTH = 30, 900
BASELINES = ("position_mode", "v_gene_majority", "germline", "genes")
"""Names that `evaluate` gives to its trivial baselines."""
VARIANT_BASELINES = ("blosum62", "site_independent", "site_independent_blosum62")
"""Those of `evaluate variants`."""
_SYMBOLS = {
    **dict(
        zip(
            MODEL_COLOURS,
            ("circle", "square", "triangle-up", "cross", "star", "hexagon", "pentagon"),
            strict=True,
        )
    ),
    **dict(
        zip(
            BASELINE_COLOURS,
            ("diamond-open", "x-thin-open", "circle-open", "triangle-down-open"),
            strict=True,
        )
    ),
}


def is_baseline(name: str) -> bool:
    """Tell whether a name in a table is that of a trivial baseline.

    Parameters
    ----------
    name
        As in the column ``model``.

    Examples
    --------
    >>> is_baseline("v_gene_majority"), is_baseline("cdr3")
    (True, False)
    """
    return name in BASELINES or name in VARIANT_BASELINES


def model_colours(names: Iterable[str]) -> dict[str, str]:
    """Give each name a colour: greys to baselines, one of `MODEL_COLOURS` to each other one.

    Parameters
    ----------
    names
        In the order in which colours are dealt out; repeated names count once.

    Examples
    --------
    >>> model_colours(["cdr3", "position_mode", "cdr3"])
    {'cdr3': '#0072B2', 'position_mode': '#5f6770'}
    """
    dealt: dict[str, str] = {}
    counts = {True: 0, False: 0}
    for name in dict.fromkeys(names):
        colours = BASELINE_COLOURS if is_baseline(name) else MODEL_COLOURS
        dealt[name] = colours[counts[is_baseline(name)] % len(colours)]
        counts[is_baseline(name)] += 1
    return dealt


def symbol(colour: str) -> str:
    """Give the marker that goes with a colour, so that colour is not all that tells models apart.

    Parameters
    ----------
    colour
        From `model_colours`; any other one gets a circle.

    Examples
    --------
    >>> symbol(MODEL_COLOURS[1]), symbol("black")
    ('square', 'circle')
    """
    return _SYMBOLS.get(colour, "circle")


def plain(text: str) -> str:
    """Escape text from users, because plotly reads some HTML in labels.

    Parameters
    ----------
    text
        Any text.

    Examples
    --------
    >>> plain("<b>x")
    '&lt;b&gt;x'
    """
    return html.escape(text, quote=False)


def axis(**settings: Any) -> dict[str, Any]:
    """Give the look of an axis, with the settings that differ.

    Parameters
    ----------
    **settings
        Of a plotly axis.
    """
    look = {"gridcolor": GRID, "linecolor": QUIET, "zeroline": False, "ticks": "outside", "ticklen": 4}
    return {**look, "tickcolor": GRID, "title_standoff": 8, **settings}


def dress(figure: go.Figure, *, height: int, margin: Mapping[str, int] | None = None) -> go.Figure:
    """Give a figure the common font, background, legend and size.

    Parameters
    ----------
    figure
        Changed in place.
    height
        In pixels, for a legend of one line; the width follows the page.
    margin
        In pixels by side, where it differs.
    """
    sides = {"l": 64, "r": 16, "t": 64, "b": 56, **(margin or {})}
    more = _LEGEND_LINE * (_legend_lines(figure) - 1)
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height + more,
        margin={**sides, "t": sides["t"] + more},
        hoverlabel={"font": {"family": FONT, "size": 13}, "bgcolor": "white"},
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
    )
    figure.update_annotations(font_size=14)
    return figure


def _legend_lines(figure: go.Figure) -> int:
    traces = cast(Sequence[Any], figure.data)
    names = [trace.name or "" for trace in traces if trace.showlegend and trace.visible is not False]
    columns = max(1, _LEGEND_WIDTH // max((7 * len(name) + 60 for name in names), default=1))
    return max(1, -(-len(names) // columns))
