"""protlm contrast."""

from pathlib import Path
from typing import Annotated, Any

import typer

from protlm.cli import options
from protlm.cli.options import ConfigFile, Device, Force, Set


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(contrast)


def contrast(
    out: Annotated[Path, typer.Option(help="Run folder to make")],
    config: ConfigFile = None,
    settings: Set = None,
    structures: Annotated[
        str | None, typer.Option(help="Parquet of backbones, folder of structure files, or corpus")
    ] = None,
    group: Annotated[str | None, typer.Option(help="column: one value is on one side")] = None,
    cluster_identity: Annotated[
        float | None, typer.Option(help="clusters of sequences by MMseqs2 instead")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="residues of the windows that are read")] = None,
    segments: Annotated[
        int | None, typer.Option(help="equal parts of a molecule that are pooled apart  (default: 1)")
    ] = None,
    model: Annotated[str | None, typer.Option(help="sequence tower: Run, folder or name")] = None,
    train: Annotated[
        str | None, typer.Option(help="of the sequence tower: frozen, last, full or lora  (default: full)")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="structure tower: protein-mpnn, gvp-transformer, 3di, or a folder  (default: protein-mpnn)"
        ),
    ] = None,
    freeze_structure: Annotated[
        bool, typer.Option("--freeze-structure", help="keep the structure tower as it is")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="of weights, order and windows")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder for vectors of frozen towers")] = None,
    device: Device = "auto",
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="describe, do not train")] = False,
) -> None:
    """Train a sequence and a structure tower to meet in one space; the same command resumes."""
    from protlm.recipes import contrast as recipe
    from protlm.recipes.contrast_config import ContrastConfig

    values: dict[str, Any] = {
        "data.structures": structures,
        "data.group": group,
        "data.cluster_identity": cluster_identity,
        "data.crop_residues": crop,
        "segments": segments,
        "sequence.model": model,
        "sequence.adapt.kind": train,
        "structure.encoder": encoder,
        "structure.is_trained": False if freeze_structure else None,
        "seed": seed,
    }
    resolved = ContrastConfig.load(config, [*options.as_settings(values), *(settings or [])])
    if dry_run:
        typer.echo(recipe.describe(resolved, device=device, say=options.say))
        return
    recipe.contrast(resolved, out, cache=cache, device=device, force=force, say=options.say)
    typer.echo(out)
