"""protlm convert."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(convert)


def convert(
    source: Annotated[Path, typer.Argument(help="folder, .pt file of fair-esm, or tar/zip archive")],
    out: Annotated[Path, typer.Option(help="folder to make; nothing is overwritten")],
    layout: Annotated[
        str | None, typer.Option(help="how chains are written; protlm models --layouts lists the names")
    ] = None,
    inside: Annotated[
        str | None, typer.Option(help="folder inside the source, where it has several models")
    ] = None,
) -> None:
    """Turn a published checkpoint into a folder that loads; the only verb that reads pickled weights."""
    from protlm.recipes.convert import convert as run

    typer.echo(run(source, out, layout=layout, inside=inside, say=options.say))
