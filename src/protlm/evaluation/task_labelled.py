"""Records with a class, labels, a number, or a class per residue, as the examples of a task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from protlm.data.clonotypes import main_chain
from protlm.data.groups import cdr3_of
from protlm.data.split_report import SplitReport
from protlm.errors import DataError
from protlm.evaluation.cards import BySource, ShuffledPairs, Split, TaskCard
from protlm.evaluation.task_cut import cut_rows
from protlm.evaluation.task_examples import TaskData, Trial, content_of, look_at_split, sources_of
from protlm.evaluation.task_files import DATASET, text_of
from protlm.evaluation.task_labels import merge_labels, read_labels
from protlm.evaluation.task_splits import Folded, fold_records
from protlm.types.record import Record
from protlm.types.target import Target


def labelled_examples(
    card: TaskCard,
    records: list[Record],
    seeds: range,
    most: int | None,
    counts: Counter[str],
    lines: list[str],
) -> TaskData:
    """Make the examples: labels read, repeats merged, cut to a number, folded by split and seed.

    Parameters
    ----------
    card
        The task.
    records
        As they were read.
    seeds
        Of the folds.
    most
        Records of either side of a given split, or of all; `None` for no cut.
    counts
        Filled with what was left out, by reason.
    lines
        Filled with what is worth saying.
    """
    assert not isinstance(card.target, ShuffledPairs)
    if isinstance(card.target, BySource):
        values, target = _by_source(card.target, records, counts), Target("binary", card.level, ("no", "yes"))
    else:
        values, target = read_labels(card, card.target, records, counts)
    kept, labels = _unique(card, records, values, target, counts)
    rows = cut_rows(card, kept, most, lines)
    kept, labels = [kept[row] for row in rows], [labels[row] for row in rows]
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
    return TaskData(kept, sources_of(card, kept), trials, reports, target)


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
            content = content_of(record)
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


def _report(
    card: TaskCard, split: Split, records: Sequence[Record], folded: Folded, strata: Sequence[str] | None
) -> SplitReport:
    rows = folded.rows.tolist()
    own = [records[row] for row in rows]
    words = None if strata is None else [str(strata[row]) for row in rows]
    tested = np.isin(folded.folds, folded.rounds.tested)
    is_one = len(folded.rounds.tested) == 1
    folds = np.where(tested, "test", "train") if is_one else folded.folds.astype(np.str_)
    return look_at_split(card, split, own, folds, folded.groups, words)
