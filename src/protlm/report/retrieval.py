"""The section on retrieval: models beside what needs none, by gallery and direction."""

from collections.abc import Mapping

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import retrieval as figure
from protlm.report.retrieval_lines import (
    COLUMNS,
    DIFFERENCE_COLUMNS,
    NAMES,
    SHORT,
    SPACE_COLUMNS,
    heading,
    metric_rows,
    space_rows,
    verdict_line,
)
from protlm.report.sources import RunSource, read_table

_SHOWN = ("full", "sampled")
"""Galleries whose tables are not folded."""


def retrieval_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show retrieval in both directions with its baselines.

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
    metrics = read_table(source.run, "retrieval", COLUMNS)
    if metrics is None:
        return None
    differences = read_table(source.run, "retrieval_differences", DIFFERENCE_COLUMNS)
    text = (
        "A point is the share of queries whose own structure, or sequence, comes first (R@1), with its 95 % "
        "interval from resampling clusters of queries. Ties count as chance has it. Grey points need no "
        "trained model: 'length' goes by the length of the construct and the number of resolved residues, "
        "which whole chains give away to any model too, 'composition' by what the amino acids say of helix "
        "and strand, 'letters by angles' by which letters stand at φ and ψ, residue by residue. "
        "The dotted line is chance, the dashed one what repeats in the gallery leave possible."
    )
    blocks: list[Block] = [
        Paragraph(text),
        *([] if differences is None else _verdicts(differences)),
        Figure(
            figure.retrieval_scores(metrics, colours).figure(),
            "R@1 of models and baselines by gallery and direction",
        ),
        *_tables(metrics),
        *([] if differences is None else [_difference_table(differences)]),
        *_space(source),
        *_maps(source),
    ]
    return Section(f"retrieval-{source.label}", f"Retrieval: {source.label}", blocks)


def _verdicts(differences: pl.DataFrame) -> list[Block]:
    return [
        Paragraph(f"{verdict_line(row)}.", tone="bad" if row["verdict"] != "above" else "plain")
        for row in differences.filter(pl.col("metric") == "recall_1").iter_rows(named=True)
    ]


def _tables(metrics: pl.DataFrame) -> list[Table]:
    tables = []
    for (gallery, direction), part in metrics.group_by("gallery", "direction", maintain_order=True):
        rows = [[Cell(text) for text in row] for row in metric_rows(part)]
        caption = f"{heading(str(gallery), str(direction), part)} [95 % interval over clusters]."
        is_folded = gallery not in _SHOWN
        tables.append(Table(caption, ["", *(NAMES[each] for each in SHORT)], rows, is_folded=is_folded))
    return tables


def _difference_table(differences: pl.DataFrame) -> Table:
    rows = []
    keys = ("model", "gallery", "direction", "beside")
    for names, own in differences.group_by(*keys, maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [
            Cell(
                f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] to {row['baseline']}",
                is_bad=row["verdict"] == "below",
            )
            for row in (by_metric[each] for each in SHORT)
        ]
        rows.append([Cell(", ".join(map(str, names))), *cells])
    caption = "Each model minus the best baseline of each metric, on the same resampled clusters [95 %]."
    return Table(caption, ["", *(NAMES[each] for each in SHORT)], rows, is_folded=True)


def _space(source: RunSource) -> list[Block]:
    space = read_table(source.run, "retrieval_space", SPACE_COLUMNS)
    if space is None:
        return []
    tables: list[Block] = []
    for (crop,), part in space.group_by("crop", maintain_order=True):
        names = part["metric"].unique(maintain_order=True).to_list()
        rows = [[Cell(text) for text in row] for row in space_rows(part, names)]
        caption = (
            f"The space of {part['n'][0]:,} {f'windows of {crop} residues' if crop else 'whole pairs'}. "
            "Alignment: squared distance of pairs. Uniformity: log mean exp(−2 d²) without self-pairs; the "
            "notebook's has them and the positive pairs. Both are better lower. Gap: distance of the "
            "centroids. Effective rank: how many directions are in use."
        )
        tables.append(Table(caption, ["", *(NAMES[name] for name in names)], rows))
    return tables


def _maps(source: RunSource) -> list[Block]:
    table = read_table(source.run, "retrieval_similarity", figure.SIMILARITY_COLUMNS)
    if table is None:
        return []
    blocks: list[Block] = []
    for each in figure.similarity_maps(table):
        name = each.table["model"][0]
        text = f"{name}: cosine of sequences (rows) with structures (columns); pairs are on the diagonal."
        drawing = Figure(each.figure(), f"Similarities of some pairs under {name}, sorted by cluster")
        blocks += [Paragraph(text), drawing]
    return blocks
