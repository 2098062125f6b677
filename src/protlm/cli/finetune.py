"""protlm finetune."""

from pathlib import Path
from typing import Annotated, Any

import typer

from protlm.cli import options
from protlm.cli.options import ConfigFile, Device, Force, Heavy, Light, Sequence, Set


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(finetune)


def finetune(
    out: Annotated[Path, typer.Option(help="Run folder to make")],
    config: ConfigFile = None,
    settings: Set = None,
    model: Annotated[str | None, typer.Option(help="Run, folder or name")] = None,
    source: Annotated[
        str | None, typer.Option("--input", help="table or corpus with labels", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(help="column that is learned")] = None,
    task: Annotated[str | None, typer.Option(help="a task card in place of --input and --target")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="folder or files of the card")] = None,
    task_split: Annotated[str | None, typer.Option(help="split of the card  (default: its first)")] = None,
    max_records: Annotated[int | None, typer.Option(help="cut of the card's records")] = None,
    level: Annotated[str | None, typer.Option(help="sequence, pair or residue  (default: sequence)")] = None,
    kind: Annotated[
        str | None, typer.Option(help="binary, classes, labels or value  (default: by the labels)")
    ] = None,
    best: Annotated[
        str | None, typer.Option(help="of a value: high or low, for the recall of the best tenth")
    ] = None,
    replicates: Annotated[
        str | None,
        typer.Option(help="equal inputs, several values: mean, keep or error  (default: mean)"),
    ] = None,
    wild_type: Annotated[
        str | None, typer.Option("--wild-type", help="of records that are its variants: a file or residues")
    ] = None,
    train: Annotated[str | None, typer.Option(help="frozen, last, full or lora  (default: frozen)")] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, begin or attention  (default: mean)")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="pairs: concatenated or separate  (default: concatenated)")
    ] = None,
    valid: Annotated[str | None, typer.Option(help="table to choose the weights by")] = None,
    test: Annotated[str | None, typer.Option(help="table to judge on")] = None,
    split: Annotated[
        str | None, typer.Option(help="column with train, valid, test or folds, or a table of protlm split")
    ] = None,
    holdout: Annotated[float | None, typer.Option(help="share of records to judge on")] = None,
    folds: Annotated[
        int | None, typer.Option(help="judge each record once, by a model without its fold")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="kept on one side: clonotype, chain, cluster, group or columns")
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="split single records")] = False,
    mask: Annotated[str | None, typer.Option(help="residue level: column with 1 where it counts")] = None,
    missing: Annotated[str | None, typer.Option(help="records without a label: error or drop")] = None,
    rare: Annotated[str | None, typer.Option(help="classes with one record: error or drop")] = None,
    straddling: Annotated[
        str | None, typer.Option(help="pairs with a chain on both sides: keep, drop or error")
    ] = None,
    long_records: Annotated[
        str | None, typer.Option(help="over the limit: error, drop, or cut to the first residues")
    ] = None,
    max_residues: Annotated[int | None, typer.Option(help="limit below the model's")] = None,
    heavy: Heavy = None,
    light: Light = None,
    sequence: Sequence = None,
    first: Annotated[str | None, typer.Option(help="column with the first chain of a pair")] = None,
    second: Annotated[str | None, typer.Option(help="column with the second chain of a pair")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="train several times: 0,1,2, or how many, 3  (default: 0,)")
    ] = None,
    subsets: Annotated[
        str | None, typer.Option(help="training records, as in 32,100,all or 20%,40%,all; nested")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="passes over the training records")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="control: the same network, not trained before")
    ] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="control: labels of training records exchanged")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="folder for features of frozen models")] = None,
    device: Device = "auto",
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="describe, do not train")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="metrics as JSON lines to stdout")] = False,
) -> None:
    """Fine-tune a model on labels and judge it beside baselines; the same command resumes."""
    from protlm.recipes import finetune as recipe
    from protlm.recipes.finetune_config import FinetuneConfig

    labels = {
        "task": task,
        "task_data": data or None,
        "task_split": task_split,
        "max_records": max_records,
        "input": source,
        "target": target,
        "level": level,
        "kind": kind,
        "mask": mask,
        "best": best,
        "replicates": replicates,
        "wild_type": wild_type,
        "sequence": sequence,
        "heavy": heavy,
        "light": light,
        "first": first,
        "second": second,
        "split": split,
        "valid": valid,
        "test": test,
        "holdout": holdout,
        "folds": folds,
        "by": [name.strip() for name in by.split(",") if name.strip()] if by else None,
        "random": at_random or None,
        "missing": missing,
        "rare": rare,
        "straddling": straddling,
        "long_records": long_records,
        "max_residues": max_residues,
    }
    values: dict[str, Any] = {
        "model": model,
        "random_weights": random_weights or None,
        "shuffle_labels": shuffle_labels or None,
        "adapt.kind": train,
        "head.pooling": pooling,
        "head.encoder": encoder,
        "epochs": epochs,
        "seeds": None if seeds is None else list(_seeds(seeds)),
        "subsets": None if subsets is None else _subsets(subsets),
        **{f"data.{name}": value for name, value in labels.items()},
    }
    resolved = FinetuneConfig.load(config, [*options.as_settings(values), *(settings or [])])
    if dry_run:
        typer.echo(recipe.describe(resolved, out, device=device, say=options.say))
        return
    run = recipe.finetune(resolved, out, cache=cache, device=device, force=force, say=options.say)
    if as_json:
        import polars as pl

        typer.echo(pl.read_parquet(run.table_path(recipe.METRICS_TABLE)).write_ndjson(), nl=False)
    else:
        typer.echo(out)


def _seeds(text: str) -> tuple[int, ...]:
    from protlm.recipes.pretrain_seeds import seeds_of

    return seeds_of(text)


def _subsets(text: str) -> list[int | str]:
    from protlm.errors import ConfigError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if word != "all" and not word.removesuffix("%").isdecimal()]:
        hint = "as in --subsets 32,100,all or 20%,40%,all"
        raise ConfigError(f"--subsets {text!r}: {wrong[0]!r} is no number", hint=hint)
    return [int(word) if word.isdecimal() else word for word in words]
