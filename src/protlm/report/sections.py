"""Sections of the page: each only where its data is there, each with a sentence on how to read it."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import polars as pl

from protlm.report.blocks import PAGE_WIDTH, Cards, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import comparisons, masking, regions, substitutions
from protlm.report.figures.curves import REGION_LOSSES, Lines, tokens_seen, training_curves
from protlm.report.figures.style import is_baseline, model_colours
from protlm.report.sources import RunSource, ScoreSource, Sources, read_table
from protlm.report.summary import cards

Blocks = list[Paragraph | Table | Figure | Cards]


def sections(sources: Sources) -> list[Section]:
    """Give the sections that the sources have data for.

    Parameters
    ----------
    sources
        Runs and score tables.
    """
    colours = model_colours(_names(sources))
    parts = [
        _summary(sources),
        _training(sources, colours),
        _masking(sources, colours),
        *(_regions(source, colours) for source in sources.runs),
        *(_comparisons(source, colours) for source in sources.runs),
        *(_leakage(source) for source in sources.runs),
        *(_scan(number, source) for number, source in enumerate(sources.scores)),
    ]
    return [part for part in parts if part is not None]


def _names(sources: Sources) -> list[str]:
    """Names to colour: Runs that trained a model, then models that evaluations saw."""
    names = [source.label for source in sources.runs if (source.run.path / "metrics.jsonl").exists()]
    for source in sources.runs:
        for name, column in (
            ("regions_summary", "model"),
            ("comparisons", "first"),
            ("comparisons", "second"),
        ):
            table = read_table(source.run, name, [column])
            names += [] if table is None else table[column].unique(maintain_order=True).to_list()
    return names


def _summary(sources: Sources) -> Section:
    made = cards(sources)
    unfinished = [card.name for card in made if card.is_unfinished]
    blocks: Blocks = [
        Paragraph(
            "Each card is one source of this page: what was run, when, with which versions, and on what."
        )
    ]
    if unfinished:
        text = f"Not finished: {', '.join(unfinished)}. What is shown of it is what there was so far."
        blocks.append(Paragraph(text, tone="bad"))
    return Section("summary", "What ran", [*blocks, Cards(made)])


def _training(sources: Sources, colours: Mapping[str, str]) -> Section | None:
    runs = {source.label: list(source.run.metrics()) for source in sources.runs}
    runs = {label: lines for label, lines in runs.items() if any("loss" in line for line in lines)}
    curves = training_curves(runs, colours=colours) if runs else None
    if curves is None:
        return None
    blocks: Blocks = [
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


def _different_data(sources: Sources, runs: Mapping[str, Lines]) -> Blocks:
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


def _regions(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    summary = read_table(source.run, "regions_summary", regions.COLUMNS)
    if summary is None:
        return None
    overall = regions.region_scores(summary, ("all",), colours)
    by_kind = regions.region_scores(summary, ("germline", "mutated"), colours)
    blocks: Blocks = [
        Paragraph(
            "Every residue was masked once; a point is the share of residues a model names right, with its "
            "95 % interval from resampling groups of records. Grey open markers are trivial baselines, which "
            "a useful model must beat. The buttons switch to cross-entropy, where lower is better."
        ),
        *_shortfall_notes(summary),
    ]
    if overall is not None:
        blocks.append(Figure(overall.figure(), "Accuracy by region of models and baselines, by chain"))
    if by_kind is not None:
        text = (
            "The same, for residues as the germline gene has them and for mutated ones; a model that has "
            "learnt nothing but germline genes does well on the first and badly on the second."
        )
        description = "Accuracy by region for germline and for mutated residues"
        blocks += [Paragraph(text), Figure(by_kind.figure(), description)]
    tables = [*_number_tables(summary, "accuracy"), *_number_tables(summary, "cross_entropy")]
    return Section(f"regions-{source.label}", f"Accuracy by region: {source.label}", [*blocks, *tables])


def _shortfall_notes(summary: pl.DataFrame) -> Blocks:
    blocks: Blocks = []
    if not any(is_baseline(name) for name in summary["model"].unique()):
        text = (
            "No trivial baseline was evaluated, so nothing here shows that a model learnt more than counts."
        )
        blocks.append(Paragraph(text, tone="note"))
    by_model: dict[str, list[str]] = {}
    for metric in regions.METRICS:
        for model, places in _worse_places(summary, metric).items():
            by_model.setdefault(model, []).append(f"in {metric.replace('_', '-')} in {places}")
    for model, texts in by_model.items():
        text = f"{model} is worse than the best trivial baseline {'; and '.join(texts)}."
        blocks.append(Paragraph(f"{text} The tables have the numbers.", tone="bad"))
    return blocks


def _worse_places(summary: pl.DataFrame, metric: str) -> dict[str, str]:
    """Say by model where the best baseline is better, over all residues."""
    by_model: dict[str, dict[str, list[str]]] = {}
    for each in regions.shortfalls(summary.filter(pl.col("residues") == "all"), metric):
        by_model.setdefault(each.model, {}).setdefault(each.chain, []).append(each.region)
    sizes = dict(summary.group_by("chain").agg(pl.col("region").n_unique()).iter_rows())
    return {
        model: ", ".join(
            f"{chain} ({'everywhere' if len(found) == sizes[chain] else ', '.join(found)})"
            for chain, found in chains.items()
        )
        for model, chains in by_model.items()
    }


def _number_tables(summary: pl.DataFrame, metric: str) -> list[Table]:
    bad = {
        (each.model, each.chain, each.region, each.residues) for each in regions.shortfalls(summary, metric)
    }
    models = summary["model"].unique(maintain_order=True).to_list()
    tables = []
    for (chain, kind), part in summary.group_by("chain", "residues", maintain_order=True):
        rows = []
        for (region,), own in part.group_by("region", maintain_order=True):
            by_model = {row["model"]: row for row in own.iter_rows(named=True)}
            first = own.row(0, named=True)
            counts = [f"{first[name]:,}" for name in ("n_residues", "n_records", "n_groups")]
            cells = [
                Cell(
                    _interval(by_model.get(model), metric),
                    is_bad=(model, str(chain), str(region), str(kind)) in bad,
                )
                for model in models
            ]
            rows.append([Cell(str(region)), *map(Cell, counts), *cells])
        name = metric.replace("_", "-").capitalize()
        unit = " (nats)" if metric == "cross_entropy" else ""
        caption = f"{name}{unit}, {chain}, {regions.KINDS.get(str(kind), str(kind))} [95 % interval]"
        if metric == "cross_entropy":
            caption += "; perplexity = exp(cross-entropy)"
        header = ["region", "residues", "records", "groups", *models]
        is_folded = metric == "cross_entropy" or kind != "all"
        tables.append(
            Table(f"{caption}; red: worse than the best baseline.", header, rows, is_folded=is_folded)
        )
    return tables


def _interval(row: Mapping[str, Any] | None, metric: str) -> str:
    if row is None or row[metric] is None or row[metric] != row[metric]:
        return "–"
    return f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"


def _comparisons(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    table = read_table(source.run, "comparisons", comparisons.COLUMNS)
    if table is None:
        return None
    blocks: Blocks = [
        Paragraph(
            "A point is the first model minus the second on the same residues, with its 95 % interval from "
            "resampling groups; p is of a paired t-test over records, multiplied by the number of tests "
            "(Bonferroni): * below 0.05, ** 0.01, *** 0.001, **** 0.0001. A point takes the colour of the "
            "model that is better at p below 0.05, and is grey otherwise."
        )
    ]
    for each in comparisons.comparisons(table, colours):
        text = f"{each.first} minus {each.second}, cross-entropy in nats per residue."
        description = f"Differences between {each.first} and {each.second} by region"
        blocks += [Paragraph(text), Figure(each.figure(), description)]
    return Section(f"comparisons-{source.label}", f"Models compared: {source.label}", blocks)


def _leakage(source: RunSource) -> Section | None:
    if not (source.run.path / "data_manifest.json").exists():
        return None
    leakage = source.run.read_json("data_manifest.json").get("leakage")
    if leakage is None:
        return None
    models = [str(name) for name in source.run.read_config().get("models") or leakage]
    blocks: Blocks = [
        Paragraph(
            "How much of the evaluation data each model had already seen in training; it should be none."
        )
    ]
    for model in models:
        facts = leakage.get(model)
        if facts is None:
            text = f"{model}: not known, because its training data is not at hand."
            blocks.append(Paragraph(text, tone="note"))
            continue
        text = (
            f"{model}: {facts['shared_chains']:,} of {facts['chains']:,} chains and "
            f"{facts['shared_groups']:,} of {facts['groups']:,} groups were in its training data."
        )
        seen = facts["shared_chains"] or facts["shared_groups"]
        blocks.append(Paragraph(text, tone="bad" if seen else "plain"))
    return Section(f"leakage-{source.label}", f"Leakage: {source.label}", blocks)


def _scan(number: int, source: ScoreSource) -> Section:
    facts = source.facts
    scan = substitutions.substitution_scan(
        source.frame, facts["wild_type"]["residues"], int(facts.get("offset", 0))
    )
    title = f"Substitutions: {source.label}"
    if scan is None:
        text = f"{source.label} has no scored single substitution, so there is no heat map."
        return Section(f"scan-{number}", title, [Paragraph(text, tone="note")])
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
    blocks: Blocks = [Paragraph(text)]
    if scan.num_left_out:
        left_out = (
            f"{scan.num_left_out:,} rows without a score, or that are no single substitution, are left out."
        )
        blocks.append(Paragraph(left_out, tone="note"))
    description = "Heat map of substitution scores by position and amino acid"
    drawing = Figure(scan.figure(), description, letters=substitutions.letter_tops())
    return Section(f"scan-{number}", title, [*blocks, drawing])
