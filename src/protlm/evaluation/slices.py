"""Means over slices of residues with group bootstrap intervals: what every table by region is made of.

A *cell* is a row of sums over residues that no table tells apart: one record, model, chain, region, gene
segment and mutation status. A *slice* is a line of a result table: some facts, and which cells belong to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from protlm.statistics.bootstrap import bootstrap_means
from protlm.statistics.paired import bonferroni, paired_t_test, stars
from protlm.types.regions import REGIONS

Facts = Mapping[str, str]
Slices = Sequence[tuple[Facts, pl.Expr]]

REGION_NAMES = tuple(region.name for region in REGIONS)
FRAMEWORK, CDRS, ALL = "framework", "CDRs", "all"
_TOGETHER = {
    FRAMEWORK: [name for name in REGION_NAMES if name.startswith("FR")],
    CDRS: [name for name in REGION_NAMES if name.startswith("CDR")],
}


def in_region(name: str) -> pl.Expr:
    """Give the filter of a region, of ``framework`` (FR1–4), ``CDRs`` (CDR1–3) or ``all`` residues.

    Parameters
    ----------
    name
        One of `REGION_NAMES` or the three words.
    """
    if name == ALL:
        return pl.lit(True)
    return pl.col("region").is_in(_TOGETHER.get(name, [name]))


def chains_of(cells: pl.DataFrame) -> list[str]:
    """List the chains in their order in the table.

    Parameters
    ----------
    cells
        With ``chain``.
    """
    return cells["chain"].cast(pl.String).unique(maintain_order=True).to_list()


@dataclass(frozen=True)
class GroupSums:
    """Sums by group and slice, of each arm (a model, or a model in one condition)."""

    n: np.ndarray
    """Residues ``[g, s]``, the same for every arm."""
    n_records: np.ndarray
    """int64 ``[s]``."""
    values: Mapping[str, Mapping[str, np.ndarray]]
    """By arm and column, ``[g, s]``."""

    def counts(self, number: int) -> dict[str, int]:
        """Give the sizes of one slice.

        Parameters
        ----------
        number
            Which slice.
        """
        return {
            "n_residues": int(self.n[:, number].sum()),
            "n_records": int(self.n_records[number]),
            "n_groups": int((self.n[:, number] > 0).sum()),
        }


def group_sums(cells: pl.DataFrame, slices: Slices, columns: Sequence[str], *, by: str) -> GroupSums:
    """Add cells up by arm, group and slice.

    Parameters
    ----------
    cells
        With ``id``, ``group``, ``n``, `by` and `columns`.
    slices
        What to add up.
    columns
        To sum.
    by
        Column that names the arm.
    """
    groups = cells["group"].unique().sort()
    place = pl.DataFrame({"group": groups, "place": np.arange(len(groups))})
    arms = cells[by].cast(pl.String).unique(maintain_order=True).to_list()
    shape = (len(groups), len(slices))
    sums = {arm: {name: np.zeros(shape) for name in ("n", *columns)} for arm in arms}
    n_records = np.zeros(len(slices), dtype=np.int64)
    for number, (_, wanted) in enumerate(slices):
        part = cells.filter(wanted)
        n_records[number] = part["id"].n_unique()
        added = part.group_by(by, "group").agg(pl.col("n", *columns).sum()).join(place, on="group")
        for (arm,), own in added.group_by(by):
            for name, into in sums[str(arm)].items():
                into[own["place"].to_numpy(), number] = own[name].to_numpy()
    n = sums[arms[0]]["n"] if arms else np.zeros(shape)
    for arm in arms:
        assert np.array_equal(sums[arm].pop("n"), n), f"'{arm}' was not evaluated on the same residues"
    return GroupSums(n, n_records, sums)


def summarise_slices(
    cells: pl.DataFrame, slices: Slices, metrics: Mapping[str, str], *, by: str = "model"
) -> pl.DataFrame:
    """Give means per residue of each arm and slice, with 95 % intervals.

    Means run over residues; the intervals resample groups of records (clonotypes), because residues of
    one record, and records of one clonotype, are not independent.

    Parameters
    ----------
    cells
        With ``id``, ``group``, ``n`` and `by`.
    slices
        Lines of the result; those without a residue are left out.
    metrics
        Column of sums for each metric.
    by
        Column that names the arm.

    Returns
    -------
    polars.DataFrame
        `by`, the facts of the slices, ``n_residues, n_records, n_groups``, and each metric with ``_low``
        and ``_high``.
    """
    sums = group_sums(cells, slices, list(metrics.values()), by=by)
    rows: dict[tuple[int, int], dict] = {}
    for place, (arm, values) in enumerate(sums.values.items()):
        intervals = bootstrap_means(
            np.hstack([values[column] for column in metrics.values()]), weights=np.tile(sums.n, len(metrics))
        )
        for number, (facts, _) in enumerate(slices):
            counts = sums.counts(number)
            if not counts["n_residues"]:
                continue
            row = rows[number, place] = {by: arm, **facts, **counts}
            for metric, name in enumerate(metrics):
                each = intervals[metric * len(slices) + number]
                row |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
    return pl.DataFrame([rows[key] for key in sorted(rows)])


def compare_slices(
    cells: pl.DataFrame,
    slices: Slices,
    pairs: Sequence[tuple[str, str]],
    metrics: Mapping[str, str],
    *,
    by: str = "model",
) -> pl.DataFrame:
    """Compare pairs of arms slice by slice on the same residues, p-values not yet corrected.

    The paired t-test runs over the means of groups and weighs groups alike; the difference and its
    interval weigh residues alike and resample groups.

    Parameters
    ----------
    cells, slices, metrics, by
        As for `summarise_slices`.
    pairs
        Names of arms; differences are first minus second.

    Returns
    -------
    polars.DataFrame
        ``first, second``, facts, ``metric, first_value, second_value, difference, difference_low,
        difference_high, p_value, n_residues, n_records, n_groups``.
    """
    sums = group_sums(cells, slices, list(metrics.values()), by=by)
    total = sums.n.sum(axis=0)
    rows: dict[tuple[int, int, int], dict] = {}
    for place, (first, second) in enumerate(pairs):
        for order, (metric, column) in enumerate(metrics.items()):
            one, two = sums.values[first][column], sums.values[second][column]
            differences = bootstrap_means(one - two, weights=sums.n)
            for number, (facts, _) in enumerate(slices):
                if not total[number]:
                    continue
                there = sums.n[:, number] > 0
                n = sums.n[there, number]
                test = paired_t_test(one[there, number] / n, two[there, number] / n)
                rows[number, place, order] = {
                    "first": first,
                    "second": second,
                    **facts,
                    "metric": metric,
                    "first_value": float(one[:, number].sum() / total[number]),
                    "second_value": float(two[:, number].sum() / total[number]),
                    "difference": differences[number].value,
                    "difference_low": differences[number].low,
                    "difference_high": differences[number].high,
                    "p_value": test.p_value,
                    **sums.counts(number),
                }
    return pl.DataFrame([rows[key] for key in sorted(rows)])


def correct(comparisons: pl.DataFrame, family: Sequence[str]) -> pl.DataFrame:
    """Multiply p-values by the number of tests of their family (Bonferroni); add that number and stars.

    Parameters
    ----------
    comparisons
        With ``p_value``.
    family
        Columns; lines that agree in them are one family. Lines without a p-value do not count.

    Returns
    -------
    polars.DataFrame
        With ``n_tests``, ``p_adjusted`` and ``stars``, families one after another.
    """
    corrected = []
    for _, lines in comparisons.group_by(*family, maintain_order=True):
        adjusted = bonferroni(lines["p_value"].to_numpy())
        count = int((~np.isnan(adjusted)).sum())
        marks = [stars(value) for value in adjusted]
        corrected.append(
            lines.with_columns(
                n_tests=pl.lit(count, dtype=pl.Int64), p_adjusted=pl.Series(adjusted), stars=pl.Series(marks)
            )
        )
    return pl.concat(corrected) if corrected else comparisons
