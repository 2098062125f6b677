"""From a task card and its files to what is judged: labelled records or residues with folds and groups."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from protlm.data.clonotypes import clonotype_keys, main_chain
from protlm.data.groups import cdr3_of
from protlm.data.pairs import distinct_pairs, shuffle_pairs, shuffled_records
from protlm.data.split_report import SplitReport, report_split
from protlm.data.splits import Groups, assign_folds
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.card_parts import OWN_KEYS
from protlm.evaluation.cards import BySource, ShuffledPairs, Split, TaskCard
from protlm.evaluation.probes import Rounds, all_rounds
from protlm.evaluation.task_files import DATASET, read_source, text_of, values_of, with_germline
from protlm.evaluation.task_labels import merge_labels, read_labels
from protlm.evaluation.task_splits import Folded, fold_records, key_groups
from protlm.evaluation.task_tables import read_chains
from protlm.types.record import Record
from protlm.types.target import Target


@dataclass(frozen=True)
class Trial:
    """One way to fold the examples: a split, and a seed for what is drawn.

    An example is a record, or one residue of one.
    """

    split: str
    seed: int
    rows: np.ndarray
    """Examples, as indices into `TaskData.records`, or into all their residues end to end; int64 ``[n]``."""
    labels: np.ndarray
    """What is true of each: bool ``[n]`` of two classes, numbers of classes, bool ``[n, labels]``, floats."""
    folds: np.ndarray
    """int64 ``[n]``."""
    groups: np.ndarray
    """Unit of resampling of each, 0-based; the same over the seeds of a split; int64 ``[n]``. A shuffled pair
    is of the unit of its heavy chain's native pair."""
    num_groups: int
    """Units of the split that have a row in any of its trials."""
    rounds: Rounds
    """Which folds are predicted, and which choose the strength of the penalty."""
    parts: np.ndarray | None = None
    """Part of each example, for means over parts such as epitopes."""

    @property
    def tested(self) -> np.ndarray:
        """Which of the examples are predicted, bool ``[n]``."""
        return np.isin(self.folds, self.rounds.tested)


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
    target: Target
    """What is predicted."""
    lines: list[str] = field(default_factory=list)
    """What was read, cleaned and left out, in words."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""

    def names(self, rows: np.ndarray) -> tuple[list[str], list[int] | None]:
        """Give the record's id of each example, and of residues the 0-based index in it.

        Parameters
        ----------
        rows
            Of a trial.
        """
        if self.target.level != "residue":
            return [self.records[row].id for row in rows.tolist()], None
        starts = np.cumsum([0, *(len(record) for record in self.records)])
        places = np.searchsorted(starts, rows, side="right") - 1
        return [self.records[place].id for place in places.tolist()], (rows - starts[places]).tolist()


def build_task(
    card: TaskCard,
    paths: Mapping[str, Path],
    *,
    seeds: int | None = None,
    skip_filters: Sequence[str] = (),
    max_records: int | None = None,
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
    max_records
        Cut of either side of a given split, or of all records; as the card says if not given.

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
    records: list[Record] = []
    for source in card.data:
        if source.chains:
            records += read_chains(card, source, paths, skip_filters, counts, lines)
        else:
            records += read_source(card, source, paths[source.name], skip_filters, counts, lines)
    if card.receptor == "antibody" and card.level != "residue":
        records = with_germline(records, card.data[0], lines)
    numbers = range(card.seeds if seeds is None else seeds)
    if isinstance(card.target, ShuffledPairs):
        data = _shuffled(card, card.target, records, numbers, counts, lines)
    else:
        most = card.max_records if max_records is None else max_records
        data = _labelled(card, records, numbers, most, counts, lines)
    data.counts = {reason: count for reason, count in counts.items() if count}
    data.lines = [*lines, *(f"left out: {count:,} × {reason}" for reason, count in data.counts.items())]
    return data


def _labelled(
    card: TaskCard,
    records: list[Record],
    seeds: range,
    most: int | None,
    counts: Counter[str],
    lines: list[str],
) -> TaskData:
    assert not isinstance(card.target, ShuffledPairs)
    if isinstance(card.target, BySource):
        values, target = _by_source(card.target, records, counts), Target("binary", card.level, ("no", "yes"))
    else:
        values, target = read_labels(card, card.target, records, counts)
    kept, labels = _unique(card, records, values, target, counts)
    kept, labels = _cut(card, kept, labels, most, lines)
    _check_classes(card, labels, target)
    trials, reports = [], {}
    for split in card.splits:
        strata = _strata(labels, target) if split.stratify else None
        own: list[Trial] = []
        for seed in seeds if not split.is_given else seeds[:1]:
            folded = fold_records(kept, split, strata, seed, lines if seed == seeds[0] or split.apart else [])
            if seed == seeds[0]:
                reports[split.name] = _report(card, split, kept, folded, strata)
            own.append(_trial(card, split, seed, kept, labels, folded, target))
        trials += own
        _count_unseen(own, target, split, lines)
    kept, trials = _records_in_use(kept, trials, target)
    return TaskData(kept, _sources(card, kept), trials, reports, target)


def _count_unseen(trials: Sequence[Trial], target: Target, split: Split, lines: list[str]) -> None:
    """Say how many examples are of a class that their training rows do not have: no method can be right."""
    if target.kind != "classes":
        return
    unseen = total = 0
    for trial in trials[:1]:
        for fold in trial.rounds.tested:
            asked = trial.labels[trial.folds == fold]
            unseen += int((~np.isin(asked, trial.labels[trial.folds != fold])).sum())
            total += len(asked)
    if unseen:
        lines.append(
            f"split '{split.name}': {unseen:,} of {total:,} predicted examples are of a class that no "
            "training row has; they count as wrong"
        )


def _by_source(target: BySource, records: Sequence[Record], counts: Counter[str]) -> list[Any]:
    """Give the class of each record by its file; `None` where it is in neither."""
    files = [text_of(record, DATASET) for record in records]
    classes = [1 if name in target.positive else 0 if name in target.negative else None for name in files]
    cdr3s = [cdr3_of(main_chain(record)) for record in records]
    taken = {cdr3 for cdr3, label in zip(cdr3s, classes, strict=True) if label != 0}
    for row, label in enumerate(classes):
        if label == 0 and cdr3s[row] and cdr3s[row] in taken:
            counts["heavy CDR3 is that of an antibody of the other class or of one left out"] += 1
            classes[row] = None
    return classes


def _unique(
    card: TaskCard, records: Sequence[Record], values: Sequence[Any], target: Target, counts: Counter[str]
) -> tuple[list[Record], list[Any]]:
    """Keep what has the same chains once, and nothing that is said to be in two classes.

    What a given split has on both of its sides stays on both, and its report says so.
    """
    sides = [split.column for split in card.splits if split.column is not None]
    by_content: dict[tuple[str, ...], list[int]] = {}
    for row, (record, value) in enumerate(zip(records, values, strict=True)):
        if value is not None:
            content = _content(record)
            content = content if card.is_ordered else tuple(sorted(content))
            content += tuple(text_of(record, column) for column in sides)
            by_content.setdefault(content, []).append(row)
    word = "pair" if card.level == "pair" else "record"
    kept, labels = [], []
    for rows in by_content.values():
        value = merge_labels([values[row] for row in rows], target)
        if value is None:
            counts[f"the same {word} in {'both' if target.kind == 'binary' else 'two'} classes"] += len(rows)
            continue
        counts[f"a {word} that was there before"] += len(rows) - 1
        kept.append(records[rows[0]])
        labels.append(value)
    return kept, labels


def _cut(
    card: TaskCard, records: list[Record], labels: list[Any], most: int | None, lines: list[str]
) -> tuple[list[Record], list[Any]]:
    """Keep at most so many records of each side of a given split, by the hash of their content."""
    if most is None or len(records) <= most:
        return records, labels
    given = [split for split in card.splits if split.train]
    order = sorted(range(len(records)), key=lambda row: _hash(records[row]))
    filled: Counter[tuple[str, str]] = Counter()
    chosen = []
    for row in order:
        own = [(split.name, _side(records[row], split)) for split in given] or [("all", "all")]
        if any(side and filled[name, side] < most for name, side in own):
            chosen.append(row)
            filled.update(own)
    chosen.sort()
    if len(chosen) < len(records):
        where = "of each side of a given split" if given else "of all"
        lines.append(f"CUT to {len(chosen):,} of {len(records):,} records, by content: {most:,} {where}")
    return [records[row] for row in chosen], [labels[row] for row in chosen]


def _side(record: Record, split: Split) -> str:
    text = text_of(record, str(split.column))
    sides = {"train": split.train, "valid": split.valid, "test": split.test}
    return next((name for name, values in sides.items() if text in values), "")


def _check_classes(card: TaskCard, labels: Sequence[Any], target: Target) -> None:
    if target.kind == "value":
        if len(set(labels)) < 2:
            raise DataError(
                f"task '{card.name}': {len(labels):,} rows with a number are left, all of one value",
                hint="look at what was left out, and at the values of the target column",
            )
        return
    if target.kind == "labels":
        return
    flat = np.concatenate(labels) if target.level == "residue" and labels else np.asarray(labels)
    found = np.bincount(flat[flat >= 0].astype(np.int64), minlength=len(target.classes)) if len(flat) else []
    if target.kind == "binary" and (len(found) == 0 or min(found) == 0):
        negative, positive = (int(found[0]), int(found[1])) if len(found) else (0, 0)
        word = {"pair": "pairs", "residue": "residues"}.get(card.level, "records")
        raise DataError(
            f"task '{card.name}': {positive:,} positive and {negative:,} negative {word} "
            "are left, and both classes are needed",
            hint="look at what was left out, and at the values of the target column",
        )
    if np.count_nonzero(found) < 2:
        raise DataError(
            f"task '{card.name}': fewer than two classes are left",
            hint="look at what was left out, and at the values of the target column",
        )


def _strata(labels: Sequence[Any], target: Target) -> list[str] | None:
    if target.level == "residue" or target.kind not in ("binary", "classes"):
        return None
    if target.kind == "binary":
        return ["positive" if label else "negative" for label in labels]
    return [target.classes[label] for label in labels]


def _trial(
    card: TaskCard,
    split: Split,
    seed: int,
    records: Sequence[Record],
    labels: Sequence[Any],
    folded: Folded,
    target: Target,
) -> Trial:
    parts = None
    if card.macro_by is not None:
        texts = [text_of(records[row], card.macro_by) for row in folded.rows.tolist()]
        parts = np.unique(texts, return_inverse=True)[1].reshape(-1)
    own = [labels[row] for row in folded.rows.tolist()]
    groups = folded.groups
    if target.level != "residue":
        values = np.array(
            own, dtype={"binary": np.bool_, "labels": np.bool_, "value": np.float64}.get(target.kind)
        )
        return Trial(
            split.name,
            seed,
            folded.rows,
            values,
            folded.folds,
            groups.codes,
            len(groups.names),
            folded.rounds,
            parts,
        )
    starts = np.cumsum([0, *(len(record) for record in records)])
    places = [np.flatnonzero(value >= 0) for value in own]
    sizes = [len(place) for place in places]
    values = np.concatenate([value[place] for value, place in zip(own, places, strict=True)])
    rows = np.concatenate(
        [starts[row] + place for row, place in zip(folded.rows.tolist(), places, strict=True)]
    )
    return Trial(
        split.name,
        seed,
        rows,
        values.astype(np.bool_) if target.kind == "binary" else values,
        np.repeat(folded.folds, sizes),
        np.repeat(groups.codes, sizes),
        len(groups.names),
        folded.rounds,
        None if parts is None else np.repeat(parts, sizes),
    )


def _records_in_use(
    records: list[Record], trials: list[Trial], target: Target
) -> tuple[list[Record], list[Trial]]:
    """Leave out records that are in no trial, so that no model reads them."""
    if target.level == "residue":
        return records, trials
    used = np.unique(np.concatenate([trial.rows for trial in trials]))
    place = np.full(len(records), -1)
    place[used] = np.arange(len(used))
    return [records[row] for row in used.tolist()], [
        replace(trial, rows=place[trial.rows]) for trial in trials
    ]


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
        groups = key_groups(pool, split, lines)
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
                    all_rounds(folds[native]),
                )
            )
        own = _units_in_use(own)
        trials += own
        if own:
            reports[split.name] = _report_shuffled(card, split, everything, own[0])
    pairs = Target("binary", "pair", ("native", "shuffled"), "pairing")
    return TaskData(everything, _sources(card, everything), trials, reports, pairs)


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
    return _look(card, split, own, trial.folds, there, words)


def _report(
    card: TaskCard, split: Split, records: Sequence[Record], folded: Folded, strata: Sequence[str] | None
) -> SplitReport:
    rows = folded.rows.tolist()
    own = [records[row] for row in rows]
    words = None if strata is None else [str(strata[row]) for row in rows]
    tested = np.isin(folded.folds, folded.rounds.tested)
    is_one = len(folded.rounds.tested) == 1
    folds = np.where(tested, "test", "train") if is_one else folded.folds.astype(np.str_)
    return _look(card, split, own, folds, folded.groups, words)


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


def _look(
    card: TaskCard,
    split: Split,
    records: Sequence[Record],
    folds: np.ndarray,
    groups: Groups,
    labels: Sequence[str] | None,
) -> SplitReport:
    """Look at a split, also for what it did not ask to keep together."""
    columns = {name: None for each in card.splits for name in each.by if name not in OWN_KEYS}
    separators = columns | {name: mark for each in card.splits for name, mark in each.separators.items()}
    keys = {name: [values_of(record, name, mark) for record in records] for name, mark in separators.items()}
    if card.is_antibody_pairs or card.receptor == "antibody":
        keys = {"clonotype": clonotype_keys(records, identity=split.cdr3_identity)} | keys
    return report_split(records, [str(fold) for fold in folds], groups, labels=labels, keys=keys)


def _sources(card: TaskCard, records: Sequence[Record]) -> list[str]:
    columns = {source.name: source.source for source in card.data}
    found = []
    for record in records:
        column = columns[text_of(record, DATASET)]
        found.append(text_of(record, column) if column else text_of(record, DATASET))
    return found


def _hash(record: Record) -> bytes:
    return hashlib.blake2b("|".join(_content(record)).encode(), digest_size=8).digest()
