"""protlm evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import evaluate_finetuned, evaluate_retrieval, evaluate_tasks, evaluate_variants, options
from protlm.cli.options import Device, Force, PrecisionName, Tokens

verbs = typer.Typer(help="Judge models on held-out data, beside trivial baselines.", no_args_is_help=True)

Models = Annotated[list[str], typer.Option("--model", help="Run, folder or name; repeat to compare")]
Input = Annotated[str, typer.Option("--input", help="held-out corpus or file")]
Out = Annotated[Path, typer.Option("--out", help="Run folder to make, or to go on with")]
MaxRecords = Annotated[int | None, typer.Option("--max-records", help="take at most this many", min=1)]
Json = Annotated[bool, typer.Option("--json", help="print the summary as JSON lines")]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    evaluate_tasks.add_to(verbs)
    evaluate_variants.add_to(verbs)
    evaluate_retrieval.add_to(verbs)
    evaluate_finetuned.add_to(verbs)
    app.add_typer(verbs, name="evaluate")


@verbs.callback()
def _evaluate() -> None:
    """Judge models on held-out data, beside trivial baselines."""


@verbs.command()
def regions(
    model: Models,
    source: Input,
    out: Out,
    max_records: MaxRecords = None,
    baselines: Annotated[
        str | None,
        typer.Option(help="corpus or file to fit the baselines on; else the training data of the first Run"),
    ] = None,
    by_sequence: Annotated[
        bool, typer.Option("--by-sequence", help="also aggregate and test as Ng & Briney do")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="print segments, mutation, calibration and germline bias too")
    ] = False,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Mask every residue once; accuracy, loss, calibration and germline bias by region."""
    from protlm.recipes.evaluate import evaluate_regions
    from protlm.report import evaluation_lines as write

    run = evaluate_regions(
        model,
        source,
        out,
        max_records=max_records,
        baselines_from=baselines,
        by_sequence=by_sequence,
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    import polars as pl

    tables = {name: pl.read_parquet(path) for name, path in run.tables().items() if name != "regions"}
    if as_json:
        typer.echo(tables["regions_summary"].write_ndjson(), nl=False)
        return
    writers = [
        ("regions_summary", write.accuracy_lines, True),
        ("regions_summary", write.entropy_lines, True),
        ("regions_summary", write.mutation_lines, full),
        ("segments", write.segment_lines, full),
        ("calibration", write.calibration_lines, full),
        ("germline_bias", write.germline_bias_lines, full),
        ("comparisons", write.comparison_lines, True),
        ("sequences_summary", write.sequence_lines, True),
    ]
    for name, lines, is_wanted in writers:
        if is_wanted and name in tables:
            typer.echo("\n".join(lines(tables[name])))
    if not full:
        options.say(f"more is in {run.path / 'tables'}; --full prints it, and protlm report draws it")
    if "sequences_comparisons" in tables:
        typer.echo("by sequence, as published:")
        typer.echo("\n".join(write.comparison_lines(tables["sequences_comparisons"], kinds="antibodies")))


@verbs.command()
def partner(
    model: Models,
    source: Input,
    out: Out,
    max_records: MaxRecords = None,
    min_mutations: Annotated[
        int, typer.Option(help="mutated residues that each chain needs for mutation masking", min=1)
    ] = 2,
    turns: Annotated[
        int | None,
        typer.Option(help="mask a chain's residues in so many turns, not one by one: 7 is fast for proteins"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the random partners", min=0)] = 0,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Loss of each chain of a pair given its true, a random or no partner."""
    from protlm.recipes.evaluate_partner import evaluate_partner
    from protlm.report import evaluation_lines as write

    run = evaluate_partner(
        model,
        source,
        out,
        max_records=max_records,
        min_mutations=min_mutations,
        turns=turns,
        seed=seed,
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    import polars as pl

    gains = pl.read_parquet(run.table_path("partner_gain"))
    if as_json:
        typer.echo(gains.write_ndjson(), nl=False)
        return
    typer.echo("\n".join(write.partner_lines(gains)))
    if "mutation_masking_summary" in run.tables():
        masked, against = (
            pl.read_parquet(run.table_path(f"mutation_masking_{name}")) for name in ("summary", "gain")
        )
        typer.echo("\n".join(write.mutation_masking_lines(masked, against)))
