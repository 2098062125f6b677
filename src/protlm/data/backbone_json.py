"""Backbones in JSON: a list of objects, or one a line, with name, seq and coords."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.backbone_tables import OWN
from protlm.data.readers.text import read_bytes
from protlm.errors import DataError
from protlm.types.alphabet import clean_residues
from protlm.types.structure import ATOMS, Backbone

_LIMIT = 2**63


def read_backbone_json(path: Path) -> tuple[list[Backbone], pl.DataFrame | None]:
    """Read all backbones of a file, and their labels.

    Parameters
    ----------
    path
        JSON or JSON lines, plain or .gz. `coords` is an array [n, 4, 3] in Å, or an object with N, CA, C and
        O; texts and numbers under other names are labels.

    Returns
    -------
    backbones : list of Backbone
    labels : polars.DataFrame or None
        A row for each; nothing where there is no label.

    Raises
    ------
    DataError
        If it is not JSON, an entry is no backbone, or a whole number has no place in 64 bits.
    """
    entries = _entries(path)
    backbones = [_backbone(path, number, each) for number, each in enumerate(entries, 1)]
    plain = [_labels(f"{path}, entry {number}", each) for number, each in enumerate(entries, 1)]
    labels = pl.DataFrame(plain, infer_schema_length=None, strict=False) if any(plain) else None
    return backbones, labels


def _entries(path: Path) -> list[Any]:
    text = read_bytes(path)
    try:
        try:
            entries = json.loads(text)
        except json.JSONDecodeError:
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no text, a number of 5,000 digits
        why = "brackets nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(
            f"{path} is not JSON of backbones ({why})",
            hint="expected a list of {name, seq, coords}; if it is meant to be one, fetch it again",
        ) from None
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} has no backbones", hint="expected a list of {name, seq, coords}")
    return entries


def _backbone(path: Path, number: int, entry: Any) -> Backbone:
    where = f"{path}, entry {number}"
    if not isinstance(entry, dict) or not {"name", "seq", "coords"} <= entry.keys():
        there = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
        raise DataError(f"{where} has {there}", hint="expected name, seq and coords")
    coordinates = entry["coords"]
    try:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which a backbone refuses
            if isinstance(coordinates, dict):
                places = np.stack([np.array(coordinates[atom], dtype=np.float32) for atom in ATOMS], axis=1)
            else:
                places = np.array(coordinates, dtype=np.float32)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where}, '{entry['name']}': coords are no array of [residues, 4, 3] ({error})",
            hint=f"give {', '.join(ATOMS)} of each residue, null where not resolved",
        ) from None
    residues = clean_residues(str(entry["seq"]))
    return Backbone(str(entry["name"]), residues, places, np.zeros(len(residues), np.int64), ("A",))


def _labels(where: str, entry: dict[str, Any]) -> dict[str, str | int | float]:
    labels = {
        name: value
        for name, value in entry.items()
        if name not in OWN | {"name", "seq"} and isinstance(value, str | int | float)
    }
    for name, value in labels.items():
        if isinstance(value, int) and not -_LIMIT <= value < _LIMIT:
            shown = (
                str(value) if len(str(value)) <= 40 else f"a number of {len(str(value).lstrip('-')):,} digits"
            )
            raise DataError(
                f"{where}, '{entry['name']}': {name} is {shown}, expected a whole number of 64 bits",
                hint="write it in quotes, as a text, or leave it out",
            )
    return labels
