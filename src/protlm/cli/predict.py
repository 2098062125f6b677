"""protlm predict."""

from pathlib import Path
from typing import Annotated

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


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(predict)


def predict(
    model: Annotated[str, typer.Option(help="Run of protlm finetune")],
    source: Annotated[str, typer.Option("--input", help="FASTA, CSV, TSV, Parquet or corpus")],
    out: Annotated[Path, typer.Option(help=".parquet or .csv to write")],
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
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
) -> None:
    """Predict new sequences with a fine-tuned Run, in input order; the same command resumes."""
    from protlm.data.readers import ColumnNames
    from protlm.recipes.predict import predict_file

    policy = options.input_policy(invalid, gaps, duplicate_ids, paired_ids=paired_ids)
    predict_file(
        model,
        source,
        out,
        columns=ColumnNames(layout=layout, heavy=first or heavy, light=second or light, sequence=sequence),
        policy=policy,
        is_plain=first is not None,
        max_tokens=max_tokens,
        device=device,
        precision=options.precision_of(precision),
        force=force,
        say=options.say,
    )
    typer.echo(out)
