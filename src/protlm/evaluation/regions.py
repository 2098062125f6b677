"""Per-residue prediction by region: every residue masked once, beside the trivial baselines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from protlm.data.numbering import gene_of
from protlm.evaluation.frequencies import FrequencyBaseline
from protlm.models.language_model import MaskedModel
from protlm.scoring.engine import DEFAULT_TOKEN_BUDGET, ContextList, run_contexts
from protlm.scoring.plans import every_residue_masked
from protlm.statistics.bootstrap import bootstrap_difference, bootstrap_mean
from protlm.statistics.paired import bonferroni, paired_t_test, stars
from protlm.types.alphabet import STANDARD
from protlm.types.record import Record
from protlm.types.regions import REGIONS, Mutated, Region, Segment, decode_position

_RECORDS_PER_CALL = 32

_REGION_NAMES = [region.name if region else "" for region in Region]
_SEGMENT_NAMES = [segment.name if segment else "" for segment in Segment]
_MUTATED = {Mutated.NONE: None, Mutated.GERMLINE: False, Mutated.MUTATED: True}

SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "group": pl.String,
        "model": pl.String,
        "chain": pl.String,
        "position": pl.String,
        "index": pl.Int32,
        "region": pl.String,
        "segment": pl.String,
        "residue": pl.String,
        "mutated": pl.Boolean,
        "logprob": pl.Float32,
        "predicted": pl.String,
        "predicted_logprob": pl.Float32,
        "entropy": pl.Float32,
    }
)
"""Columns of ``regions.parquet``: `index` is 0-based in the chain, `position` the IMGT label."""


def predict_residues(
    model: MaskedModel,
    records: Sequence[Record],
    *,
    max_tokens: int = DEFAULT_TOKEN_BUDGET,
    on_contexts: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Mask every residue of every record once and table what the model says there.

    Probabilities are over the twenty amino acids (the other tokens are left out and the rest
    rescaled), so that models with different vocabularies and the baselines can be compared. Residues
    that are none of the twenty are left out.

    Parameters
    ----------
    model
        Any masked model.
    records
        Antibodies or any proteins.
    max_tokens
        Token budget of a batch.
    on_contexts
        Called with the number of contexts finished.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`; log-probabilities and entropy in nats.
    """
    frames = []
    for start in range(0, len(records), _RECORDS_PER_CALL):
        some = records[start : start + _RECORDS_PER_CALL]
        contexts = ContextList(some)
        rows = np.concatenate([every_residue_masked(contexts, base) for base in range(len(some))])
        logprobs = run_contexts(model, contexts, max_tokens=max_tokens, on_batch=on_contexts)[rows]
        over_twenty = logprobs[:, model.layout.standard_ids].astype(np.float64)
        over_twenty -= np.logaddexp.reduce(over_twenty, axis=1, keepdims=True)
        frames.append(_table(model.name, some, over_twenty))
    return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)


def predict_baseline(baseline: FrequencyBaseline, records: Sequence[Record]) -> pl.DataFrame:
    """Table what a frequency baseline says at every residue of numbered chains.

    Parameters
    ----------
    baseline
        Fitted on training chains.
    records
        The same as for the models.
    """
    logprobs = [
        baseline.logprobs(chain.locus, gene_of(chain.v_call), _track(chain.tracks, "position", len(chain)))
        for record in records
        for chain in record.chains
    ]
    return _table(baseline.name, records, np.concatenate(logprobs))


def _table(model: str, records: Sequence[Record], logprobs: np.ndarray) -> pl.DataFrame:
    columns: dict[str, list] = {name: [] for name in ("id", "group", "chain", "residue", "index")}
    codes: dict[str, list[np.ndarray]] = {name: [] for name in ("position", "region", "segment", "mutated")}
    for record in records:
        for name, chain in zip(record.chain_names, record.chains, strict=True):
            length = len(chain)
            columns["id"] += [record.id] * length
            columns["group"] += [record.group or record.id] * length
            columns["chain"] += [name] * length
            columns["residue"] += chain.residues
            columns["index"] += range(length)
            for track, values in codes.items():
                values.append(_track(chain.tracks, track, length))
    joined = {name: np.concatenate(values) for name, values in codes.items()}
    best = logprobs.argmax(axis=1)
    letter = np.array([STANDARD.find(residue) for residue in columns["residue"]])
    frame = pl.DataFrame(
        {
            "id": columns["id"],
            "group": columns["group"],
            "model": [model] * len(letter),
            "chain": columns["chain"],
            "position": [decode_position(code) for code in joined["position"]],
            "index": columns["index"],
            "region": [_REGION_NAMES[code] for code in joined["region"]],
            "segment": [_SEGMENT_NAMES[code] for code in joined["segment"]],
            "residue": columns["residue"],
            "mutated": [_MUTATED[Mutated(code)] for code in joined["mutated"]],
            "logprob": np.take_along_axis(logprobs, letter[:, None], axis=1)[:, 0],
            "predicted": [STANDARD[index] for index in best],
            "predicted_logprob": logprobs.max(axis=1),
            "entropy": -(np.exp(logprobs) * logprobs).sum(axis=1),
        },
        schema=SCHEMA,
    )
    return frame.filter(letter >= 0)


def _track(tracks: object, name: str, length: int) -> np.ndarray:
    values = tracks.get(name)  # type: ignore[attr-defined]
    return values if values is not None else np.zeros(length, dtype=np.uint8)


@dataclass(frozen=True)
class Slice:
    """One line of the summary: which residues it is about."""

    chain: str
    region: str
    residues: str
    """``all``, ``germline`` or ``mutated``."""


def slices(table: pl.DataFrame) -> Iterator[tuple[Slice, pl.Expr]]:
    """Give the lines of the summary with the filter for each: chains × regions, framework, all.

    Parameters
    ----------
    table
        With `SCHEMA`.
    """
    chains = table["chain"].unique(maintain_order=True).to_list()
    names = [region.name for region in REGIONS]
    frameworks = [name for name in names if name.startswith("FR")]
    kinds = [("all", pl.lit(True))]
    if table["mutated"].is_not_null().any():
        kinds += [("germline", ~pl.col("mutated")), ("mutated", pl.col("mutated"))]
    for chain in chains:
        for region in [*names, "framework", "all"]:
            wanted = frameworks if region == "framework" else names
            in_region = pl.col("region") == region if region in names else pl.col("region").is_in(wanted)
            if region == "all":
                in_region = pl.lit(True)
            for kind, is_kind in kinds:
                yield Slice(chain, region, kind), (pl.col("chain") == chain) & in_region & is_kind


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    """Give accuracy, cross-entropy and perplexity per model, chain and region with intervals.

    Means run over residues; the 95 % intervals resample groups of records (clonotypes), because
    residues of one record, and records of one clonotype, are not independent.

    Parameters
    ----------
    table
        With `SCHEMA`, one or more models over the same records.

    Returns
    -------
    polars.DataFrame
        ``model, chain, region, residues, n_residues, n_records, n_groups, accuracy, accuracy_low,
        accuracy_high, cross_entropy, cross_entropy_low, cross_entropy_high, perplexity``.
    """
    rows = []
    for each, wanted in slices(table):
        part = table.filter(wanted)
        for (model,), own in part.group_by("model", maintain_order=True):
            sums = _per_group(own)
            weights = sums["n"].to_numpy()
            accuracy = bootstrap_mean(sums["hits"].to_numpy(), weights=weights)
            entropy = bootstrap_mean(sums["loss"].to_numpy(), weights=weights)
            rows.append(
                {
                    "model": model,
                    "chain": each.chain,
                    "region": each.region,
                    "residues": each.residues,
                    "n_residues": len(own),
                    "n_records": own["id"].n_unique(),
                    "n_groups": len(sums),
                    "accuracy": accuracy.value,
                    "accuracy_low": accuracy.low,
                    "accuracy_high": accuracy.high,
                    "cross_entropy": entropy.value,
                    "cross_entropy_low": entropy.low,
                    "cross_entropy_high": entropy.high,
                    "perplexity": float(np.exp(entropy.value)),
                }
            )
    return pl.DataFrame(rows)


def compare(table: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Compare pairs of models region by region on the same residues.

    The paired t-test runs over the means of groups and weighs groups alike; the difference and its
    interval weigh residues alike and resample groups. p-values are multiplied by the number of tests
    for one metric and one kind of residue over all pairs given (Bonferroni: 7 for one pair on single
    chains, 14 on antibody pairs).

    DISCREPANCY: Ng & Briney (figure 3) test over sequences. Sequences of one clonotype are not
    independent, so here a group, which is V gene and CDR3 unless said otherwise, is the unit. Where
    every record is its own group the two are the same.

    Parameters
    ----------
    table
        With `SCHEMA`.
    pairs
        Names of models or baselines in it; differences are first minus second.

    Returns
    -------
    polars.DataFrame
        ``first, second, chain, region, residues, metric, first_value, second_value, difference,
        difference_low, difference_high, p_value, p_adjusted, stars, n_groups``. For
        ``cross_entropy`` a negative difference favours `first`.
    """
    rows = []
    for each, wanted in slices(table):
        part = table.filter(wanted)
        if part.is_empty() or each.region in ("framework", "all"):
            continue
        for first, second in pairs:
            one, two = (_per_group(part.filter(pl.col("model") == name)) for name in (first, second))
            facts = {"first": first, "second": second, **vars(each)}
            rows += [
                {**facts, "metric": metric, **_paired(one, two, column)}
                for metric, column in (("accuracy", "hits"), ("cross_entropy", "loss"))
            ]
    frame = pl.DataFrame(rows)
    if frame.is_empty():
        return frame
    corrected = []
    for _, family in frame.group_by("residues", "metric", maintain_order=True):
        adjusted = bonferroni(family["p_value"].to_numpy())
        marks = [stars(value) for value in adjusted]
        corrected.append(family.with_columns(p_adjusted=pl.Series(adjusted), stars=pl.Series(marks)))
    return pl.concat(corrected)


def _paired(one: pl.DataFrame, two: pl.DataFrame, column: str) -> dict[str, float | int]:
    weights = one["n"].to_numpy()
    values = [groups[column].to_numpy() for groups in (one, two)]
    test = paired_t_test(values[0] / weights, values[1] / weights)
    difference = bootstrap_difference(*values, weights=weights)
    return {
        "first_value": float(values[0].sum() / weights.sum()),
        "second_value": float(values[1].sum() / weights.sum()),
        "difference": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "p_value": test.p_value,
        "n_groups": test.n,
    }


def _measured(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        hits=(pl.col("predicted") == pl.col("residue")).cast(pl.Float64),
        loss=-pl.col("logprob").cast(pl.Float64),
    )


def _per_group(table: pl.DataFrame) -> pl.DataFrame:
    sums = (pl.col("hits").sum(), pl.col("loss").sum(), pl.len().alias("n").cast(pl.Float64))
    return _measured(table).group_by("group").agg(*sums).sort("group")
