"""Pool the study of binding pairs: arms are means over seeds, intervals resample pairs (or their groups)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protlm.data.corpus import Corpus
from protlm.models.features import record_features, with_random_weights
from protlm.models.loading import load_model
from protlm.runs import Run
from protlm.statistics.bootstrap import Interval, bootstrap_means
from protlm.statistics.classification import Predictions, bootstrap_classification
from protlm.types.alphabet import STANDARD
from protlm.types.record import Record

ALONE = "none"
MOST_FITTED = 2400
"""Pairs that a classifier is fitted to, chosen by their content keys."""


def judge_losses(evaluation: Path, arms: Sequence[str], seeds: Sequence[int]) -> pl.DataFrame:
    """Give the loss on held-out pairs of every arm, alone and beside partners, and what partners are worth.

    Parameters
    ----------
    evaluation
        A Run of ``evaluate partner`` with models named ``ARM-SEED``.
    arms, seeds
        Of the models.

    Returns
    -------
    polars.DataFrame
        ``what, nats, low, high, by_seed, n_residues, n_pairs``; nats per residue, and gains are positive
        where the first is better.
    """
    table = pl.read_parquet(Run.open(evaluation).table_path("partner")).with_columns(
        pl.col("model").cast(str)
    )
    cells = table.group_by("group", "model", "partner").agg(loss=-pl.col("logprob").sum(), n=pl.len())
    sums = _Sums(cells, seeds)
    rows = [
        (f"{arm}, {_condition(condition)}", sums.mean(((arm, condition),)))
        for arm in arms
        for condition in ("true", "random", ALONE)
    ]
    rows += [
        (f"gain of {arm}: true over random partner", sums.mean(((arm, "random"),), ((arm, "true"),)))
        for arm in arms
    ]
    rows += [
        (
            f"gain of {arm} with the true partner over single alone",
            sums.mean((("single", ALONE),), ((arm, "true"),)),
        )
        for arm in arms
        if arm != "single"
    ]
    rows += [
        (
            f"gain of {arm} alone over single alone",
            sums.mean((("single", ALONE),), ((arm, ALONE),)),
        )
        for arm in arms
        if arm != "single"
    ]
    rows.append(
        (
            "gain of binding over random, both with the true partner",
            sums.mean((("random", "true"),), (("binding", "true"),)),
        )
    )
    return pl.DataFrame(
        [
            {
                "what": what,
                "nats": pooled.value,
                "low": pooled.low,
                "high": pooled.high,
                "by_seed": " ".join(f"{each:+.4f}" for each in by_seed),
                "n_residues": sums.n_residues,
                "n_pairs": sums.n_pairs,
            }
            for what, (pooled, by_seed) in rows
        ]
    )


def _condition(name: str) -> str:
    return "alone" if name == ALONE else f"beside the {name} partner"


class _Sums:
    """Losses and residues by group, as arrays over models and conditions."""

    def __init__(self, cells: pl.DataFrame, seeds: Sequence[int]) -> None:
        self.seeds = seeds
        groups = cells["group"].unique().sort()
        place = pl.DataFrame({"group": groups, "place": np.arange(len(groups))})
        self._of: dict[tuple[str, str], np.ndarray] = {}
        for (model, partner), own in cells.join(place, on="group").group_by("model", "partner"):
            values = np.zeros((2, len(groups)))
            values[:, own["place"].to_numpy()] = own["loss"].to_numpy(), own["n"].to_numpy()
            self._of[str(model), str(partner)] = values
        self._n = next(iter(self._of.values()))[1]
        assert all(np.array_equal(values[1], self._n) for values in self._of.values())
        self.n_residues, self.n_pairs = int(self._n.sum()), len(groups)

    def mean(
        self, plus: Sequence[tuple[str, str]], minus: Sequence[tuple[str, str]] = ()
    ) -> tuple[Interval, list[float]]:
        """Give the mean of sums and differences over seeds, and each seed's own."""
        each = [
            sum(self._of[f"{arm}-{seed}", condition][0] for arm, condition in plus)
            - sum(self._of[f"{arm}-{seed}", condition][0] for arm, condition in minus)
            for seed in self.seeds
        ]
        pooled = bootstrap_means(np.mean(each, axis=0)[:, None], weights=self._n)[0]
        return pooled, [float(np.sum(values) / self._n.sum()) for values in each]


def judge_power(evaluation: Path, truth: Path, arms: Sequence[str], seeds: Sequence[int]) -> pl.DataFrame:
    """Give what the true partner is worth at the planted sites, by the information that was planted.

    Parameters
    ----------
    evaluation
        A Run of ``evaluate partner`` on simulated pairs.
    truth
        Table of couplings.
    arms, seeds
        Of the models.

    Returns
    -------
    polars.DataFrame
        ``information, arm, recovered, low, high, by_seed, n_residues``: nats per planted site that `arm`
        saves over the arm ``random``, both beside the true partner; a perfect model saves `information`.
    """
    couplings = pl.read_csv(truth)
    sites = pl.concat(
        [
            couplings.select("information", chain=pl.lit(f"chain{number}"), index=pl.col(column) - 1)
            for number, column in ((1, "position_a"), (2, "position_b"))
        ]
    ).cast({"index": pl.Int32})
    table = pl.read_parquet(Run.open(evaluation).table_path("partner")).cast(
        {"model": pl.String, "chain": pl.String, "index": pl.Int32}
    )
    table = table.join(sites, on=("chain", "index"))
    rows = []
    for (information,), own in table.group_by("information"):
        cells = own.group_by("group", "model", "partner").agg(loss=-pl.col("logprob").sum(), n=pl.len())
        sums = _Sums(cells, seeds)
        for arm in arms:
            if arm in ("single", "random"):
                continue
            pooled, by_seed = sums.mean((("random", "true"),), ((arm, "true"),))
            rows.append(
                {
                    "information": information,
                    "arm": arm,
                    "recovered": pooled.value,
                    "low": pooled.low,
                    "high": pooled.high,
                    "by_seed": " ".join(f"{each:+.4f}" for each in by_seed),
                    "n_residues": sums.n_residues,
                }
            )
    return pl.DataFrame(rows).sort("arm", "information")


def judge_classifiers(
    folder: Path, arms: Sequence[str], seeds: Sequence[int], cut: Callable[[Record], Record]
) -> pl.DataFrame:
    """Tell binding from degree-matched other pairs of held-out clusters, from frozen embeddings and without.

    Parameters
    ----------
    folder
        With ``corpus`` and a Run for each ``ARM-SEED``.
    arms, seeds
        Of the models.
    cut
        Makes the windows of proteins that models read.

    Returns
    -------
    polars.DataFrame
        ``method, auroc`` and ``auprc`` with ``_low`` and ``_high``, ``n, n_fitted, n_groups``; what is of an
        arm is the mean over seeds.
    """
    fitted, tested = (_pairs(Corpus(f"{folder / 'corpus'}:{part}")) for part in ("train", "holdout"))
    fitted = fitted[:MOST_FITTED]
    labels = [np.array([bool(record.labels["binds"]) for record in some]) for some in (fitted, tested)]
    groups = np.unique([record.group or record.id for record in tested], return_inverse=True)[1]
    windows = [[cut(record) for record in some] for some in (fitted, tested)]
    methods: dict[str, list[np.ndarray]] = {
        "degree in training": [_degree(fitted, labels[0], tested)],
        "similarity to training pairs": [_similarity(fitted, labels[0], tested)],
        "composition and length": [_fit(_composition(fitted), _composition(tested), labels[0])],
    }
    models = {arm: [load_model(folder / f"{arm}-{seed}", device="cpu") for seed in seeds] for arm in arms}
    models["random weights"] = [with_random_weights(models[arms[0]][0], seed=seed) for seed in seeds]
    for name, networks in models.items():
        features = [[record_features(network, some) for some in windows] for network in networks]
        methods[name] = [_fit(mine, theirs, labels[0]) for mine, theirs in features]
    rows = []
    for name, scores in methods.items():
        draws = bootstrap_classification(
            [Predictions(each, labels[1], groups) for each in scores], num_units=int(groups.max()) + 1
        )
        row: dict[str, object] = {"method": name}
        for metric in ("auroc", "auprc"):
            found = draws.interval(metric)
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append({**row, "n": len(tested), "n_fitted": len(fitted), "n_groups": int(groups.max()) + 1})
    return pl.DataFrame(rows)


def _pairs(corpus: Corpus) -> list[Record]:
    return [corpus.record(int(row)) for row in np.argsort(corpus.keys, kind="stable")]


def _fit(fitted: np.ndarray, tested: np.ndarray, labels: np.ndarray) -> np.ndarray:
    classifier = LogisticRegression(max_iter=500)
    strength = {"C": [1e-4, 1e-3, 1e-2, 1e-1, 1]}
    model = make_pipeline(StandardScaler(), GridSearchCV(classifier, strength, scoring="neg_log_loss"))
    return model.fit(fitted, labels).predict_proba(tested)[:, 1]


def _composition(records: Sequence[Record]) -> np.ndarray:
    def counts(record: Record) -> list[np.ndarray]:
        return [
            np.array(
                [*(chain.residues.count(letter) / len(chain) for letter in STANDARD), np.log(len(chain))]
            )
            for chain in record.chains
        ]

    both = np.array([counts(record) for record in records])
    first, second = both[:, 0], both[:, 1]
    return np.hstack([first + second, np.abs(first - second), first * second])


def _degree(fitted: Sequence[Record], labels: np.ndarray, tested: Sequence[Record]) -> np.ndarray:
    """Log of how often the proteins stand in positive against other training pairs; even for unseen ones."""
    counts: dict[str, np.ndarray] = {}
    for record, label in zip(fitted, labels, strict=True):
        for chain in record.chains:
            counts.setdefault(chain.residues, np.ones(2))[int(label)] += 1
    odds: Mapping[str, float] = {key: float(np.log(value[1] / value[0])) for key, value in counts.items()}
    logits = np.array([sum(odds.get(chain.residues, 0.0) for chain in record.chains) for record in tested])
    return 1 / (1 + np.exp(-logits))


def _similarity(fitted: Sequence[Record], labels: np.ndarray, tested: Sequence[Record]) -> np.ndarray:
    """Nearest positive against nearest other training pair, by the cosine of 3-mers of both proteins."""
    sequences = sorted(
        {chain.residues for some in (fitted, tested) for record in some for chain in record.chains}
    )
    place = {residues: number for number, residues in enumerate(sequences)}
    counts = np.zeros((len(sequences), 8000), dtype=np.float32)
    for number, residues in enumerate(sequences):
        codes = np.array([STANDARD.find(letter) for letter in residues])
        words = codes[:-2] * 400 + codes[1:-1] * 20 + codes[2:]
        words = words[(codes[:-2] >= 0) & (codes[1:-1] >= 0) & (codes[2:] >= 0)]
        np.add.at(counts[number], words, 1)
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    pairs = [
        np.array([[place[c.residues] for c in record.chains] for record in some]) for some in (tested, fitted)
    ]
    same = counts @ counts.T
    scores = []
    for one, two in pairs[0]:
        there = same[one][pairs[1][:, 0]] * same[two][pairs[1][:, 1]]
        crossed = same[one][pairs[1][:, 1]] * same[two][pairs[1][:, 0]]
        near = np.maximum(there, crossed)
        scores.append(near[labels].max() - near[~labels].max())
    return 1 / (1 + np.exp(-np.array(scores)))
