"""Section on `protlm evaluate variants`: averages beside baselines, assays, scatters, what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from protlm.errors import RunError
from protlm.report.blocks import Block, Cell, Figure, Paragraph, Section, Table
from protlm.report.figures.assay_scatter import COLUMNS, MAX_POINTS, assay_scatter, representative
from protlm.report.figures.assays import (
    ASSAY_COLUMNS,
    AVERAGE_COLUMNS,
    assay_averages,
    assay_correlations,
)
from protlm.report.figures.style import VARIANT_BASELINES
from protlm.report.sources import RunSource, read_table
from protlm.report.variant_lines import NAMES, SUBSETS, below_baselines, with_interval

MOST_SCATTERS, MOST_PANELS = 6, 4
_CLASSES = ("subset", "metric", "model", "average", "n_missing")
_MISSING = ("subset", "metric", "model", "assay")
_KINDS = {"function": "function", "msa_depth": "MSA depth", "taxon": "taxon", "depth": "substitutions"}


def variants_section(source: RunSource, colours: Mapping[str, str]) -> Section | None:
    """Show how models do on deep mutational scans.

    Parameters
    ----------
    source
        Any Run.
    colours
        By model.

    Returns
    -------
    Section or None
        `None` where the Run is no such evaluation.
    """
    intervals = read_table(source.run, "intervals", AVERAGE_COLUMNS)
    assays = read_table(source.run, "assays", ASSAY_COLUMNS)
    if intervals is None or assays is None:
        return None
    config = source.run.read_config()
    blocks: list[Block] = [
        Paragraph(_how_made(config, assays)),
        *_shortfalls(intervals),
        Paragraph(
            "A point is a metric averaged over the assays of a protein within a function class, then over "
            "proteins, then over classes; its 95 % interval is from resampling proteins, so one protein has "
            "none. Grey open markers are baselines, which need no language model. The dotted line is chance."
        ),
        *(block for subset in SUBSETS for block in _averages(intervals, subset, colours)),
        *_class_tables(read_table(source.run, "averages", _CLASSES)),
        *_correlations(assays, colours),
        *_scatters(source, assays, colours, config),
        *_missing(read_table(source.run, "missing", _MISSING)),
        *_left_out(source),
    ]
    return Section(f"variants-{source.label}", f"Variant effects: {source.label}", blocks)


def _how_made(config: Mapping[str, Any], assays: pl.DataFrame) -> str:
    fill = f" with fill {config['fill']}" if config.get("fill") else ""
    count = assays["assay"].n_unique()
    plan = f"{config.get('plan', '')}{fill}"
    text = f"Zero-shot scores ({plan}) against measured effects of {count:,} assays."
    if config.get("sample"):
        text += (
            f" At most {config['sample']:,} variants of an assay were scored, drawn with seed "
            f"{config.get('seed', 0)} in proportion to their numbers of mutations."
        )
    return text


def _shortfalls(intervals: pl.DataFrame) -> list[Block]:
    """Say in red which model is below which baseline."""
    below = below_baselines(intervals, VARIANT_BASELINES)
    if below:
        return [Paragraph(f"Below a baseline in average Spearman: {'; '.join(below)}.", tone="bad")]
    if not set(VARIANT_BASELINES) & set(intervals["model"]):
        return [Paragraph("No baseline was evaluated, so it is open what the models add.", tone="note")]
    return []


def _averages(intervals: pl.DataFrame, subset: str, colours: Mapping[str, str]) -> list[Block]:
    found = assay_averages(intervals, subset, colours)
    if found is None:
        return []
    what = SUBSETS[subset].capitalize()
    caption = f"{what}: averages [95 % interval]; red is below a baseline on as many assays."
    metrics = [metric for metric in NAMES if metric in set(found.table["metric"])]
    rows = []
    for (model,), own in found.table.group_by("model", maintain_order=True):
        values = {row["metric"]: row for row in own.iter_rows(named=True)}
        count = max(row["n_assays"] for row in values.values())
        cells = [_average(values.get(metric), found.table) for metric in metrics]
        rows.append([Cell(_shown(str(model))), Cell(f"{count:,}"), *cells])
    header = ["model", "assays", *(NAMES[metric] for metric in metrics)]
    description = f"Averages of models and baselines by metric, {SUBSETS[subset]}"
    return [Paragraph(f"{what}:"), Figure(found.figure(), description), Table(caption, header, rows)]


def _shown(model: str) -> str:
    return f"{model} (baseline)" if model in VARIANT_BASELINES else model


def _average(row: Mapping[str, Any] | None, table: pl.DataFrame) -> Cell:
    if row is None or row["average"] is None:
        return Cell("–")
    baselines = table.filter(
        pl.col("model").is_in(list(VARIANT_BASELINES))
        & (pl.col("metric") == row["metric"])
        & (pl.col("n_assays") == row["n_assays"])
    )
    is_bad = row["model"] not in VARIANT_BASELINES and bool((baselines["average"] > row["average"]).any())
    return Cell(with_interval(row), is_bad)


def _class_tables(averages: pl.DataFrame | None) -> list[Table]:
    """Give the average Spearman of each class of function, MSA depth, taxon and number of mutations."""
    if averages is None:
        return []
    part = averages.filter((pl.col("metric") == "spearman") & (pl.col("subset") == "all"))
    tables = []
    for kind, name in _KINDS.items():
        columns = [column for column in part.columns if column.startswith(f"{kind}_")]
        if len(columns) < 2:
            continue
        rows = [
            [Cell(_shown(row["model"])), *(Cell(_number(row[column])) for column in columns)]
            for row in part.iter_rows(named=True)
        ]
        header = ["model", *(column.removeprefix(f"{kind}_") for column in columns)]
        tables.append(Table(f"Average Spearman by {name}, all variants.", header, rows, is_folded=True))
    return tables


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _correlations(assays: pl.DataFrame, colours: Mapping[str, str]) -> list[Block]:
    found = assay_correlations(assays, colours)
    if found is None:
        return []
    if found.has_lines:
        text = (
            "Spearman's correlation on each assay, ordered by the best model's; grey markers are baselines."
        )
    else:
        text = "Spearman's correlation, a dot for each assay, named where you point; the bar is the median."
    models = list(found.colours)
    by_assay = found.table.pivot("model", index="assay", values="spearman", maintain_order=True)
    counts = dict(found.table.group_by("assay").agg(pl.col("n").max()).iter_rows())
    rows = [
        [
            Cell(row["assay"]),
            Cell(f"{counts[row['assay']]:,}"),
            *(Cell(_number(row[model])) for model in models),
        ]
        for row in by_assay.iter_rows(named=True)
    ]
    header = ["assay", "variants", *map(_shown, models)]
    return [
        Paragraph(text),
        Figure(found.figure(), "Spearman's correlation of each model on each assay"),
        Table("Spearman by assay, all variants.", header, rows, is_folded=True),
    ]


def _scatters(
    source: RunSource, assays: pl.DataFrame, colours: Mapping[str, str], config: Mapping[str, Any]
) -> list[Block]:
    """Show the scores of some assays, from the one where the best model is best to where it is worst."""
    found = assay_correlations(assays)
    if found is None:
        return []
    models = _panels(found.table)
    ours = dict(found.table.filter(pl.col("model") == models[0]).select("assay", "spearman").iter_rows())
    shown = [name for name in representative(ours, MOST_SCATTERS) if _scores_path(source, name).exists()]
    if not shown:
        return []
    text = (
        "Score against measured value; Spearman's correlation [95 % interval from resampling variants]. "
        "Point at a dot for the variant."
    )
    if len(ours) > len(shown):
        text += (
            f" {len(shown)} of {len(ours):,} assays, evenly by rank from the best to the worst of "
            f"{models[0]}: {', '.join(shown)}."
        )
    hidden = [model for model in found.table["model"].unique(maintain_order=True) if model not in models]
    if hidden:
        text += f" Not drawn: {', '.join(hidden)}."
    blocks: list[Block] = [Paragraph(text)]
    seed = int(config.get("seed") or 0)
    for name in shown:
        scores = _read_scores(source, name)
        columns = [model for model in models if model in scores.columns and scores[model].count() > 1]
        scatter = assay_scatter(scores, columns, colours, seed=seed)
        sampled = len(scores) > MAX_POINTS
        drawn = f"{MAX_POINTS:,} of {len(scores):,} variants drawn (seed {seed}); the correlations use all"
        blocks += [
            Paragraph(f"{name}: {drawn if sampled else f'{len(scores):,} variants'}."),
            Figure(scatter.figure(), f"Scores of {name} against measured values"),
        ]
    return blocks


def _panels(table: pl.DataFrame) -> list[str]:
    """Choose models for panels: the best by median correlation, and the best baseline beside them."""
    medians = table.group_by("model", maintain_order=True).agg(pl.col("spearman").median())
    ordered = medians.sort("spearman", descending=True, maintain_order=True)["model"].to_list()
    models = [name for name in ordered if name not in VARIANT_BASELINES]
    baselines = [name for name in ordered if name in VARIANT_BASELINES]
    return [*models[: MOST_PANELS - min(1, len(baselines))], *baselines][:MOST_PANELS]


def _scores_path(source: RunSource, name: str) -> Any:
    return source.run.path / "scores" / f"{name}.parquet"


def _read_scores(source: RunSource, name: str) -> pl.DataFrame:
    path = _scores_path(source, name)
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"cannot read {path}: {error}", hint="run the command that made it again") from error
    if absent := [column for column in COLUMNS if column not in frame.columns]:
        raise RunError(
            f"{path} has no column {', '.join(absent)}",
            hint="it was written by another version of protlm; run the command that made it again",
        )
    return frame


def _missing(missing: pl.DataFrame | None) -> list[Block]:
    """Name the cells that the averages leave out."""
    if missing is None:
        return []
    rows = [
        [
            Cell(SUBSETS[str(subset)]),
            Cell(NAMES.get(str(metric), str(metric))),
            Cell(_shown(str(model))),
            Cell(_few(part["assay"].to_list())),
        ]
        for (subset, metric, model), part in missing.group_by(
            "subset", "metric", "model", maintain_order=True
        )
    ]
    caption = f"{len(missing):,} missing cells, which the averages leave out."
    return [Table(caption, ["variants", "metric", "model", "assays"], rows, is_folded=True)]


def _few(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _left_out(source: RunSource) -> list[Block]:
    path = source.run.path / "data_manifest.json"
    left_out = source.run.read_json(path.name).get("left_out") if path.exists() else None
    if not left_out:
        return []
    listed = _few([f"{name} ({reason})" for name, reason in left_out.items()], most=10)
    return [Paragraph(f"Left out of the folder: {listed}.", tone="note")]
