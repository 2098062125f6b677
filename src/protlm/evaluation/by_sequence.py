"""The aggregation of Ng & Briney: one value per sequence and region, to stand beside their numbers."""

from collections.abc import Sequence

import polars as pl

from protlm.evaluation.slices import REGION_NAMES, Slices, correct, summarise_slices
from protlm.statistics.paired import paired_t_test

_KEYS = ("model", "id", "group", "chain", "region")
_VALUES = ("accuracy", "loss")


def sequence_values(table: pl.DataFrame | pl.LazyFrame, status: pl.DataFrame | None = None) -> pl.DataFrame:
    """Give the mean accuracy and the median loss of each region of each sequence.

    Parameters
    ----------
    table
        With the columns of `protlm.evaluation.residues.SCHEMA`.
    status
        ``id, antibody`` from `protlm.evaluation.regions.antibody_status`; all null where not given.

    Returns
    -------
    polars.DataFrame
        ``model, id, group, chain, region, accuracy, loss, antibody``; residues outside the seven regions
        are left out.

    References
    ----------
    Ng & Briney 2025, figure 3: accuracy is the mean and loss the median over a region.
    """
    lazy = table.lazy().filter(pl.col("region") != "")
    models = lazy.select(pl.col("model").unique(maintain_order=True)).collect()["model"]
    frames = [
        lazy.filter(pl.col("model") == model)
        .group_by(*_KEYS)
        .agg(
            accuracy=(pl.col("predicted") == pl.col("residue")).mean(),
            loss=-pl.col("logprob").cast(pl.Float64).median(),
        )
        .collect()
        .sort("chain", "region", "id")
        for model in models
    ]
    values = pl.concat(frames) if frames else pl.DataFrame(schema=[*_KEYS, *_VALUES])
    if status is None:
        return values.with_columns(antibody=pl.lit(None, dtype=pl.String))
    return values.join(status, on="id", how="left", maintain_order="left")


def summarise_sequences(values: pl.DataFrame) -> pl.DataFrame:
    """Give the mean over sequences of accuracy and of loss, per model, chain and region.

    Parameters
    ----------
    values
        From `sequence_values`.

    Returns
    -------
    polars.DataFrame
        ``model, chain, region, antibodies, n_records, n_groups``, ``accuracy`` and ``loss`` with ``_low``
        and ``_high`` (95 %, groups resampled), and ``_median``. `antibodies` is ``all``, ``germline`` or
        ``mutated``.

    Notes
    -----
    A sequence that lacks a region is left out of that region's line. The paper leaves it out altogether.
    """
    slices = _slices(values)
    summary = summarise_slices(values.with_columns(n=pl.lit(1.0)), slices, {name: name for name in _VALUES})
    medians = [
        values.filter(wanted)
        .group_by("model")
        .agg(pl.col(name).median().alias(f"{name}_median") for name in _VALUES)
        .with_columns(pl.lit(value).alias(name) for name, value in facts.items())
        for facts, wanted in slices
    ]
    keys = ["model", "chain", "region", "antibodies"]
    return summary.drop("n_residues").join(pl.concat(medians), on=keys, how="left", maintain_order="left")


def compare_sequences(values: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Give the paired t-test over sequences of each region, as published.

    p-values are multiplied by the number of tests of one metric and one kind of antibody over all pairs of
    models given: 14, as published, for two models on antibody pairs.

    Parameters
    ----------
    values
        From `sequence_values`.
    pairs
        Names of models; differences are first minus second.

    Returns
    -------
    polars.DataFrame
        ``first, second, chain, region, antibodies, metric, first_value, second_value, difference,
        statistic, p_value, n_records, n_tests, p_adjusted, stars``.

    Notes
    -----
    Sequences of one clonotype count as independent here, as in the paper, so p-values are too small
    where clonotypes have several sequences. `protlm.evaluation.regions.compare` does not assume it.
    """
    rows = []
    for facts, wanted in _slices(values):
        part = values.filter(wanted)
        if part.is_empty():
            continue
        for first, second in pairs:
            one, two = (part.filter(pl.col("model") == name).sort("id") for name in (first, second))
            assert one["id"].equals(two["id"]), "models were evaluated on different records"
            for name in _VALUES:
                test = paired_t_test(one[name].to_numpy(), two[name].to_numpy())
                rows.append(
                    {
                        "first": first,
                        "second": second,
                        **facts,
                        "metric": name,
                        "first_value": float(one[name].to_numpy().mean()),
                        "second_value": float(two[name].to_numpy().mean()),
                        "difference": test.mean_difference,
                        "statistic": test.statistic,
                        "p_value": test.p_value,
                        "n_records": test.n,
                    }
                )
    lines = pl.DataFrame(rows)
    return lines if lines.is_empty() else correct(lines, ["antibodies", "metric"])


def _slices(values: pl.DataFrame) -> Slices:
    kinds = [("all", pl.lit(True))]
    kinds += [
        (status, pl.col("antibody") == status)
        for status in ("germline", "mutated")
        if (values["antibody"] == status).any()
    ]
    present = set(values.select("chain", "region").unique().iter_rows())
    return [
        (
            {"chain": chain, "region": region, "antibodies": kind},
            (pl.col("chain") == chain) & (pl.col("region") == region) & of_kind,
        )
        for kind, of_kind in kinds
        for chain in values["chain"].unique(maintain_order=True)
        for region in REGION_NAMES
        if (chain, region) in present
    ]
