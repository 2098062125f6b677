"""Labels as they stand in a table to values of a target."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from protlm.errors import ConfigError, DataError
from protlm.evaluation.task_files import text_of
from protlm.recipes.finetune_config import LabelConfig
from protlm.types.record import Record
from protlm.types.target import UNLABELLED, Kind, Target

_MOST_SHOWN = 10
_FEW = 20
"""Up to so many different whole numbers are taken for classes."""


def target_of(records: Sequence[Record], settings: LabelConfig) -> tuple[Target, str]:
    """Work out the kind and the classes of a target from the labels.

    Parameters
    ----------
    records
        All that have a label.
    settings
        What the user said of it.

    Returns
    -------
    Target
        With its classes sorted by name where they are not given.
    str
        What it was taken for.

    Raises
    ------
    DataError
        If the labels do not fit the kind, or a label is not among the classes that are given.
    """
    words = _words(records, settings)
    kind: Kind = _guess(words, settings) if settings.kind == "auto" else settings.kind
    if kind == "value":
        end = f"the {settings.best}est are the best" if settings.best else "which end is best is not said"
        target = Target("value", settings.level, name=settings.target, best=settings.best or "")
        return target, f"'{settings.target}' is a number; {end}"
    names = settings.classes or tuple(sorted(words))
    if unknown := [word for word in words if word not in names]:
        raise DataError(
            f"'{settings.target}' is '{unknown[0]}' {words[unknown[0]]:,} times, which is no class",
            hint=f"given: {', '.join(names)}",
        )
    if kind in ("binary", "classes") and len(names) < 2:
        raise DataError(
            f"'{settings.target}' is the same for all records ({', '.join(names)}), so there is nothing to "
            "learn",
            hint="is it the right column, and are both kinds of records there?",
        )
    target = Target(kind, settings.level, classes=names, name=settings.target)
    counted = ", ".join(f"{name} {words[name]:,}" for name in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    what = {"binary": "binary", "classes": f"one of {len(names)} classes", "labels": f"{len(names)} labels"}
    return target, f"'{settings.target}' is {what[kind]}: {counted}{more}"


def refuse_unused(settings: LabelConfig, target: Target) -> None:
    """Refuse settings of a value where something else is predicted, which would otherwise do nothing.

    Parameters
    ----------
    settings
        What the user said.
    target
        What is predicted.

    Raises
    ------
    ConfigError
        If there are some.
    """
    is_one = target.kind == "value" and target.level != "residue"
    given = {
        "best": settings.best is not None and target.kind != "value",
        "wild_type": settings.wild_type is not None and not is_one,
        "replicates: error": settings.replicates == "error" and not is_one,
    }
    if unused := [name for name, is_unused in given.items() if is_unused]:
        raise ConfigError(
            f"'{unused[0]}' is for a value, and '{target.name}' is {target.kind} of a {target.level}",
            hint="leave it out; or pass --kind value, if the labels are numbers",
        )


def value_of(record: Record, target: Target, settings: LabelConfig) -> Any:
    """Give the value of a record, as `LabelledRecords` has it.

    Parameters
    ----------
    record
        With a label.
    target
        What it is a value of.
    settings
        How labels are written.
    """
    if target.level == "residue":
        return _of_residues(record, target, settings)
    text = text_of(record, target.name)
    if target.kind == "value":
        return _number(record, target.name, text)
    if target.kind == "labels":
        own = _split(text, settings)
        return np.array([name in own for name in target.classes])
    return target.classes.index(text)


def residue_values(record: Record, name: str) -> Sequence[Any]:
    """Give what a label says of each residue: letters of a text, numbers between commas, or a list.

    Parameters
    ----------
    record
        With the label; ``/`` may stand between the values of its chains.
    name
        Of the label.
    """
    value = record.labels.get(name)
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    text = str(value).strip()
    if "," in text:
        return [part.strip() for part in re.split(r"[,/]", text)]
    return text.replace("/", "") if len(text) == len(record) + len(record.chains) - 1 else text


def _words(records: Sequence[Record], settings: LabelConfig) -> Counter[str]:
    if settings.level == "residue":
        found: Counter[str] = Counter()
        for record in records:
            found.update(map(str, residue_values(record, settings.target)))
        for letter in settings.unlabelled:
            found.pop(letter, None)
        return found
    texts = [text_of(record, settings.target) for record in records]
    if settings.kind == "labels":
        return Counter(word for text in texts for word in _split(text, settings))
    return Counter(texts)


def _split(text: str, settings: LabelConfig) -> list[str]:
    return [word.strip() for word in text.split(settings.separator) if word.strip()]


def _guess(words: Counter[str], settings: LabelConfig) -> Kind:
    if settings.classes:
        return "binary" if len(settings.classes) == 2 else "classes"
    if len(words) == 2:
        return "binary"
    numbers = [_float(word) for word in words]
    is_number = all(number is not None for number in numbers)
    is_whole = is_number and all(float(number).is_integer() for number in numbers if number is not None)
    return "value" if is_number and not (is_whole and len(words) <= _FEW) else "classes"


def _of_residues(record: Record, target: Target, settings: LabelConfig) -> np.ndarray:
    given = residue_values(record, target.name)
    mask = residue_values(record, settings.mask) if settings.mask else None
    for name, own in ((target.name, given), (settings.mask, mask)):
        if own is not None and len(own) != len(record):
            raise DataError(
                f"record '{record.id}' has {len(record)} residues and {len(own)} values of '{name}'",
                hint="one is expected for each residue of all chains",
            )
    if target.kind == "value":
        texts = [str(each).strip() for each in given]
        values = np.array(
            [np.nan if each in settings.unlabelled else _number(record, target.name, each) for each in texts]
        )
        empty = np.nan
    else:
        number = {name: place for place, name in enumerate(target.classes)}
        values = np.array([number.get(str(each), UNLABELLED) for each in given], dtype=np.int64)
        empty = UNLABELLED
    if mask is not None:
        values[np.array([str(each) not in ("1", "True") for each in mask])] = empty
    return values


def _number(record: Record, name: str, text: str) -> float:
    number = _float(text)
    if number is None:
        raise DataError(
            f"record '{record.id}': '{text}' of '{name}' is no number", hint="pass --kind classes for classes"
        )
    return number


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
