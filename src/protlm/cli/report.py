"""protlm report."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli.options import Force


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(report)


def report(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders and tables written by protlm score")
    ],
    out: Annotated[Path, typer.Option(help="page to write, .html")],
    force: Force = False,
) -> None:
    """Write one web page on Runs and score tables; it works offline.

    Shows training curves, masking rates, accuracy by region beside the baselines, comparisons of models,
    leakage, and heat maps of substitution scores: whatever the sources have.
    """
    from protlm.report.page import write_report

    typer.echo(write_report(sources, out, force=force))
