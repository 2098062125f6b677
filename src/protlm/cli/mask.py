"""protlm mask."""

import json
import sys
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import ConfigFile, Set

verbs = typer.Typer(help="Look at what a masking selects.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(verbs, name="mask")


@verbs.callback()
def _mask() -> None:
    """Look at what a masking selects."""


@verbs.command()
def preview(
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="corpus, or a file, which is prepared whole as for training; else that of --config",
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Set = None,
    model: Annotated[str | None, typer.Option(help="Run, folder or name whose token layout to use")] = None,
    records: Annotated[int, typer.Option(help="records to show", min=0)] = 3,
    epochs: Annotated[int, typer.Option(help="epochs to draw for the rates", min=1)] = 20,
    sample: Annotated[int, typer.Option(help="records to draw them for, a fair sample", min=1)] = 500,
    progress: Annotated[float, typer.Option(help="training progress, for schedules", min=0, max=1)] = 0.0,
    seed: Annotated[int | None, typer.Option(help="of the masks")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Show masked records, and the asked beside the observed rates by chain, region and segment."""
    from rich.console import Console

    from protlm.recipes import mask as recipe
    from protlm.report.masking_preview import preview_parts

    overrides = list(settings or []) + ([] if seed is None else [f"seed={seed}"])
    shown = recipe.preview_masking(
        recipe.preview_config(config, source, overrides),
        model=model,
        num_records=records,
        num_epochs=epochs,
        sample=sample,
        progress=progress,
        say=options.say,
    )
    if as_json:
        typer.echo(json.dumps(recipe.as_plain(shown)))
        return
    console = Console(file=sys.stdout, highlight=False)
    for part in preview_parts(shown, width=min(console.width, 100)):
        console.print(part)
