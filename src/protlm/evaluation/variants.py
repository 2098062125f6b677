"""Scores against measured variant effects: ProteinGym's five metrics of one assay."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from protlm.data.readers.assays import Assay
from protlm.errors import DataError
from protlm.statistics.metrics import as_floats, auroc, mcc, ndcg, spearman

METRICS = ("spearman", "auroc", "mcc", "ndcg", "top_recall")
DEPTHS = ("1", "2", "3", "4", "5+")
"""Numbers of substitutions that are judged apart."""
ALL, COVERED = "all", "covered"
FACTS = {"uniprot": pl.String, "function": pl.String, "taxon": pl.String, "msa_depth": pl.String}
SCHEMA = {
    "assay": pl.String,
    "model": pl.String,
    "subset": pl.String,
    "depth": pl.String,
    **FACTS,
    "n": pl.Int64,
    "n_fit": pl.Int64,
    "n_skipped": pl.Int64,
    **dict.fromkeys(METRICS, pl.Float64),
}
"""Columns of `assay_rows`."""


def strict_top_recall(scores: npt.ArrayLike, values: npt.ArrayLike, fraction: float = 0.1) -> float:
    """Give ProteinGym's recall of the best variants, on both sides those strictly above a quantile.

    The (1 - `fraction`) quantile is interpolated linearly, so above it is what is greater than the value
    of rank floor((1 - `fraction`)(n - 1)), ranks starting at 0.

    DISCREPANCY: `protlm.statistics.metrics.top_recall` counts what is at the quantile as best, too, and
    lets score ties share the last places, where ProteinGym's code compares with ``>``. Without ties the
    two differ where the quantile is a value itself, so for 11, 21, 31 … variants at 10 %.

    Parameters
    ----------
    scores
        Predictions, shape (variants,). Only their order matters.
    values
        Measurements, shape (variants,); higher is better.
    fraction
        Above 0, below 1.

    Returns
    -------
    float
        From 0 to 1. NaN where no value is above the quantile, as where a tenth or more share the highest.
        DISCREPANCY: ProteinGym's code gives 0 there.

    References
    ----------
    Notin et al., ProteinGym, NeurIPS 2023, ``performance_DMS_benchmarks.py``, ``calc_toprecall``.

    Examples
    --------
    The 0.6 quantiles are 3 and 7: two are best, one of them is among the two called.

    >>> strict_top_recall([5, 4, 3, 2, 1], [9, 0, 8, 7, 6], fraction=0.4)
    0.5
    """
    predicted, truth = as_floats("scores", scores), as_floats("values", values, finite=True)
    if len(truth) != len(predicted):
        raise DataError(f"lengths differ: scores {len(predicted)}, values {len(truth)}", hint="give one each")
    if len(truth) == 0:
        return math.nan
    below = math.floor(round((1 - fraction) * (len(truth) - 1), 9))
    best, called = (column > np.sort(column)[below] for column in (truth, predicted))
    return float((best & called).sum() / best.sum()) if best.any() else math.nan


def assay_metrics(
    scores: npt.ArrayLike,
    values: npt.ArrayLike,
    is_fit: npt.ArrayLike | None = None,
    *,
    cut: float | None = None,
    missing: Literal["error", "skip"] = "error",
) -> dict[str, float | int]:
    """Judge the scores of one assay by ProteinGym's five metrics.

    Spearman and AUROC are as everywhere. MCC calls fit what scores at or above the median score. NDCG has
    min-max scaled values as gains and counts the top tenth by score; recall is that of the top tenth by
    value in the top tenth by score.

    DISCREPANCY: ProteinGym's code lets the row order break score ties in NDCG, where here a tie shares
    its mean gain, and gives NDCG 0 for fewer than ten variants; it gives MCC 0 where all labels or all
    calls are alike, and recall 0 where no value is above the 0.9 quantile. Here these are NaN, so that
    such cells are counted as missing.

    Parameters
    ----------
    scores
        Shape (variants,); higher means fitter. `None` counts as NaN.
    values
        Measured, shape (variants,), finite; higher is fitter.
    is_fit
        0 or 1 (or booleans), shape (variants,). Without it AUROC and MCC are NaN.
    cut
        Score at or above which MCC calls a variant fit; by default the median of the scores.
    missing
        What to do with NaN scores: refuse, or leave those variants out and count them.

    Returns
    -------
    dict of str to float or int
        ``n`` variants judged, ``n_fit`` of them fit (0 without labels), ``n_skipped``, and one value for
        each of `METRICS`.

    Raises
    ------
    DataError
        If a score is NaN and not to be skipped, a value is NaN or infinite, or the lengths differ.

    References
    ----------
    Notin et al., ProteinGym, NeurIPS 2023, ``performance_DMS_benchmarks.py``.

    Examples
    --------
    >>> row = assay_metrics([3, 2, 1, 0], [9, 8, 2, 1], [1, 1, 0, 0])
    >>> row["n"], row["spearman"], row["auroc"], row["mcc"]
    (4, 1.0, 1.0, 1.0)
    """
    predicted, truth = np.asarray(scores, dtype=np.float64), as_floats("values", values, finite=True)
    labels = None if is_fit is None else as_floats("is_fit", is_fit)
    lengths = {"scores": predicted.shape, "values": truth.shape}
    lengths |= {} if labels is None else {"is_fit": labels.shape}
    if len(set(lengths.values())) > 1 or predicted.ndim != 1:
        listing = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        raise DataError(f"shapes differ or are no columns: {listing}", hint="give one of each per variant")
    given = ~np.isnan(predicted)
    if missing == "error":
        as_floats("scores", predicted)
    predicted, truth = predicted[given], truth[given]
    row: dict[str, float | int] = {"n": len(truth), "n_fit": 0, "n_skipped": int((~given).sum())}
    row |= {
        "spearman": spearman(predicted, truth),
        "auroc": math.nan,
        "mcc": math.nan,
        "ndcg": ndcg(predicted, truth),
        "top_recall": strict_top_recall(predicted, truth),
    }
    if labels is not None and len(truth):
        fit = labels[given]
        called = predicted >= (float(np.median(predicted)) if cut is None else cut)
        row |= {"n_fit": int(fit.sum()), "auroc": auroc(predicted, fit), "mcc": mcc(called, fit)}
    return row


def assay_rows(
    assay: Assay,
    scores: Mapping[str, npt.ArrayLike],
    *,
    covered: npt.NDArray[np.bool_] | None = None,
    missing: Literal["error", "skip"] = "error",
) -> pl.DataFrame:
    """Judge several models on one assay: all variants, the covered ones, and each mutation depth.

    Parameters
    ----------
    assay
        From `protlm.data.readers.assays.read_assay`.
    scores
        By model, one per variant of the assay in its order.
    covered
        Whether alignment methods can score a variant; by default `Assay.covered`, from the range in the
        reference table. Without either there are no lines of that subset.
    missing
        As for `assay_metrics`.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`, a line per model, `subset` (``all``, ``covered``) and `depth` (``all`` or one
        of `DEPTHS`) that has a variant. As in ProteinGym, MCC of one depth cuts at the median score of
        all depths. What is undefined is null.

    Raises
    ------
    DataError
        Naming the assay and the model, as for `assay_metrics`.
    """
    covered = assay.covered() if covered is None else covered
    subsets = {ALL: np.ones(len(assay.values), dtype=bool)}
    if covered is not None:
        if np.shape(covered) != assay.values.shape:
            raise DataError(
                f"assay '{assay.facts.id}': coverage of {np.size(covered)} variants, not {len(assay.values)}",
                hint="give one value per variant of the assay",
            )
        subsets[COVERED] = np.asarray(covered, dtype=bool)
    depths = assay.depths
    of_depth = {ALL: depths > 0} | {name: depths == int(name) for name in DEPTHS[:-1]}
    of_depth[DEPTHS[-1]] = depths >= len(DEPTHS)
    facts = {"assay": assay.facts.id} | {name: getattr(assay.facts, name) for name in FACTS}
    rows = []
    for model, column in scores.items():
        predicted = np.asarray(column, dtype=np.float64)
        if predicted.shape != assay.values.shape:
            raise DataError(
                f"assay '{assay.facts.id}', model '{model}': {predicted.size} scores for "
                f"{len(assay.values)} variants",
                hint="give one score per variant of the assay, in its order",
            )
        for subset, inside in subsets.items():
            cut = _median(predicted[inside])
            for depth, wanted in of_depth.items():
                mask = inside & wanted
                if not mask.any():
                    continue
                try:
                    row = assay_metrics(
                        predicted[mask], assay.values[mask], assay.is_fit[mask], cut=cut, missing=missing
                    )
                except DataError as error:
                    where = f"assay '{assay.facts.id}', model '{model}'"
                    raise DataError(f"{where}: {error.message}", hint=error.hint) from None
                rows.append(facts | {"model": model, "subset": subset, "depth": depth} | row)
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(METRICS).fill_nan(None))


def _median(scores: npt.NDArray[np.float64]) -> float:
    known = scores[~np.isnan(scores)]
    return float(np.median(known)) if len(known) else math.nan
