"""A cut of the records of a task, by their content, so that it fits two cores."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from protlm.evaluation.cards import Split, TaskCard
from protlm.evaluation.task_examples import content_of
from protlm.evaluation.task_files import text_of
from protlm.types.record import Record


def cut_rows(card: TaskCard, records: Sequence[Record], most: int | None, lines: list[str]) -> list[int]:
    """Choose at most so many records of each side of a given split, or of all, by the hash of their content.

    Parameters
    ----------
    card
        For its splits.
    records
        Any.
    most
        How many; `None` keeps all.
    lines
        Filled with what was cut.

    Returns
    -------
    list of int
        Rows that stay, 0-based, ascending.
    """
    if most is None or len(records) <= most:
        return list(range(len(records)))
    given = [split for split in card.splits if split.train]
    order = sorted(range(len(records)), key=lambda row: _hash(records[row]))
    filled: Counter[tuple[str, str]] = Counter()
    chosen = []
    for row in order:
        own = [(split.name, _side(records[row], split)) for split in given] or [("all", "all")]
        if any(side and filled[name, side] < most for name, side in own):
            chosen.append(row)
            filled.update(own)
    if len(chosen) < len(records):
        where = "of each side of a given split" if given else "of all"
        lines.append(f"CUT to {len(chosen):,} of {len(records):,} records, by content: {most:,} {where}")
    return sorted(chosen)


def _side(record: Record, split: Split) -> str:
    text = text_of(record, str(split.column))
    sides = {"train": split.train, "valid": split.valid, "test": split.test}
    return next((name for name, values in sides.items() if text in values), "")


def _hash(record: Record) -> bytes:
    return hashlib.blake2b("|".join(content_of(record)).encode(), digest_size=8).digest()
