"""The section on which residues the output of a fine-tuned model comes from."""

from typing import Any

import polars as pl

from protlm.report.attribution_lines import (
    AREA_COLUMNS,
    CONTROL_COLUMNS,
    CORRELATION_COLUMNS,
    METHOD_NAMES,
    SHARE_COLUMNS,
    control_verdicts,
    curve_verdicts,
)
from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import attribution as figure
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import with_interval


def attribution_section(source: RunSource) -> Section | None:
    """Show shares of regions, controls, and a map by antibody.

    Parameters
    ----------
    source
        Any Run.

    Returns
    -------
    Section or None
        `None` where the Run has no such tables.
    """
    shares = read_table(source.run, "attribution_shares", SHARE_COLUMNS)
    records = read_table(source.run, "attribution_records", figure.RECORD_COLUMNS)
    residues = read_table(source.run, "attribution", figure.RESIDUE_COLUMNS)
    if shares is None or records is None or residues is None:
        return None
    config = source.run.read_config()
    blocks: list[Block] = [
        Paragraph(_what(records, config)),
        *_shares(source, shares),
        *_control(source, config),
        *_curves(source),
        *_maps(residues, records),
        _share_table(shares),
    ]
    return Section(f"attribution-{source.label}", f"What the output comes from: {source.label}", blocks)


def _what(records: pl.DataFrame, config: dict[str, Any]) -> str:
    of_class = config["of_class"]
    which = (
        "the class that it predicts of each record"
        if of_class == "predicted"
        else f"class '{of_class}' of each record"
        if of_class in set(records["class"])
        else f"the true class of each record ('{of_class}')"
    )
    return (
        f"Model {records['model'][0]}, {records['id'].n_unique():,} records; the output of {which} is taken "
        "apart into a part for each residue. Positive speaks for the class. No method is the truth: worth "
        "believing is what several agree on, what the curves bear out and what a control with exchanged "
        "labels lacks."
    )


def _shares(source: RunSource, shares: pl.DataFrame) -> list[Block]:
    control = read_table(source.run, "attribution_control", CONTROL_COLUMNS)
    drawn = figure.region_shares(shares, control)
    if drawn is None:
        return [Paragraph("No chain is numbered, so there are no regions to add up over.", tone="note")]
    text = (
        "Points are the share of a region in the sum of absolute attributions, mean over records with its "
        "95 % interval; bars are its share of the residues. A point above its bar says that a residue there "
        "counts for more than the average one."
    )
    description = "Share of attribution by region beside the share of residues, by chain and method"
    return [Paragraph(text), Figure(drawn.figure(), description), *_together(shares)]


def _together(shares: pl.DataFrame) -> list[Block]:
    """Put CDRs against frameworks, of all chains together."""
    own = shares.filter(pl.col("region").is_in(["CDRs", "framework"]))
    if "all" in own["chain"].to_list():
        own = own.filter(pl.col("chain") == "all")
    header = ["method", "region", "of attribution", "of residues", "difference", "ratio"]
    rows = [
        [
            Cell(METHOD_NAMES[row["method"]]),
            Cell(row["region"] if row["chain"] == "all" else f"{row['chain']} {row['region']}"),
            *(Cell(with_interval(row, name)) for name in ("share", "length_share")),
            Cell(with_interval(row, "excess", sign="+")),
            Cell(f"{row['ratio']:.2f}"),
        ]
        for row in own.iter_rows(named=True)
    ]
    caption = (
        f"CDRs against frameworks: {own['n_records'][0]:,} records, {own['n_groups'][0]:,} groups "
        "[95 % interval over groups]. Where the interval of the difference is clear of 0, a region counts "
        "for more or less than its length."
    )
    return [Table(caption, header, rows)]


def _control(source: RunSource, config: dict[str, Any]) -> list[Block]:
    tables = {
        "attribution_control": read_table(source.run, "attribution_control", CONTROL_COLUMNS),
        "attribution_correlation": read_table(source.run, "attribution_correlation", CORRELATION_COLUMNS),
    }
    known = {name: table for name, table in tables.items() if table is not None}
    if not known:
        text = "There is no control (--control), so a part of this may not come from the labels."
        return [Paragraph(text, tone="note")]
    text = (
        f"The control is {config['control']}, explained for the same classes. A high rank correlation of the "
        "sizes of its attributions with the model's says that the method shows what both have in common, "
        "such as the language model and the sequences, and not what was learned from the labels."
    )
    return [Paragraph(text), *(Paragraph(f"{line}.", tone="note") for line in control_verdicts(known))]


def _curves(source: RunSource) -> list[Block]:
    curves = read_table(source.run, "attribution_curves", figure.CURVE_COLUMNS)
    areas = read_table(source.run, "attribution_areas", AREA_COLUMNS)
    if curves is None or areas is None:
        return []
    text = (
        "The output of the explained class, mean over records, as residues are masked in order of their "
        "attributions from the highest down, and as they come back into a record that is all masks. A method "
        "that points at what matters falls faster than random order on the left, and rises faster on the "
        "right."
    )
    rows = [
        [
            Cell(METHOD_NAMES[row["method"]]),
            Cell("highest first" if row["order"] == "signed" else "largest first"),
            Cell(row["kind"]),
            *(Cell(with_interval(row, name)) for name in ("area", "random")),
            Cell(with_interval(row, "difference", sign="+"), is_bad=not row["is_better"]),
        ]
        for row in areas.iter_rows(named=True)
    ]
    header = ["method", "order", "curve", "area", "random order", "difference"]
    caption = (
        "Area under the curves, in units of the output [95 % interval over records]. Red: not clear of "
        "random order on the right side. Largest first takes residues by size, whatever their sign."
    )
    return [
        Paragraph(text),
        Figure(figure.MaskingCurves(curves).figure(), "Output as residues are masked or brought back"),
        *(Paragraph(f"{line}.", tone="note") for line in curve_verdicts({"attribution_areas": areas})),
        Table(caption, header, rows, is_folded=True),
    ]


def _maps(residues: pl.DataFrame, records: pl.DataFrame) -> list[Block]:
    maps = figure.attribution_maps(residues, records)
    shown, total = len(maps[0].rows), records["id"].n_unique()
    which = f"{shown:,} of {total:,} records, evenly spaced" if shown < total else f"{total:,} records"
    place = "aligned by IMGT position" if maps[0].is_numbered else "by position"
    text = (
        f"A line is a record ({which}, sorted by class and by what is predicted of it), {place}, in units of "
        "its largest attribution: red speaks for the class, blue against it."
    )
    blocks: list[Block] = [Paragraph(text)]
    for each in maps:
        name = METHOD_NAMES[each.method]
        drawing = Figure(each.figure(), f"Attributions of each record by {name}")
        blocks += [Paragraph(f"{name}:"), drawing]
    return blocks


def _share_table(shares: pl.DataFrame) -> Table:
    header = ["chain", "region", "method", "of attribution", "of residues", "difference", "ratio", "records"]
    rows = [
        [
            Cell(row["chain"]),
            Cell(row["region"]),
            Cell(METHOD_NAMES[row["method"]]),
            *(Cell(with_interval(row, name)) for name in ("share", "length_share")),
            Cell(with_interval(row, "excess", sign="+")),
            Cell(f"{row['ratio']:.2f}"),
            Cell(f"{row['n_records']:,}"),
        ]
        for row in shares.iter_rows(named=True)
    ]
    return Table("Shares by chain and region [95 % interval over records].", header, rows, is_folded=True)
