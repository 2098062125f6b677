"""Which records a head learns from, is chosen by and is judged on; nested subsets of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from protlm.data.clonotypes import chain_keys, clonotype_keys
from protlm.data.clusters import cluster_sequences
from protlm.data.fold_identity import fold_neighbours
from protlm.data.hashing import combine
from protlm.data.numbering import NumberingReport, number_records
from protlm.data.split_report import SplitReport, report_split
from protlm.data.splits import Groups, Values, assign_folds, connected_groups, random_groups
from protlm.errors import ConfigError, DataError
from protlm.evaluation.split_leakage import SplitLeakage, label_balance
from protlm.evaluation.task_files import text_of
from protlm.models.features import feature_folder
from protlm.recipes.finetune_config import ALL, LabelConfig
from protlm.recipes.finetune_data import TEST, TRAIN, VALID, Source
from protlm.recipes.finetune_replicates import SEVERAL, content, content_key
from protlm.types.record import Record
from protlm.types.target import UNLABELLED

_SUBSET_STREAM = 301


@dataclass(frozen=True)
class Fold:
    """Rows of one training and judgement."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Plan:
    """All folds, and what to say of them."""

    folds: list[Fold]
    groups: Groups
    lines: list[str]
    judged_on: str
    """`test`, `folds` or `valid`; the last one also chose the weights, which flatters."""
    leakage: SplitLeakage
    """What the records to learn from and those to judge on share; their labels; how near they are."""


def plan_folds(source: Source, settings: LabelConfig) -> Plan:
    """Divide the records as the settings say.

    Parameters
    ----------
    source
        All records.
    settings
        Of the data.

    Raises
    ------
    ConfigError
        If the settings do not say how, or contradict each other.
    DataError
        If a part is empty, or a pair straddles a split where that is an error.
    """
    records = source.labelled.records
    _check(settings)
    groups = _groups(records, settings)
    strata = _strata(source)
    names = set(source.parts) - {""}
    lines: list[str] = []
    if settings.folds is not None:
        assigned = assign_folds(
            groups, [1 / settings.folds] * settings.folds, strata=strata, seed=settings.seed
        )
        folds = [
            _fold(str(number), assigned != number, assigned == number) for number in range(settings.folds)
        ]
    elif settings.holdout is not None:
        shares = [1 - settings.holdout, settings.holdout]
        assigned = assign_folds(groups, shares, strata=strata, seed=settings.seed)
        folds = [_fold(TEST, assigned == 0, assigned == 1)]
    elif names <= {TRAIN, VALID, TEST}:
        given = np.array([part or TRAIN for part in source.parts])
        folds = [Fold(TEST, *(np.flatnonzero(given == name) for name in (TRAIN, VALID, TEST)))]
    else:
        given = np.array(source.parts)
        folds = [_fold(name, given != name, given == name) for name in sorted(names)]
    if not settings.by and not settings.random and any(not len(fold.valid) for fold in folds):
        lines.append("records that choose the weights are drawn singly; --by keeps groups on one side")
    return finished_plan(source, settings, folds, groups, lines)


def finished_plan(
    source: Source,
    settings: LabelConfig,
    folds: list[Fold],
    groups: Groups,
    lines: list[str],
    report: SplitReport | None = None,
) -> Plan:
    """Set records aside to choose the weights by, look at what the sides share, and refuse empty parts.

    Parameters
    ----------
    source
        All records.
    settings
        Of the data.
    folds
        To learn from and to judge on, with or without records to choose by.
    groups
        What must stay together.
    lines
        What is said of the folds already.
    report
        On them, where a task card gave one, which knows of more keys.
    """
    lines = list(lines)
    strata = _strata(source)
    folds = [_with_validation(fold, groups, settings, strata) for fold in folds]
    judged_on = "folds" if len(folds) > 1 else TEST
    if not len(folds[0].test):
        judged_on = VALID
        lines.append("there is nothing to judge on but the validation records, which chose the weights too")
        folds = [replace(folds[0], test=folds[0].valid)]
    if source.labelled.target.level == "pair":
        records = source.labelled.records
        folds = [_without_straddling(fold, records, settings, lines) for fold in folds]
    for fold in folds:
        _refuse_empty(fold)
    leakage = _leakage(source, folds, groups, report)
    return Plan(folds, groups, [*lines, *leakage.lines()], judged_on, leakage)


def subset(records: Sequence[Record], rows: np.ndarray, size: int | str, *, seed: int) -> np.ndarray:
    """Draw so many rows; a smaller draw of the same seed is inside a larger one.

    Parameters
    ----------
    records
        All of them.
    rows
        To draw from.
    size
        How many, a share of them such as ``"20%"``, rounded up, or ``"all"``. Equal inputs are drawn
        together, so that there may be a few more.
    seed
        Another seed draws others.

    Returns
    -------
    numpy.ndarray
        Rows in ascending order; all of them where there are no more than `size`.
    """
    if size == ALL:
        return rows
    text = str(size)
    size = math.ceil(int(text[:-1]) * len(rows) / 100) if text.endswith("%") else int(text)
    if size >= len(rows):
        return rows
    keys = np.array([content_key(records[row]) for row in rows.tolist()], dtype=np.uint64)
    drawn = combine(seed, _SUBSET_STREAM, keys)
    return np.sort(rows[drawn <= np.sort(drawn)[size - 1]])


def _check(settings: LabelConfig) -> None:
    ways = {
        "--folds": settings.folds,
        "--holdout": settings.holdout,
        "--test": settings.test,
        "--split": settings.split,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1 and set(given) != {"--test", "--split"}:
        raise ConfigError(f"{' and '.join(given)} contradict each other", hint="give one of them")
    if not given and settings.valid is None:
        raise ConfigError(
            "say what to judge on",
            hint="--test TABLE, --split COLUMN, --holdout 0.1 --by COLUMN, or --folds 5 --by COLUMN",
        )
    draws = settings.folds is not None or settings.holdout is not None
    if draws and bool(settings.by) == settings.random:
        raise ConfigError(
            "say what stays on one side" if not settings.by else "a split is either by keys or at random",
            hint="--by clonotype, chain, cluster or a column (several with commas), or --random",
        )


def _fold(name: str, train: np.ndarray, test: np.ndarray) -> Fold:
    return Fold(name, np.flatnonzero(train), np.zeros(0, dtype=np.int64), np.flatnonzero(test))


def _groups(records: Sequence[Record], settings: LabelConfig) -> Groups:
    names = [f"{record.id}\x1f{row}" for row, record in enumerate(records)]
    keys = [_key(name, records, settings) for name in settings.by]
    if settings.replicates == "keep":
        keys.append([(content(record),) for record in records])
    return connected_groups(*keys, names=names) if keys else random_groups(names)


def _key(name: str, records: Sequence[Record], settings: LabelConfig) -> Values:
    if name == "chain":
        return chain_keys(records)
    if name == "clonotype":
        return clonotype_keys(list(number_records(records, report=NumberingReport())))
    if name == "cluster":
        texts = [chain.residues for record in records for chain in record.chains]
        clusters = iter(map(str, cluster_sequences(texts, identity=settings.cluster_identity).tolist()))
        return [tuple(next(clusters) for _ in record.chains) for record in records]
    if name == "group":
        return [(record.group,) for record in records]
    return [tuple(text_of(record, name).split(SEVERAL)) for record in records]


def _strata(source: Source) -> list[str] | None:
    target = source.labelled.target
    if target.level == "residue" or target.kind not in ("binary", "classes"):
        return None
    return [str(target.classes[int(value)]) for value in source.labelled.values]


def _with_validation(fold: Fold, groups: Groups, settings: LabelConfig, strata: Sequence[str] | None) -> Fold:
    """Set records of whole groups of the training records aside, unless there are some."""
    if len(fold.valid) or not settings.validation or not len(fold.train):
        return fold
    codes, places = np.unique(groups.codes[fold.train], return_inverse=True)
    if len(codes) < 2:
        return fold
    own = Groups(places.reshape(-1), tuple(groups.names[code] for code in codes.tolist()))
    shares = [1 - settings.validation, settings.validation]
    labels = None if strata is None else [str(strata[row]) for row in fold.train.tolist()]
    assigned = assign_folds(own, shares, strata=labels, seed=settings.seed + 1)
    return replace(fold, train=fold.train[assigned == 0], valid=fold.train[assigned == 1])


def _without_straddling(
    fold: Fold, records: Sequence[Record], settings: LabelConfig, lines: list[str]
) -> Fold:
    """Count pairs to judge on of which a chain was learned from, and do with them as asked."""
    learned = {chain.residues for row in fold.train.tolist() for chain in records[row].chains}
    straddles = np.array(
        [any(chain.residues in learned for chain in records[row].chains) for row in fold.test.tolist()],
        dtype=bool,
    )
    if not straddles.any():
        return fold
    share = (
        f"{straddles.sum():,} of {len(fold.test):,} pairs to judge on ('{fold.name}') have a chain that is"
    )
    if settings.straddling == "error":
        first = records[int(fold.test[straddles.argmax()])].id
        raise DataError(
            f"{share} in training too, such as '{first}'",
            hint="split with --by chain, or pass --straddling drop or keep",
        )
    done = "left out" if settings.straddling == "drop" else "kept; --straddling drop leaves them out"
    lines.append(f"{share} in training too: {done}")
    return replace(fold, test=fold.test[~straddles]) if settings.straddling == "drop" else fold


def _refuse_empty(fold: Fold) -> None:
    for part, rows in (("train", fold.train), ("judge", fold.test)):
        if not len(rows):
            raise DataError(
                f"fold '{fold.name}' has no records to {part} on", hint="look at what was left out, and why"
            )


def _leakage(
    source: Source, folds: Sequence[Fold], groups: Groups, report: SplitReport | None
) -> SplitLeakage:
    """Look at what is learned from beside what is judged on; of several folds, at one beside the others."""
    records, target = source.labelled.records, source.labelled.target
    names = np.full(len(records), "", dtype=object)
    for fold in folds:
        if len(folds) == 1:
            names[fold.train], names[fold.valid] = TRAIN, TRAIN
        names[fold.test] = TEST if len(folds) == 1 else fold.name
    kept = np.flatnonzero(names != "")
    own, sides = [records[row] for row in kept.tolist()], names[kept]
    if report is None:
        codes, places = np.unique(groups.codes[kept], return_inverse=True)
        named = Groups(places.reshape(-1), tuple(groups.names[code] for code in codes.tolist()))
        report = report_split(own, sides.tolist(), named)
    tested = [TEST] if len(folds) == 1 else sorted({fold.name for fold in folds})
    values = [np.atleast_1d(source.labelled.values[row]) for row in kept.tolist()]
    sizes = [len(each) if target.level == "residue" else 1 for each in values]
    labels = np.stack(values) if target.kind == "labels" else np.concatenate(values)
    is_known = ~np.isnan(labels) if target.kind == "value" else labels != UNLABELLED
    if target.kind == "labels":
        is_known = np.ones(len(labels), dtype=bool)
    balance = label_balance(target, labels[is_known], np.repeat(sides, sizes)[is_known], tested)
    nearest = fold_neighbours(own, sides.tolist(), tested=tested, folder=feature_folder())
    return SplitLeakage(report, balance, target.kind, nearest)
