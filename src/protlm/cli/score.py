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
    model: Annotated[list[str], typer.Option(help="Run, folder or name; repeat for an ensemble")],
    wild_type: Annotated[str, typer.Option(help="FASTA file with one record, or a sequence")],
    out: Annotated[Path, typer.Option(help=".csv, .tsv or .parquet to write")],
    variants: Annotated[Path | None, typer.Option(help="table with a column of variants, A42G:K50R")] = None,
    all_single: Annotated[bool, typer.Option("--all-single", help="all single substitutions")] = False,
    plan: Annotated[str, typer.Option(help="masked_marginal or wildtype_marginal")] = "masked_marginal",
    offset: Annotated[int, typer.Option(help="subtracted from each printed position")] = 0,
    mutant_column: Annotated[str | None, typer.Option(help="column with the variants")] = None,
    invalid: Annotated[str, typer.Option(help="wrong rows: error, or drop (no score, a note)")] = "error",
    gaps: Gaps = "error",
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = 4096,
    force: Force = False,
) -> None:
    """Score variants of a wild type without assay data; higher means fitter."""
    from protlm.data.readers import ReadReport
    from protlm.errors import ConfigError
    from protlm.models.loading import load_model
    from protlm.recipes import score as recipe
    from protlm.recipes.outputs import claim_file
    from protlm.scoring.plans import plans

    if (variants is None) == (not all_single):
        raise ConfigError("say what to score", hint="pass either --variants FILE or --all-single")
    options.choice("--plan", plan, tuple(plans.names()))
    options.choice("--precision", precision, ("float32", "bfloat16"))
    options.choice("--invalid", invalid, ("error", "drop"))
    options.choice("--gaps", gaps, ("error", "remove"))
    claim_file(out, (".csv", ".tsv", ".parquet"), force=force)
    reading = ReadReport()
    reference = recipe.read_wild_type(wild_type, gaps=gaps, report=reading)  # type: ignore[arg-type]
    for line in [recipe.describe_wild_type(reference), *reading.lines()]:
        options.say(line)
    if variants is None:
        table = recipe.single_substitutions(reference, offset=offset)
    else:
        table = recipe.read_variants(
            variants,
            reference,
            column=mutant_column,
            offset=offset,
            invalid=invalid,  # type: ignore[arg-type]
            as_text=out.suffix != ".parquet",
        )
    for old, new in table.renamed.items():
        options.say(f"input column '{old}' is written as '{new}'")
    without = sum(variant is None for variant in table.variants)
    if without:
        options.say(f"{without:,} of {len(table.variants):,} rows get no score; the column note says why")
    models = [load_model(name, device=device, precision=precision) for name in model]  # type: ignore[arg-type]
    frame, results = recipe.score_table(
        models, table, reference, plan=plan, max_tokens=max_tokens, say=options.say
    )
    facts = recipe.provenance(models, results, reference, plan=plan, offset=offset, precision=precision)
    recipe.write_scores(frame, out, facts)
    typer.echo(out)
