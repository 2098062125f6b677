"""Fine-tuned models on the same held-out records: differences on the same resampled groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from protlm.errors import RunError
from protlm.report.blocks import Block, Cell, Paragraph, Section, Table
from protlm.report.figures.finetuning import NAMES
from protlm.report.finetuning import difference_text
from protlm.report.sources import RunSource, read_table
from protlm.report.tables import format_table
from protlm.statistics.predictions import (
    METRICS,
    OF_ONE_END,
    Draws,
    Judgement,
    bootstrap_predictions,
    prediction_metrics,
    towards_best,
)

TABLE = "predictions"
NUM_DRAWS = 2000
_KEYS = ("subset", "fold", "seed", "group", "id", "truth", "predicted")
_SCHEMA = {"sd_over_seeds": pl.Float64, "num_train": pl.Int64, "num_train_second": pl.Int64}
_WHAT = ("name", "kind", "level", "classes", "best")


@dataclass(frozen=True)
class _Judged:
    """What a Run predicted."""

    label: str
    target: Mapping[str, Any]
    table: pl.DataFrame

    @property
    def row_keys(self) -> list[str]:
        """Columns that name a row of one subset and seed."""
        return ["fold", "id", *(["chain", "index"] if self.target["level"] == "residue" else [])]


def finetuning_differences(
    sources: Sequence[RunSource],
    *,
    num_draws: int = NUM_DRAWS,
    on_pair: Callable[[], None] = lambda: None,
) -> pl.DataFrame:
    """Compare each two Runs of `protlm finetune` that were judged on the same records.

    Metrics are means over the seeds that both have. A draw takes the same groups from both and from every
    seed, so that the interval is that of the data; `sd_over_seeds` is the difference's spread over seeds.

    Parameters
    ----------
    sources
        At least two Runs with one target.
    num_draws
        Bootstrap samples.
    on_pair
        Called when two Runs have been compared.

    Returns
    -------
    polars.DataFrame
        ``subset, num_train, num_train_second, first, second, metric, first_value, second_value, difference,
        low, high, sd_over_seeds, n, n_groups, n_seeds``, by subset that both have; the difference is first
        minus second.

    Raises
    ------
    RunError
        If a Run is no fine-tuning, the targets differ, or the records, their truth, their groups, the
        subsets or all of the seeds do.
    """
    if len(sources) < 2:
        raise RunError("there is nothing to compare", hint="give two Runs of protlm finetune or more")
    judged = [_read(source) for source in sources]
    sizes = {source.label: _sizes(source) for source in sources}
    rows: list[dict[str, Any]] = []
    for first, second in combinations(judged, 2):
        _check_targets(first, second)
        known = second.table["subset"].unique().to_list()
        subsets = [name for name in first.table["subset"].unique(maintain_order=True) if name in known]
        if not subsets:
            raise RunError(
                f"'{first.label}' and '{second.label}' have no subset of training records in common",
                hint="train both with the same --subsets",
            )
        for subset in subsets:
            counts = [sizes[each.label].get(subset) for each in (first, second)]
            facts = {"subset": subset, "num_train": counts[0], "num_train_second": counts[1]}
            rows += [{**facts, **row} for row in _compare(first, second, subset, num_draws)]
        on_pair()
    return pl.DataFrame(rows, schema_overrides=_SCHEMA)


def difference_lines(table: pl.DataFrame) -> list[str]:
    """Write the comparison for the terminal, a block for each two Runs.

    Parameters
    ----------
    table
        From `finetuning_differences`.
    """
    lines: list[str] = []
    for (first, second), own in table.group_by("first", "second", maintain_order=True):
        row = own.row(0, named=True)
        lines.append(
            f"{first} minus {second}: {row['n']:,} records in {row['n_groups']:,} groups "
            "[95 % interval over groups]"
        )
        header, rows = _cells(own)
        lines += [*format_table(header, rows), ""]
    return lines[:-1]


def differences_section(sources: Sequence[RunSource]) -> Section | None:
    """Compare the fine-tuned models of a report that have one target.

    Parameters
    ----------
    sources
        Any Runs.

    Returns
    -------
    Section or None
        `None` where no two Runs are fine-tunings of one target.
    """
    own = [source for source in sources if _predicts(source)]
    targets = [source.run.read_json("data_manifest.json")["target"]["name"] for source in own]
    own = [source for source, name in zip(own, targets, strict=True) if targets.count(name) > 1]
    if len(own) < 2:
        return None
    blocks: list[Block] = []
    for name in dict.fromkeys(targets):
        alike = [s for s in own if s.run.read_json("data_manifest.json")["target"]["name"] == name]
        if len(alike) < 2:
            continue
        try:
            blocks += _blocks(finetuning_differences(alike))
        except RunError as error:
            blocks.append(Paragraph(f"Not compared: {error.message}.", tone="note"))
    return Section("finetuning-differences", "Fine-tuned models compared", blocks)


def _blocks(table: pl.DataFrame) -> list[Block]:
    intro = (
        "The same held-out records, the same resampled groups and the same seeds for both. An interval that "
        "is clear of zero says that other records of this kind would show the difference too; ± is its "
        "spread over seeds, which draw other training records."
    )
    blocks: list[Block] = [Paragraph(intro)]
    for (first, second), own in table.group_by("first", "second", maintain_order=True):
        header, rows = _cells(own)
        row = own.row(0, named=True)
        caption = f"{first} minus {second}; {row['n']:,} judged in {row['n_groups']:,} groups."
        blocks.append(Table(caption, header, [[Cell(cell) for cell in cells] for cells in rows]))
    return blocks


def _cells(table: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
    shown = [metric for metric in NAMES if metric in set(table["metric"])]
    rows = []
    for (subset,), own in table.group_by("subset", maintain_order=True):
        first = own.row(0, named=True)
        counts = dict.fromkeys(first[name] for name in ("num_train", "num_train_second"))
        size = " and ".join(f"{count:,}" for count in counts if count is not None)
        by_metric = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [difference_text(by_metric.get(metric)) for metric in shown]
        rows.append([f"{subset} ({size} records)" if size else str(subset), *cells])
    return ["training", *(NAMES[metric] for metric in shown)], rows


def _predicts(source: RunSource) -> bool:
    return source.run.verb == "finetune" and "finetune_metrics" in source.run.tables()


def _read(source: RunSource) -> _Judged:
    if not _predicts(source):
        raise RunError(
            f"{source.run.path} is no finished Run of protlm finetune", hint="give Runs that finetune made"
        )
    if "group" not in pl.read_parquet_schema(source.run.table_path(TABLE)):
        raise RunError(
            f"{source.run.path} does not say the groups of its held-out records; an older protlm made it",
            hint="run protlm finetune again with --force",
        )
    table = read_table(source.run, TABLE, _KEYS)
    assert table is not None
    return _Judged(source.label, source.run.read_json("data_manifest.json")["target"], table)


def _sizes(source: RunSource) -> dict[str, int]:
    metrics = pl.read_parquet(source.run.table_path("finetune_metrics")).filter(kind="model")
    return dict(metrics.select("subset", "num_train").unique().iter_rows())


def _check_targets(first: _Judged, second: _Judged) -> None:
    for name in _WHAT:
        one, other = (each.target.get(name) for each in (first, second))
        if one != other:
            raise RunError(
                f"'{first.label}' and '{second.label}' have targets of another {name}: {one} and {other}",
                hint="compare Runs with the same --target, --kind and --level",
            )


def _compare(first: _Judged, second: _Judged, subset: str, num_draws: int) -> list[dict[str, Any]]:
    parts = [each.table.filter(subset=subset) for each in (first, second)]
    seeds = sorted(set(parts[0]["seed"]) & set(parts[1]["seed"]))
    if not seeds:
        raise RunError(
            f"'{first.label}' and '{second.label}' have no seed in common",
            hint="train both with the same --seeds",
        )
    tables = [
        [part.filter(seed=seed).sort(each.row_keys) for seed in seeds]
        for each, part in zip((first, second), parts, strict=True)
    ]
    for one, other in zip(*tables, strict=True):
        _check_rows(first, second, one, other)
    names = np.unique(np.concatenate([table["group"].to_numpy() for table in tables[0]]))
    clusters = [np.searchsorted(names, table["group"].to_numpy()) for table in tables[0]]
    kind, best = first.target["kind"], first.target.get("best", "")
    repeats = [
        [_judgement(table, first.target, own) for table, own in zip(each, clusters, strict=True)]
        for each in tables
    ]
    draws: list[Draws] = [
        bootstrap_predictions(kind, own, num_units=len(names), num_draws=num_draws) for own in repeats
    ]
    by_seed = [[prediction_metrics(kind, one.outputs, one.truth) for one in own] for own in repeats]
    gaps = np.array(by_seed[0]) - np.array(by_seed[1])
    difference = draws[0].minus(draws[1])
    rows = []
    for place, metric in enumerate(METRICS[kind]):
        interval = difference.interval(metric)
        if np.isnan(interval.value) or (metric == OF_ONE_END and not best):
            continue
        rows.append(
            {
                "first": first.label,
                "second": second.label,
                "metric": metric,
                "first_value": float(draws[0].values[place]),
                "second_value": float(draws[1].values[place]),
                "difference": interval.value,
                "low": interval.low,
                "high": interval.high,
                "sd_over_seeds": float(gaps[:, place].std(ddof=1)) if len(seeds) > 1 else None,
                "n": interval.n,
                "n_groups": difference.num_units,
                "n_seeds": len(seeds),
            }
        )
    return rows


def _check_rows(first: _Judged, second: _Judged, one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Refuse to compare what was not judged on the same records with the same truth."""
    keys = first.row_keys
    if one.select(keys).equals(other.select(keys)) and one["truth"].equals(other["truth"]):
        groups = [each["group"].to_numpy() for each in (one, other)]
        counts = [len(np.unique(each)) for each in groups]
        if {len(np.unique(np.stack(groups), axis=1).T)} != set(counts):
            raise RunError(
                f"'{first.label}' and '{second.label}' were judged on the same rows in other groups, "
                f"{counts[0]:,} and {counts[1]:,}, which an interval is resampled by",
                hint="give both the same --by and --replicates",
            )
        return
    both = one.join(other, on=[*keys, "truth"], how="inner").height
    raise RunError(
        f"'{first.label}' was judged on {one.height:,} rows, '{second.label}' on {other.height:,}, of which "
        f"{both:,} are the same with the same label",
        hint="give both the same table or card, the same split and the same data.seed",
    )


def _judgement(table: pl.DataFrame, target: Mapping[str, Any], clusters: np.ndarray) -> Judgement:
    kind, classes = target["kind"], list(target["classes"])
    if kind == "value":
        given, truth = (table[name].to_numpy().astype(np.float64) for name in ("predicted", "truth"))
        best = target.get("best", "")
        return Judgement(towards_best(given, best), towards_best(truth, best), clusters)
    chances = table.select(f"probability_{name}" for name in classes).to_numpy().astype(np.float64)
    if kind == "labels":
        words = [set(text.split(";")) for text in table["truth"].to_list()]
        return Judgement(chances, np.array([[name in own for name in classes] for own in words]), clusters)
    truth = np.array([classes.index(name) for name in table["truth"].to_list()])
    if kind == "binary":
        return Judgement(chances[:, 1], truth.astype(bool), clusters)
    return Judgement(chances.argmax(axis=1).astype(np.float64), truth, clusters)
