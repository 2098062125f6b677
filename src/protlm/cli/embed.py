"""protlm embed."""

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
    app.command()(embed)


def embed(
    source: Annotated[Path, typer.Option("--input", help="FASTA, CSV, TSV or Parquet")],
    out: Annotated[Path, typer.Option(help=".parquet to write")],
    model: Annotated[
        str | None, typer.Option(help="Run, folder or name  (default for antibodies: protlm-ab-mini)")
    ] = None,
    per_residue: Annotated[
        bool, typer.Option("--per-residue", help="one row per residue, not the mean")
    ] = False,
    heavy: Heavy = None,
    light: Light = None,
    sequence: Sequence = None,
    layout: LayoutName = "auto",
    paired_ids: PairedIds = False,
    invalid: Invalid = "error",
    gaps: Gaps = "error",
    duplicate_ids: DuplicateIds = "error",
    long_records: Annotated[
        str, typer.Option(help="over the model's limit: error, or drop and count")
    ] = "error",
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    force: Force = False,
) -> None:
    """Embed sequences in input order; the same command resumes after an interruption."""
    from protlm.data.readers import ColumnNames, check_file, iterate_records
    from protlm.models.default import default_model
    from protlm.models.loading import load_model
    from protlm.recipes.embed import embed_file
    from protlm.recipes.outputs import claim_file

    policy = options.input_policy(invalid, gaps, duplicate_ids, paired_ids=paired_ids)
    checked_precision = options.precision_of(precision)
    check_file(source)  # before the model is loaded, which may take long
    claim_file(out, (".parquet",), force=force)
    columns = ColumnNames(layout=layout, heavy=heavy, light=light, sequence=sequence)
    if model is None:
        model = default_model(iterate_records(source, columns=columns, policy=policy), say=options.say)
    loaded = load_model(model, device=device, precision=checked_precision)
    embed_file(
        loaded,
        source,
        out,
        per_residue=per_residue,
        max_tokens=max_tokens,
        columns=columns,
        policy=policy,
        long_records=options.choice("--long-records", long_records, ("error", "drop")),  # type: ignore[arg-type]
        force=force,
        say=options.say,
    )
    typer.echo(out)
