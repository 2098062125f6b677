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
    typer.Option(
        "--random-weights/--no-random-weights",
        help="also each distinct network with random weights, as a baseline",
    ),
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
    task: Annotated[
        list[str] | None,
        typer.Option(help="name of a task card, or a .yaml file; repeat; `all` that are here"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="folder with the cards' files, the file itself, or NAME=FILE; repeat"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to make")] = None,
    model: Models = None,
    is_list: Annotated[
        bool, typer.Option("--list", help="only list the cards, and with --data which files are there")
    ] = False,
    pooling: PoolingName = "mean",
    max_records: Annotated[
        int | None,
        typer.Option(help="records of either side of a given split, or of all, chosen by content", min=10),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="repetitions with other folds, whose mean is given; not a seed; as the card says", min=1
        ),
    ] = None,
    skip_filter: Annotated[
        list[str] | None, typer.Option(help="a filter of the card that is not applied; repeat")
    ] = None,
    random_weights: RandomWeights = True,
    cache: Cache = None,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Judge frozen models on task cards, with trivial baselines on the same folds."""
    from protlm.recipes.list_tasks import card_lines, cards_here

    if is_list:
        typer.echo("\n".join(card_lines(data or [])))
        return
    for name, value in (("--task", task), ("--data", data), ("--out", out)):
        if not value:
            raise typer.BadParameter("is needed", param_hint=name)
    from protlm.recipes.evaluate_task import evaluate_tasks

    run = evaluate_tasks(
        cards_here(data or []) if task == ["all"] else list(task or []),
        model or [],
        list(data or []),
        out or Path(),
        max_records=max_records,
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
    random_weights: RandomWeights = True,
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
    differences, verdicts = (pl.read_parquet(run.table_path(name)) for name in ("differences", "verdicts"))
    tasks = run.read_json("data_manifest.json")["tasks"]
    for line in task_lines(metrics, differences, verdicts, tasks):
        is_bad = "BELOW OR EQUAL" in line or line.startswith("CONFOUNDED")
        typer.secho(line, fg=typer.colors.RED if is_bad else None)
