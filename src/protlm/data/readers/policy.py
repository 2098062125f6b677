"""What readers do with input that is not plain residues: stated, counted, reported."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from protlm.data.remembered import NumberSet
from protlm.errors import DataError
from protlm.types.alphabet import GapPolicy, ResidueError
from protlm.types.record import Record

_NUM_EXAMPLES = 3

Regions = Literal["auto", "columns", "immunum"]


@dataclass(frozen=True)
class InputPolicy:
    """Choices for input that is not plain residues with unique ids."""

    invalid: Literal["error", "drop"] = "error"
    """A sequence that is empty or has letters that are no residues: stop, or drop and count."""
    gaps: GapPolicy = "error"
    """``-`` and ``.`` inside a sequence: invalid, or remove and count."""
    duplicate_ids: Literal["error", "rename"] = "error"
    """An id that was seen before: stop, or append ``#2``, ``#3`` … and count."""
    regions: Regions = "auto"
    """Columns with regions: use them and, where one does not fit its sequence, leave it out and count;
    demand them; or do not read them, so that `protlm prepare` numbers instead."""
    unproductive: Literal["keep", "drop"] = "keep"
    """Rows whose column ``productive`` says no: keep, or drop and count; counted either way."""
    bispecific: Literal["first", "both"] = "first"
    """A second variable domain pair in a row: count it as not read, or give it as a record ``ID:fv2``."""
    paired_ids: bool = False
    """In FASTA, join the two chains of one name to one record; see `protlm.data.readers.paired_fasta`."""


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a table hold what; `None` looks for the usual names."""

    layout: str = "auto"
    """A name of `protlm.data.readers.layouts.LAYOUTS`; ``auto`` tells it from the columns."""
    heavy: str | None = None
    light: str | None = None
    sequence: str | None = None
    id: str | None = None
    group: tuple[str, ...] = ()
    """Columns that together name the group of a record."""
    labels: tuple[str, ...] = ()
    """Columns, or keys of an OAS file's first line, to keep as labels."""


@dataclass
class ReadReport:
    """What happened while reading."""

    num_read: int = 0
    """Records given."""
    columns: list[str] = field(default_factory=list)
    """Which columns of a table were taken for what."""
    notes: list[str] = field(default_factory=list)
    """What else is worth saying."""
    changed: Counter[str] = field(default_factory=Counter)
    """Records by the rule that changed them."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Records left out, by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first few places for each rule of `changed` and reason of `dropped`."""

    def change(self, counts: Counter[str], where: str) -> None:
        """Count what was changed in a record.

        Parameters
        ----------
        counts
            Changes by rule.
        where
            File, row and id.
        """
        for rule, count in counts.items():
            self.changed[rule] += count
            self._remember(rule, where)

    def drop(self, reason: str, where: str) -> None:
        """Count a dropped record.

        Parameters
        ----------
        reason
            Short, the same for all records of its kind.
        where
            File, row and id.
        """
        self.dropped[reason] += 1
        self._remember(reason, where)

    def _remember(self, rule: str, where: str) -> None:
        places = self.examples.setdefault(rule, [])
        if len(places) < _NUM_EXAMPLES:
            places.append(where)

    def lines(self) -> list[str]:
        """Say which columns were read, and what was changed and dropped, a line each."""
        changed = [
            f"{count:,} × {rule}" + (f" (first: {self.examples[rule][0]})" if rule in self.examples else "")
            for rule, count in self.changed.most_common()
        ]
        dropped = [
            f"{count:,} dropped: {reason} (first: {'; '.join(self.examples[reason])})"
            for reason, count in self.dropped.most_common()
        ]
        return self.columns + self.notes + changed + dropped


class UniqueIds:
    """Refuses or renames repeated ids; remembers a hash of each, in some 15 bytes.

    Parameters
    ----------
    policy
        What to do.
    report
        Where to count.
    remedy
        What else the message may propose.
    """

    def __init__(self, policy: InputPolicy, report: ReadReport, *, remedy: str = "") -> None:
        self._policy = policy
        self._report = report
        self._remedy = remedy
        self._seen = NumberSet()
        self._next: dict[int, int] = {}

    def claim(self, name: str, where: str) -> str:
        """Give the id to use for a record called `name`.

        Parameters
        ----------
        name
            As found.
        where
            File and row, for the message.

        Raises
        ------
        DataError
            If the id was used before and the policy says so.
        """
        if self._seen.add(hash(name)):
            return name
        if self._policy.duplicate_ids == "error":
            raise DataError(
                f"{where}: the id '{name}' was used before",
                hint=f"make ids unique, or pass --duplicate-ids rename to append #2, #3 …{self._remedy}",
            )
        number = self._next.get(hash(name), 2)
        while hash(f"{name}#{number}") in self._seen:
            number += 1
        self._next[hash(name)] = number + 1
        self._report.changed["repeated id, renamed with #2, #3 …"] += 1
        return self.claim(f"{name}#{number}", where)


def guarded(
    build: "Iterator[tuple[str, Record | DataError]]", policy: InputPolicy, report: ReadReport
) -> Iterator[Record]:
    """Apply the `invalid` policy to a stream of records and errors.

    Parameters
    ----------
    build
        Pairs of a place (file, row) and the record found there, or what is wrong with it.
    policy
        Whether to stop.
    report
        Where to count.
    """
    for where, outcome in build:
        if isinstance(outcome, Record):
            report.num_read += 1
            yield outcome
        elif policy.invalid == "error":
            raise DataError(f"{where}: {outcome.message}", hint=outcome.hint)
        else:
            reason = outcome.reason if isinstance(outcome, ResidueError) else outcome.message
            report.drop(reason, where)
