"""protlm evaluate variants."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, Long, PrecisionName, Tokens, Window


def add_to(verbs: typer.Typer) -> None:
    """Register the command under ``evaluate``."""
    verbs.command()(variants)


def variants(
    folder: Annotated[Path, typer.Argument(help="assays as ProteinGym has them, and their reference table")],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make, or to go on with")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Run, folder or name; repeat to compare")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="table of assays; one in the folder if not said")
    ] = None,
    assay: Annotated[list[str] | None, typer.Option(help="only this one, by its id; repeat")] = None,
    alignment: Annotated[
        list[str] | None,
        typer.Option(help="ASSAY=FILE: a2m, a3m, FASTA or Stockholm, for a baseline; repeat"),
    ] = None,
    plan: Annotated[str, typer.Option(help="as for protlm score")] = "masked_marginal",
    fill: Annotated[str | None, typer.Option(help="as for protlm score")] = None,
    long: Long = "error",
    window: Window = None,
    ensemble: Annotated[
        str | None, typer.Option(help="also all models as one: mean, z or rank, as for protlm score")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="at most this many variants of an assay, by number of mutations", min=2)
    ] = None,
    seed: Annotated[int, typer.Option(help="of the sample", min=0)] = 0,
    invalid: Annotated[
        str, typer.Option(help="variants that do not fit: error, or drop and count")
    ] = "error",
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    yes: Annotated[bool, typer.Option("--yes", help="start an assay of over an hour")] = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the averages as JSON lines")] = False,
) -> None:
    """Score a folder of deep mutational scans; averages as ProteinGym's, beside baselines."""
    import polars as pl

    from protlm.recipes.evaluate_variants import BASELINES, evaluate_variants
    from protlm.report.variant_lines import variant_lines

    run = evaluate_variants(
        model or [],
        folder,
        out,
        reference=reference,
        assays=assay or [],
        alignments=dict(map(_named_file, alignment or [])),
        plan=plan,
        fill=fill,
        long=options.choice("--long", long, ("error", "window", "tile")),  # type: ignore[arg-type]
        window=window,
        ensemble=ensemble,
        sample=sample,
        seed=seed,
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        is_agreed=yes,
        force=force,
        say=options.say,
    )
    tables = {name: pl.read_parquet(run.table_path(name)) for name in ("assays", "averages", "intervals")}
    if as_json:
        typer.echo(tables["averages"].write_ndjson(), nl=False)
        return
    typer.echo("\n".join(variant_lines(tables["assays"], tables["intervals"], BASELINES)))


def _named_file(text: str) -> tuple[str, Path]:
    from protlm.errors import ConfigError

    name, mark, path = text.partition("=")
    if not (name and mark and path):
        raise ConfigError(f"--alignment {text!r} is not ASSAY=FILE", hint="as in BLAT_ECOLX=blat.a2m")
    return name, Path(path)
