"""From a task card and its files to what is judged: labelled records or residues with folds and groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from protlm.errors import ConfigError, did_you_mean
from protlm.evaluation.cards import ShuffledPairs, TaskCard
from protlm.evaluation.task_examples import TaskData, Trial
from protlm.evaluation.task_files import read_source, with_germline
from protlm.evaluation.task_labelled import labelled_examples
from protlm.evaluation.task_shuffled import shuffled_examples
from protlm.evaluation.task_skempi import read_skempi
from protlm.evaluation.task_tables import read_chains
from protlm.types.record import Record


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
        Cut of either side of a given split, of all records, or of native pairs; else as the card says.

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
        if source.format == "skempi":
            records += read_skempi(source, paths, skip_filters, counts, lines)
        elif source.chains:
            records += read_chains(card, source, paths, skip_filters, counts, lines)
        else:
            records += read_source(card, source, paths[source.name], skip_filters, counts, lines)
    if card.receptor == "antibody" and card.level != "residue":
        records = with_germline(records, card.data[0], lines)
    numbers = range(card.seeds if seeds is None else seeds)
    most = card.max_records if max_records is None else max_records
    if isinstance(card.target, ShuffledPairs):
        data = shuffled_examples(card, card.target, records, numbers, most, counts, lines)
    else:
        data = labelled_examples(card, records, numbers, most, counts, lines)
    data.counts = {reason: count for reason, count in counts.items() if count}
    data.lines = [*lines, *(f"left out: {count:,} × {reason}" for reason, count in data.counts.items())]
    return data


__all__ = ["TaskData", "Trial", "build_task"]
