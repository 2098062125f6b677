"""protlm prepare."""

import time
from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options
from protlm.cli.options import DuplicateIds, Force, Gaps, Heavy, Invalid, Light, Sequence


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(prepare)


class _Count:
    """Says now and then how many records there were; how many there will be is not known."""

    seconds_between_lines = 10.0

    def __init__(self) -> None:
        self._done = 0
        self._began = self._last_line = time.monotonic()

    def __call__(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._last_line >= self.seconds_between_lines:
            self._last_line = now
            options.say(f"{self._done:,} records · {self._done / (now - self._began):,.0f} records/s")


def prepare(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="FASTA, CSV, TSV or Parquet; .gz allowed")],
    out: Annotated[Path, typer.Option(help="corpus folder to make")],
    heavy: Heavy = None,
    light: Light = None,
    sequence: Sequence = None,
    id_column: Annotated[str | None, typer.Option("--id", help="column with the id")] = None,
    group_by: Annotated[str | None, typer.Option(help="columns that name a group, with commas")] = None,
    label: Annotated[list[str] | None, typer.Option(help="column to keep as a label; repeatable")] = None,
    receptor: Annotated[str, typer.Option(help="number chains as antibody, none, or auto")] = "auto",
    unnumbered: Annotated[str, typer.Option(help="records that cannot be numbered: keep or drop")] = "keep",
    holdout: Annotated[float, typer.Option(help="share of groups for the subset OUT:holdout")] = 0.0,
    seed: Annotated[int, typer.Option(help="of the split")] = 0,
    invalid: Invalid = "drop",
    gaps: Gaps = "error",
    duplicate_ids: DuplicateIds = "error",
    force: Force = False,
) -> None:
    """Turn a sequence file into a numbered corpus.

    Antibody chains are numbered by IMGT and get a region for each residue. Without --group-by, the
    group of an antibody is its V gene and CDR3.
    """
    from protlm.data.readers import ColumnNames, InputPolicy
    from protlm.recipes.prepare import prepare as run

    policy = InputPolicy(
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=options.choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
        duplicate_ids=options.choice("--duplicate-ids", duplicate_ids, ("error", "rename")),  # type: ignore[arg-type]
    )
    columns = ColumnNames(
        heavy=heavy,
        light=light,
        sequence=sequence,
        id=id_column,
        group=tuple(group_by.split(",")) if group_by else (),
        labels=tuple(label or ()),
    )
    prepared = run(
        source,
        out,
        columns=columns,
        policy=policy,
        receptor=options.choice("--receptor", receptor, ("auto", "antibody", "none")),  # type: ignore[arg-type]
        unnumbered=options.choice("--unnumbered", unnumbered, ("keep", "drop")),  # type: ignore[arg-type]
        holdout=holdout,
        seed=seed,
        force=force,
        on_record=_Count(),
    )
    for line in [*prepared.reading.lines(), *prepared.numbering.lines()]:
        options.say(line)
    facts = prepared.corpus.manifest
    options.say(
        f"{facts['num_records']:,} records, {facts['num_chains']:,} distinct chains, "
        f"{facts['num_residues']:,} residues"
    )
    for name, count in facts["subsets"].items():
        options.say(f"  {out}:{name}: {count:,} records")
    typer.echo(out)
