"""Accuracy and cross-entropy by region, by gene segment, and of one model against another."""

from collections.abc import Sequence

import polars as pl

from protlm.evaluation.slices import (
    ALL,
    CDRS,
    FRAMEWORK,
    REGION_NAMES,
    Slices,
    chains_of,
    compare_slices,
    correct,
    in_region,
    summarise_slices,
)
from protlm.types.regions import Segment

METRICS = {"accuracy": "hits", "cross_entropy": "loss"}
"""Metric and the column of sums behind it."""
SEGMENTS = tuple(segment.name for segment in Segment if segment)
_CELL = ("model", "id", "group", "chain", "region", "segment", "mutated")
_V_REGIONS = ("FR1", "CDR1", "FR2", "CDR2", "FR3")


def region_cells(table: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Add residues up by record, model, chain, region, segment and mutation status.

    Parameters
    ----------
    table
        With the columns of `protlm.evaluation.residues.SCHEMA`; a lazy one is never held whole.

    Returns
    -------
    polars.DataFrame
        ``model, id, group, chain, region, segment, mutated, antibody, n, hits, loss``. `antibody` is
        ``germline`` where no V residue of any chain is mutated, ``mutated`` where at least one is, and
        null where the mutations of a chain are not known.
    """
    lazy = table.lazy()
    order = lazy.select(pl.col("model", "chain").unique(maintain_order=True).implode()).collect()
    kinds = {name: pl.Enum(order[name][0]) for name in ("model", "chain")}
    summed = lazy.group_by(*_CELL).agg(
        n=pl.len().cast(pl.Float64),
        hits=(pl.col("predicted") == pl.col("residue")).sum().cast(pl.Float64),
        loss=-pl.col("logprob").cast(pl.Float64).sum(),
    )
    cells = summed.collect(engine="streaming").with_columns(
        pl.col(name).cast(kind) for name, kind in kinds.items()
    )
    cells = cells.sort(*_CELL, nulls_last=True)
    return cells.join(antibody_status(cells), on="id", how="left", maintain_order="left")


def antibody_status(cells: pl.DataFrame) -> pl.DataFrame:
    """Tell germline from mutated antibodies by the V residues of all chains.

    V residues are those of segment V, or, where segments are not known, of FR1 to FR3.

    Parameters
    ----------
    cells
        With ``id, chain, region, segment, mutated``.

    Returns
    -------
    polars.DataFrame
        ``id, antibody``, a line for each record whose status is known.

    References
    ----------
    Ng & Briney 2025 part their test set by amino-acid mutations in V, summed over both chains: 0 against
    more.
    """
    chains = cells.group_by("id").agg(chains=pl.col("chain").n_unique())
    is_v = (pl.col("segment") == "V") | ((pl.col("segment") == "") & pl.col("region").is_in(_V_REGIONS))
    known = cells.filter(is_v & pl.col("mutated").is_not_null())
    by_record = known.group_by("id").agg(any=pl.col("mutated").any(), known=pl.col("chain").n_unique())
    status = pl.when("any").then(pl.lit("mutated"))
    status = status.when(pl.col("known") == pl.col("chains")).then(pl.lit("germline"))
    joined = by_record.join(chains, on="id").select("id", antibody=status)
    return joined.filter(pl.col("antibody").is_not_null())


def region_slices(cells: pl.DataFrame, *, together: bool = True) -> Slices:
    """Give the lines by chain and region: 14 for a pair, and those of framework, CDRs and all residues.

    Each for all residues; where the mutations are known also for germline and mutated residues, and for
    all residues of germline and of mutated antibodies.

    Parameters
    ----------
    cells
        From `region_cells`.
    together
        Whether to give the lines of several regions together.
    """
    kinds = [("all", pl.lit(True))]
    if cells["mutated"].is_not_null().any():
        kinds += [("germline", ~pl.col("mutated")), ("mutated", pl.col("mutated"))]
    present = cells["antibody"].unique().to_list()
    for status in ("germline", "mutated"):
        if status in present:
            kinds.append((f"{status}_antibodies", pl.col("antibody") == status))
    regions = [*REGION_NAMES, *((FRAMEWORK, CDRS, ALL) if together else ())]
    return [
        (
            {"chain": chain, "region": region, "residues": kind},
            (pl.col("chain") == chain) & in_region(region) & of_kind,
        )
        for chain in chains_of(cells)
        for region in regions
        for kind, of_kind in kinds
    ]


def summarise(cells: pl.DataFrame) -> pl.DataFrame:
    """Give accuracy, cross-entropy and perplexity per model, chain and region with intervals.

    Parameters
    ----------
    cells
        From `region_cells`, of one or more models over the same records.

    Returns
    -------
    polars.DataFrame
        ``model, chain, region, residues, n_residues, n_records, n_groups, accuracy, accuracy_low,
        accuracy_high, cross_entropy, cross_entropy_low, cross_entropy_high, perplexity``. `residues` is
        ``all``, ``germline``, ``mutated``, ``germline_antibodies`` or ``mutated_antibodies``.
    """
    return _with_perplexity(summarise_slices(cells, region_slices(cells), METRICS))


def summarise_segments(cells: pl.DataFrame) -> pl.DataFrame:
    """Give the same by gene segment: V, N (non-templated), D and J, of the chain and of its CDR3.

    Parameters
    ----------
    cells
        From `region_cells`.

    Returns
    -------
    polars.DataFrame
        As `summarise`, with ``segment`` in place of ``residues`` and ``region`` ``all`` or ``CDR3``;
        empty where no segment is known.
    """
    slices = [
        (
            {"chain": chain, "region": region, "segment": segment},
            (pl.col("chain") == chain) & (pl.col("segment") == segment) & in_region(region),
        )
        for chain in chains_of(cells)
        for region in (ALL, "CDR3")
        for segment in SEGMENTS
    ]
    return _with_perplexity(summarise_slices(cells, slices, METRICS))


def compare(cells: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Compare pairs of models region by region on the same residues.

    p-values are multiplied by the number of tests for one metric and one kind of residue over all pairs
    given (Bonferroni: 7 for one pair of models on single chains, 14 on antibody pairs).

    DISCREPANCY: Ng & Briney (figure 3) test over sequences. Sequences of one clonotype are not
    independent, so here a group, which is V gene and CDR3 unless said otherwise, is the unit. Where
    every record is its own group the two are the same; `protlm.evaluation.by_sequence` has their way.

    Parameters
    ----------
    cells
        From `region_cells`.
    pairs
        Names of models or baselines in it; differences are first minus second.

    Returns
    -------
    polars.DataFrame
        ``first, second, chain, region, residues, metric, first_value, second_value, difference,
        difference_low, difference_high, p_value, n_residues, n_records, n_groups, n_tests, p_adjusted,
        stars``.
        For ``cross_entropy`` a negative difference favours `first`.
    """
    lines = compare_slices(cells, region_slices(cells, together=False), pairs, METRICS)
    return lines if lines.is_empty() else correct(lines, ["residues", "metric"])


def _with_perplexity(summary: pl.DataFrame) -> pl.DataFrame:
    if summary.is_empty():
        return summary
    return summary.with_columns(perplexity=pl.col("cross_entropy").exp())
