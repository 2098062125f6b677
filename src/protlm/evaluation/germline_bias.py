"""Germline bias: what a model predicts where somatic mutation changed the residue."""

import polars as pl

from protlm.evaluation.slices import (
    ALL,
    CDRS,
    FRAMEWORK,
    REGION_NAMES,
    chains_of,
    in_region,
    summarise_slices,
)

OUTCOMES = ("right", "germline", "other")
"""What may be predicted at a mutated residue: the residue there, its germline, or a third one."""
_METRICS = {**{name: name for name in OUTCOMES}, "log_odds": "log_odds"}


def germline_bias(table: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Give the shares of mutated residues where the model predicts the residue, the germline, or neither.

    Parameters
    ----------
    table
        With the columns of `protlm.evaluation.residues.SCHEMA`.

    Returns
    -------
    polars.DataFrame
        ``model, chain, region, n_residues, n_records, n_groups``, each of `OUTCOMES` (they sum to 1), and
        ``log_odds``, the mean of ln p(residue) − ln p(germline) in nats, which is negative where the
        germline is preferred; all with ``_low`` and ``_high``, the 95 % interval over groups. Empty where
        no mutated residue has a known germline.

    Notes
    -----
    Only residues that are marked as mutated and have a known germline residue among the twenty count; both
    come from the nearest germline gene, so an unknown allele looks like a mutation.
    """
    lazy = table.lazy()
    order = lazy.select(pl.col("model", "chain").unique(maintain_order=True).implode()).collect()
    residues = lazy.filter(
        pl.col("mutated") & pl.col("germline").is_not_null() & (pl.col("germline") != pl.col("residue"))
    ).select(
        pl.col("model").cast(pl.Enum(order["model"][0])),
        pl.col("chain").cast(pl.Enum(order["chain"][0])),
        "id",
        "group",
        "region",
        n=pl.lit(1.0),
        right=(pl.col("predicted") == pl.col("residue")).cast(pl.Float64),
        germline=(pl.col("predicted") == pl.col("germline")).cast(pl.Float64),
        log_odds=(pl.col("logprob").cast(pl.Float64) - pl.col("germline_logprob").cast(pl.Float64)),
    )
    rows = residues.collect(engine="streaming").sort("model", "chain", "id", "region")
    rows = rows.with_columns(other=1 - pl.col("right") - pl.col("germline"))
    slices = [
        ({"chain": chain, "region": region}, (pl.col("chain") == chain) & in_region(region))
        for chain in chains_of(rows)
        for region in (*REGION_NAMES, FRAMEWORK, CDRS, ALL)
    ]
    return summarise_slices(rows, slices, _METRICS)
