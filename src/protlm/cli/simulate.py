"""protlm simulate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Force

if TYPE_CHECKING:
    import polars as pl

KINDS = ("repertoire", "coupled-pairs")
_FORMATS = (".parquet", ".tsv", ".csv")
_REPERTOIRE, _PAIRS = "Repertoire", "Coupled pairs"


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help=".parquet, .tsv or .csv to write")],
    kind: Annotated[str, typer.Option(help=" or ".join(KINDS))] = "repertoire",
    num_records: Annotated[int, typer.Option("--records", help="antibodies or pairs to make", min=1)] = 1000,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="heavy chains only", rich_help_panel=_REPERTOIRE)
    ] = False,
    pairing_strength: Annotated[
        float, typer.Option(help="couples V families of the pair, 0 to 1", rich_help_panel=_REPERTOIRE)
    ] = 0.0,
    mutation_rate: Annotated[
        float, typer.Option(help="mean mutations per base of memory antibodies", rich_help_panel=_REPERTOIRE)
    ] = 0.05,
    information: Annotated[
        str | None,
        typer.Option(
            help="nats that coupled sites tell of each other, with commas; 0,0.05,0.1,0.2,0.5,1,2 by default",
            rich_help_panel=_PAIRS,
        ),
    ] = None,
    sites_each: Annotated[
        int, typer.Option(help="couplings of each of these", min=1, rich_help_panel=_PAIRS)
    ] = 2,
    num_families: Annotated[
        int,
        typer.Option(
            "--families", help="families of pairs, with sites of their own", min=1, rich_help_panel=_PAIRS
        ),
    ] = 1,
    length: Annotated[int, typer.Option(help="residues of a chain", min=1, rich_help_panel=_PAIRS)] = 48,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="where the table of couplings goes; OUT.couplings.tsv by default", rich_help_panel=_PAIRS
        ),
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    force: Force = False,
) -> None:
    """Simulate data with their truth: a human antibody repertoire, or pairs with coupled sites.

    The repertoire has V, N, D, J and each mutation of every antibody. The pairs have sites that tell of sites
    of the other chain, by a stated number of nats, and nothing else does: what a model of pairs has to find.
    """
    from protlm.recipes.outputs import claim_file

    kind = options.choice("--kind", kind, KINDS)
    claim_file(out, _FORMATS, force=force)
    if kind == "repertoire":
        from protlm.data.simulate import repertoire_frame, simulate_repertoire

        records = simulate_repertoire(
            num_records,
            paired=not unpaired,
            pairing_strength=pairing_strength,
            mutation_rate=mutation_rate,
            seed=seed,
        )
        _write(repertoire_frame(records), out)
    else:
        from protlm.data import simulate_couplings

        truth = truth or out.with_suffix(".couplings.tsv")
        claim_file(truth, _FORMATS, force=force)
        pairs, couplings = simulate_couplings.simulate_coupled_pairs(
            num_records,
            information=simulate_couplings.parse_information(information),
            sites_each=sites_each,
            num_families=num_families,
            length=length,
            seed=seed,
        )
        _write(simulate_couplings.pairs_frame(pairs), out)
        _write(simulate_couplings.couplings_frame(couplings), truth)
        total = sum(each.information for each in couplings) / num_families
        options.say(f"{len(couplings):,} couplings in {truth}; the chains of a pair share {total:.2f} nats")
    typer.echo(out)


def _write(frame: "pl.DataFrame", path: Path) -> None:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
