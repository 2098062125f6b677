"""protlm explain."""

from pathlib import Path
from typing import Annotated, cast

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, PrecisionName

verbs = typer.Typer(help="What a model looks at, judged against structures.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(verbs, name="explain")


@verbs.callback()
def _explain() -> None:
    """What a model looks at, judged against structures."""


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
            help="complexes to choose and fit on; the others judge  [default: 20, or 3 in 5 of fewer]", min=1
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
