"""The section on what models learn of one chain from the other."""

from collections.abc import Mapping

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import partner as figure
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import with_interval

_MASKED = {
    "native": "native residue",
    "germline": "germline residue",
    "cross_entropy": "cross-entropy (nats)",
}
MASKED_COLUMNS = (
    *("model", "partner", "chain", "region", "n_residues", "n_records", "n_groups"),
    *(f"{name}{end}" for name in _MASKED for end in ("", "_low", "_high")),
)


def partner_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show what the true partner saves over a random one or none, and the test with masked mutations.

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
    gains = read_table(source.run, "partner_gain", figure.COLUMNS)
    if gains is None:
        return None
    text = (
        "Every residue of a chain was masked once, with the chain's true partner beside it, with that of "
        "another clonotype, and alone. A point is the cross-entropy under the other partner minus that under "
        "the true one, with its 95 % interval from resampling groups: above zero, the model uses what the "
        "partner tells. Over a random partner of the same locus, what is left is more than kappa or lambda. "
        "Without a partner the input is unlike what a model of pairs was trained on, so that panel also "
        "shows how badly it takes a single chain."
    )
    drawing = figure.partner_gains(gains, colours).figure()
    blocks: list[Block] = [
        Paragraph(text),
        Figure(drawing, "Nats per residue saved by the true partner, by chain, region and other partner"),
        _gain_table(gains),
    ]
    blocks += _masked_mutations(source)
    return Section(f"partner-{source.label}", f"What the partner tells: {source.label}", blocks)


def _gain_table(gains: pl.DataFrame) -> Table:
    names = {"cross_entropy": "nats saved per residue", "accuracy": "accuracy gained"}
    header = ["model", "chain", "region", "over", "residues", "groups", *names.values(), "p (Bonferroni)"]
    rows = []
    for keys, own in gains.group_by("model", "chain", "region", "against", maintain_order=True):
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        first = by_metric["cross_entropy"]
        p_value = first["p_adjusted"]
        texts = [
            *map(str, keys[:3]),
            figure.CONDITIONS.get(str(keys[3]), str(keys[3])),
            f"{first['n_residues']:,}",
            f"{first['n_groups']:,}",
            *(with_interval(by_metric.get(metric), "gain", sign="+") for metric in names),
            "–" if p_value is None or p_value != p_value else f"{p_value:.2g} {first['stars']}",
        ]
        rows.append([Cell(text) for text in texts])
    caption = "What the true partner gains [95 % interval]; p is of the cross-entropy."
    return Table(caption, header, rows, is_folded=True)


def _masked_mutations(source: RunSource) -> list[Block]:
    summary = read_table(source.run, "mutation_masking_summary", MASKED_COLUMNS)
    gains = read_table(source.run, "mutation_masking_gain", figure.COLUMNS)
    if summary is None or gains is None:
        return []
    text = (
        "All mutated residues of one chain were masked together, once beside the native partner and once "
        "beside the partner with its own mutations put back to germline. A model that reads from the partner "
        "how mutated the antibody is names more native residues, and fewer germline ones, beside the native "
        "one."
    )
    everywhere = summary.filter(pl.col("region") == "all")
    header = ["model", "chain masked", "partner", "residues", "groups", *_MASKED.values()]
    rows = []
    for (model, chain), own in everywhere.group_by("model", "chain", maintain_order=True):
        for row in own.iter_rows(named=True):
            cells = [with_interval(row, name) for name in _MASKED]
            counts = [f"{row[name]:,}" for name in ("n_residues", "n_groups")]
            rows.append([Cell(each) for each in (str(model), str(chain), row["partner"], *counts, *cells)])
        lines = gains.filter(
            (pl.col("model") == model) & (pl.col("chain") == chain) & (pl.col("region") == "all")
        )
        by_metric = {row["metric"]: row for row in lines.iter_rows(named=True)}
        cells = [with_interval(by_metric.get(name), "gain", sign="+") for name in _MASKED]
        rows.append([Cell(each) for each in (str(model), str(chain), "native gains", "", "", *cells)])
    caption = "Predicted where all mutated residues of a chain are masked [95 % interval]."
    return [Paragraph(text), Table(caption, header, rows)]
