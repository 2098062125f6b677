"""protlm convert."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.errors import UserError, did_you_mean


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(convert)


def convert(
    source: Annotated[
        Path, typer.Argument(help="folder, .pt file of fair-esm or ProteinMPNN, tar/zip archive, or Run")
    ],
    out: Annotated[Path, typer.Option(help="folder to make; nothing is overwritten")],
    layout: Annotated[
        str | None, typer.Option(help="how chains are written; protlm models --layouts lists the names")
    ] = None,
    inside: Annotated[
        str | None, typer.Option(help="folder inside the source, where it has several models")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="longformer: sliding windows and more positions for a trained RoBERTa")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="--to longformer: longest input  (default: 2048)")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="--to longformer: tokens seen, half on each side  (default: 512)")
    ] = None,
) -> None:
    """Turn a published checkpoint into a folder that loads; the only verb that reads pickled weights.

    With --to longformer, SOURCE is a RoBERTa: a Run, a folder in safetensors, or a name on the hub.
    """
    lengths = {"max_tokens": max_tokens, "window": window}
    given = {name: value for name, value in lengths.items() if value is not None}
    if to is None:
        _refuse([f"--{name.replace('_', '-')}" for name in given], "goes with --to longformer")
        from protlm.recipes.convert import convert as run

        typer.echo(run(source, out, layout=layout, inside=inside, say=options.say))
        return
    if to != "longformer":
        raise UserError(f"--to {to}: no such conversion", hint=did_you_mean(to, ["longformer"]))
    asked = {"--layout": layout, "--inside": inside}
    _refuse([name for name, value in asked.items() if value is not None], "does not go with --to longformer")
    from protlm.recipes.convert_longformer import convert_to_longformer

    typer.echo(convert_to_longformer(source, out, **given, say=options.say))


def _refuse(names: list[str], why: str) -> None:
    if names:
        raise UserError(f"{names[0]} {why}", hint="see protlm convert --help")
