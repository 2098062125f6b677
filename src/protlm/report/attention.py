"""The section on attention between antibody and antigen."""

from collections.abc import Mapping

import polars as pl

from protlm.report.attention_lines import (
    DIFFERENCE_COLUMNS,
    LEVEL_TITLES,
    METRIC_NAMES,
    SUMMARY_COLUMNS,
    row_names,
    shown_metrics,
    verdicts,
)
from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import attention as figure
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import with_interval

CASE_COLUMNS = (
    *("case", "partner", "n_antibody", "n_antigen", "n_contacts", "n_antibody_interface"),
    *("n_antigen_interface", "cdr_share", "notes"),
)


def attention_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show heads, methods beside controls and baselines, and one map of each model.

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
    summary = read_table(source.run, "attention_summary", SUMMARY_COLUMNS)
    differences = read_table(source.run, "attention_differences", DIFFERENCE_COLUMNS)
    if summary is None or differences is None:
        return None
    config = source.run.read_config()
    text = (
        "Attention between the chains of an antibody and those of its antigen, in both directions and with "
        "the average product correction, against residues whose Cβ atoms are within "
        f"{config['contact_distance']:g} Å. A head was chosen, and a regression over all heads and the "
        f"baselines were fitted, on {config['shots']} complexes and judged on those with other antigens. "
        "Filled points are with the true partner. Open ones are with that of another complex, or with the "
        "antigen's residues shuffled: what is as high there does not come from the partner. Grey points need "
        "no model. The dotted line is chance. Intervals are not corrected for how many there are."
    )
    blocks: list[Block] = [
        Paragraph(text),
        Figure(
            figure.attention_methods(summary, colours).figure(),
            "AUROC of the best head, of a regression over heads, and of baselines, by level",
        ),
    ]
    for level in LEVEL_TITLES:
        blocks += _level(level, summary, differences)
    return Section(
        f"attention-{source.label}",
        f"Attention and binding sites: {source.label}",
        [*blocks, *_heads(source), *_examples(source), *_cases(source)],
    )


def _level(level: str, summary: pl.DataFrame, differences: pl.DataFrame) -> list[Block]:
    part = summary.filter(pl.col("level") == level)
    if part.is_empty():
        return []
    first, metrics = part.row(0, named=True), shown_metrics(part)
    rows = [
        [Cell(each) for each in (*row_names(row), *(with_interval(row, metric) for metric in metrics))]
        for row in part.iter_rows(named=True)
    ]
    title = LEVEL_TITLES[level]
    caption = (
        f"{title[0].upper()}{title[1:]}: {first['n_cases']:,} complexes, {first['n_groups']:,} groups of "
        "alike antigens [95 % interval over groups]."
    )
    header = ["method", "shown with", *(METRIC_NAMES[metric] for metric in metrics)]
    compared = [Paragraph(f"{line}.", tone="note") for line in verdicts(level, differences)]
    return [Table(caption, header, rows), *compared]


def _heads(source: RunSource) -> list[Block]:
    heads = read_table(source.run, "attention_heads", figure.HEAD_COLUMNS)
    if heads is None:
        return []
    text = (
        "Every head on all complexes. The highest of many is so in part by chance, which is why the tables "
        "above judge a head only on complexes that it was not chosen on."
    )
    blocks: list[Block] = [Paragraph(text)]
    for each in figure.head_maps(heads):
        drawing = Figure(each.figure(), f"AUROC of each layer and head of {each.model}")
        blocks += [Paragraph(f"{each.model}, AUROC by layer and head:"), drawing]
    return blocks


def _examples(source: RunSource) -> list[Block]:
    example = read_table(source.run, "attention_example", figure.EXAMPLE_COLUMNS)
    if example is None:
        return []
    blocks: list[Block] = []
    for each in figure.attention_example(example):
        first = each.table.row(0, named=True)
        text = (
            f"{first['model']}, layer {first['layer']}, head {first['head']} (chosen most often for pairs), "
            f"on {first['case']}, where it does middling. Positions are 1-based in what the model was shown."
        )
        blocks += [Paragraph(text), Figure(each.figure(), f"Attention map of {first['case']} with contacts")]
    return blocks


def _cases(source: RunSource) -> list[Block]:
    cases = read_table(source.run, "attention_complexes", CASE_COLUMNS)
    if cases is None:
        return []
    header = ["complex", "control antigen", "antibody", "antigen", "contacts"]
    header += ["antibody interface", "antigen interface", "of the antibody's in CDRs", "notes"]
    rows = [
        [
            Cell(text)
            for text in (
                row["case"],
                row["partner"] or "–",
                *(f"{row[name]:,}" for name in CASE_COLUMNS[2:7]),
                f"{row['cdr_share']:.0%}",
                row["notes"],
            )
        ]
        for row in cases.iter_rows(named=True)
    ]
    return [Table("What was judged, in residues.", header, rows, is_folded=True)]
