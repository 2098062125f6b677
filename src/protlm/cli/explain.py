"""protlm explain."""

from pathlib import Path
from typing import Annotated, cast

import typer

from protlm.cli import options
from protlm.cli.options import (
    Device,
    DuplicateIds,
    Force,
    Gaps,
    Heavy,
    Invalid,
    LayoutName,
    Light,
    PairedIds,
    PrecisionName,
    Sequence,
    Tokens,
)

verbs = typer.Typer(help="What a model looks at, and what its output comes from.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(verbs, name="explain")


@verbs.callback()
def _explain() -> None:
    """What a model looks at, and what its output comes from."""


@verbs.command()
def attention(
    model: Annotated[list[str], typer.Option("--model", help="Run, folder or name; repeat to compare")],
    structures: Annotated[
        Path, typer.Option("--structures", help="folder, tar or zip with NAME_r_b.pdb and NAME_l_b.pdb")
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make")],
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases", help="table of complexes and their chains, such as 1JPS_HL:T; else all files"
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            help="complexes to choose and fit on; the others judge  (default: 20, or 3 in 5 of fewer)", min=1
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="draws of those, each used both ways", min=1)] = 5,
    whole_antibody: Annotated[
        bool, typer.Option("--whole-antibody", help="show constant domains too")
    ] = False,
    long: Annotated[
        str, typer.Option(help="complexes over a model's limit: error, drop, or crop the antigen")
    ] = "drop",
    seed: Annotated[int, typer.Option(help="of partners, shuffles and draws", min=0)] = 0,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON lines")] = False,
) -> None:
    """Attention between antibody and antigen against the contacts of their complexes."""
    import polars as pl

    from protlm.recipes.explain_attention import LongComplexes, explain_attention
    from protlm.report.attention_lines import attention_lines

    run = explain_attention(
        model,
        structures,
        out,
        cases=cases,
        shots=shots,
        repeats=repeats,
        whole_antibody=whole_antibody,
        long=cast(LongComplexes, options.choice("--long", long, ("error", "drop", "crop"))),
        seed=seed,
        device=device,
        precision=options.precision_of(precision),
        force=force,
        say=options.say,
    )
    summary, differences = (
        pl.read_parquet(run.table_path(f"attention_{name}")) for name in ("summary", "differences")
    )
    if as_json:
        typer.echo(summary.write_ndjson(), nl=False)
        return
    typer.echo("\n".join(attention_lines(summary, differences)))
    options.say(f"heads, cases and an example are in {run.path / 'tables'}; protlm report draws them")


@verbs.command()
def attribution(
    model: Annotated[str, typer.Option("--model", help="Run of protlm finetune, or one model in it")],
    source: Annotated[str, typer.Option("--input", help="FASTA, CSV, TSV, Parquet or corpus")],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="attcat, grad-x-input, integrated-gradients or occlusion; repeat  (default: all four)",
        ),
    ] = None,
    of_class: Annotated[
        str, typer.Option("--class", help="class to explain, or predicted: the most likely of each record")
    ] = "predicted",
    labels: Annotated[
        str | None, typer.Option("--labels", help="column with the true class, to explain that")
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", help="Run of finetune --shuffle-labels, to stand beside")
    ] = None,
    max_records: Annotated[
        int | None, typer.Option("--max-records", help="at most this many, chosen by content", min=1)
    ] = None,
    steps: Annotated[int, typer.Option(help="of integrated gradients", min=1)] = 32,
    curves: Annotated[
        bool, typer.Option("--curves/--no-curves", help="mask residues in order of attribution")
    ] = True,
    heavy: Heavy = None,
    light: Light = None,
    sequence: Sequence = None,
    first: Annotated[str | None, typer.Option(help="column with the first chain of a pair")] = None,
    second: Annotated[str | None, typer.Option(help="column with the second chain of a pair")] = None,
    layout: LayoutName = "auto",
    paired_ids: PairedIds = False,
    invalid: Invalid = "error",
    gaps: Gaps = "error",
    duplicate_ids: DuplicateIds = "error",
    seed: Annotated[int, typer.Option(help="of random orders", min=0)] = 0,
    device: Device = "auto",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print shares as JSON lines")] = False,
) -> None:
    """Which residues the output of a fine-tuned model comes from, by region, beside controls."""
    import polars as pl

    from protlm.data.readers import ColumnNames
    from protlm.explain.attribution import METHODS
    from protlm.recipes.explain_attribution import explain_attribution
    from protlm.report.attribution_lines import attribution_lines

    policy = options.input_policy(invalid, gaps, duplicate_ids, paired_ids=paired_ids)
    methods = [options.choice("--method", each, METHODS) for each in method or METHODS]
    run = explain_attribution(
        model,
        source,
        out,
        methods=list(dict.fromkeys(methods)),  # type: ignore[arg-type]
        of_class=of_class,
        label_column=labels,
        control=control,
        columns=ColumnNames(layout=layout, heavy=first or heavy, light=second or light, sequence=sequence),
        policy=policy,
        is_plain=first is not None,
        max_records=max_records,
        steps=steps,
        curves=curves,
        max_tokens=max_tokens,
        seed=seed,
        device=device,
        force=force,
        say=options.say,
    )
    tables = {name: pl.read_parquet(path) for name, path in run.tables().items()}
    if as_json:
        typer.echo(tables["attribution_shares"].write_ndjson(), nl=False)
        return
    typer.echo("\n".join(attribution_lines(tables)))
    options.say(f"every residue is in {run.path / 'tables'}; protlm report draws them")
