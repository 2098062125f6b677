"""Examples of a task: what has a label, in which fold it is, and what it is resampled with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from protlm.data.clonotypes import clonotype_keys
from protlm.data.split_report import SplitReport, report_split
from protlm.data.splits import Groups
from protlm.evaluation.card_parts import OWN_KEYS
from protlm.evaluation.cards import Split, TaskCard
from protlm.evaluation.probes import Rounds
from protlm.evaluation.task_files import DATASET, text_of, values_of
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


def look_at_split(
    card: TaskCard,
    split: Split,
    records: Sequence[Record],
    folds: np.ndarray,
    groups: Groups,
    labels: Sequence[str] | None,
) -> SplitReport:
    """Look at a split, also for what it did not ask to keep together.

    Parameters
    ----------
    card, split
        The task, and one of its splits.
    records, folds, groups, labels
        As for `report_split`.
    """
    columns = {name: None for each in card.splits for name in each.by if name not in OWN_KEYS}
    separators = columns | {name: mark for each in card.splits for name, mark in each.separators.items()}
    keys = {name: [values_of(record, name, mark) for record in records] for name, mark in separators.items()}
    if card.is_antibody_pairs or card.receptor == "antibody":
        keys = {"clonotype": clonotype_keys(records, identity=split.cdr3_identity)} | keys
    return report_split(records, [str(fold) for fold in folds], groups, labels=labels, keys=keys)


def content_of(record: Record) -> tuple[str, ...]:
    """Give the residues of each chain.

    Parameters
    ----------
    record
        Any.
    """
    return tuple(chain.residues for chain in record.chains)


def sources_of(card: TaskCard, records: Sequence[Record]) -> list[str]:
    """Give where each record is from: its publication, or its file.

    Parameters
    ----------
    card
        The task.
    records
        Read by it.
    """
    columns = {source.name: source.source for source in card.data}
    found = []
    for record in records:
        column = columns[text_of(record, DATASET)]
        found.append(text_of(record, column) if column else text_of(record, DATASET))
    return found
