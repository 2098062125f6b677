"""From the text of columns to what is predicted: classes, labels and numbers of records or residues."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from protlm.errors import DataError
from protlm.evaluation.cards import ByColumn, Classes, Labels, Number, TaskCard
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, Target


def read_labels(
    card: TaskCard,
    target: ByColumn | Classes | Labels | Number,
    records: Sequence[Record],
    counts: Counter[str],
) -> tuple[list[Any], Target]:
    """Give the value of each record, and what is predicted.

    Parameters
    ----------
    card
        The task.
    target
        Its target.
    records
        With the target's column among their labels.
    counts
        Filled with what has no value, by reason.

    Returns
    -------
    list
        As in `protlm.types.target.LabelledRecords`; `None` where a record has none.
    Target
        With the classes in use.
    """
    texts = [_text(record.labels.get(target.column)) for record in records]
    if card.level == "residue":
        return _of_residues(card, target, texts, records, counts)
    if isinstance(target, ByColumn):
        values: list[Any] = [_side(text, target) for text in texts]
        counts[f"'{target.column}' is in neither class"] += sum(value is None for value in values)
        return values, Target("binary", card.level, _binary_names(target), target.column)
    if isinstance(target, Classes):
        classes = _classes(target.classes, [[text] for text in texts], target.column)
        place = {name: number for number, name in enumerate(classes)}
        values = [place.get(text) for text in texts]
        counts[f"'{target.column}' is none of the classes"] += sum(value is None for value in values)
        return values, Target("classes", card.level, classes, target.column)
    if isinstance(target, Labels):
        parts = [[part.strip() for part in text.split(target.separator) if part.strip()] for text in texts]
        classes = _classes(target.classes, parts, target.column)
        values = [np.array([name in own for name in classes]) if own else None for own in parts]
        counts[f"'{target.column}' is empty"] += sum(value is None for value in values)
        return values, Target("labels", card.level, classes, target.column)
    values = [_number(text, target) for text in texts]
    counts[f"'{target.column}' has no number that counts"] += sum(value is None for value in values)
    return values, Target("value", card.level, (), target.column, target.best)


def _of_residues(
    card: TaskCard, target: Any, texts: Sequence[str], records: Sequence[Record], counts: Counter[str]
) -> tuple[list[Any], Target]:
    if isinstance(target, ByColumn):
        names, kind = _binary_names(target), "binary"
        codes = dict.fromkeys(target.positive, 1) | dict.fromkeys(target.negative, 0)
    else:
        names, kind = _classes(target.classes, texts, target.column), "classes"
        codes = {letter: number for number, letter in enumerate(names)}
    table = np.full(256, UNLABELLED, dtype=np.int64)
    for letter, number in codes.items():
        table[ord(letter)] = number
    values: list[Any] = []
    for text, record in zip(texts, records, strict=True):
        own = table[np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8)]
        mask = getattr(target, "mask", None)
        if mask is not None and isinstance(target, Classes):
            shown = np.frombuffer(str(record.labels[mask]).encode("latin-1", "replace"), dtype=np.uint8)
            known = np.isin(shown, np.frombuffer(target.known.encode(), dtype=np.uint8))
            counts[f"residues that '{mask}' marks as not known"] += int((~known).sum())
            own = np.where(known, own, UNLABELLED)
        is_there = len(own) == len(record) and bool((own != UNLABELLED).any())
        counts[f"'{target.column}' has no class for any residue"] += not is_there
        values.append(own if is_there else None)
    return values, Target(kind, card.level, names, target.column)  # type: ignore[arg-type]


def merge_labels(values: Sequence[Any], target: Target) -> Any:
    """Give one value for records of the same content; `None` where they contradict each other.

    Parameters
    ----------
    values
        At least one, none of them missing.
    target
        Numbers are averaged; labels and classes must agree. Of residues, the first.
    """
    if target.level == "residue":
        return values[0]
    if target.kind == "value":
        return float(np.mean(values))
    first = np.asarray(values[0])
    return values[0] if all(np.array_equal(first, np.asarray(each)) for each in values) else None


def _binary_names(target: ByColumn) -> tuple[str, str]:
    return "|".join(target.negative), "|".join(target.positive)


def _side(text: str, target: ByColumn) -> int | None:
    return 1 if text in target.positive else 0 if text in target.negative else None


def _classes(given: tuple[str, ...], texts: Sequence[Sequence[str]], column: str) -> tuple[str, ...]:
    """Give the classes of the card, or those that are there, in alphabetical order."""
    found = given or tuple(sorted({name for own in texts for name in own} - {""}))
    if not found:
        raise DataError(f"'{column}' is empty in all rows", hint="is it the right column?")
    return found


def _number(text: str, target: Number) -> float | None:
    try:
        value = float(text) * target.factor
    except ValueError:
        return None
    if target.transform != "none":
        if value <= 0:
            return None
        value = math.log10(value) * (-1 if target.transform == "negative-log10" else 1)
    return value if math.isfinite(value) else None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
