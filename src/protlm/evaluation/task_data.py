"""From a task card and its files to what is judged: labelled pairs of chains with folds and groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from protlm.data.clonotypes import chain_keys, clonotype_keys, main_chain
from protlm.data.groups import cdr3_of
from protlm.data.pairs import distinct_pairs, shuffle_pairs, shuffled_records
from protlm.data.split_report import SplitReport, report_split
from protlm.data.splits import Groups, Values, assign_folds, connected_groups
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.cards import ByColumn, BySource, ShuffledPairs, Split, TaskCard
from protlm.evaluation.task_files import DATASET, read_source, text_of, values_of
from protlm.types.record import Record


@dataclass(frozen=True)
class Trial:
    """One way to fold the examples: a split, and a seed for what is drawn."""

    split: str
    seed: int
    rows: np.ndarray
    """Examples, as indices into `TaskData.records`, int64 ``[n]``."""
    labels: np.ndarray
    """Whether each is of the positive class, bool ``[n]``."""
    folds: np.ndarray
    """int64 ``[n]``."""
    groups: np.ndarray
    """Unit of resampling of each, 0-based; the same over the seeds of a split; int64 ``[n]``. A shuffled pair
    is of the unit of its heavy chain's native pair."""
    num_groups: int
    """Units of the split that have a row in any of its trials."""


@dataclass
class TaskData:
    """Everything that methods are judged on."""

    records: list[Record]
    """All inputs, each once; which of them are used when is for the trials to say."""
    sources: list[str]
    """Where each record is from, such as its publication."""
    trials: list[Trial]
    reports: dict[str, SplitReport]
    """Of the first trial of each split."""
    lines: list[str] = field(default_factory=list)
    """What was read, cleaned and left out, in words."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""


def build_task(
    card: TaskCard, paths: Mapping[str, Path], *, seeds: int | None = None, skip_filters: Sequence[str] = ()
) -> TaskData:
    """Read, clean, label and fold.

    Parameters
    ----------
    card
        The task.
    paths
        File by data source, from `find_files`.
    seeds
        Repetitions; as the card says if not given.
    skip_filters
        Names of filters that are not applied.

    Raises
    ------
    DataError
        If a class is empty, or a file or a column is wrong.
    ConfigError
        If there is no such filter.
    """
    known = sorted({each.name for source in card.data for each in source.filters})
    for name in skip_filters:
        if name not in known:
            raise ConfigError(f"task '{card.name}' has no filter '{name}'", hint=did_you_mean(name, known))
    lines: list[str] = []
    counts: Counter[str] = Counter()
    records = [
        record
        for source in card.data
        for record in read_source(card, source, paths[source.name], skip_filters, counts, lines)
    ]
    numbers = range(card.seeds if seeds is None else seeds)
    if isinstance(card.target, ShuffledPairs):
        data = _shuffled(card, card.target, records, numbers, counts, lines)
    else:
        data = _labelled(card, card.target, records, numbers, counts, lines)
    data.counts = {reason: count for reason, count in counts.items() if count}
    data.lines = [*lines, *(f"left out: {count:,} × {reason}" for reason, count in data.counts.items())]
    return data


def _groups(records: Sequence[Record], split: Split, lines: list[str]) -> Groups:
    counts: Counter[str] = Counter()
    keys: list[Values] = []
    for name in split.by:
        if name == "clonotype":
            keys.append(clonotype_keys(records, identity=split.cdr3_identity, counts=counts))
        elif name == "chain":
            keys.append(chain_keys(records))
        else:
            values = [values_of(record, name, split.separators.get(name)) for record in records]
            keys.append(values)
            counts[f"no value of '{name}'"] += sum(not own for own in values)
            counts[f"several values of '{name}'"] += sum(len(own) > 1 for own in values)
    lines += [f"split '{split.name}': {n:,} × {reason}" for reason, n in counts.items() if n]
    return connected_groups(*keys, names=[record.id for record in records])


def _labelled(
    card: TaskCard,
    target: ByColumn | BySource,
    records: list[Record],
    seeds: range,
    counts: Counter[str],
    lines: list[str],
) -> TaskData:
    classes = _classes(target, records, counts)
    kept, labels = _unique(records, classes, counts)
    if labels.all() or not labels.any():
        raise DataError(
            f"task '{card.name}': {int(labels.sum()):,} positive and {int((~labels).sum()):,} negative pairs "
            "are left, and both classes are needed",
            hint="look at what was left out, and at the values of the target column",
        )
    words = ["positive" if label else "negative" for label in labels]
    trials, reports = [], {}
    for split in card.splits:
        groups = _groups(kept, split, lines)
        for seed in seeds:
            strata = words if split.stratify else None
            folds = assign_folds(groups, [1 / split.folds] * split.folds, strata=strata, seed=seed)
            rows = np.arange(len(kept))
            trials.append(Trial(split.name, seed, rows, labels, folds, groups.codes, len(groups.names)))
            if seed == seeds[0]:
                reports[split.name] = _report(card, split, kept, folds, groups, words)
    return TaskData(kept, _sources(card, kept), trials, reports)


def _classes(
    target: ByColumn | BySource, records: Sequence[Record], counts: Counter[str]
) -> list[bool | None]:
    """Give the class of each record; `None` where it is in neither."""
    column = target.column if isinstance(target, ByColumn) else DATASET
    classes: list[bool | None] = []
    for record in records:
        value = text_of(record, column)
        label = True if value in target.positive else False if value in target.negative else None
        if label is None and isinstance(target, ByColumn):
            counts[f"'{column}' is in neither class"] += 1
        classes.append(label)
    if isinstance(target, BySource):
        cdr3s = [cdr3_of(main_chain(record)) for record in records]
        taken = {cdr3 for cdr3, label in zip(cdr3s, classes, strict=True) if label is not False}
        for row, label in enumerate(classes):
            if label is False and cdr3s[row] and cdr3s[row] in taken:
                counts["heavy CDR3 is that of an antibody of the other class or of one left out"] += 1
                classes[row] = None
    return classes


def _unique(
    records: Sequence[Record], classes: Sequence[bool | None], counts: Counter[str]
) -> tuple[list[Record], np.ndarray]:
    """Keep each pair of chains once, and none that is in both classes."""
    by_content: dict[tuple[str, ...], list[int]] = {}
    for row, (record, label) in enumerate(zip(records, classes, strict=True)):
        if label is not None:
            by_content.setdefault(tuple(chain.residues for chain in record.chains), []).append(row)
    kept = []
    for rows in by_content.values():
        if len({classes[row] for row in rows}) > 1:
            counts["the same pair in both classes"] += len(rows)
            continue
        counts["a pair that was there before"] += len(rows) - 1
        kept.append(rows[0])
    return [records[row] for row in kept], np.array([classes[row] for row in kept], dtype=np.bool_)


def _shuffled(
    card: TaskCard,
    target: ShuffledPairs,
    records: list[Record],
    seeds: range,
    counts: Counter[str],
    lines: list[str],
) -> TaskData:
    pool, repeated = distinct_pairs(records)
    counts.update(repeated)
    within = None if target.within is None else [text_of(record, target.within) for record in pool]
    everything: list[Record] = list(pool)
    place = {_content(record): row for row, record in enumerate(pool)}
    trials: list[Trial] = []
    reports = {}
    for split in card.splits:
        groups = _groups(pool, split, lines)
        own: list[Trial] = []
        for seed in seeds:
            folds = assign_folds(groups, [1 / split.folds] * split.folds, strata=within, seed=seed)
            shuffle = shuffle_pairs(pool, folds, within=within, negatives=target.negatives, seed=seed)
            native = np.flatnonzero(shuffle.partners >= 0)
            rows = []
            for record in shuffled_records(pool, shuffle):
                row = place.setdefault(_content(record), len(everything))
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
                )
            )
        own = _units_in_use(own)
        trials += own
        if own:
            reports[split.name] = _report_shuffled(card, split, everything, own[0])
    return TaskData(everything, _sources(card, everything), trials, reports)


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
    return _report(card, split, own, trial.folds, there, words)


def _content(record: Record) -> tuple[str, ...]:
    return tuple(chain.residues for chain in record.chains)


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


def _report(
    card: TaskCard,
    split: Split,
    records: Sequence[Record],
    folds: np.ndarray,
    groups: Groups,
    labels: Sequence[str],
) -> SplitReport:
    """Look at a split, also for what it did not ask to keep together."""
    columns = {name: None for each in card.splits for name in each.by if name not in ("clonotype", "chain")}
    separators = columns | {name: mark for each in card.splits for name, mark in each.separators.items()}
    keys = {"clonotype": clonotype_keys(records, identity=split.cdr3_identity)}
    keys |= {name: [values_of(record, name, mark) for record in records] for name, mark in separators.items()}
    return report_split(records, [str(fold) for fold in folds], groups, labels=labels, keys=keys)


def _sources(card: TaskCard, records: Sequence[Record]) -> list[str]:
    columns = {source.name: source.source for source in card.data}
    found = []
    for record in records:
        column = columns[text_of(record, DATASET)]
        found.append(text_of(record, column) if column else text_of(record, DATASET))
    return found
