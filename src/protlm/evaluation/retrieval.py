"""Retrieval judged in both directions: models beside chance, ceiling and baselines, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from protlm.evaluation.retrieval_galleries import Gallery
from protlm.statistics.bootstrap import Interval, bootstrap_mean, bootstrap_means
from protlm.statistics.joint_space import (
    alignment,
    effective_rank,
    modality_gap,
    notebook_uniformity,
    uniformity,
)
from protlm.statistics.retrieval import METRICS, Ranks, ceiling_ranks, chance_ranks, rank_relevant

Kind = Literal["model", "seed", "untrained", "baseline", "ceiling", "chance"]
DIRECTIONS = ("sequence to structure", "structure to sequence")
CHANCE, CEILING = "chance", "ceiling"
_BESIDE = ("untrained", "baseline", "chance")
"""Kinds that a model should be above."""
_COSINE_DECIMALS = 6
"""Closer cosines tie: they differ by how a batch was laid out."""

METRIC_SCHEMA = {
    **dict.fromkeys(("model", "direction", "gallery", "metric"), pl.String),
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    **dict.fromkeys(("n", "n_groups", "n_seeds"), pl.Int64),
    "seed_deviation": pl.Float64,
    "kind": pl.String,
    "crop": pl.Int64,
    "gallery_size": pl.Float64,
}
DIFFERENCE_SCHEMA = {
    **dict.fromkeys(("model", "direction", "gallery", "metric", "beside", "baseline"), pl.String),
    **dict.fromkeys(("value", "baseline_value", "difference", "low", "high"), pl.Float64),
    **dict.fromkeys(("n", "n_groups"), pl.Int64),
    "verdict": pl.String,
}


@dataclass(frozen=True)
class Matcher:
    """Something that scores every sequence with every structure, perhaps several times over."""

    name: str
    kind: Kind
    scores: Sequence[np.ndarray]
    """float ``[sequences, structures]`` for each seed; the numbers of a query are averaged over them."""
    sees_more: bool = False
    """Whether it looks at what the models were not shown, as the length of a chain that was cropped."""


def cosine_scores(sequences: np.ndarray, structures: np.ndarray) -> np.ndarray:
    """Give the cosine of each sequence with each structure, float64; those within 1e-6 are made equal.

    Parameters
    ----------
    sequences, structures
        Unit vectors, ``[pairs, width]``.
    """
    return np.round(sequences.astype(np.float64) @ structures.astype(np.float64).T, _COSINE_DECIMALS)


@dataclass(frozen=True)
class JudgedGallery:
    """Tables of one gallery."""

    metrics: pl.DataFrame
    """With `METRIC_SCHEMA`."""
    differences: pl.DataFrame
    """With `DIFFERENCE_SCHEMA`."""
    ranks: pl.DataFrame
    """A row for each matcher, direction and query."""


def judge_gallery(
    gallery: Gallery,
    matchers: Sequence[Matcher],
    clusters: np.ndarray,
    ids: Sequence[str],
    codes: Sequence[np.ndarray],
    *,
    crop: int | None = None,
    num_draws: int = 2000,
) -> JudgedGallery:
    """Judge matchers on a gallery, with 95 % intervals from resampling the clusters of the queries.

    Parameters
    ----------
    gallery
        Over the pairs that the scores are of.
    matchers
        Models first, by any name; chance and ceiling are added.
    clusters, ids
        Of the pairs.
    codes
        What makes two pairs look alike, for the ceiling; see `ceiling_ranks`.
    crop
        Length of the pairs, where they were cropped.
    num_draws
        Bootstrap samples.
    """
    rows, own = gallery.queries, np.eye(len(clusters), dtype=bool)
    chosen = gallery.candidates[rows]
    values: dict[str, np.ndarray] = {}
    metrics, differences, ranks = [], [], []
    for direction in DIRECTIONS:
        for matcher in matchers:
            turned = [each if direction == DIRECTIONS[0] else each.T for each in matcher.scores]
            found = [rank_relevant(each[rows], own[rows], chosen) for each in turned]
            values[matcher.name] = np.stack([each.values for each in found])
            ranks.append(_rank_table(matcher.name, direction, gallery, found, clusters, ids))
        values[CEILING] = ceiling_ranks(*codes, candidates=gallery.candidates).take(rows).values[None]
        values[CHANCE] = chance_ranks(own[rows], chosen).values[None]
        known = [*matchers, Matcher(CHANCE, "chance", ()), Matcher(CEILING, "ceiling", ())]
        where = {"direction": direction, "gallery": gallery.name}
        more = {"crop": crop or 0, "gallery_size": float(chosen.sum(axis=1).mean())}
        for each in known:
            metrics += [
                row | where | more | {"model": each.name, "kind": each.kind}
                for row in _metric_rows(values[each.name], clusters[rows], num_draws)
            ]
        differences += [row | where for row in _beside(known, values, clusters[rows], num_draws)]
    return JudgedGallery(
        pl.DataFrame(metrics, schema=METRIC_SCHEMA),
        pl.DataFrame(differences, schema=DIFFERENCE_SCHEMA),
        pl.concat(ranks),
    )


def _metric_rows(values: np.ndarray, clusters: np.ndarray, num_draws: int) -> list[dict]:
    """Give a row for each metric, from values ``[seeds, queries, metrics]``."""
    intervals = bootstrap_means(values.mean(axis=0), clusters=clusters, num_draws=num_draws)
    spread = values.mean(axis=1).std(axis=0, ddof=1) if len(values) > 1 else np.full(len(METRICS), np.nan)
    counts = {"n_groups": len(np.unique(clusters)), "n_seeds": len(values)}
    return [
        {"metric": metric, **_bounds(interval), "n": interval.n, "seed_deviation": float(deviation), **counts}
        for metric, interval, deviation in zip(METRICS, intervals, spread, strict=True)
    ]


def _bounds(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _beside(
    matchers: Sequence[Matcher], values: Mapping[str, np.ndarray], clusters: np.ndarray, num_draws: int
) -> list[dict]:
    """Set each model against the best of the others, and of those that see only what it sees."""
    means = {name: each.mean(axis=0) for name, each in values.items()}
    others = {"any baseline": [each for each in matchers if each.kind in _BESIDE]}
    if any(each.sees_more for each in others["any baseline"]):
        others["baselines of the same input"] = [
            each for each in others["any baseline"] if not each.sees_more
        ]
    rows = []
    for model in (each for each in matchers if each.kind == "model"):
        for beside, against in others.items():
            for place, metric in enumerate(METRICS):
                best = max(against, key=lambda each: means[each.name][:, place].mean())
                apart = means[model.name][:, place] - means[best.name][:, place]
                interval = bootstrap_mean(apart, clusters=clusters, num_draws=num_draws)
                rows.append(
                    {
                        "model": model.name,
                        "metric": metric,
                        "beside": beside,
                        "baseline": best.name,
                        "value": float(means[model.name][:, place].mean()),
                        "baseline_value": float(means[best.name][:, place].mean()),
                        "difference": interval.value,
                        "low": interval.low,
                        "high": interval.high,
                        "n": interval.n,
                        "n_groups": len(np.unique(clusters)),
                        "verdict": _verdict(interval),
                    }
                )
    return rows


def _verdict(interval: Interval) -> str:
    if not interval.value > 0:
        return "below"
    return "above" if interval.low > 0 else "not clear"


def _rank_table(
    name: str,
    direction: str,
    gallery: Gallery,
    found: Sequence[Ranks],
    clusters: np.ndarray,
    ids: Sequence[str],
) -> pl.DataFrame:
    values = np.stack([each.values for each in found]).mean(axis=0)
    columns = {
        "model": [name] * len(gallery.queries),
        "direction": [direction] * len(gallery.queries),
        "gallery": [gallery.name] * len(gallery.queries),
        "id": [ids[row] for row in gallery.queries.tolist()],
        "cluster": clusters[gallery.queries].tolist(),
        "gallery_size": found[0].size,
        "rank": np.stack([each.rank for each in found]).mean(axis=0),
    }
    return pl.DataFrame(columns | dict(zip(METRICS, values.T, strict=True)))


SPACE_METRICS = (
    *("alignment", "uniformity_sequence", "uniformity_structure", "uniformity_notebook"),
    *("modality_gap", "effective_rank_sequence", "effective_rank_structure"),
)


def space_rows(
    name: str,
    kind: Kind,
    vectors: Sequence[tuple[np.ndarray, np.ndarray]],
    clusters: np.ndarray,
    *,
    crop: int | None = None,
    num_draws: int = 2000,
) -> pl.DataFrame:
    """Describe the space of a model; the mean over seeds, and for alignment an interval over clusters.

    Parameters
    ----------
    name, kind
        Of the model.
    vectors
        Of sequences and structures for each seed, unit length.
    clusters
        Of the pairs.
    crop
        Length of the pairs, where they were cropped.
    num_draws
        Bootstrap samples.
    """
    distances = np.mean([alignment(*each) for each in vectors], axis=0)
    closeness = bootstrap_mean(distances, clusters=clusters, num_draws=num_draws)
    shapes = np.array(
        [
            [
                float(alignment(sequences, structures).mean()),
                uniformity(sequences),
                uniformity(structures),
                notebook_uniformity(sequences, structures),
                modality_gap(sequences, structures),
                effective_rank(sequences),
                effective_rank(structures),
            ]
            for sequences, structures in vectors
        ]
    )
    spread = shapes.std(axis=0, ddof=1) if len(shapes) > 1 else np.full(len(SPACE_METRICS), np.nan)
    rows = [
        {
            "model": name,
            "kind": kind,
            "crop": crop or 0,
            "metric": metric,
            "value": float(value),
            "low": closeness.low if metric == "alignment" else np.nan,
            "high": closeness.high if metric == "alignment" else np.nan,
            "n": len(clusters),
            "n_seeds": len(vectors),
            "seed_deviation": float(deviation),
        }
        for metric, value, deviation in zip(SPACE_METRICS, shapes.mean(axis=0), spread, strict=True)
    ]
    return pl.DataFrame(rows)


def similarity_table(
    name: str,
    scores: np.ndarray,
    clusters: np.ndarray,
    ids: Sequence[str],
    *,
    most: int = 60,
    per_cluster: int = 6,
) -> pl.DataFrame:
    """Give the scores of some pairs with each other, those of one cluster side by side.

    Parameters
    ----------
    name
        Of the model.
    scores
        float ``[sequences, structures]``.
    clusters, ids
        Of the pairs.
    most, per_cluster
        Pairs to show, in all and of one cluster; the largest clusters come first.
    """
    labels, codes, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(clusters)), labels[codes], -counts[codes]))
    place = np.arange(len(order)) - np.repeat(*_begins(codes[order]))
    order = order[place < per_cluster][:most]
    rows = [
        {
            "model": name,
            "sequence": ids[row],
            "structure": ids[column],
            "cluster": str(clusters[row]),
            "similarity": float(scores[row, column]),
        }
        for row in order.tolist()
        for column in order.tolist()
    ]
    return pl.DataFrame(rows)


def _begins(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give where each run of equal codes begins, and how long it is."""
    begins = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    return begins, np.diff(begins, append=len(codes))
