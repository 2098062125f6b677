"""protlm audit."""

import json
from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import (
    DuplicateIds,
    Force,
    Gaps,
    Heavy,
    Invalid,
    LayoutName,
    Light,
    PairedIds,
    Sequence,
)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(audit)


def audit(
    train: Annotated[str, typer.Argument(help="corpus or file that is learned from", metavar="TRAIN")],
    test: Annotated[
        str | None, typer.Argument(help="corpus or file that is judged on", metavar="[TEST]")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="of one input: column with the part of each record, such as train and test"),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="what should not be shared: clonotype, chain, group or columns")
    ] = None,
    label: Annotated[str | None, typer.Option(help="column to count on both sides")] = None,
    identity: Annotated[
        bool, typer.Option("--identity/--no-identity", help="align test sequences with training")
    ] = True,
    coverage: Annotated[
        float, typer.Option(help="share of a test sequence that an alignment must cover")
    ] = 0.5,
    sensitivity: Annotated[float, typer.Option(help="of MMseqs2, 1 to 7.5")] = 5.7,
    threads: Annotated[int, typer.Option(help="of MMseqs2; change nothing in the result", min=1)] = 1,
    cdr3_identity: Annotated[float, typer.Option(help="of heavy CDR3s of one clonotype")] = 0.8,
    out: Annotated[
        Path | None, typer.Option(help="nearest training sequence of each: .parquet, .tsv or .csv")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
    heavy: Heavy = None,
    light: Light = None,
    sequence: Sequence = None,
    layout: LayoutName = "auto",
    paired_ids: PairedIds = False,
    invalid: Invalid = "error",
    gaps: Gaps = "error",
    duplicate_ids: DuplicateIds = "error",
    receptor: Annotated[str, typer.Option(help="number as antibody, tcr, any, none, or auto")] = "auto",
    force: Force = False,
) -> None:
    """Say what test records share with training: copies, groups, near sequences, labels, lengths."""
    from protlm.data.readers import ColumnNames
    from protlm.recipes.audit import audit as run_audit

    policy = options.input_policy(invalid, gaps, duplicate_ids, paired_ids=paired_ids)
    reports = run_audit(
        train,
        test,
        split=split,
        by=[name.strip() for name in by.split(",") if name.strip()] if by else [],
        label=label,
        identity=identity,
        min_coverage=coverage,
        sensitivity=sensitivity,
        threads=threads,
        cdr3_identity=cdr3_identity,
        out=out,
        columns=ColumnNames(layout=layout, heavy=heavy, light=light, sequence=sequence),
        policy=policy,
        receptor=options.choice("--receptor", receptor, ("auto", "antibody", "tcr", "any", "none")),  # type: ignore[arg-type]
        force=force,
        say=options.say,
    )
    if as_json:
        typer.echo(json.dumps({name: report.facts() for name, report in reports.items()}, indent=2))
        return
    for name, report in reports.items():
        for line in report.lines():
            typer.echo(line if len(reports) == 1 else f"{name}: {line}")
