"""Whether an interrupted Run may go on: only under the settings that it began with."""

import contextlib
from collections.abc import Sequence

import yaml

from protlm.config import BaseConfig
from protlm.errors import ConfigError, RunError
from protlm.runs import Run


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
        Keys at the top, sorted; empty where none were written yet. Settings that are newer than the Run had
        their defaults.
    """
    old, new = run.read_config(), yaml.safe_load(config.dump())
    if not old:
        return []
    with contextlib.suppress(ConfigError):
        old = yaml.safe_load(type(config).from_dict(old).dump())
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


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
