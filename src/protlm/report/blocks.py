"""What a section of the page is made of; the template knows how to show each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

PAGE_WIDTH = 1060
"""Pixels that a block can fill."""


@dataclass(frozen=True)
class Paragraph:
    """One or two plain sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: str = "plain"
    """``plain``, ``note`` or ``bad``."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    is_bad: bool = False


@dataclass(frozen=True)
class Table:
    """A table; all but the first column are numbers."""

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_folded: bool = False
    """Shown only on a click."""


@dataclass(frozen=True)
class Figure:
    """A drawn figure with a description for those who cannot see it."""

    kind: ClassVar[str] = "figure"
    drawing: go.Figure
    description: str
    letters: Mapping[str, int] = field(default_factory=dict)
    """Row labels that stay in view when a wide figure is scrolled: pixels from the top."""
    is_narrow: bool = False
    """Readable on a narrow page too, where other figures scroll."""

    @property
    def json(self) -> Markup:
        """Data and layout, safe inside a script element."""
        return Markup(str(self.drawing.to_json()).replace("<", "\\u003c"))  # noqa: S704

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.drawing.layout.height)

    @property
    def width(self) -> int | None:
        """In pixels; `None` follows the page."""
        return None if self.drawing.layout.width is None else int(self.drawing.layout.width)

    @property
    def print_scale(self) -> float:
        """What makes a wide figure fit on paper, where nothing scrolls."""
        return min(1.0, PAGE_WIDTH / self.width) if self.width else 1.0


@dataclass(frozen=True)
class Card:
    """What one source is."""

    name: str
    verb: str
    is_unfinished: bool
    facts: Sequence[tuple[str, str]]
    command: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


Block = Paragraph | Table | Figure | Cards


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    name: str
    """For links inside the page."""
    title: str
    blocks: Sequence[Block]
