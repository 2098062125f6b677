"""protlm score."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, Gaps, PrecisionName, Tokens


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(score)


def score(
    wild_type: Annotated[str, typer.Option(help="FASTA file with one record, or a sequence")],
    out: Annotated[Path, typer.Option(help=".csv, .tsv or .parquet to write")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Run, folder or name; repeat for an ensemble  [default for antibodies: protlm-ab-mini]"
        ),
    ] = None,
    variants: Annotated[Path | None, typer.Option(help="table with a column of variants, A42G:K50R")] = None,
    all_single: Annotated[bool, typer.Option("--all-single", help="all single substitutions")] = False,
    plan: Annotated[
        str, typer.Option(help="masked_marginal, wildtype_marginal or package.module:Name")
    ] = "masked_marginal",
    offset: Annotated[int, typer.Option(help="subtracted from each printed position")] = 0,
    mutant_column: Annotated[str | None, typer.Option(help="column with the variants")] = None,
    invalid: Annotated[str, typer.Option(help="wrong rows: error, or drop (no score, a note)")] = "error",
    gaps: Gaps = "error",
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
) -> None:
    """Score variants of a wild type without assay data; higher means fitter."""
    from protlm.errors import ConfigError
    from protlm.recipes.score import score_file

    if (variants is None) == (not all_single):
        raise ConfigError("say what to score", hint="pass either --variants FILE or --all-single")
    score_file(
        model or [],
        wild_type,
        out,
        variants=variants,
        plan=plan,
        offset=offset,
        mutant_column=mutant_column,
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=options.choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    typer.echo(out)
