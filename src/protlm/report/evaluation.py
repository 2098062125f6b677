"""Sections on an evaluation: models beside baselines, models compared, and leakage."""

from collections.abc import Mapping

import polars as pl

from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures import comparisons, regions
from protlm.report.figures.style import BASELINES, is_baseline
from protlm.report.leakage import training_identities
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import with_interval


def regions_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show accuracy and cross-entropy by region beside the baselines.

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
    summary = read_table(source.run, "regions_summary", regions.COLUMNS)
    if summary is None:
        return None
    overall = regions.region_scores(summary, ("all",), colours)
    by_kind = regions.region_scores(summary, ("germline", "mutated"), colours)
    antibodies = ("germline_antibodies", "mutated_antibodies")
    by_antibody = regions.region_scores(summary, antibodies, colours)
    blocks: list[Block] = [
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
    if by_antibody is not None:
        text = (
            "The same, for all residues of antibodies without any mutation in the V gene of either chain, "
            "and of antibodies with at least one."
        )
        description = "Accuracy by region for germline and for mutated antibodies"
        blocks += [Paragraph(text), Figure(by_antibody.figure(), description)]
    tables = [*_number_tables(summary, "accuracy"), *_number_tables(summary, "cross_entropy")]
    return Section(f"regions-{source.label}", f"Accuracy by region: {source.label}", [*blocks, *tables])


def _shortfall_notes(summary: pl.DataFrame) -> list[Block]:
    blocks: list[Block] = []
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
                    with_interval(by_model.get(model), metric),
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


def comparisons_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show each pair of models with the difference in each region.

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
    table = read_table(source.run, "comparisons", comparisons.COLUMNS)
    if table is None:
        return None
    blocks: list[Block] = [
        Paragraph(
            "A point is the first model minus the second on the same residues, with its 95 % interval from "
            "resampling groups; p is of a paired t-test over groups, multiplied by the number of tests "
            "(Bonferroni): * below 0.05, ** 0.01, *** 0.001, **** 0.0001. A point takes the colour of the "
            "model that is better at p below 0.05, and is grey otherwise."
        )
    ]
    of_models = table.filter(~pl.col("second").is_in(list(BASELINES)))
    for each in comparisons.comparisons(of_models, colours):
        text = f"{each.first} minus {each.second}, cross-entropy in nats per residue."
        description = f"Differences between {each.first} and {each.second} by region"
        blocks += [Paragraph(text), Figure(each.figure(), description)]
    blocks += _against_baselines(table.filter(pl.col("second").is_in(list(BASELINES))))
    return Section(f"comparisons-{source.label}", f"Models compared: {source.label}", blocks)


def _against_baselines(lines: pl.DataFrame) -> list[Block]:
    """Give a folded table for each model, of its differences from each baseline over all residues."""
    metrics = ("accuracy", "cross_entropy")
    header = ["chain", "region", "minus", "groups", "accuracy", "p", "cross-entropy (nats)", "p"]
    tables: list[Block] = []
    for (model,), own in lines.filter(pl.col("residues") == "all").group_by("first", maintain_order=True):
        rows = []
        for keys, pair in own.group_by("chain", "region", "second", maintain_order=True):
            by_metric = {row["metric"]: row for row in pair.iter_rows(named=True)}
            cells = [Cell(str(key)) for key in keys] + [Cell(f"{pair['n_groups'][0]:,}")]
            for metric in metrics:
                row = by_metric[metric]
                is_worse = row["difference"] * (1 if metric == "accuracy" else -1) < 0
                cells.append(Cell(with_interval(row, "difference", sign="+"), is_bad=is_worse))
                cells.append(Cell(comparisons.p_text(row)))
            rows.append(cells)
        caption = f"{model} minus each baseline [95 % interval]; red: the baseline is better."
        tables.append(Table(caption, header, rows, is_folded=True))
    return tables


def leakage_section(source: RunSource) -> Section | None:
    """Say how much of the data each model had seen.

    Parameters
    ----------
    source
        Any Run.

    Returns
    -------
    Section or None
        `None` where the Run says nothing about it.
    """
    if not (source.run.path / "data_manifest.json").exists():
        return None
    leakage = source.run.read_json("data_manifest.json").get("leakage")
    if leakage is None:
        return None
    models = [str(name) for name in source.run.read_config().get("models") or leakage]
    blocks: list[Block] = [
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
    known = {model: leakage[model] for model in models if leakage.get(model)}
    blocks += training_identities(known)
    return Section(f"leakage-{source.label}", f"Leakage: {source.label}", blocks)
