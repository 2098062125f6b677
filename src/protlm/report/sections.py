"""Sections of the page: each only where its data is there, each with a sentence on how to read it."""

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from protlm.report.antibodies import (
    calibration_section,
    germline_bias_section,
    segments_section,
    sequences_section,
)
from protlm.report.attention import attention_section
from protlm.report.attribution import attribution_section
from protlm.report.blocks import Block, Cards, Cell, Figure, Paragraph, Section, Table
from protlm.report.contrast import contrast_section
from protlm.report.evaluation import comparisons_section, leakage_section, regions_section
from protlm.report.figures import masking
from protlm.report.figures.curves import REGION_LOSSES, Lines, tokens_seen, training_curves
from protlm.report.figures.style import model_colours
from protlm.report.finetuning import finetuning_section
from protlm.report.finetuning_differences import differences_section
from protlm.report.partner import partner_section
from protlm.report.retrieval import retrieval_section
from protlm.report.scores import score_section
from protlm.report.sources import Sources, read_table
from protlm.report.summary import cards
from protlm.report.tasks import task_section
from protlm.report.variants import variants_section

if TYPE_CHECKING:
    from protlm.report.structures import TableStructures


def sections(sources: Sources) -> list[Section]:
    """Give the sections that the sources have data for.

    Parameters
    ----------
    sources
        Runs, score tables and structures.
    """
    structures = _structures(sources)
    colours = model_colours(_names(sources))
    parts = [
        _summary(sources),
        _training(sources, colours),
        _masking(sources, colours),
        *(regions_section(source, colours) for source in sources.runs),
        *(segments_section(source, colours) for source in sources.runs),
        *(comparisons_section(source, colours) for source in sources.runs),
        *(germline_bias_section(source, colours) for source in sources.runs),
        *(calibration_section(source, colours) for source in sources.runs),
        *(sequences_section(source) for source in sources.runs),
        *(partner_section(source, colours) for source in sources.runs),
        *(attention_section(source, colours) for source in sources.runs),
        *(attribution_section(source) for source in sources.runs),
        *(contrast_section(source, colours) for source in sources.runs),
        *(finetuning_section(source, colours) for source in sources.runs),
        differences_section(sources.runs),
        *(task_section(source, colours) for source in sources.runs),
        *(retrieval_section(source, colours) for source in sources.runs),
        *(leakage_section(source) for source in sources.runs),
        *(variants_section(source, colours) for source in sources.runs),
        *(
            score_section(number, source, structures.get(source.label))
            for number, source in enumerate(sources.scores)
        ),
    ]
    return [part for part in parts if part is not None]


def _structures(sources: Sources) -> Mapping[str, "TableStructures"]:
    if not sources.structures:
        return {}
    from protlm.report.structures import place_structures  # brings biotite

    return place_structures(sources.structures, sources.scores)


def _names(sources: Sources) -> list[str]:
    """Names to colour: Runs that trained a model, then models that evaluations saw."""
    names = [source.label for source in sources.runs if (source.run.path / "metrics.jsonl").exists()]
    for source in sources.runs:
        for name, column in (
            ("regions_summary", "model"),
            ("comparisons", "first"),
            ("comparisons", "second"),
            ("partner_gain", "model"),
            ("attention_heads", "model"),
            ("averages", "model"),
            ("retrieval_similarity", "model"),
        ):
            table = read_table(source.run, name, [column])
            names += [] if table is None else table[column].unique(maintain_order=True).to_list()
    return names


def _summary(sources: Sources) -> Section:
    made = cards(sources)
    unfinished = [card.name for card in made if card.is_unfinished]
    blocks: list[Block] = [
        Paragraph(
            "Each card is one source of this page: what was run, when, with which versions, and on what."
        )
    ]
    if unfinished:
        text = f"Not finished: {', '.join(unfinished)}. What is shown of it is what there was so far."
        blocks.append(Paragraph(text, tone="bad"))
    return Section("summary", "What ran", [*blocks, Cards(made)])


def _training(sources: Sources, colours: Mapping[str, str]) -> Section | None:
    # the others mask nothing, and have sections of their own
    pretrained = [source for source in sources.runs if source.run.verb not in ("finetune", "contrast")]
    runs = {source.label: list(source.run.metrics()) for source in pretrained}
    runs = {label: lines for label, lines in runs.items() if any("loss" in line for line in lines)}
    curves = training_curves(runs, colours=colours) if runs else None
    if curves is None:
        return None
    blocks: list[Block] = [
        Paragraph(
            "Solid lines with markers are on evaluation data, whose masks are uniform and the same for every "
            "model, so they can be compared; light lines are on training data under each Run's own masking, "
            "so they cannot. Lower loss and higher accuracy are better."
        ),
        *_different_data(sources, runs),
        Figure(curves.figure(), "Loss and accuracy against training tokens, for each Run"),
    ]
    by_region = training_curves(runs, metrics=REGION_LOSSES, splits=("eval",), colours=colours)
    if by_region is not None:
        text = "The evaluation loss taken apart by region, in nats per masked residue; lower is better."
        description = "Evaluation loss of each region against training tokens"
        blocks += [Paragraph(text), Figure(by_region.figure(), description)]
    return Section("training", "Training", [*blocks, _speeds(runs)])


def _different_data(sources: Sources, runs: Mapping[str, Lines]) -> list[Block]:
    """Warn where the evaluation curves are not of the same records."""
    seen = {}
    for source in sources.runs:
        path = source.run.path / "data_manifest.json"
        part = (source.run.read_json(path.name).get("eval") or {}) if path.exists() else {}
        if source.label in runs and part:
            inputs = (part.get("corpus") or {}).get("inputs") or []
            hashes = tuple(str(each.get("sha256")) for each in inputs)
            seen[source.label] = (hashes, part.get("subset"), part.get("num_records"))
    if len(set(seen.values())) <= 1:
        return []
    text = "These Runs were evaluated on different data, so their evaluation curves cannot be compared."
    return [Paragraph(text, tone="bad")]


def _speeds(runs: Mapping[str, Lines]) -> Table:
    header = ["Run", "steps", "tokens", "tokens/s (median)", "learning rate (highest)"]
    header += ["eval loss (last)", "eval loss (lowest)", "eval accuracy (last)"]
    return Table("How far and how fast each Run trained.", header, [_speed(*each) for each in runs.items()])


def _speed(label: str, lines: Lines) -> list[Cell]:
    steps = max(line.get("step", 0) for line in lines)
    losses = _values(lines, "eval", "loss")
    accuracies = _values(lines, "eval", "accuracy")
    speeds, rates = _values(lines, "train", "tokens_per_second"), _values(lines, "train", "learning_rate")
    texts = [
        label,
        f"{steps:,}",
        f"{int(tokens_seen(lines)[1][-1]):,}",
        f"{median(speeds):,.0f}" if speeds else "–",
        f"{max(rates):.2g}" if rates else "–",
        f"{losses[-1]:.4f}" if losses else "–",
        f"{min(losses):.4f}" if losses else "–",
        f"{accuracies[-1]:.4f}" if accuracies else "–",
    ]
    return [Cell(text) for text in texts]


def _values(lines: Lines, split: str, name: str) -> list[float]:
    values = [line.get(name) for line in lines if line.get("split") == split]
    return [value for value in values if value is not None and value == value]


def _masking(sources: Sources, colours: Mapping[str, str]) -> Section | None:
    tables = {
        source.label: table
        for source in sources.runs
        if (table := read_table(source.run, "masking_rates", masking.COLUMNS)) is not None
    }
    rates = masking.masking_rates(tables, colours={**model_colours(tables), **colours})
    if rates is None:
        return None
    text = (
        "Outlined bars are the masking rate that the policy asked for, filled bars what was drawn during "
        "training; the two should agree up to chance, which shrinks with the number of residues."
    )
    drawing = Figure(rates.figure(), "Asked and observed masking rate by region, for each Run")
    return Section("masking", "Masking rates", [Paragraph(text), drawing])
