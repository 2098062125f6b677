"""Native pairs against pairs with an exchanged light chain, as the examples of a task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protlm.data.pairs import distinct_pairs, shuffle_pairs, shuffled_records
from protlm.data.split_report import SplitReport
from protlm.data.splits import Groups, assign_folds
from protlm.errors import DataError
from protlm.evaluation.cards import ShuffledPairs, Split, TaskCard
from protlm.evaluation.probes import all_rounds
from protlm.evaluation.task_cut import cut_rows
from protlm.evaluation.task_examples import TaskData, Trial, content_of, look_at_split, sources_of
from protlm.evaluation.task_files import text_of
from protlm.evaluation.task_splits import key_groups
from protlm.types.record import Record
from protlm.types.target import Target


def shuffled_examples(
    card: TaskCard,
    target: ShuffledPairs,
    records: list[Record],
    seeds: range,
    most: int | None,
    counts: Counter[str],
    lines: list[str],
) -> TaskData:
    """Make the examples: every native pair, and one shuffled pair for each, split by split and seed by seed.

    Parameters
    ----------
    card, target
        The task.
    records
        Pairs as they were read.
    seeds
        Of folds and shuffles.
    most
        Cut of the native pairs; `None` keeps all.
    counts
        Filled with what was left out, by reason.
    lines
        Filled with what is worth saying.
    """
    pool, repeated = distinct_pairs(records)
    counts.update(repeated)
    pool = [pool[row] for row in cut_rows(card, pool, most, lines)]
    within = None if target.within is None else [text_of(record, target.within) for record in pool]
    everything: list[Record] = list(pool)
    place = {content_of(record): row for row, record in enumerate(pool)}
    trials: list[Trial] = []
    reports = {}
    for split in card.splits:
        groups = key_groups(pool, split, lines)
        own: list[Trial] = []
        for seed in seeds:
            folds = assign_folds(groups, [1 / split.folds] * split.folds, strata=within, seed=seed)
            shuffle = shuffle_pairs(pool, folds, within=within, negatives=target.negatives, seed=seed)
            native = np.flatnonzero(shuffle.partners >= 0)
            rows = []
            for record in shuffled_records(pool, shuffle):
                row = place.setdefault(content_of(record), len(everything))
                if row == len(everything):
                    everything.append(record)
                rows.append(row)
            _check_shuffle(pool, folds, native, rows)
            if seed == seeds[0]:
                counts.update({f"{reason} (split '{split.name}')": n for reason, n in shuffle.counts.items()})
            own.append(
                Trial(
                    split.name,
                    seed,
                    np.concatenate([native, np.array(rows, dtype=np.int64)]),
                    np.repeat([False, True], len(native)),
                    np.tile(folds[native], 2),
                    np.tile(groups.codes[native], 2),
                    len(groups.names),
                    all_rounds(folds[native]),
                )
            )
        own = _units_in_use(own)
        trials += own
        if own:
            reports[split.name] = _report_shuffled(card, split, everything, own[0])
    pairs = Target("binary", "pair", ("native", "shuffled"), "pairing")
    return TaskData(everything, sources_of(card, everything), trials, reports, pairs)


def _units_in_use(trials: list[Trial]) -> list[Trial]:
    """Renumber the units of resampling so that each is in a trial: those of pairs left out are no units."""
    used, codes = np.unique(np.concatenate([trial.groups for trial in trials]), return_inverse=True)
    ends = np.cumsum([len(trial.groups) for trial in trials])[:-1]
    return [
        replace(trial, groups=own.astype(np.int64), num_groups=len(used))
        for trial, own in zip(trials, np.split(codes, ends), strict=True)
    ]


def _report_shuffled(card: TaskCard, split: Split, records: Sequence[Record], trial: Trial) -> SplitReport:
    own = [records[row] for row in trial.rows.tolist()]
    words = ["shuffled" if label else "native" for label in trial.labels]
    names, codes = np.unique(trial.groups, return_inverse=True)
    there = Groups(codes.astype(np.int64), tuple(map(str, names)))
    return look_at_split(card, split, own, trial.folds, there, words)


def _check_shuffle(
    pool: Sequence[Record], folds: np.ndarray, native: np.ndarray, rows: Sequence[int]
) -> None:
    """Make sure of what the whole task rests on."""
    mistake = next((f"the shuffled pair {row} is native" for row in rows if row < len(pool)), None)
    sides: dict[str, int] = {}
    for row in native.tolist():
        for chain in pool[row].chains:
            if sides.setdefault(chain.residues, int(folds[row])) != folds[row]:
                mistake = f"a chain of '{pool[row].id}' is in two folds"
    if mistake is not None:
        raise DataError(
            f"pairs were shuffled wrongly: {mistake}", hint="this is an error of protlm: report it"
        )
