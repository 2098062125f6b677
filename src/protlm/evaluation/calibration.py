"""Calibration of per-residue predictions: is a residue predicted at 80 % right 80 % of the time."""

import numpy as np
import polars as pl

from protlm.evaluation.slices import ALL, CDRS, FRAMEWORK, in_region
from protlm.statistics.calibration import Calibration, calibration

NUM_BINS = 10


def calibrate(table: pl.DataFrame | pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the expected calibration error of each model, and the reliability curve behind it.

    The confidence of a prediction is the probability of the most probable of the twenty amino acids.
    One model and chain is held in memory at a time, four numbers per residue.

    Parameters
    ----------
    table
        With the columns of `protlm.evaluation.residues.SCHEMA`.

    Returns
    -------
    errors : polars.DataFrame
        ``model, chain, region, n_residues, n_records, n_groups, confidence, accuracy``, ``error`` with
        ``_low`` and ``_high`` (95 %, groups resampled), and ``chance``, the error of a perfectly calibrated
        model with as many independent residues. `region` is ``all``, ``framework``, ``CDRs`` or ``CDR3``.
    bins : polars.DataFrame
        ``model, chain, region, bin, n_residues, confidence, accuracy, accuracy_low, accuracy_high``.
    """
    lazy = table.lazy()
    order = lazy.select(pl.col("model", "chain").unique(maintain_order=True).implode()).collect()
    errors, bins = [], []
    for model in order["model"][0]:
        for chain in order["chain"][0]:
            rows = (
                lazy.filter((pl.col("model") == model) & (pl.col("chain") == chain))
                .select(
                    "id",
                    "group",
                    "region",
                    confidence=pl.col("predicted_logprob").cast(pl.Float64).exp().clip(0, 1),
                    hit=(pl.col("predicted") == pl.col("residue")).cast(pl.Float64),
                )
                .collect(engine="streaming")
                .sort("id")
            )
            for region in (ALL, FRAMEWORK, CDRS, "CDR3"):
                part = rows.filter(in_region(region))
                if part.is_empty():
                    continue
                facts = {"model": model, "chain": chain, "region": region}
                groups = part["group"].cast(pl.Categorical).to_physical().to_numpy()
                result = calibration(part["confidence"], part["hit"], clusters=groups, num_bins=NUM_BINS)
                errors.append({**facts, **_error(part, result)})
                bins += [{**facts, **line} for line in _bins(result)]
    return pl.DataFrame(errors), pl.DataFrame(bins)


def _error(part: pl.DataFrame, result: Calibration) -> dict[str, float | int]:
    return {
        "n_residues": len(part),
        "n_records": part["id"].n_unique(),
        "n_groups": part["group"].n_unique(),
        "confidence": float(np.mean(part["confidence"].to_numpy())),
        "accuracy": float(np.mean(part["hit"].to_numpy())),
        "error": result.error.value,
        "error_low": result.error.low,
        "error_high": result.error.high,
        "chance": result.chance,
    }


def _bins(result: Calibration) -> list[dict[str, float | int]]:
    return [
        {
            "bin": number,
            "n_residues": each.accuracy.n,
            "confidence": each.confidence,
            "accuracy": each.accuracy.value,
            "accuracy_low": each.accuracy.low,
            "accuracy_high": each.accuracy.high,
        }
        for number, each in enumerate(result.bins)
    ]
