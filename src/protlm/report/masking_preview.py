"""What a masking would do to some records, for people: coloured text and a table of rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from protlm.types.regions import Region

MASKED, REPLACED, KEPT = "bold white on blue", "bold black on yellow", "bold underline"
"""Styles of a selected residue by what became of it."""
_STYLE_OF_REGION = {"C": "magenta", "F": "bright_black"}
_MARGIN = 13  # chain name and number of the first residue
_INDENT = " " * _MARGIN


@dataclass(frozen=True)
class MaskedChain:
    """One chain of a record with what was drawn for it."""

    name: str
    residues: str
    regions: np.ndarray
    """`Region` codes, 0 where not known."""
    probabilities: np.ndarray
    selected: np.ndarray
    """Whether each residue was selected, bool."""
    became: tuple[str, ...]
    """The token that stands over each residue after corruption."""
    tokens: tuple[str, ...] = ()
    """The token over each residue before, where there are sub-words."""
    starts: np.ndarray | None = None
    """With them: the first residue of that token, 0-based."""

    def token(self, index: int) -> str:
        """Give the token over a residue before corruption.

        Parameters
        ----------
        index
            Of the residue, 0-based.
        """
        return self.tokens[index] if self.tokens else self.residues[index]

    def joint(self, index: int) -> str:
        """Give what stands before a residue: a point where a further sub-word begins."""
        return "" if self.starts is None or index == 0 or self.starts[index] < index else "·"


@dataclass(frozen=True)
class MaskedRecord:
    """One record with what was drawn for it in the first epoch."""

    id: str
    chains: tuple[MaskedChain, ...]


@dataclass(frozen=True)
class MaskingPreview:
    """What a masking would do."""

    settings: Mapping[str, Any]
    """The resolved settings: masking, corruption and seed."""
    mask_token: str
    progress: float
    """Training progress at which schedules were taken."""
    num_epochs: int
    records: tuple[MaskedRecord, ...]
    rates: pl.DataFrame
    """``group, name, n_residues, asked, observed, low, high``: residues drawn, the mean probability, the
    share selected, and its 95 % interval (Wilson; by record where `are_joint`)."""
    num_records: int
    """How many records the rates are over."""
    num_fell_back: float
    """How many of them, in the mean over epochs, lacked what the policy needs."""
    are_joint: bool
    """Whether some residues are selected together, so that intervals are by record and not binomial."""
    schedules: Mapping[str, Mapping[float, float]]
    """Value of each scheduled setting at some progress."""


def preview_parts(preview: MaskingPreview, *, width: int) -> Iterator[RenderableType]:
    """Give the parts of a preview from top to bottom.

    Parameters
    ----------
    preview
        What to show.
    width
        Columns there are.
    """
    for record in preview.records:
        yield from _record_lines(record, preview.mask_token, width)
    if preview.records:
        yield _legend(has_subwords=_has_subwords(preview))
    if preview.schedules:
        yield _schedule_table(preview)
    yield _rates_table(preview)
    yield from _notes(preview)


def _record_lines(record: MaskedRecord, mask_token: str, width: int) -> Iterator[Text]:
    total = sum(len(chain.residues) for chain in record.chains)
    selected = sum(int(chain.selected.sum()) for chain in record.chains)
    expected = sum(float(chain.probabilities.sum()) for chain in record.chains)
    title = Text.assemble((record.id, "bold"), f"  {selected} of {total} selected, {expected:.1f} expected")
    title.truncate(width, overflow="ellipsis")
    yield title
    per_line = max(20, (width - _MARGIN) // 10 * 10)
    for chain in record.chains:
        for places in _lines(chain, per_line):
            name = chain.name if places.start == 0 else ""
            yield _sequence_line(chain, places, name)
            yield _marks_line(chain, places, mask_token)
            if chain.regions.any():
                yield _ruler_line(chain, places)
    yield Text()


def _lines(chain: MaskedChain, per_line: int) -> Iterator[range]:
    """Cut a chain where a line is full; points between sub-words take room as well."""
    start, used = 0, 0
    for index in range(len(chain.residues)):
        size = 1 + len(chain.joint(index))
        if used + size > per_line:
            yield range(start, index)
            start, used = index, 0
        used += size
    yield range(start, len(chain.residues))


def _sequence_line(chain: MaskedChain, places: range, name: str) -> Text:
    line = Text(f"{name[:8]:8}{places.start + 1:>4} ")
    for index in places:
        line.append(chain.joint(index))
        line.append(chain.residues[index], style=_style(chain, index))
    return line


def _style(chain: MaskedChain, index: int) -> str:
    if not chain.selected[index]:
        return ""
    token = chain.became[index]
    if token == chain.token(index):
        return KEPT
    return REPLACED if token.isalpha() else MASKED


def _marks_line(chain: MaskedChain, places: range, mask_token: str) -> Text:
    """What became of each selected residue, so that no colour is needed."""
    marks = (" " * len(chain.joint(index)) + _mark(chain, index, mask_token) for index in places)
    return Text((_INDENT + "".join(marks)).rstrip())


def _mark(chain: MaskedChain, index: int, mask_token: str) -> str:
    if not chain.selected[index]:
        return " "
    token = chain.became[index]
    if token == mask_token:
        return "#"
    if token == chain.token(index):
        return "="
    if not token.isalpha():
        return "?"
    place = 0 if chain.starts is None else index - int(chain.starts[index])
    is_cut = place == len(chain.token(index)) - 1 and len(token) > place + 1
    return "…" if is_cut and place else token[place : place + 1].lower() or " "


def _has_subwords(preview: MaskingPreview) -> bool:
    return any(bool(chain.tokens) for record in preview.records for chain in record.chains)


def _ruler_line(chain: MaskedChain, places: range) -> Text:
    line = Text(_INDENT)
    columns = [index for index in places for _ in range(1 + len(chain.joint(index)))]
    regions = chain.regions[columns]
    cuts = [0, *(np.flatnonzero(np.diff(regions)) + 1).tolist(), len(regions)]
    for start, stop in pairwise(cuts):
        region, size = Region(int(regions[start])), stop - start
        if region is Region.NONE:
            line.append(" " * size)
            continue
        continues = start == 0 and places.start > 0 and chain.regions[places.start - 1] == region
        label = "" if continues else region.name
        line.append((label + "─" * size)[: size - 1] + "┤", style=_STYLE_OF_REGION[region.name[0]])
    line.rstrip()
    return line


def _legend(*, has_subwords: bool) -> Text:
    return Text.assemble(
        ("A", MASKED),
        " #  masked   ",
        ("A", REPLACED),
        f" k  replaced by that {'sub-word' if has_subwords else 'residue'}   ",
        ("A", KEPT),
        " =  selected, left as it is\n",
    )


def _rates_table(preview: MaskingPreview) -> Table:
    epochs = f"{preview.num_epochs:,} epoch{'s' * (preview.num_epochs != 1)}"
    records = f"{preview.num_records:,} record{'s' * (preview.num_records != 1)}"
    table = Table(
        title=f"Selection rates over {epochs} of {records}",
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("")
    for name in ("residues", "asked", "observed", "95 % interval"):
        table.add_column(name, justify="right")
    last = ""
    for row in preview.rates.iter_rows(named=True):
        if last and row["group"] != last:
            table.add_section()
        is_in = row["low"] <= row["asked"] <= row["high"]
        table.add_row(
            "" if row["group"] in (last, "all") else row["group"],
            row["name"],
            f"{row['n_residues']:,}",
            f"{row['asked']:.2%}",
            f"{row['observed']:.2%}",
            f"{row['low']:.2%} – {row['high']:.2%}" + ("  " if is_in else " *"),
        )
        last = row["group"]
    return table


def _schedule_table(preview: MaskingPreview) -> Table:
    places = list(next(iter(preview.schedules.values())))
    table = Table(
        title="Settings that change over training",
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for place in places:
        table.add_column(f"{place:.0%}", justify="right")
    for name, values in preview.schedules.items():
        table.add_row(name, *(f"{values[place]:.4g}" for place in places))
    return table


def _notes(preview: MaskingPreview) -> Iterator[Text]:
    rates = preview.rates
    outside = rates.filter((pl.col("asked") < pl.col("low")) | (pl.col("asked") > pl.col("high")))
    if not outside.is_empty():
        expected = 0.05 * len(rates)
        yield Text(
            f"* asked is outside the interval in {len(outside)} of {len(rates)} rows, which share residues; "
            f"by chance that is expected in about {expected:.1f}."
        )
    if preview.are_joint:
        together = "a sub-word" if _has_subwords(preview) else "a span"
        yield Text(f"Residues of {together} are selected together; the intervals take a record as one draw.")
    if preview.num_fell_back:
        yield Text(
            f"{preview.num_fell_back:,.1f} of {preview.num_records:,} records (mean over epochs) lack what "
            "the policy needs and are treated as its settings say for such records."
        )
    if preview.schedules:
        yield Text(f"Schedules were taken at {preview.progress:.0%} of the training; see --progress.")
