"""pretrain --seeds: one configuration trained several times from different seeds, as one ensemble."""

from collections.abc import Sequence
from pathlib import Path

from protlm.errors import ConfigError, RunError
from protlm.models.loading import pick_device
from protlm.models.members import member_folders, write_members
from protlm.recipes.pretrain import PretrainConfig, Say, pretrain, trained_otherwise
from protlm.recipes.pretrain_plan import dry_run
from protlm.runs import Run
from protlm.training.processes import Processes

MOST = 100
"""Seeds of one command; more are taken for a mistake."""


def seeds_of(text: str) -> tuple[int, ...]:
    """Read what ``--seeds`` was given.

    Parameters
    ----------
    text
        Seeds with commas between them, or how many there are from 0 on.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> seeds_of("3"), seeds_of("7,9"), seeds_of("7,")
    ((0, 1, 2), (7, 9), (7,))
    """
    words = [word.strip() for word in text.split(",")]
    is_list = len(words) > 1
    words = words[:-1] if is_list and not words[-1] else words
    if wrong := [word for word in words if not (word.isascii() and word.isdecimal())]:
        raise ConfigError(
            f"--seeds {text!r}: {wrong[0]!r} is not a seed, a whole number from 0 on",
            hint="as in --seeds 0,1,2,3,4 or, for the same, --seeds 5",
        )
    seeds = tuple(int(word) for word in words)
    if not is_list:
        seeds = _first(seeds[0])
    if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ConfigError(
            f"--seeds {text!r}: {repeated[0]} is there twice", hint="two Runs of one seed are one model"
        )
    return seeds


def _first(count: int) -> tuple[int, ...]:
    if not 1 <= count <= MOST:
        raise ConfigError(
            f"--seeds {count} would train {count:,} models, from seed 0 on; expected 1 to {MOST}",
            hint=f"one seed is --seed {count}, or --seeds {count}, with a comma",
        )
    return tuple(range(count))


def pretrain_seeds(
    config: PretrainConfig,
    seeds: Sequence[int],
    out: Path | str,
    *,
    device: str = "auto",
    force: bool = False,
    say: Say = print,
) -> list[Run]:
    """Train one model per seed, one after the other; the same call goes on where an earlier one stopped.

    Parameters
    ----------
    config
        What to do; its own seed does not count.
    seeds
        Of initial weights, order of records, masks and dropout.
    out
        The folder of the ensemble, with a Run ``seed-N`` for each.
    device
        ``"auto"`` takes a GPU if there is one.
    force
        Train seeds anew whose Runs are finished.
    say
        Tells the user what happens.

    Returns
    -------
    list of Run
        One per seed.

    Raises
    ------
    RunError
        If `out` is something else, or has models of other settings.
    """
    path = Path(out)
    processes = Processes(pick_device(device))
    say = processes.say(say)
    with processes.main_first():
        _claim(path, config, seeds, force=force)
        if processes.is_main:
            write_members(path, [_folder(seed) for seed in seeds])
    runs = []
    for number, seed in enumerate(seeds, start=1):
        run = Run(path / _folder(seed))
        title = f"seed {number} of {len(seeds)}: {run.path}"
        if run.is_done and not force:
            say(f"{title} is finished")
        else:
            say(title)
            own = config.model_copy(update={"seed": seed})
            run = pretrain(own, run.path, device=device, force=force, say=say)
        runs.append(run)
    return runs


def dry_run_seeds(
    config: PretrainConfig,
    seeds: Sequence[int],
    out: Path | str,
    *,
    device: str,
    force: bool = False,
    say: Say,
) -> str:
    """Describe the first seed that is not trained, and the time of all that are not; makes nothing.

    Parameters
    ----------
    config, seeds, out, device, force
        As for `pretrain_seeds`.
    say
        Tells the user what happens.
    """
    path = Path(out)
    _claim(path, config, seeds, force=force)
    left = [seed for seed in seeds if force or not Run(path / _folder(seed)).is_done]
    say(f"{len(left)} of {len(seeds)} seeds are to be trained, one after the other")
    if not left:
        return f"all Runs of {path} are finished"
    own = config.model_copy(update={"seed": left[0]})
    return dry_run(own, path / _folder(left[0]), device=device, num_runs=len(left), say=say)


def _folder(seed: int) -> str:
    return f"seed-{seed}"


def _claim(path: Path, config: PretrainConfig, seeds: Sequence[int], *, force: bool) -> None:
    """Refuse a place that is no ensemble of these settings."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file, and an ensemble is a folder", hint="choose another --out")
    if Run.is_run(path):
        raise RunError(
            f"{path} is a single Run, and --seeds makes a folder of Runs", hint="choose another --out"
        )
    folders = member_folders(path)
    if not folders and any(path.iterdir()):
        raise RunError(
            f"{path} exists and is not an ensemble of Runs", hint="choose another --out, or empty it"
        )
    replaced = {_folder(seed) for seed in seeds} if force else set()
    for folder in folders:
        run = Run(path / folder)
        if folder in replaced or not Run.is_run(run.path):
            continue
        if changed := [each for each in trained_otherwise(run, config) if not each.startswith("seed (")]:
            raise RunError(
                f"{run.path} was trained under other settings: {', '.join(changed)} changed",
                hint="members of an ensemble differ in their seed alone; choose another --out",
            )


__all__ = ["dry_run_seeds", "pretrain_seeds", "seeds_of"]
