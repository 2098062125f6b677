"""protlm split."""

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
    app.command()(split)


def split(
    source: Annotated[str, typer.Argument(help="corpus, FASTA, CSV, TSV or Parquet", metavar="INPUT")],
    out: Annotated[Path, typer.Option(help=".parquet, .tsv or .csv to write")],
    by: Annotated[
        str | None,
        typer.Option(help="clonotype, chain, group or a column; several, with commas, are joined"),
    ] = None,
    cluster_identity: Annotated[
        float | None,
        typer.Option(help="clusters of alike sequences (MMseqs2) as a further key, such as 0.25"),
    ] = None,
    cluster_coverage: Annotated[
        float, typer.Option(help="share of both sequences that an alignment must cover")
    ] = 0.8,
    cluster_of: Annotated[
        str, typer.Option(help="what is clustered: chains (all), main (heavy, else first), or a column")
    ] = "chains",
    pairs: Annotated[
        str | None,
        typer.Option(help="test pairs of which both (c1), one (c2) or no protein (c3) is seen; also c2,c3"),
    ] = None,
    unseen: Annotated[
        str | None, typer.Option(help="columns whose test values are in no training record, each of its own")
    ] = None,
    time: Annotated[str | None, typer.Option(help="column with dates: what is later is tested")] = None,
    after: Annotated[str | None, typer.Option(help="--time: the last date of training")] = None,
    threads: Annotated[int, typer.Option(help="of MMseqs2; change nothing in the result", min=1)] = 1,
    at_random: Annotated[
        bool, typer.Option("--random", help="split single records, whatever they share")
    ] = False,
    folds: Annotated[int | None, typer.Option(help="folds of equal size, named 0, 1 …")] = None,
    holdout: Annotated[
        float | None, typer.Option(help="share of the fold 'holdout'; the rest is 'train'")
    ] = None,
    cdr3_identity: Annotated[
        float, typer.Option(help="of heavy CDR3s of one clonotype; 1 wants them equal")
    ] = 0.8,
    stratify: Annotated[
        str | None, typer.Option(help="column whose values should be alike in all folds")
    ] = None,
    identity: Annotated[
        bool, typer.Option("--identity", help="also find the nearest main chain in other folds; slow")
    ] = False,
    seed: Annotated[int, typer.Option(help="another seed gives another split")] = 0,
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
    """Give each record a fold; groups stay together, and what still leaks is counted.

    Options on columns, odd input and numbering are for files; a corpus is read and numbered already.
    """
    from protlm.data.readers import ColumnNames
    from protlm.recipes.split import split_file
    from protlm.recipes.split_input import Clustering
    from protlm.recipes.split_sides import SideSettings

    policy = options.input_policy(invalid, gaps, duplicate_ids, paired_ids=paired_ids)
    asked, values = (
        tuple(each.strip() for each in text.split(",") if each.strip()) if text else ()
        for text in (pairs, unseen)
    )
    clusters = None
    if cluster_identity is not None:
        clusters = Clustering(cluster_identity, cluster_coverage, cluster_of, threads)
    split_file(
        source,
        out,
        by=[name.strip() for name in by.split(",") if name.strip()] if by else [],
        clusters=clusters,
        sides=SideSettings(asked, values, time, after),
        folds=folds,
        holdout=holdout,
        at_random=at_random,
        cdr3_identity=cdr3_identity,
        stratify=stratify,
        identity=identity,
        seed=seed,
        columns=ColumnNames(layout=layout, heavy=heavy, light=light, sequence=sequence),
        policy=policy,
        receptor=options.choice("--receptor", receptor, ("auto", "antibody", "tcr", "any", "none")),  # type: ignore[arg-type]
        force=force,
        say=options.say,
    )
    typer.echo(out)
