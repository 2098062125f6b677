"""protlm pretrain."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import ConfigFile, Device, Force, Set


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(pretrain)


def pretrain(
    out: Annotated[Path, typer.Option(help="Run folder to make")],
    config: ConfigFile = None,
    settings: Set = None,
    seed: Annotated[int | None, typer.Option(help="of weights, order and masks")] = None,
    device: Device = "auto",
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="describe, do not train")] = False,
) -> None:
    """Train a masked language model; the same command resumes an interrupted Run."""
    from protlm.recipes import pretrain as recipe

    overrides = list(settings or []) + ([] if seed is None else [f"seed={seed}"])
    resolved = recipe.PretrainConfig.load(config, overrides)
    if dry_run:
        from protlm.recipes.pretrain_plan import dry_run as describe

        if options.is_main_process():
            typer.echo(describe(resolved, out, device=device, say=options.say))
        return
    recipe.pretrain(resolved, out, device=device, force=force, say=options.say)
    if options.is_main_process():
        typer.echo(out)
