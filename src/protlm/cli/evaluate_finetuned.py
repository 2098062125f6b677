"""protlm evaluate finetuned."""

from math import comb
from pathlib import Path
from typing import Annotated

import typer

from protlm.cli.options import Force


def add_to(verbs: typer.Typer) -> None:
    """Register the command under ``evaluate``."""
    verbs.command()(finetuned)


def finetuned(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN…", help="Runs of protlm finetune on the same split")
    ],
    out: Annotated[Path | None, typer.Option(help="table to write, .parquet")] = None,
    draws: Annotated[int, typer.Option(help="bootstrap samples", min=1)] = 2000,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the differences as JSON lines")] = False,
) -> None:
    """Compare fine-tuned models on the same held-out records: paired differences by training subset."""
    from protlm.progress import Progress
    from protlm.recipes.outputs import claim_file
    from protlm.report.finetuning_differences import difference_lines, finetuning_differences
    from protlm.report.sources import read_sources

    if out is not None:
        claim_file(out, (".parquet",), force=force)
    sources = read_sources(runs).runs
    with Progress("comparing", comb(len(sources), 2), unit="pair") as progress:
        table = finetuning_differences(sources, num_draws=draws, on_pair=progress.advance)
    if out is not None:
        table.write_parquet(out)
    if as_json:
        typer.echo(table.write_ndjson(), nl=False)
    else:
        typer.echo("\n".join(difference_lines(table)))
