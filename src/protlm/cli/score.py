"""protlm score."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Device, Force, Gaps, Long, PrecisionName, Tokens, Window


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(score)


def score(
    wild_type: Annotated[
        str,
        typer.Option(help="a sequence, or a file with one record or (with --chain) the chains of a complex"),
    ],
    out: Annotated[Path, typer.Option(help=".csv, .tsv or .parquet to write")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Run, folder or name; repeat for an ensemble  (default for antibodies: protlm-ab-mini)"
        ),
    ] = None,
    chain: Annotated[
        str | None, typer.Option(help="the chain that varies: heavy, light, chain2, or its FASTA id")
    ] = None,
    variants: Annotated[
        Path | None,
        typer.Option(help="table with a column of variants, A42G:K50R, or FASTA of whole sequences"),
    ] = None,
    all_single: Annotated[bool, typer.Option("--all-single", help="all single substitutions")] = False,
    sites: Annotated[
        str | None, typer.Option(help="single substitutions at some positions: 24-30,45:AVL")
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="all combinations at some positions: 39,40,41:AVL,54")
    ] = None,
    plan: Annotated[
        str,
        typer.Option(
            help="masked_marginal, wildtype_marginal, mutant_marginal, pseudo_log_likelihood, "
            "one_fell_swoop, pppl_legacy or package.module:Name; with --alignment alone, also "
            "site_independent, site_independent_blosum62 or potts; with --structure, inverse_folding or "
            "inverse_folding_marginal"
        ),
    ] = "masked_marginal",
    fill: Annotated[
        str | None,
        typer.Option(
            help="masked_marginal: what stands at the other mutated sites, wildtype, joint (masked too) "
            "or mutant  (default: wildtype)"
        ),
    ] = None,
    long: Long = "error",
    window: Window = None,
    ensemble: Annotated[
        str | None,
        typer.Option(
            help="several models: mean of their scores, z (of standardised ones) or rank  (default: mean)"
        ),
    ] = None,
    alignment: Annotated[
        Path | None,
        typer.Option(
            help="family of the wild type (a2m, a3m, FASTA, Stockholm): site-independent scores beside; "
            "--model potts, site_independent or site_independent_blosum62 makes it a member"
        ),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            help="FILE or FILE:CHAIN of the wild type for --plan inverse_folding; the chain that fits best "
            "where none is named, the others are context"
        ),
    ] = None,
    structure_model: Annotated[
        Path | None,
        typer.Option(help="ESM-IF1 or ProteinMPNN, as a folder that protlm convert made"),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="leave the other chains of the structure out")
    ] = False,
    offset: Annotated[int, typer.Option(help="subtracted from each printed position")] = 0,
    mutant_column: Annotated[str | None, typer.Option(help="column with the variants")] = None,
    invalid: Annotated[str, typer.Option(help="wrong rows: error, or drop (no score, a note)")] = "error",
    gaps: Gaps = "error",
    device: Device = "auto",
    precision: PrecisionName = "float32",
    max_tokens: Tokens = None,
    yes: Annotated[bool, typer.Option("--yes", help="start a job of over an hour")] = False,
    force: Force = False,
) -> None:
    """Score variants of a wild type without assay data; higher means fitter."""
    from protlm.errors import ConfigError
    from protlm.recipes.score import score_file
    from protlm.recipes.score_structure import StructureInput

    if sum((variants is not None, all_single, sites is not None, library is not None)) != 1:
        raise ConfigError(
            "say what to score",
            hint="pass one of --variants FILE, --all-single, --sites POSITIONS and --library POSITIONS",
        )
    score_file(
        model or [],
        wild_type,
        out,
        chain=chain,
        variants=variants,
        sites=sites,
        library=library,
        plan=plan,
        fill=fill,
        long=options.choice("--long", long, ("error", "window", "tile")),  # type: ignore[arg-type]
        window=window,
        ensemble=ensemble,
        alignment=alignment,
        structure=StructureInput(structure, structure_model, is_alone=alone),
        offset=offset,
        mutant_column=mutant_column,
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=options.choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
        device=device,
        precision=options.precision_of(precision),
        max_tokens=max_tokens,
        is_agreed=yes,
        force=force,
        say=options.say,
    )
    typer.echo(out)
