"""protlm fetch."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Force


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(fetch)


def fetch(
    card: Annotated[str, typer.Argument(help="name of a task card, or a .yaml file")],
    to: Annotated[Path, typer.Option("--to", help="data folder; made if it is not there")] = Path("data"),
    force: Force = False,
) -> None:
    """Download the public files of a task card; a download that was cut off goes on."""
    from protlm.recipes.fetch import fetch as fetch_card

    for path in fetch_card(card, to, force=force, say=options.say):
        typer.echo(str(path))
