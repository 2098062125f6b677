"""protlm tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protlm.cli import options
from protlm.cli.options import Force, Gaps, LayoutName, Sequence

if TYPE_CHECKING:
    from protlm.data.readers import InputPolicy

verbs = typer.Typer(help="Learn sub-words from proteins, and compare tokenizers.", no_args_is_help=True)

KINDS = ("byte-bpe", "bpe", "residue")
Odd = Annotated[str, typer.Option("--invalid", help="records that are not plain residues: error, or drop")]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(verbs, name="tokenizer")


@verbs.command()
def train(
    out: Annotated[Path, typer.Option(help="tokenizer folder to make")],
    source: Annotated[
        str | None,
        typer.Argument(help="corpus, FASTA, CSV, TSV or Parquet; none for residue level", metavar="INPUT"),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="byte-bpe (256 bytes and merges, as published), bpe (26 letters and merges), residue"
        ),
    ] = "byte-bpe",
    merges: Annotated[int | None, typer.Option(help="merges to learn  (default: 10000)")] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="tokens in all, instead of --merges; 10261 as published")
    ] = None,
    min_frequency: Annotated[int, typer.Option(help="of a pair, to be merged", min=1)] = 2,
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="fewer merges will do where the input gives no more")
    ] = False,
    max_residues: Annotated[
        int,
        typer.Option(
            help="to learn from, a fair sample of distinct chains; takes about 100 bytes each", min=1
        ),
    ] = 30_000_000,
    sequence: Sequence = None,
    layout: LayoutName = "auto",
    invalid: Odd = "drop",
    gaps: Gaps = "error",
    force: Force = False,
) -> None:
    """Learn a tokenizer; its folder is what `model.vocabulary` of pretrain and AutoTokenizer take."""
    from protlm.data.readers import ColumnNames
    from protlm.recipes.tokenizer import train_tokenizer

    train_tokenizer(
        source,
        out,
        kind=options.choice("--kind", kind, KINDS),  # type: ignore[arg-type]
        num_merges=merges,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        allow_fewer=allow_fewer,
        max_residues=max_residues,
        columns=ColumnNames(layout=layout, sequence=sequence),
        policy=_policy(invalid, gaps),
        force=force,
        say=options.say,
    )
    typer.echo(out)


@verbs.command()
def bench(
    tokenizers: Annotated[
        list[str],
        typer.Argument(
            help="tokenizer folders, Runs, model folders or names; residue, esm", metavar="TOKENIZER"
        ),
    ],
    source: Annotated[str, typer.Option("--input", help="corpus, FASTA, CSV, TSV or Parquet")],
    max_records: Annotated[
        int | None, typer.Option(help="measure on a fair sample of so many sequences", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help=".parquet to write as well")] = None,
    seed: Annotated[int, typer.Option(help="of the substitutions", min=0)] = 0,
    sequence: Sequence = None,
    layout: LayoutName = "auto",
    invalid: Odd = "drop",
    gaps: Gaps = "error",
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="all numbers, a line each tokenizer")] = False,
) -> None:
    """Compare tokenizers: how short, how often too long, how stable under a substitution, how fast."""
    from protlm.data.readers import ColumnNames
    from protlm.recipes.tokenizer import bench_tokenizers
    from protlm.report.tokenizer_lines import tokenizer_lines

    table = bench_tokenizers(
        tokenizers,
        source,
        max_records=max_records,
        seed=seed,
        out=out,
        columns=ColumnNames(layout=layout, sequence=sequence),
        policy=_policy(invalid, gaps),
        force=force,
        say=options.say,
    )
    typer.echo(table.write_ndjson() if as_json else "\n".join(tokenizer_lines(table)), nl=not as_json)


def _policy(invalid: str, gaps: str) -> "InputPolicy":
    from protlm.data.readers import InputPolicy

    return InputPolicy(
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=options.choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
    )
