"""protlm evaluate retrieval."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force


def add_to(verbs: typer.Typer) -> None:
    """Register the command under ``evaluate``."""
    verbs.command()(retrieval)


def retrieval(
    structures: Annotated[
        Path, typer.Option("--structures", help="Parquet of backbones, folder of structures, or corpus")
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make, or to go on with")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Run of contrast, or folder of its seeds, which are averaged; repeat"),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="column of what is alike, such as topology; as the first Run has it if not said"),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="structures to fit the composition baseline on; else those of the first Run"),
    ] = None,
    side: Annotated[
        str, typer.Option(help="pairs of the Run's file to judge on: test, valid or all")
    ] = "test",
    crop: Annotated[
        int, typer.Option(help="residues of the pairs of the galleries cropped and sampled", min=8)
    ] = 64,
    gallery: Annotated[
        list[str] | None,
        typer.Option(help="full, all, in-cluster, hard, cropped or sampled; repeat  (default: all but all)"),
    ] = None,
    others: Annotated[
        int, typer.Option(help="items beside the true one in galleries hard and sampled", min=1)
    ] = 31,
    identity: Annotated[
        float | None, typer.Option(help="count sequences once that are so alike, not only equal ones")
    ] = None,
    untrained: Annotated[
        int, typer.Option(help="twins of each model with fresh weights, as a baseline", min=0)
    ] = 3,
    seed: Annotated[int, typer.Option(help="of windows and samples", min=0)] = 0,
    full: Annotated[bool, typer.Option("--full", help="print each seed for itself too")] = False,
    device: Device = "auto",
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the metrics as JSON lines")] = False,
) -> None:
    """Find the structure of a sequence and the other way, beside what needs no model."""
    import polars as pl

    from protlm.recipes.evaluate_retrieval import DEFAULT_GALLERIES, evaluate_retrieval
    from protlm.report.retrieval_lines import retrieval_lines

    run = evaluate_retrieval(
        model or [],
        structures,
        out,
        cluster=cluster,
        train=train,
        side=side,
        crop=crop,
        galleries=gallery or DEFAULT_GALLERIES,
        others=others,
        identity=identity,
        untrained=untrained,
        seed=seed,
        device=device,
        force=force,
        say=options.say,
    )
    tables = {name: pl.read_parquet(path) for name, path in run.tables().items() if "retrieval" in name}
    if as_json:
        typer.echo(tables["retrieval"].write_ndjson(), nl=False)
        return
    lines = retrieval_lines(
        tables["retrieval"], tables["retrieval_differences"], tables.get("retrieval_space"), full=full
    )
    for line in lines:
        typer.secho(line, fg=typer.colors.RED if "BELOW OR EQUAL" in line else None)
