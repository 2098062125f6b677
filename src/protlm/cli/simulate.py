"""protlm simulate."""

from pathlib import Path
from typing import Annotated

import typer

from protlm.cli.options import Force


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help=".parquet, .tsv or .csv to write")],
    num_records: Annotated[int, typer.Option("--records", help="antibodies to make", min=1)] = 1000,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="heavy chains only")] = False,
    pairing_strength: Annotated[float, typer.Option(help="couples V families of the pair, 0 to 1")] = 0.0,
    mutation_rate: Annotated[float, typer.Option(help="mean mutations per base of memory antibodies")] = 0.05,
    seed: Annotated[int, typer.Option()] = 0,
    force: Force = False,
) -> None:
    """Simulate a human antibody repertoire with the truth of V, N, D, J and of each mutation."""
    from protlm.data.simulate import repertoire_frame, simulate_repertoire
    from protlm.recipes.outputs import claim_file

    claim_file(out, (".parquet", ".tsv", ".csv"), force=force)
    records = simulate_repertoire(
        num_records,
        paired=not unpaired,
        pairing_strength=pairing_strength,
        mutation_rate=mutation_rate,
        seed=seed,
    )
    frame = repertoire_frame(records)
    if out.suffix == ".parquet":
        frame.write_parquet(out)
    else:
        frame.write_csv(out, separator="\t" if out.suffix == ".tsv" else ",")
    typer.echo(out)
