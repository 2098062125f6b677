"""protlm demo."""

import time
from pathlib import Path
from typing import Annotated

import typer

from protlm.cli import options


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="folder for everything")] = Path("demo"),
    size: Annotated[str, typer.Option(help="full or small")] = "full",
    seed: Annotated[int, typer.Option(help="of everything")] = 0,
) -> None:
    """Run the main job on a simulated repertoire, offline: train twice, compare, score, report."""
    from protlm.progress import duration
    from protlm.recipes.demo import demo as run

    begin = time.perf_counter()
    paths = run(out, size=size, seed=seed, say=options.say)
    import polars as pl

    from protlm.report.evaluation_lines import accuracy_lines, comparison_lines
    from protlm.report.page import write_report

    tables = paths["evaluation"] / "tables"
    typer.echo("\n" + "\n".join(accuracy_lines(pl.read_parquet(tables / "regions_summary.parquet"))))
    typer.echo("\n".join(comparison_lines(pl.read_parquet(tables / "comparisons.parquet"))))
    sources = [paths[name] for name in ("cdr3", "uniform", "evaluation", "scan")]
    report = out / "report.html"
    report.unlink(missing_ok=True)
    options.say(f"$ protlm report {' '.join(map(str, sources))} --out {report}")
    write_report(sources, report)
    options.say(f"done in {duration(time.perf_counter() - begin)}; open the report in a browser:")
    typer.echo(report.resolve())
