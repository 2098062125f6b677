"""Section on a score table: its distribution, the heat map, and the sensitivity of each position."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from protlm.data.numbering import number_chains
from protlm.report.blocks import PAGE_WIDTH, Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import substitutions
from protlm.report.figures.distribution import kind_name, score_distribution
from protlm.report.figures.sensitivity import Sensitivity, sensitivity
from protlm.report.score_rows import WILD_TYPE, score_rows
from protlm.report.sources import ScoreSource
from protlm.types.record import Chain
from protlm.types.regions import Region, decode_position

if TYPE_CHECKING:
    from protlm.report.structures import PlacedChain, TableStructures


def score_section(number: int, source: ScoreSource, structures: "TableStructures | None" = None) -> Section:
    """Show one score table.

    Parameters
    ----------
    number
        Of the table, for the link.
    source
        The table.
    structures
        What it is shown on.
    """
    facts = source.facts
    wild_type, offset = facts["wild_type"]["residues"], int(facts.get("offset", 0))
    blocks = _distribution(source, wild_type, offset)
    scan = substitutions.substitution_scan(source.frame, wild_type, offset, column=source.mutant_column)
    if scan is None:
        text = f"{source.label} has no scored single substitution, so there is no heat map."
        blocks.append(Paragraph(text, tone="note"))
    else:
        scan = _with_regions(scan)
        blocks += _heat_map(scan, facts)
        blocks += _sensitivity(sensitivity(scan), structures)
    return Section(f"scan-{number}", f"Substitutions: {source.label}", blocks)


def _distribution(source: ScoreSource, wild_type: str, offset: int) -> list[Block]:
    rows = score_rows(source.frame, wild_type, offset, column=source.mutant_column)
    blocks: list[Block] = []
    distribution = score_distribution(rows)
    if distribution is not None:
        counts = {kind: int(each.sum()) for kind, each in distribution.counts.items()}
        listed = "; ".join(
            f"{kind_name(kind)}: {count:,}, median {distribution.medians[kind]:+.2f}"
            for kind, count in counts.items()
        )
        text = (
            f"How the scores spread ({listed}). The dotted line is the wild type; right of it is "
            "expected to be fitter."
        )
        description = "Distribution of scores by number of substitutions"
        blocks += [Paragraph(text), Figure(distribution.figure(), description, is_narrow=True)]
    if note := _without_score(rows):
        blocks.append(Paragraph(note, tone="note"))
    return blocks


def _without_score(rows: pl.DataFrame) -> str:
    """Say how many rows are not in the distribution, and why."""
    none = rows.filter(pl.col("score").is_null())
    stops, wild = int(none["has_stop"].sum()), int((rows["kind"] == WILD_TYPE).sum())
    parts = []
    if none.height:
        of_them = f", {stops:,} of them with a stop" if stops else ""
        parts.append(f"{none.height:,} of {rows.height:,} rows have no score{of_them}")
    if wild:
        parts.append(f"{wild:,} of {rows.height:,} rows {'is' if wild == 1 else 'are'} the wild type itself")
    return f"Left out of it: {'; '.join(parts)}." if parts else ""


def _with_regions(scan: substitutions.SubstitutionScan) -> substitutions.SubstitutionScan:
    """Number an antibody whose table has no regions, as one that was not written by ``--all-single``."""
    numbered = scan.regions or number_chains([Chain(scan.wild_type)])[0]
    if not isinstance(numbered, Chain):
        return scan
    return replace(
        scan,
        imgt_positions=tuple(decode_position(code) for code in numbered.tracks["position"]),
        regions=tuple(Region(code).name if code else "" for code in numbered.tracks["region"]),
    )


def _heat_map(scan: substitutions.SubstitutionScan, facts: dict[str, Any]) -> list[Block]:
    models = ", ".join(str(model.get("name")) for model in facts.get("models") or [])
    text = (
        "Each cell is the score of putting the amino acid of its row at the position of its column "
        f"({facts.get('plan', 'score')}, {models}): red is expected to harm, blue to help, white is like the "
        "wild type. Dots mark the wild-type residue, whose letters run below the map; the line is the mean "
        "over each position, low where substitutions are not tolerated. Grey cells have no score. Point at a "
        "cell for its name."
    )
    if scan.width > PAGE_WIDTH:
        text += " Scroll sideways for the rest."
    blocks: list[Block] = [Paragraph(text)]
    if scan.num_left_out:
        left_out = (
            f"{scan.num_left_out:,} rows without a score, or that are no single substitution, are left out."
        )
        blocks.append(Paragraph(left_out, tone="note"))
    description = "Heat map of substitution scores by position and amino acid"
    return [*blocks, Figure(scan.figure(), description, letters=substitutions.letter_tops())]


def _sensitivity(found: Sensitivity, structures: "TableStructures | None") -> list[Block]:
    text = (
        "The mean score of the substitutions at each position, the darker the less they are tolerated. "
        "Positions are those of the table."
    )
    chains = structures.chains if structures is not None else []
    blocks: list[Block] = [
        Paragraph(text),
        Figure(found.figure(), "Mean substitution score along the sequence"),
        *(block for placed in chains for block in _on_structure(found, placed)),
    ]
    unfit = structures.unfit if structures is not None else []
    notes = [Paragraph(f"{name} has no chain with this wild type.", tone="note") for name in unfit]
    return [*blocks, *notes, _most_sensitive(found, chains)]


def _on_structure(found: Sensitivity, placed: "PlacedChain") -> list[Block]:
    from protlm.report.figures.structure import sensitivity_trace
    from protlm.report.structures import chain_trace

    others = [chain_trace(chain) for chain in placed.others]
    trace = sensitivity_trace(found, chain_trace(placed.chain), placed.fit.places, others)
    fit, name = placed.fit, placed.structure.name
    text = (
        f"The same on {placed.name}: Cα atoms, joined where the chain goes on; "
        f"drag to turn, point at a residue for its name. {fit.num_equal:,} of {fit.num_aligned:,} aligned "
        "residues equal the wild type."
    )
    if others:
        text += f" Thin and grey: {_chains([chain.chain_id for chain in others])}."
    if placed.twins:
        text += f" The wild type fits as well on {_chains(placed.twins)}."
    if placed.structure.num_models > 1:
        text += f" The first of {placed.structure.num_models} models."
    blocks: list[Block] = [Paragraph(text)]
    scored = int((found.counts > 0).sum())
    missing = scored - int((~trace.has_no_score).sum())
    if missing:
        text = f"{missing:,} of {scored:,} scored positions have no Cα atom in {name} and are not drawn."
        blocks.append(Paragraph(text, tone="note"))
    if trace.has_no_score.any():
        count = int(trace.has_no_score.sum())
        text = f"{count:,} residues of the chain have no score, or are not in the wild type: these are grey."
        blocks.append(Paragraph(text, tone="note"))
    description = f"Cα trace of {name}, coloured by mean substitution score"
    return [*blocks, Figure(trace.figure(), description, is_narrow=True)]


def _chains(names: Sequence[str]) -> str:
    return f"chain{'s' * (len(names) > 1)} {', '.join(names)}"


def _most_sensitive(found: Sensitivity, chains: "list[PlacedChain]") -> Table:
    header = [
        "position",
        *(["region"] if found.scan.regions else []),
        "mean score",
        "scored",
        "lowest",
        "its score",
    ]
    header += [placed.name for placed in chains]
    rows = []
    for index in found.most_sensitive():
        name, score = found.worst(index)
        texts = [found.name(index), *([found.scan.regions[index] or "–"] if found.scan.regions else [])]
        texts += [f"{found.means[index]:+.3f}", str(found.counts[index]), name, f"{score:+.3f}"]
        texts += [_residue_id(placed, index) for placed in chains]
        rows.append([Cell(text) for text in texts])
    most = int(found.counts.max())
    caption = f"The {len(rows)} most sensitive positions with {-(-most // 2)} or more scored substitutions."
    return Table(caption, header, rows)


def _residue_id(placed: "PlacedChain", index: int) -> str:
    place = int(placed.fit.places[index])
    return (placed.chain.residue_ids[place] if place >= 0 else "") or "–"
