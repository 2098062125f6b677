"""One model under several conditions: means of each, and what one condition gains over the others."""

from collections.abc import Mapping, Sequence

import polars as pl

from protlm.evaluation.slices import Slices, compare_slices, correct, summarise_slices

_BETWEEN = "\x1f"


def with_arms(table: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """Name each combination of model and condition in a column ``arm``, ordered as in the table.

    Parameters
    ----------
    table
        With ``model`` and ``partner``.
    """
    lazy = table.lazy()
    order = lazy.select("model", "partner").unique(maintain_order=True).collect()
    models = order["model"].unique(maintain_order=True).to_list()
    arms = [
        f"{model}{_BETWEEN}{condition}"
        for model in models
        for condition in order.filter(pl.col("model") == model)["partner"]
    ]
    name = pl.concat_str("model", pl.lit(_BETWEEN), "partner")
    return lazy.with_columns(arm=name.cast(pl.Enum(arms)))


def arm_summary(cells: pl.DataFrame, slices: Slices, metrics: Mapping[str, str]) -> pl.DataFrame:
    """Give the means of each arm with intervals.

    Parameters
    ----------
    cells
        With ``arm`` from `with_arms`, ``id``, ``group`` and ``n``.
    slices, metrics
        As for `protlm.evaluation.slices.summarise_slices`.
    """
    summary = summarise_slices(cells, slices, metrics, by="arm")
    return _apart(summary, "arm", ("model", "partner"))


def arm_gains(
    cells: pl.DataFrame,
    slices: Slices,
    together: Slices,
    metrics: Mapping[str, str],
    *,
    first: str,
    lower_is_better: Sequence[str] = (),
) -> pl.DataFrame:
    """Give what one condition gains over each other one, paired by residue, for each model.

    Parameters
    ----------
    cells
        With ``arm`` from `with_arms`.
    slices
        Lines that are tested; p-values are multiplied by the number of tests of a metric over all lines,
        models and conditions.
    together
        Lines of several of those, which get no corrected p-value.
    metrics
        Column of sums for each metric.
    first
        The condition that may gain.
    lower_is_better
        Metrics whose gain is the other condition minus `first`.

    Returns
    -------
    polars.DataFrame
        ``model, against``, facts of the slices, ``metric, value, other_value, gain, gain_low, gain_high,
        p_value, n_tests, p_adjusted, stars, n_residues, n_records, n_groups``.
    """
    arms = cells["arm"].cast(pl.String).unique(maintain_order=True).to_list()
    pairs = [
        (f"{model}{_BETWEEN}{first}", arm)
        for arm in arms
        for model, condition in [arm.split(_BETWEEN)]
        if condition != first
    ]
    tested = compare_slices(cells, slices, pairs, metrics, by="arm")
    if tested.is_empty():
        return tested
    lines = correct(tested, ["metric"])
    if together:
        more = compare_slices(cells, together, pairs, metrics, by="arm").with_columns(
            n_tests=pl.lit(None, dtype=pl.Int64), p_adjusted=pl.lit(None, dtype=pl.Float64), stars=pl.lit("")
        )
        lines = pl.concat([lines, more])
    lines = _apart(lines, "second", ("model", "against"))
    sign = pl.when(pl.col("metric").is_in(list(lower_is_better))).then(-1.0).otherwise(1.0)
    low, high = (sign * pl.col(f"difference_{end}") for end in ("low", "high"))
    facts = list(slices[0][0])
    return lines.select(
        "model",
        "against",
        *facts,
        "metric",
        pl.col("first_value").alias("value"),
        pl.col("second_value").alias("other_value"),
        (sign * pl.col("difference")).alias("gain"),
        pl.min_horizontal(low, high).alias("gain_low"),
        pl.max_horizontal(low, high).alias("gain_high"),
        "p_value",
        "n_tests",
        "p_adjusted",
        "stars",
        "n_residues",
        "n_records",
        "n_groups",
    )


def _apart(lines: pl.DataFrame, column: str, names: tuple[str, str]) -> pl.DataFrame:
    """Split a column of arms into two, in front."""
    if lines.is_empty():
        return lines
    split = lines[column].str.split(_BETWEEN)
    first, second = (split.list.get(place).alias(name) for place, name in enumerate(names))
    return lines.drop(column).select(first, second, pl.all())
