"""A head on a frozen model: the first Run reads every protein once, the second takes the kept features.

    python benchmarks/frozen_features.py [PROTEINS.tsv[.gz]] [COLUMN]

Both Runs are the same command with another seed, in CPU time: read the table, divide it, features, train
the head, judge it beside baselines. Also the share of the features alone, which is what is kept. The model
has the 8M ESM-2 shape with random weights.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch

from measuring import SHARED, esm2_8m, keep
from protlm.recipes import finetune as recipe
from protlm.recipes.finetune_config import FinetuneConfig

NUM_PROTEINS, MOST_RESIDUES = 300, 500


def main(source: Path, column: str) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        separator = "\t" if ".tsv" in source.suffixes else ","
        table = pl.read_csv(source, separator=separator).sample(NUM_PROTEINS, seed=0)
        table.write_csv(folder / "proteins.tsv", separator="\t")
        esm2_8m().save(folder / "model")
        result: dict[str, Any] = {"input": source.name, "proteins": len(table), "load": os.getloadavg()[0]}
        for turn, seed in (("first", 0), ("second", 1)):
            begin, wall = time.process_time(), time.perf_counter()
            features = _run(folder, column, seed)
            result[turn] = {
                "cpu_seconds": time.process_time() - begin,
                "seconds": time.perf_counter() - wall,
                "features_cpu_seconds": features,
            }
        result["ratio of the features, first over second"] = (
            result["first"]["features_cpu_seconds"] / result["second"]["features_cpu_seconds"]
        )
        result["ratio of whole Runs, first over second"] = (
            result["first"]["cpu_seconds"] / result["second"]["cpu_seconds"]
        )
        keep("frozen_features", result)


def _run(folder: Path, column: str, seed: int) -> float:
    """Run finetune once; give the CPU seconds of the features."""
    spent: list[float] = []
    read = recipe._read_once

    def timed(*arguments: Any) -> Any:
        begin = time.process_time()
        found = read(*arguments)
        spent.append(time.process_time() - begin)
        return found

    recipe._read_once = timed
    config = FinetuneConfig.from_dict(
        {
            "model": str(folder / "model"),
            "data": {
                "input": str(folder / "proteins.tsv"),
                "target": column,
                "holdout": 0.2,
                "random": True,
                "rare": "drop",
                "long_records": "cut",
                "max_residues": MOST_RESIDUES,
            },
            "training": {"max_steps": 100},
            "num_draws": 200,
            "seeds": [seed],
        }
    )
    try:
        recipe.finetune(config, folder / f"run-{seed}", cache=folder / "cache", device="cpu", say=print)
    finally:
        recipe._read_once = read
    return spent[0]


if __name__ == "__main__":
    given = sys.argv[1:]
    path = Path(given[0]) if given else SHARED / "localization" / "deeploc1_val.tsv.gz"
    main(path, given[1] if len(given) > 1 else "location")
