"""Equal inputs with several measured values: averaged, kept together, or refused; always counted."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.task_files import text_of
from protlm.recipes.finetune_config import LabelConfig
from protlm.types.record import Record, Role
from protlm.types.target import LabelledRecords

SEVERAL = "\x1f"
"""Between the values of a column that averaged records differ in."""


def content(record: Record, *, is_ordered: bool = False) -> str:
    """Give what is the same for equal inputs: the residues and roles of the chains, whatever the id.

    Parameters
    ----------
    record
        Any record.
    is_ordered
        Whether chains without roles have an order all the same.
    """
    chains = [f"{int(chain.role)} {chain.residues}" for chain in record.chains]
    if not is_ordered and all(chain.role is Role.OTHER for chain in record.chains):
        chains.sort()
    return SEVERAL.join(chains)


def content_key(record: Record) -> int:
    """Give a 64-bit hash of `content`.

    Parameters
    ----------
    record
        Any record.
    """
    return int.from_bytes(hashlib.blake2b(content(record).encode(), digest_size=8).digest(), "little")


def treat_replicates(
    labelled: LabelledRecords, parts: list[str], settings: LabelConfig, lines: list[str]
) -> tuple[LabelledRecords, list[str]]:
    """Do with equal inputs on one side of a given split what the settings say.

    Parameters
    ----------
    labelled
        Of values.
    parts
        Side of each record, empty where it is not given. Equal inputs of two sides stay what they are; the
        leakage report counts them.
    settings
        Of the data.
    lines
        Filled with what was found.

    Raises
    ------
    DataError
        If there are some and that is an error, or records that are to be averaged are of two groups.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for row, (record, part) in enumerate(zip(labelled.records, parts, strict=True)):
        key = content(record, is_ordered=settings.level != "pair")
        found.setdefault((key, part), []).append(row)
    several = [rows for rows in found.values() if len(rows) > 1]
    if not several:
        return labelled, parts
    values = np.asarray(labelled.values, dtype=np.float64)
    total, spread = sum(map(len, several)), _spread(values, several)
    text = (
        f"{total:,} records are {len(several):,} inputs with several values of '{labelled.target.name}', "
        f"sd {spread:.3g} inside an input, {np.std(values):.3g} of all"
    )
    if settings.replicates == "error":
        ids = [labelled.records[row].id for row in several[0][:2]]
        raise DataError(
            f"{text}; such as '{ids[0]}' and '{ids[1]}'",
            hint="pass --replicates mean to average them, or keep",
        )
    if settings.replicates == "keep":
        lines.append(f"{text}: kept, on one side and in one subset where the split is made here")
        return labelled, parts
    lines.append(f"{text}: averaged")
    records = [_joined([labelled.records[row] for row in rows], settings) for rows in found.values()]
    means = [float(values[rows].mean()) for rows in found.values()]
    sides = [part for _, part in found]
    return LabelledRecords(records, labelled.target, means), sides


def _spread(values: np.ndarray, several: Sequence[Sequence[int]]) -> float:
    """Give the pooled standard deviation inside inputs."""
    squares = sum(float(((values[rows] - values[rows].mean()) ** 2).sum()) for rows in several)
    return float(np.sqrt(squares / sum(len(rows) - 1 for rows in several)))


def _joined(records: Sequence[Record], settings: LabelConfig) -> Record:
    """Give the first of equal records, with all the values of the columns that groups are made by."""
    first = records[0]
    if len(records) == 1:
        return first
    if "group" in settings.by and len({record.group for record in records}) > 1:
        raise DataError(
            f"records '{first.id}' and '{records[1].id}' have the same input and are of several groups",
            hint="pass --replicates keep, which joins their groups",
        )
    own = [name for name in settings.by if name in first.labels]
    values = {name: SEVERAL.join(dict.fromkeys(text_of(each, name) for each in records)) for name in own}
    return replace(first, labels={**first.labels, **values})
