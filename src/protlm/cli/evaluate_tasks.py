"""protlm evaluate tasks, and evaluate pairs."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, Heavy, Light, PrecisionName, Tokens
from protlm.runs import Run

Models = Annotated[list[str] | None, typer.Option("--model", help="Run, folder or name; repeat to compare")]
Out = Annotated[Path, typer.Option("--out", help="Run folder to make")]
PoolingName = Annotated[
    str, typer.Option("--pooling", help="mean over the residues of each chain, or begin token")
]
RandomWeights = Annotated[
    bool,
    typer.Option("--random-weights", help="also each distinct network with random weights, as a baseline"),
]
Cache = Annotated[
    Path | None, typer.Option(help="where features are kept; $PROTLM_CACHE or the user's cache if not said")
]
Json = Annotated[bool, typer.Option("--json", help="print the metrics as JSON lines")]


def add_to(verbs: typer.Typer) -> None:
    """Register the two commands under ``evaluate``."""
    verbs.command()(tasks)
    verbs.command()(pairs)


def tasks(
    task: Annotated[str, typer.Option(help="name of a task card, or a .yaml file")],
    data: Annotated[
        list[str], typer.Option(help="folder with the card's files, the file itself, or NAME=FILE; repeat")
    ],
    out: Out,
    model: Models = None,
    pooling: PoolingName = "mean",
    seeds: Annotated[
        int | None,
        typer.Option(
            help="repetitions with other folds, whose mean is given; not a seed; as the card says", min=1
        ),
    ] = None,
    skip_filter: Annotated[
        list[str] | None, typer.Option(help="a filter of the card that is not applied; repeat")
    ] = None,
    random_weights: RandomWeights = False,
    cache: Cache = None,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Judge frozen models on a task card, with trivial baselines on the same folds."""
    from protlm.recipes.evaluate_task import evaluate_task

    run = evaluate_task(
        task,
        model or [],
        list(data),
        out,
        pooling=options.choice("--pooling", pooling, ("mean", "begin")),  # type: ignore[arg-type]
        seeds=seeds,
        skip_filters=skip_filter or [],
        random_weights=random_weights,
        cache=cache,
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    _print(run, as_json)


def pairs(
    source: Annotated[Path, typer.Option("--input", help="CSV, TSV or Parquet with heavy and light chains")],
    out: Out,
    model: Models = None,
    heavy: Heavy = None,
    light: Light = None,
    negatives: Annotated[
        str, typer.Option(help="other light chain: random, or v-gene-mismatch (of another V family)")
    ] = "random",
    within: Annotated[
        str | None, typer.Option(help="column whose values are not mixed, such as the organism")
    ] = None,
    folds: Annotated[
        int, typer.Option(help="parts of the split; each is predicted once from the others", min=3)
    ] = 5,
    cdr3_identity: Annotated[float, typer.Option(help="of heavy CDR3s of one clonotype")] = 0.8,
    seeds: Annotated[
        int,
        typer.Option(
            help="repetitions with other folds and another shuffle, whose mean is given; not a seed", min=1
        ),
    ] = 3,
    pooling: PoolingName = "mean",
    random_weights: RandomWeights = False,
    cache: Cache = None,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Judge frozen models on native against shuffled pairs of any table."""
    from protlm.recipes.evaluate_task import evaluate_pairs

    known = ("random", "v-gene-mismatch")
    run = evaluate_pairs(
        model or [],
        source,
        out,
        heavy=heavy,
        light=light,
        negatives=options.choice("--negatives", negatives, known),  # type: ignore[arg-type]
        within=within,
        folds=folds,
        cdr3_identity=cdr3_identity,
        seeds=seeds,
        pooling=options.choice("--pooling", pooling, ("mean", "begin")),  # type: ignore[arg-type]
        random_weights=random_weights,
        cache=cache,
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        force=force,
        say=options.say,
    )
    _print(run, as_json)


def _print(run: Run, as_json: bool) -> None:
    import polars as pl

    from protlm.report.task_lines import task_lines

    metrics = pl.read_parquet(run.table_path("metrics"))
    if as_json:
        typer.echo(metrics.write_ndjson(), nl=False)
        return
    facts = run.read_json("data_manifest.json")
    differences = pl.read_parquet(run.table_path("differences"))
    typer.echo("\n".join(task_lines(metrics, differences, facts["task"], facts["confounded"])))
