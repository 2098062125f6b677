"""From a task card and its files to what is judged: labelled pairs of chains with folds and groups."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from protlm.data.clonotypes import cdr3_of, chain_keys, clonotype_keys, main_chain
from protlm.data.germline_assignment import SAME_SPECIES, assign_germline
from protlm.data.germline_report import GermlineReport
from protlm.data.germline_set import open_germline
from protlm.data.numbering import NumberingReport, number_records
from protlm.data.pairs import distinct_pairs, heavy_and_light, shuffle_pairs, shuffled_records
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.split_report import SplitReport, report_split
from protlm.data.splits import Groups, Values, assign_folds, connected_groups
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.evaluation.cards import ByColumn, BySource, DataSource, ShuffledPairs, Split, TaskCard
from protlm.types.record import Chain, Record

_GENE = re.compile(r"(?:IG|TR)[A-Z]{2}[^\s,;()]*")
_DATASET = "data set"
_POSITION_SHIFT = 8


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
    """Unit of resampling of each, 0-based; the same over the seeds of a split; int64 ``[n]``."""
    num_groups: int


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


def find_files(card: TaskCard, places: Sequence[str]) -> dict[str, Path]:
    """Find the file of each data source.

    Parameters
    ----------
    card
        The task.
    places
        Folders that hold the card's paths (or just the files), ``NAME=FILE`` for a single source, or the
        file itself where the card has one source only.

    Raises
    ------
    DataError
        If a file is not there; says where the public copy lives.
    """
    named = {source.name: source for source in card.data}
    found: dict[str, Path] = {}
    folders: list[Path] = []
    for place in places:
        name, separator, path = place.partition("=")
        if separator and name in named:
            found[name] = check_file(path)
        elif Path(place).is_dir():
            folders.append(Path(place))
        elif len(card.data) == 1:
            found[card.data[0].name] = check_file(place)
        else:
            raise DataError(
                f"--data {place}: is no folder, and task '{card.name}' reads {len(card.data)} files",
                hint=f"name the folder they are in, or say which it is: --data {card.data[0].name}={place}",
            )
    for name, source in named.items():
        tries = [folder / part for folder in folders for part in (source.file, Path(source.file).name)]
        there = next((path for path in tries if path.is_file()), None)
        if name not in found and there is None:
            raise DataError(
                f"task '{card.name}' needs {source.file} ({name}), which is in none of: {', '.join(places)}",
                hint=f"pass --data {name}=FILE; the card's copy is from {source.origin}",
            )
        if name not in found and there is not None:
            found[name] = there
    return found


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
        for record in _read(card, source, paths[source.name], skip_filters, counts, lines)
    ]
    numbers = range(card.seeds if seeds is None else seeds)
    if isinstance(card.target, ShuffledPairs):
        data = _shuffled(card, card.target, records, numbers, counts, lines)
    else:
        data = _labelled(card, card.target, records, numbers, counts, lines)
    data.counts = {reason: count for reason, count in counts.items() if count}
    data.lines = [*lines, *(f"left out: {count:,} × {reason}" for reason, count in data.counts.items())]
    return data


def _read(
    card: TaskCard,
    source: DataSource,
    path: Path,
    skip_filters: Sequence[str],
    counts: Counter[str],
    lines: list[str],
) -> list[Record]:
    """Read one file and keep its clean pairs, numbered where immunum can, heavy chain first."""
    reading, numbering = ReadReport(), NumberingReport()
    columns = ColumnNames(heavy=source.heavy, light=source.light, id=source.id, labels=_labels(card, source))
    policy = InputPolicy(invalid="drop", duplicate_ids="rename")
    given = list(iterate_records(path, columns=columns, policy=policy, report=reading))
    for reason, count in reading.dropped.items():
        counts[f"{source.name}: {reason}"] += count
    given = [
        record
        for record in given
        if (failed := _failed(record, source, skip_filters)) is None or counts.update([failed])
    ]
    kept = []
    for record in number_records(given, receptor="antibody", report=numbering):
        chains = heavy_and_light(record)
        if chains is None:
            counts[f"{source.name}: not one heavy and one light variable domain"] += 1
            continue
        calls = zip(chains, ("heavy", "light"), strict=True)
        chains = tuple(_with_genes(chain, kind, record, source) for chain, kind in calls)
        if card.crop and any(crop(chain, *card.crop) is None for chain in chains):
            counts[f"{source.name}: a chain does not reach from IMGT {card.crop[0]} to {card.crop[1]}"] += 1
            continue
        name = record.id if len(card.data) == 1 else f"{source.name}:{record.id}"
        kept.append(replace(record, id=name, chains=chains, labels={**record.labels, _DATASET: source.name}))
    kept = _with_germline(kept, source, lines)
    if card.crop:
        kept = [_cropped(record, card.crop) for record in kept]
    lines.append(f"{source.name}: {reading.num_read:,} rows read, {len(kept):,} clean pairs")
    lines += [f"{source.name}: {line}" for line in numbering.lines() if "numbered by" not in line]
    return kept


def _labels(card: TaskCard, source: DataSource) -> tuple[str, ...]:
    """List the columns of a file that anything asks for, each once."""
    names = [each.column for each in source.filters] + list(source.genes.values())
    names += [source.human.column] if source.human else []
    names += [source.source] if source.source else []
    own = {*card.target.without} if isinstance(card.target, BySource) else set()
    if source.name not in own:
        names += [name for split in card.splits for name in split.by if name not in ("clonotype", "chain")]
    if isinstance(card.target, ByColumn):
        names.append(card.target.column)
    if isinstance(card.target, ShuffledPairs) and card.target.within:
        names.append(card.target.within)
    return tuple(dict.fromkeys(names))


def _failed(record: Record, source: DataSource, skip_filters: Sequence[str]) -> str | None:
    """Give the reason of the first filter that a row fails; `None` where it fails none."""
    for each in source.filters:
        found = re.search(each.matches, _text(record, each.column)) is not None
        if each.name not in skip_filters and found == each.negate:
            return f"{source.name}: filter '{each.name}'"
    return None


def _text(record: Record, column: str) -> str:
    value = record.labels.get(column)
    return "" if value is None else str(value).strip()


def _with_genes(chain: Chain, kind: str, record: Record, source: DataSource) -> Chain:
    found = {}
    for segment in ("v", "j"):
        column = source.genes.get(f"{kind}_{segment}")  # type: ignore[call-overload]
        if column:
            match = _GENE.search(_text(record, column))
            found[f"{segment}_call"] = match[0] if match else ""
    return replace(chain, **found)


def _with_germline(records: list[Record], source: DataSource, lines: list[str]) -> list[Record]:
    """Assign human germline genes, so that mutations can be counted; rows of other species pass."""
    report = GermlineReport()
    is_human = [
        source.human is None
        or (re.search(source.human.matches, _text(record, source.human.column)) is not None)
        != source.human.negate
        for record in records
    ]
    human = [record for record, chosen in zip(records, is_human, strict=True) if chosen]
    made = iter(assign_germline(human, open_germline(), min_median=SAME_SPECIES, report=report))
    kept = [next(made) if chosen else record for record, chosen in zip(records, is_human, strict=True)]
    if human:
        if report.is_off:
            outcome = "most do not look human, so nothing is assigned"
        else:
            outcome = f"median identity of V {report.median_identity:.2f}"
        lines.append(f"{source.name}: {len(human):,} pairs compared with human germline genes: {outcome}")
    return kept


def _cropped(record: Record, ends: tuple[int, int]) -> Record:
    chains = (crop(chain, *ends) for chain in record.chains)
    return replace(record, chains=tuple(chain for chain in chains if chain is not None))


def crop(chain: Chain, first: int, last: int) -> Chain | None:
    """Cut a numbered chain to a range of IMGT positions; `None` where it does not reach both ends.

    Parameters
    ----------
    chain
        Any chain; one that is not numbered reaches nowhere.
    first, last
        IMGT positions that are kept, both included.
    """
    if "position" not in chain.tracks:
        return None
    numbers = chain.tracks["position"].astype(np.int64) >> _POSITION_SHIFT
    places = np.flatnonzero((numbers >= first) & (numbers <= last))
    if len(places) == 0 or numbers[places[0]] != first or numbers[places[-1]] != last:
        return None
    inside = slice(int(places[0]), int(places[-1]) + 1)
    tracks = {name: values[inside] for name, values in chain.tracks.items()}
    return replace(chain, residues=chain.residues[inside], tracks=tracks)


def _groups(records: Sequence[Record], split: Split, lines: list[str]) -> Groups:
    counts: Counter[str] = Counter()
    keys: list[Values] = []
    for name in split.by:
        if name == "clonotype":
            keys.append(clonotype_keys(records, identity=split.cdr3_identity, counts=counts))
        elif name == "chain":
            keys.append(chain_keys(records))
        else:
            keys.append([(_text(record, name),) for record in records])
            counts[f"no value of '{name}'"] += sum(not _text(record, name) for record in records)
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
    column = target.column if isinstance(target, ByColumn) else _DATASET
    classes: list[bool | None] = []
    for record in records:
        value = _text(record, column)
        label = True if value in target.positive else False if value in target.negative else None
        if label is None and isinstance(target, ByColumn):
            counts[f"'{column}' is in neither class"] += 1
        classes.append(label)
    if isinstance(target, BySource):
        cdr3s = [cdr3_of(main_chain(record)) for record in records]
        taken = {cdr3 for cdr3, label in zip(cdr3s, classes, strict=True) if label is not False}
        for row, label in enumerate(classes):
            if label is False and cdr3s[row] in taken:
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
    within = None if target.within is None else [_text(record, target.within) for record in pool]
    everything: list[Record] = list(pool)
    place = {_content(record): row for row, record in enumerate(pool)}
    trials, reports = [], {}
    for split in card.splits:
        groups = _groups(pool, split, lines)
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
            trials.append(
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
            if seed == seeds[0]:
                own = [everything[row] for row in trials[-1].rows.tolist()]
                words = ["shuffled" if label else "native" for label in trials[-1].labels]
                codes = Groups(trials[-1].groups, groups.names)
                reports[split.name] = _report(card, split, own, trials[-1].folds, codes, words)
    return TaskData(everything, _sources(card, everything), trials, reports)


def _content(record: Record) -> tuple[str, ...]:
    return tuple(chain.residues for chain in record.chains)


def _check_shuffle(
    pool: Sequence[Record], folds: np.ndarray, native: np.ndarray, rows: Sequence[int]
) -> None:
    """Make sure of what the whole task rests on."""
    assert all(row >= len(pool) for row in rows), "a shuffled pair is native"
    sides: dict[str, int] = {}
    for row in native.tolist():
        for chain in pool[row].chains:
            side = sides.setdefault(chain.residues, int(folds[row]))
            assert side == folds[row], "a chain is in two folds"


def _report(
    card: TaskCard,
    split: Split,
    records: Sequence[Record],
    folds: np.ndarray,
    groups: Groups,
    labels: Sequence[str],
) -> SplitReport:
    """Look at a split, also for what it did not ask to keep together."""
    columns = {name for each in card.splits for name in each.by} - {"clonotype", "chain"}
    keys = {"clonotype": clonotype_keys(records, identity=split.cdr3_identity)}
    keys |= {name: [(_text(record, name),) for record in records] for name in sorted(columns)}
    return report_split(records, [str(fold) for fold in folds], groups, labels=labels, keys=keys)


def _sources(card: TaskCard, records: Sequence[Record]) -> list[str]:
    columns = {source.name: source.source for source in card.data}
    found = []
    for record in records:
        column = columns[_text(record, _DATASET)]
        found.append(_text(record, column) if column else _text(record, _DATASET))
    return found
