"""Sections on antibodies: gene segments, calibration, germline bias, and the published aggregation."""

from collections.abc import Mapping, Sequence

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import calibration, regions
from protlm.report.figures import germline_bias as bias_figure
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import with_interval

SEGMENT_COLUMNS = ("segment", *(name for name in regions.COLUMNS if name != "residues"))
ERROR_COLUMNS = (
    *("model", "chain", "region", "n_residues", "n_groups", "confidence", "accuracy"),
    *("error", "error_low", "error_high", "chance"),
)
SEQUENCE_COLUMNS = (
    *("model", "chain", "region", "antibodies", "n_records", "n_groups"),
    *(f"{name}{end}" for name in ("accuracy", "loss") for end in ("", "_low", "_high", "_median")),
)
_PLACES = {"all": "whole chain", "CDR3": "CDR3"}


def segments_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show accuracy and cross-entropy by gene segment.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run has no such table.
    """
    table = read_table(source.run, "segments", SEGMENT_COLUMNS)
    if table is None:
        return None
    place = pl.col("region").replace(_PLACES)
    as_regions = table.with_columns(residues=place, region=pl.col("segment"))
    scores = regions.region_scores(as_regions, tuple(_PLACES.values()), colours)
    blocks: list[Block] = [
        Paragraph(
            "The same by the gene segment that encodes a residue. V, D and J are templated, so their genes "
            "can be learnt; N is non-templated, so little of it can be known from the rest of the chain."
        )
    ]
    if scores is not None:
        blocks.append(Figure(scores.figure(), "Accuracy by gene segment, of the chain and of its CDR3"))
    for metric, name in (("accuracy", "Accuracy"), ("cross_entropy", "Cross-entropy (nats)")):
        caption = f"{name} by gene segment [95 % interval]."
        blocks.append(_by_model(caption, table, ("chain", "region", "segment"), metric))
    return Section(f"segments-{source.label}", f"Gene segments: {source.label}", blocks)


def calibration_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show reliability curves and the expected calibration error.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run has no such tables.
    """
    errors = read_table(source.run, "calibration", ERROR_COLUMNS)
    bins = read_table(source.run, "calibration_bins", calibration.COLUMNS)
    if errors is None or bins is None:
        return None
    text = (
        "Predictions of each model are put into ten bins of equal size by their confidence, the probability "
        "of the predicted residue. A point above the dotted line is right more often than it says, one below "
        "it is overconfident. The expected calibration error is the mean distance from that line; chance "
        "alone makes it positive, by what the last column says."
    )
    drawing = calibration.reliability(bins, colours).figure()
    header = [
        "model",
        "chain",
        "region",
        "residues",
        "groups",
        "confidence",
        "accuracy",
        "error",
        "by chance",
    ]
    rows = [
        [
            *(Cell(str(row[name])) for name in ("model", "chain", "region")),
            *(Cell(f"{row[name]:,}") for name in ("n_residues", "n_groups")),
            *(Cell(f"{row[name]:.3f}") for name in ("confidence", "accuracy")),
            Cell(with_interval(row, "error")),
            Cell(f"{row['chance']:.3f}"),
        ]
        for row in errors.iter_rows(named=True)
    ]
    blocks: list[Block] = [
        Paragraph(text),
        Figure(drawing, "Accuracy against confidence of each model, by chain and region"),
        Table("Expected calibration error [95 % interval].", header, rows, is_folded=True),
    ]
    return Section(f"calibration-{source.label}", f"Calibration: {source.label}", blocks)


def germline_bias_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show what models predict at mutated residues.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run has no such table.
    """
    table = read_table(source.run, "germline_bias", bias_figure.COLUMNS)
    if table is None:
        return None
    text = (
        "At residues where somatic mutation changed the germline gene: how often a model names the residue "
        "that is there, the germline residue, or a third one. A model that only knows germline genes has all "
        "its predictions in the middle. Log-odds are ln p(residue) − ln p(germline), negative where the "
        "model prefers the germline."
    )
    outcomes = bias_figure.OUTCOMES
    header = ["model", "chain", "region", "residues", "groups", *outcomes.values(), "log-odds (nats)"]
    rows = [
        [
            *(Cell(str(row[name])) for name in ("model", "chain", "region")),
            *(Cell(f"{row[name]:,}") for name in ("n_residues", "n_groups")),
            *(Cell(with_interval(row, name)) for name in (*outcomes, "log_odds")),
        ]
        for row in table.iter_rows(named=True)
    ]
    drawing = bias_figure.germline_bias(table, colours).figure()
    blocks: list[Block] = [
        Paragraph(text),
        Figure(drawing, "Shares of mutated residues predicted right, as germline, and as another"),
        Table("Predictions at mutated residues by region [95 % interval].", header, rows, is_folded=True),
    ]
    return Section(f"germline-{source.label}", f"Germline bias: {source.label}", blocks)


def sequences_section(source: RunSource) -> Section | None:
    """Show the aggregation of Ng & Briney, whose numbers can stand beside theirs.

    Parameters
    ----------
    source
        Any Run.

    Returns
    -------
    Section or None
        `None` where the Run has no such table.
    """
    table = read_table(source.run, "sequences_summary", SEQUENCE_COLUMNS)
    if table is None:
        return None
    text = (
        "One value for each sequence and region, as Ng & Briney (2025) aggregate: the mean accuracy and the "
        "median loss over the residues of the region, then the mean over sequences. A short region counts as "
        "much as a long one. Intervals resample groups."
    )
    blocks: list[Block] = [Paragraph(text)]
    for metric, name in (("accuracy", "Accuracy"), ("loss", "Median loss (nats)")):
        caption = f"{name} by region of a sequence, mean over sequences [95 % interval]."
        blocks.append(
            _by_model(
                caption, table, ("chain", "antibodies", "region"), metric, sizes=("n_records", "n_groups")
            )
        )
    return Section(f"sequences-{source.label}", f"By sequence, as published: {source.label}", blocks)


def _by_model(
    caption: str,
    table: pl.DataFrame,
    keys: Sequence[str],
    metric: str,
    *,
    sizes: Sequence[str] = ("n_residues", "n_groups"),
) -> Table:
    """Lay out a metric with a column for each model or baseline."""
    models = table["model"].unique(maintain_order=True).to_list()
    rows = []
    for values, own in table.group_by(*keys, maintain_order=True):
        by_model = {row["model"]: row for row in own.iter_rows(named=True)}
        named = dict(zip(keys, map(str, values), strict=True))
        labels = [_PLACES.get(text, text) if key == "region" else text for key, text in named.items()]
        counts = [f"{own[name][0]:,}" for name in sizes]
        cells = [with_interval(by_model.get(model), metric) for model in models]
        rows.append([Cell(text) for text in (*labels, *counts, *cells)])
    header = [*keys, *(name.removeprefix("n_") for name in sizes), *models]
    return Table(caption, header, rows, is_folded=True)
