"""Tables of the study of sequence and structure, from its finished Runs."""

from pathlib import Path

import polars as pl

from protlm.runs import Run

_NOT_COMPARED = ("seed",)


def retrieval_table(evaluation: Path) -> pl.DataFrame:
    """List what was found first, by everything that was judged.

    Parameters
    ----------
    evaluation
        A Run of ``evaluate retrieval``.

    Returns
    -------
    polars.DataFrame
        ``gallery, size, n, method``, and R@1 with its interval in both directions.
    """
    table = pl.read_parquet(Run.open(evaluation).table_path("retrieval"))
    chosen = table.filter(pl.col("metric") == "recall_1", ~pl.col("kind").is_in(_NOT_COMPARED))
    cells = chosen.with_columns(_cell().alias("cell"), pl.col("gallery_size").round(1).alias("size"))
    keys = ["gallery", "size", "n", pl.col("model").alias("method")]
    return cells.select(*keys, "direction", "cell").pivot(
        "direction", index=["gallery", "size", "n", "method"], values="cell"
    )


def difference_table(evaluation: Path) -> pl.DataFrame:
    """List each model minus the best baseline, any and of the same input, paired over clusters.

    Parameters
    ----------
    evaluation
        A Run of ``evaluate retrieval``.

    Returns
    -------
    polars.DataFrame
        ``model, gallery, direction, beside, baseline, baseline_value, difference`` with its interval.
    """
    table = pl.read_parquet(Run.open(evaluation).table_path("retrieval_differences"))
    chosen = table.filter(pl.col("metric") == "recall_1")
    keys = ["model", "gallery", "direction", "beside", "baseline", pl.col("baseline_value").round(3)]
    return chosen.select(*keys, _cell("difference").alias("difference"))


def affinity_table(folder: Path) -> pl.DataFrame:
    """List every model and baseline by training records, and each aligned model minus the one it began as.

    Parameters
    ----------
    folder
        Of Runs of ``finetune`` on one split, ``box`` among them, and the differences of each from it.

    Returns
    -------
    polars.DataFrame
        ``metric, num_train, method, value`` with its interval, and ``minus_box``.
    """
    found = []
    for run in sorted(path.parent for path in folder.glob("*/DONE")):
        table = pl.read_parquet(Run.open(run).table_path("finetune_metrics"))
        own = pl.when(pl.col("method") == "embeddings").then(pl.lit(f"embeddings of {run.name}"))
        table = table.with_columns(own.otherwise("method").alias("method"))
        depends_on_model = (pl.col("kind") == "model") | pl.col("method").str.starts_with("embeddings of")
        kept = table if run.name == "box" else table.filter(depends_on_model)
        found.append(kept.filter(pl.col("metric").is_in(["spearman", "top_recall"])))
    cells = pl.concat(found, how="diagonal_relaxed").select(
        "metric", "num_train", "method", "kind", _cell().alias("value"), pl.col("sd_over_seeds").round(3)
    )
    pairs = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*-minus-box.parquet"))])
    minus = pairs.select(
        "metric", "num_train", pl.col("first").alias("method"), _cell("difference").alias("minus_box")
    )
    return cells.join(minus, on=["metric", "num_train", "method"], how="left").sort(
        "metric", "num_train", maintain_order=True
    )


def _cell(value: str = "value") -> pl.Expr:
    return pl.format("{} [{}, {}]", *(pl.col(name).round(3) for name in (value, "low", "high")))
