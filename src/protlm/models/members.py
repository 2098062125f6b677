"""Names that stand for several models: a folder of Runs that differ in their seed, or a catalogue entry."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protlm.errors import ModelError
from protlm.models.catalog import catalog
from protlm.runs import Run

FILE_NAME = "ensemble.json"
"""Lists the members of a folder."""
FORMAT_VERSION = 1

_SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class Ensemble:
    """Several models under one name."""

    name: str
    members: tuple[str, ...]
    """What `protlm.models.loading.load_model` takes."""
    shown: tuple[str, ...]
    """Their names in tables."""


def find_ensemble(name: str | Path) -> Ensemble | None:
    """Give the ensemble of a name; `None` where it is one model, or nothing.

    Parameters
    ----------
    name
        What the user gave: a folder, a catalogue name or a hub name.

    Raises
    ------
    ModelError
        If members of a folder are missing or not finished.

    Examples
    --------
    >>> find_ensemble("esm1v").members
    ('esm1v-1', 'esm1v-2', 'esm1v-3', 'esm1v-4', 'esm1v-5')
    """
    path = Path(name)
    if path.is_dir():
        return _of_folder(path)
    entry = catalog().get(str(name))
    if entry is None or not entry.members:
        return None
    return Ensemble(entry.name, entry.members, entry.members)


def expand(names: Sequence[str]) -> list[tuple[str, str | None]]:
    """Replace each ensemble by its members.

    Parameters
    ----------
    names
        What the user gave.

    Returns
    -------
    list of tuple
        What to load, and the name to show it under; `None` for its own.
    """
    found: list[tuple[str, str | None]] = []
    for name in names:
        ensemble = find_ensemble(name)
        found += [(name, None)] if ensemble is None else zip(ensemble.members, ensemble.shown, strict=True)
    return found


def member_folders(path: Path) -> list[str]:
    """Name the members of a folder: those that its list has, or its Runs called ``seed-N``.

    Parameters
    ----------
    path
        Any folder.

    Returns
    -------
    list of str
        Folder names, by seed; empty where it is no ensemble.

    Raises
    ------
    ModelError
        If the list is damaged.
    """
    if Run.is_run(path) or (path / "config.json").exists():
        return []
    if not (path / FILE_NAME).exists():
        found = [
            each.name for each in path.iterdir() if _SEED_FOLDER.fullmatch(each.name) and Run.is_run(each)
        ]
        return sorted(found, key=_by_seed)
    try:
        facts = json.loads((path / FILE_NAME).read_text(encoding="utf-8"))
        version, members = int(facts["format_version"]), [str(each) for each in facts["members"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path / FILE_NAME} is damaged ({type(error).__name__}: {error})",
            hint='expected {"format_version": 1, "members": ["seed-0", "seed-1"]}',
        ) from None
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path / FILE_NAME} has format {version}; this protlm reads up to {FORMAT_VERSION}",
            hint="upgrade protlm",
        )
    return members


def write_members(path: Path, members: Sequence[str]) -> None:
    """Write down which folders are one ensemble, together with those that were before.

    Parameters
    ----------
    path
        The folder of the ensemble.
    members
        Folder names in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    both = sorted({*member_folders(path), *members}, key=_by_seed)
    part = path / (FILE_NAME + ".part")
    part.write_text(json.dumps({"format_version": FORMAT_VERSION, "members": both}, indent=1) + "\n")
    part.replace(path / FILE_NAME)


def _of_folder(path: Path) -> Ensemble | None:
    folders = member_folders(path)
    if not folders:
        return None
    done = [name for name in folders if Run.is_run(path / name) and Run.open(path / name).is_done]
    if waiting := [name for name in folders if name not in done]:
        named = (
            f"; or name the finished ones: {' '.join(f'--model {path / name}' for name in done)}"
            if done
            else ""
        )
        raise ModelError(
            f"{len(waiting)} of the {len(folders)} models of {path} are not trained yet "
            f"(first: {waiting[0]})",
            hint="run its pretrain command again to go on" + named,
        )
    own = path.resolve().name
    return Ensemble(
        own, tuple(str(path / name) for name in folders), tuple(f"{own}-{name}" for name in folders)
    )


def _by_seed(name: str) -> tuple[int, str]:
    match = _SEED_FOLDER.fullmatch(name)
    return (int(match[1]) if match else -1, name)
