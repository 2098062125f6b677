"""A model's heads over all complexes: read once, choose and fit on few, judge on the others."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.explain.attention import attention_between
from protlm.explain.complexes import Complex, with_antigen_of, with_shuffled_antigen
from protlm.explain.contact_metrics import (
    ANTIBODY,
    ANTIGEN,
    LEVELS,
    METRICS,
    PAIRS,
    judge,
    scores_of,
    truth_of,
)
from protlm.explain.head_methods import (
    BASELINES,
    HeadSplit,
    baseline_scores,
    best_head,
    fit_heads,
    sample_items,
)
from protlm.models.language_model import LanguageModel
from protlm.types.record import Record

TRUE, RANDOM, SHUFFLED = "true", "random", "shuffled"
CONDITIONS: tuple[str, ...] = (TRUE, RANDOM, SHUFFLED)
"""What an antibody is shown with: its antigen, that of another complex, its own with residues in random
order (read back in the true one)."""
BEST_HEAD, REGRESSION = "best head", "regression"
MODEL_METHODS: tuple[str, ...] = (BEST_HEAD, REGRESSION)

Key = tuple[str, str, str]
"""Method, condition, level."""


@dataclass
class HeadReadings:
    """What one model's heads say of every complex.

    Letters of the shapes: ``c`` complexes, ``m`` heads of all layers, ``n`` residues of a side.
    """

    num_layers: int
    num_heads: int
    metrics: dict[tuple[str, str], np.ndarray]
    """By condition and level, ``[c, m, 4]`` in the order of `METRICS`."""
    residues: dict[tuple[str, str], dict[int, np.ndarray]]
    """By condition, level and complex, ``[m, n]``."""
    samples: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    """By level, for each complex the features ``[items, m]`` and labels that a regression is fitted on."""


def num_passes(partners: np.ndarray) -> int:
    """Give how often `read_heads` and `judge_model` together report a run as done.

    Parameters
    ----------
    partners
        As for `read_heads`.
    """
    return len(partners) * 4 + int((partners >= 0).sum())


def attention_block(model: LanguageModel, record: Record, num_antibody_chains: int) -> np.ndarray:
    """Run a record and give the corrected attention between antibody and antigen.

    Parameters
    ----------
    model
        Any that gives maps.
    record
        Antibody chains first.
    num_antibody_chains
        How many.

    Returns
    -------
    numpy.ndarray
        float32 ``[layers, heads, a, b]``.
    """
    batch = collate(flatten_records([record]), model.layout)
    size = sum(len(chain) for chain in record.chains[:num_antibody_chains])
    return attention_between(model, batch, torch.arange(len(record)) < size).numpy()


def read_heads(
    model: LanguageModel,
    complexes: Sequence[Complex],
    partners: np.ndarray,
    *,
    seed: int,
    on_pass: Callable[[], None],
) -> HeadReadings:
    """Run every complex as it is, with another antigen, and with its antigen shuffled.

    Parameters
    ----------
    model
        Any that gives maps.
    complexes
        All.
    partners
        From `protlm.explain.head_methods.draw_partners`.
    seed
        Of the shuffles and samples.
    on_pass
        Called after each run.
    """
    found: HeadReadings | None = None
    for index, condition, block in _blocks(model, complexes, partners, seed):
        heads = block.reshape(-1, *block.shape[2:])
        if found is None:
            found = _nothing_read(len(complexes), *block.shape[:2])
        for level, judged in _judged_by(index, condition, partners):
            scores = scores_of(heads, level)
            one = complexes[judged]
            found.metrics[condition, level][judged] = judge(scores, truth_of(one, level))
            if level != PAIRS:
                found.residues[condition, level][judged] = scores
            if condition == TRUE:
                items, labels = sample_items(one, level, seed=seed)
                found.samples[level].append((scores[:, items].T.copy(), labels))
        on_pass()
    assert found is not None
    return found


def _blocks(
    model: LanguageModel, complexes: Sequence[Complex], partners: np.ndarray, seed: int
) -> Iterator[tuple[int, str, np.ndarray]]:
    for index, one in enumerate(complexes):
        yield index, TRUE, attention_block(model, one.record, one.num_antibody_chains)
        yield index, SHUFFLED, _shuffled_block(model, one, seed)
        if partners[index] >= 0:
            record = with_antigen_of(one, complexes[partners[index]])
            yield index, RANDOM, attention_block(model, record, one.num_antibody_chains)


def _shuffled_block(model: LanguageModel, one: Complex, seed: int) -> np.ndarray:
    record, places = with_shuffled_antigen(one, seed=seed)
    return attention_block(model, record, one.num_antibody_chains)[..., places]


def _judged_by(index: int, condition: str, partners: np.ndarray) -> list[tuple[str, int]]:
    """Give levels of a run with the complexes that have their truth: in a random pair one for each side."""
    if condition == RANDOM:
        return [(ANTIBODY, index), (ANTIGEN, int(partners[index]))]
    return [(level, index) for level in LEVELS]


def _nothing_read(num_complexes: int, num_layers: int, num_heads: int) -> HeadReadings:
    keys = [(condition, level) for condition in CONDITIONS for level in LEVELS]
    keys.remove((RANDOM, PAIRS))
    shape = (num_complexes, num_layers * num_heads, len(METRICS))
    return HeadReadings(
        num_layers,
        num_heads,
        {key: np.full(shape, np.nan) for key in keys},
        {key: {} for key in keys},
        {level: [] for level in LEVELS},
    )


@dataclass(frozen=True)
class ModelJudged:
    """How one model's methods do on complexes that they were not chosen or fitted on."""

    values: dict[Key, np.ndarray]
    """``[c, 4]``; a mean over the splits in which a complex was judged, NaN where it never was."""
    heads: dict[str, Counter[int]]
    """By level, how many splits chose each head, 0-based over all layers."""


def judge_model(
    model: LanguageModel,
    complexes: Sequence[Complex],
    readings: HeadReadings,
    splits: Sequence[HeadSplit],
    *,
    seed: int,
    on_pass: Callable[[], None],
) -> ModelJudged:
    """Choose the best head and fit the regression on the training complexes of each split; judge the others.

    Parameters
    ----------
    model
        Run again on each complex, because maps of all heads would not fit in memory.
    complexes, readings
        From `read_heads`.
    splits
        From `protlm.explain.head_methods.head_splits`.
    seed
        As for `read_heads`.
    on_pass
        Called after each run.
    """
    heads: dict[str, Counter[int]] = {}
    sums = _Sums(len(complexes))
    weights: dict[str, np.ndarray] = {}
    for level in LEVELS:
        areas = readings.metrics[TRUE, level][:, :, 0]
        chosen = [best_head(areas, split.train) for split in splits]
        heads[level] = Counter(chosen)
        samples = readings.samples[level]
        weights[level] = np.stack([_fit(samples, split) for split in splits])
        for split, head in zip(splits, chosen, strict=True):
            for condition in CONDITIONS:
                if (condition, level) in readings.metrics:
                    values = readings.metrics[condition, level][split.test, head]
                    sums.add((BEST_HEAD, condition, level), split.test, values)
    for (condition, level), by_complex in readings.residues.items():
        for index, scores in by_complex.items():
            sums.judge((REGRESSION, condition, level), complexes, index, splits, weights[level] @ scores)
    for index, one in enumerate(complexes):
        for condition in (TRUE, SHUFFLED):
            if condition == TRUE:
                block = attention_block(model, one.record, one.num_antibody_chains)
            else:
                block = _shuffled_block(model, one, seed)
            scores = weights[PAIRS] @ scores_of(block.reshape(-1, *block.shape[2:]), PAIRS)
            sums.judge((REGRESSION, condition, PAIRS), complexes, index, splits, scores)
            on_pass()
    return ModelJudged(sums.means(), heads)


def judge_baselines(
    complexes: Sequence[Complex], splits: Sequence[HeadSplit], *, seed: int
) -> dict[Key, np.ndarray]:
    """Fit every baseline on the training complexes of each split and judge it on the others.

    Parameters
    ----------
    complexes, splits
        As for `judge_model`.
    seed
        Of random scores.

    Returns
    -------
    dict
        ``[c, 4]`` as `ModelJudged.values`.
    """
    sums = _Sums(len(complexes))
    for name, levels in BASELINES.items():
        for level in levels:
            for split in splits:
                for index, scores in baseline_scores(name, level, complexes, split, seed=seed).items():
                    values = judge(scores, truth_of(complexes[index], level))
                    sums.add((name, TRUE, level), np.array([index]), values)
    return sums.means()


def _fit(samples: Sequence[tuple[np.ndarray, np.ndarray]], split: HeadSplit) -> np.ndarray:
    chosen = [samples[index] for index in split.train.tolist()]
    return fit_heads(*(np.concatenate(parts) for parts in zip(*chosen, strict=True)))


class _Sums:
    """Sums of metrics over the splits in which a complex was judged."""

    def __init__(self, num_complexes: int) -> None:
        self._shape = (num_complexes, len(METRICS))
        self._sums: dict[Key, np.ndarray] = {}
        self._counts: dict[Key, np.ndarray] = {}

    def add(self, key: Key, indices: np.ndarray, values: np.ndarray) -> None:
        total = self._sums.setdefault(key, np.zeros(self._shape))
        counts = self._counts.setdefault(key, np.zeros(self._shape))
        is_defined = ~np.isnan(values)
        total[indices] += np.where(is_defined, values, 0.0)
        counts[indices] += is_defined

    def judge(
        self,
        key: Key,
        complexes: Sequence[Complex],
        index: int,
        splits: Sequence[HeadSplit],
        scores: np.ndarray,
    ) -> None:
        """Judge those rows of scores whose split has the complex among the others."""
        is_test = np.array([index in split.test for split in splits])
        for values in judge(scores[is_test], truth_of(complexes[index], key[2])):
            self.add(key, np.array([index]), values[None])

    def means(self) -> dict[Key, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return {
                key: total / np.where(self._counts[key] > 0, self._counts[key], np.nan)
                for key, total in self._sums.items()
            }
