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
    """The token that stands in each place after corruption."""


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
        yield _legend()
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
        for start in range(0, len(chain.residues), per_line):
            places = range(start, min(start + per_line, len(chain.residues)))
            name = chain.name if start == 0 else ""
            yield _sequence_line(chain, places, name)
            yield _marks_line(chain, places, mask_token)
            if chain.regions.any():
                yield _ruler_line(chain, places)
    yield Text()


def _sequence_line(chain: MaskedChain, places: range, name: str) -> Text:
    line = Text(f"{name[:8]:8}{places.start + 1:>4} ")
    for index in places:
        line.append(chain.residues[index], style=_style(chain, index))
    return line


def _style(chain: MaskedChain, index: int) -> str:
    if not chain.selected[index]:
        return ""
    letter = chain.became[index]
    if letter == chain.residues[index]:
        return KEPT
    return MASKED if len(letter) > 1 else REPLACED


def _marks_line(chain: MaskedChain, places: range, mask_token: str) -> Text:
    """What became of each selected residue, so that no colour is needed."""
    return Text((_INDENT + "".join(_mark(chain, index, mask_token) for index in places)).rstrip())


def _mark(chain: MaskedChain, index: int, mask_token: str) -> str:
    if not chain.selected[index]:
        return " "
    letter = chain.became[index]
    if letter == mask_token:
        return "#"
    if letter == chain.residues[index]:
        return "="
    return letter.lower() if len(letter) == 1 else "?"


def _ruler_line(chain: MaskedChain, places: range) -> Text:
    line = Text(_INDENT)
    regions = chain.regions[places.start : places.stop]
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


def _legend() -> Text:
    return Text.assemble(
        ("A", MASKED),
        " #  masked   ",
        ("A", REPLACED),
        " k  replaced by that residue   ",
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
        yield Text("Residues of a span are selected together; the intervals take a record as one draw.")
    if preview.num_fell_back:
        yield Text(
            f"{preview.num_fell_back:,.1f} of {preview.num_records:,} records (mean over epochs) lack what "
            "the policy needs and are treated as its settings say for such records."
        )
    if preview.schedules:
        yield Text(f"Schedules were taken at {preview.progress:.0%} of the training; see --progress.")
