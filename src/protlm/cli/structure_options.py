"""Options of `prepare` for structures."""

from pathlib import Path
from typing import Annotated

import typer

REGION_NAMES = ("complex", "fv", "vh", "vl", "fab", "cdrs")
"""Those of `protlm.data.structure_regions.REGIONS`, which would be slow to import for a page of help."""

_STRUCTURES = "Structures"

Structures = Annotated[
    bool,
    typer.Option(
        "--structures",
        help="INPUT is a folder or archive of PDB, mmCIF or BinaryCIF files, one of them, or a Parquet or "
        "JSON file of backbones; the corpus gets their coordinates beside",
        rich_help_panel=_STRUCTURES,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        help=f"what to take of an antibody: {', '.join(REGION_NAMES)}; all chains (complex) if not said",
        rich_help_panel=_STRUCTURES,
    ),
]
Summary = Annotated[
    Path | None,
    typer.Option(
        help="SAbDab summary that names heavy, light and antigen chains of the files of INPUT",
        rich_help_panel=_STRUCTURES,
    ),
]
MaxResidues = Annotated[
    int | None,
    typer.Option(help="leave out longer records", min=1, rich_help_panel=_STRUCTURES),
]
