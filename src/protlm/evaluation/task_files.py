"""Files of a task card: found, read, filtered, numbered, cropped; every row left out is counted."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from protlm.data.gene_names import first_word
from protlm.data.germline_assignment import SAME_SPECIES, assign_germline
from protlm.data.germline_report import GermlineReport
from protlm.data.germline_set import open_germline
from protlm.data.numbering import NumberingReport, number_records
from protlm.data.pairs import heavy_and_light
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.errors import DataError
from protlm.evaluation.card_parts import OWN_KEYS
from protlm.evaluation.cards import (
    ByColumn,
    BySource,
    Classes,
    DataSource,
    Labels,
    Number,
    ShuffledPairs,
    TaskCard,
)
from protlm.evaluation.task_tables import DATASET
from protlm.types.record import Chain, Record

_POSITION_SHIFT = 8


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
    named = {source.name: source.file for source in card.data}
    for source in card.data:
        named |= {f"{source.name}.{name}": each.file for name, each in source.tables.items()}
    found: dict[str, Path] = {}
    folders: list[Path] = []
    for place in places:
        name, separator, path = place.partition("=")
        if separator and name in named:
            found[name] = check_file(path)
        elif Path(place).is_dir():
            folders.append(Path(place))
        elif len(named) == 1:
            found[card.data[0].name] = check_file(place)
        else:
            raise DataError(
                f"--data {place}: is no folder, and task '{card.name}' reads {len(named)} files",
                hint=f"name the folder they are in, or say which it is: --data {card.data[0].name}={place}",
            )
    for name, file in named.items():
        tries = [folder / part for folder in folders for part in _names(file)]
        there = next((path for path in tries if path.is_file()), None)
        if name not in found and there is None:
            source = next(each for each in card.data if each.name == name.split(".")[0])
            url = source.tables[name.split(".")[1]].url if "." in name else source.url
            how = f"protlm fetch {card.name} downloads it, or " if url else ""
            raise DataError(
                f"task '{card.name}' needs {file} ({name}), which is in none of: {', '.join(places)}",
                hint=f"{how}pass --data {name}=FILE; the card's copy is from {source.origin}",
            )
        if name not in found and there is not None:
            found[name] = there
    return found


def _names(file: str) -> list[Path]:
    """Give where a file may be below a data folder: as the card has it, or as `protlm fetch` left it."""
    place = Path(file)
    stem = place.name.removesuffix(".gz")
    stem = stem.removesuffix(Path(stem).suffix)
    others = [place.with_name(stem + suffix) for suffix in (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")]
    return [place, Path(place.name), *others]


def read_source(
    card: TaskCard,
    source: DataSource,
    path: Path,
    skip_filters: Sequence[str],
    counts: Counter[str],
    lines: list[str],
) -> list[Record]:
    """Read one file and keep its clean pairs, numbered where immunum can, heavy chain first.

    Parameters
    ----------
    card
        The task.
    source
        One of its files.
    path
        Where that is.
    skip_filters
        Filters that are not applied.
    counts
        Filled with rows left out, by reason.
    lines
        Filled with what was read.
    """
    reading, numbering = ReadReport(), NumberingReport()
    columns = ColumnNames(heavy=source.heavy, light=source.light, id=source.id, labels=_labels(card, source))
    policy = InputPolicy(invalid="drop", duplicate_ids="rename")
    given = list(iterate_records(path, columns=columns, policy=policy, report=reading))
    for reason, count in reading.dropped.items():
        counts[f"{source.name}: {reason}"] += count
    failed = [_failed(record, source, skip_filters) for record in given]
    counts.update(reason for reason in failed if reason is not None)
    given = [record for record, reason in zip(given, failed, strict=True) if reason is None]
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
        kept.append(replace(record, id=name, chains=chains, labels={**record.labels, DATASET: source.name}))
    kept = with_germline(kept, source, lines)
    if card.crop:
        kept = [_cropped(record, card.crop) for record in kept]
    lines.append(f"{source.name}: {reading.num_read:,} rows read, {len(kept):,} clean pairs")
    lines += [f"{source.name}: {line}" for line in numbering.lines() if "numbered by" not in line]
    return kept


def text_of(record: Record, column: str) -> str:
    """Give the trimmed text of a label; empty where it is missing.

    Parameters
    ----------
    record
        With labels.
    column
        Name of one.
    """
    value = record.labels.get(column)
    return "" if value is None else str(value).strip()


def values_of(record: Record, column: str, separator: str | None) -> tuple[str, ...]:
    """Give the trimmed values of a label that may have several; none where it is missing.

    Parameters
    ----------
    record
        With labels.
    column
        Name of one.
    separator
        Regular expression of what is between two values; one value, if not given.
    """
    text = text_of(record, column)
    parts = [text] if separator is None else re.split(separator, text)
    return tuple(dict.fromkeys(part for each in parts if (part := each.strip())))


def _labels(card: TaskCard, source: DataSource) -> tuple[str, ...]:
    """List the columns of a file that anything asks for, each once."""
    names = [each.column for each in source.filters] + list(source.genes.values())
    names += [source.human.column] if source.human else []
    names += [source.source] if source.source else []
    own = {*card.target.without} if isinstance(card.target, BySource) else set()
    if source.name not in own:
        names += [name for split in card.splits for name in split.by if name not in OWN_KEYS]
    names += card.columns()
    if isinstance(card.target, ByColumn | Classes | Labels | Number):
        names.append(card.target.column)
    if isinstance(card.target, ShuffledPairs) and card.target.within:
        names.append(card.target.within)
    return tuple(dict.fromkeys(names))


def _failed(record: Record, source: DataSource, skip_filters: Sequence[str]) -> str | None:
    """Give the reason of the first filter that a row fails; `None` where it fails none."""
    for each in source.filters:
        found = re.search(each.matches, text_of(record, each.column)) is not None
        if each.name not in skip_filters and found == each.negate:
            return f"{source.name}: filter '{each.name}'"
    return None


def _with_genes(chain: Chain, kind: str, record: Record, source: DataSource) -> Chain:
    found = {}
    for segment in ("v", "j"):
        column = source.genes.get(f"{kind}_{segment}")  # type: ignore[call-overload]
        if column:
            found[f"{segment}_call"] = first_word(text_of(record, column))
    return replace(chain, **found)


def with_germline(records: list[Record], source: DataSource, lines: list[str]) -> list[Record]:
    """Assign human germline genes, so that mutations can be counted; rows of other species pass.

    Parameters
    ----------
    records
        Numbered.
    source
        Says which rows are human.
    lines
        Filled with what came out.
    """
    report = GermlineReport()
    is_human = [
        source.human is None
        or (re.search(source.human.matches, text_of(record, source.human.column)) is not None)
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
        lines.append(f"{source.name}: {len(human):,} records compared with human germline genes: {outcome}")
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
