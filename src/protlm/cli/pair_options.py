"""Options of `prepare` for links between proteins."""

from pathlib import Path
from typing import Annotated

import typer

_LINKS = "Links between proteins"

Sequences = Annotated[
    list[str] | None,
    typer.Option(
        help="INPUT lists links; this FASTA, or table of ids and sequences, has their proteins; repeated for "
        "several, COL=FILE where the two columns have ids of their own",
        rich_help_panel=_LINKS,
    ),
]
Pairs = Annotated[
    bool,
    typer.Option(
        "--pairs",
        help="INPUT lists pairs and holds both sequences; the other options here imply it",
        rich_help_panel=_LINKS,
    ),
]
ColumnA = Annotated[
    str | None, typer.Option("--a", help="column of the first protein", rich_help_panel=_LINKS)
]
ColumnB = Annotated[
    str | None, typer.Option("--b", help="column of the second protein", rich_help_panel=_LINKS)
]
ScoreColumn = Annotated[
    str | None,
    typer.Option(help="column of the score; STRING: combined_score", rich_help_panel=_LINKS),
]
MinScore = Annotated[
    float | None,
    typer.Option(help="least score; for STRING files 700 if not said", rich_help_panel=_LINKS),
]
Species = Annotated[
    str | None,
    typer.Option(
        help="keep links within these taxa, by the ids' beginning, with commas: 4932,9606",
        rich_help_panel=_LINKS,
    ),
]
Negatives = Annotated[
    str | None,
    typer.Option(
        help="pairs that are not linked: none, uniform, same-species, or degree, which draws proteins as "
        "often as positives have them; replaces those labelled 0",
        rich_help_panel=_LINKS,
    ),
]
PositiveFraction = Annotated[
    float | None,
    typer.Option(help="share of linked pairs where others are drawn; 0.5", rich_help_panel=_LINKS),
]
Sides = Annotated[
    str,
    typer.Option(
        help="two: the columns have proteins of two kinds, such as receptors and epitopes; one; or auto",
        rich_help_panel=_LINKS,
    ),
]
ClusterIdentity = Annotated[
    float | None,
    typer.Option(help="cluster the proteins by MMseqs2 at this identity", rich_help_panel=_LINKS),
]
ClusterCoverage = Annotated[
    float, typer.Option(help="of both proteins by the alignment", rich_help_panel=_LINKS)
]
Clusters = Annotated[
    Path | None,
    typer.Option(help="clusters in two columns: representative, member", rich_help_panel=_LINKS),
]
OnePerClusterPair = Annotated[
    bool,
    typer.Option(
        "--one-per-cluster-pair",
        help="keep the best link of each pair of clusters",
        rich_help_panel=_LINKS,
    ),
]
