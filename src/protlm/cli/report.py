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
    structure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TABLE=]FILE[:CHAIN]",
            help="PDB or mmCIF file to show position sensitivities on; repeat for more",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write one web page on Runs and score tables; it works offline.

    Shows training curves, masking rates, accuracy by region beside the baselines, comparisons of models,
    leakage, averages over assays of variant effects beside baselines, and of score tables heat maps,
    distributions and the sensitivity of each position: whatever the sources have.
    """
    from protlm.report.page import write_report

    typer.echo(write_report(sources, out, structures=structure or [], force=force))
