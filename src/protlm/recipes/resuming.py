"""Whether an interrupted Run may go on: only under the settings that it began with."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from protlm.config import BaseConfig
from protlm.errors import ConfigError, RunError
from protlm.runs import Run

_SHOWN = 60
"""Characters of a value."""


def changed_settings(run: Run, config: BaseConfig) -> list[str]:
    """Name the settings that differ from those written in a Run.

    Parameters
    ----------
    run
        At any stage.
    config
        What is asked for now.

    Returns
    -------
    list of str
        As ``training.max_steps (5, now 6)``, sorted; empty where none were written yet. Settings that are
        newer than the Run had their defaults.
    """
    old, new = run.read_config(), yaml.safe_load(config.dump())
    if not old:
        return []
    with contextlib.suppress(ConfigError):
        old = yaml.safe_load(type(config).from_dict(old).dump())
    return sorted(_differences(old, new))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{place}{key}.")
        elif before != after:
            yield f"{place}{key} ({_shown(before)}, now {_shown(after)})"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def refuse_changes(run: Run, changed: Sequence[str]) -> None:
    """Refuse to go on with an interrupted Run that was begun otherwise.

    Parameters
    ----------
    run
        Which.
    changed
        Names of what differs.

    Raises
    ------
    RunError
        If there are any.
    """
    if changed:
        raise RunError(
            f"{run.path} was interrupted under other settings: {', '.join(changed)} changed",
            hint="choose another --out, or pass --force to start over",
        )
