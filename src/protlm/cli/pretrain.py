"""protlm pretrain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protlm.cli import options
from protlm.cli.options import ConfigFile, Device, Force, Set

if TYPE_CHECKING:
    from protlm.recipes.pretrain import PretrainConfig


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(pretrain)


def pretrain(
    out: Annotated[Path, typer.Option(help="Run folder to make")],
    config: ConfigFile = None,
    settings: Set = None,
    seed: Annotated[int | None, typer.Option(help="of weights, order and masks")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="train an ensemble: 0,1,2,3,4, or how many, 5; Runs OUT/seed-0 …, one by one"),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="describe, do not train")] = False,
) -> None:
    """Train a masked language model, or one per seed; the same command resumes an interrupted Run."""
    from protlm.errors import ConfigError
    from protlm.recipes import pretrain as recipe

    overrides = list(settings or []) + ([] if seed is None else [f"seed={seed}"])
    if seeds is not None and (fixed := [each for each in overrides if each.partition("=")[0] == "seed"]):
        raise ConfigError(f"--seeds and {fixed[0]} contradict each other", hint="give one of them")
    resolved = recipe.PretrainConfig.load(config, overrides)
    if seeds is not None:
        _several(resolved, seeds, out, device=device, force=force, dry_run=dry_run)
        return
    if dry_run:
        from protlm.recipes.pretrain_plan import dry_run as describe

        if options.is_main_process():
            typer.echo(describe(resolved, out, device=device, say=options.say))
        return
    recipe.pretrain(resolved, out, device=device, force=force, say=options.say)
    if options.is_main_process():
        typer.echo(out)


def _several(
    config: "PretrainConfig", text: str, out: Path, *, device: str, force: bool, dry_run: bool
) -> None:
    from protlm.recipes.pretrain_seeds import dry_run_seeds, pretrain_seeds, seeds_of

    seeds = seeds_of(text)
    if dry_run:
        if options.is_main_process():
            typer.echo(dry_run_seeds(config, seeds, out, device=device, force=force, say=options.say))
        return
    pretrain_seeds(config, seeds, out, device=device, force=force, say=options.say)
    if options.is_main_process():
        typer.echo(out)
