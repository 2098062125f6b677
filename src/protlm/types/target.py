"""What is learned of labelled records: a target, and the value of each record. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from protlm.errors import DataError
from protlm.types.record import Record

Kind = Literal["binary", "classes", "labels", "value"]
KINDS: tuple[Kind, ...] = ("binary", "classes", "labels", "value")
Level = Literal["sequence", "pair", "residue"]
LEVELS: tuple[Level, ...] = ("sequence", "pair", "residue")

Best = Literal["", "high", "low"]

UNLABELLED = -1
"""The class of a residue that has none; a residue without a value has NaN."""


@dataclass(frozen=True)
class Target:
    """What is predicted, and of what.

    Examples
    --------
    >>> Target("classes", "residue", classes=("H", "E", "C")).num_outputs
    3
    >>> Target("binary", "sequence", classes=("no",))
    Traceback (most recent call last):
    ...
    protlm.errors.DataError: target 'label' is binary and has 1 class: no
    hint: two classes are expected, the negative one first
    """

    kind: Kind
    """`binary`: one of two classes. `classes`: of several. `labels`: any of several. `value`: a number."""
    level: Level
    """`sequence`: of a record as it is. `pair`: of a record of two chains. `residue`: of each residue."""
    classes: tuple[str, ...] = ()
    """Names of the classes or labels by their number; of a binary target the negative and the positive."""
    name: str = "label"
    """Of the column that has it."""
    best: Best = ""
    """Of a value: whether the highest or the lowest are the best, as of a Kd; empty where it is not said."""

    def __post_init__(self) -> None:
        names, count = ", ".join(self.classes), len(self.classes)
        counted = f"{count} class{'' if count == 1 else 'es'}: {names}"
        if self.kind == "binary" and count != 2:
            raise DataError(
                f"target '{self.name}' is binary and has {counted}",
                hint="two classes are expected, the negative one first",
            )
        if self.kind == "classes" and count < 2:
            raise DataError(f"target '{self.name}' has {counted}", hint="at least two are expected")
        if self.kind == "labels" and not count:
            raise DataError(f"target '{self.name}' has no labels", hint="at least one is expected")
        if self.kind == "value" and count:
            raise DataError(f"target '{self.name}' is a number and has {counted}", hint="give no classes")

    @property
    def num_outputs(self) -> int:
        """Numbers that a head gives: one of a binary target or a value, else one per class or label."""
        return len(self.classes) if self.kind in ("classes", "labels") else 1


@dataclass(frozen=True)
class LabelledRecords:
    """Records, and what is known of each."""

    records: Sequence[Record]
    target: Target
    values: Sequence[Any]
    """One per record: the number of its class (`binary`, `classes`), bools by label (`labels`), a float
    (`value`). At residue level an array of these with an entry for each residue of all chains laid end to
    end, `UNLABELLED` or NaN where nothing is known."""
    groups: Sequence[str] = field(default=())
    """Unit of resampling of each record: those that share one are not independent. None given: each alone."""

    def __post_init__(self) -> None:
        for name, column in (("values", self.values), ("groups", self.groups or self.values)):
            if len(column) != len(self.records):
                raise DataError(
                    f"{len(column):,} {name} of '{self.target.name}' for {len(self.records):,} records",
                    hint="one is expected for each record",
                )
        if self.target.level == "residue":
            _check_lengths(self)
        if self.target.level == "pair":
            _check_pairs(self)

    def __len__(self) -> int:
        return len(self.records)

    def subset(self, rows: Sequence[int] | np.ndarray) -> "LabelledRecords":
        """Give some of the records, in that order.

        Parameters
        ----------
        rows
            Indices of records, 0-based.
        """
        chosen: list[int] = np.asarray(rows, dtype=np.int64).tolist()
        return LabelledRecords(
            [self.records[row] for row in chosen],
            self.target,
            [self.values[row] for row in chosen],
            [self.groups[row] for row in chosen] if self.groups else (),
        )

    def units(self) -> list[str]:
        """Give the unit of resampling of each record: its group, or its id where there are no groups."""
        return list(self.groups) if self.groups else [record.id for record in self.records]


def _check_lengths(labelled: LabelledRecords) -> None:
    for record, values in zip(labelled.records, labelled.values, strict=True):
        if len(values) != len(record):
            raise DataError(
                f"record '{record.id}' has {len(record)} residues and {len(values)} values of "
                f"'{labelled.target.name}'",
                hint="one is expected for each residue of all chains, those that are not known included",
            )


def _check_pairs(labelled: LabelledRecords) -> None:
    for record in labelled.records:
        if len(record.chains) != 2:
            raise DataError(
                f"record '{record.id}' has {len(record.chains)} chain{'s' * (len(record.chains) != 1)}, and "
                f"'{labelled.target.name}' is of pairs",
                hint="two are expected; take --level sequence for other records",
            )
