"""protlm evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, PrecisionName, Tokens

verbs = typer.Typer(help="Judge models on held-out data, beside trivial baselines.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(verbs, name="evaluate")


@verbs.callback()
def _evaluate() -> None:
    """Judge models on held-out data, beside trivial baselines."""


@verbs.command()
def regions(
    model: Annotated[list[str], typer.Option(help="Run, folder or name; repeat to compare")],
    source: Annotated[str, typer.Option("--input", help="held-out corpus or file")],
    out: Annotated[Path, typer.Option(help="Run folder to make")],
    max_records: Annotated[int | None, typer.Option(help="take at most this many", min=1)] = None,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON lines")] = False,
) -> None:
    """Mask every residue once; accuracy, cross-entropy and perplexity by region."""
    from protlm.recipes.evaluate import evaluate_regions
    from protlm.report.tables import comparison_lines, entropy_lines, summary_lines

    run = evaluate_regions(
        model,
        source,
        out,
        max_records=max_records,
        device=device,
        precision=options.choice("--precision", precision, ("float32", "bfloat16")),  # type: ignore[arg-type]
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    import polars as pl

    summary = pl.read_parquet(run.table_path("regions_summary"))
    if as_json:
        typer.echo(summary.write_ndjson(), nl=False)
        return
    typer.echo("\n".join([*summary_lines(summary), *entropy_lines(summary)]))
    if "comparisons" in run.tables():
        typer.echo("\n".join(comparison_lines(pl.read_parquet(run.table_path("comparisons")))))
