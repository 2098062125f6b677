"""Uniform against preferential masking at equal tokens: trains, evaluates, pools; resumes where it stopped.

    python studies/preferential_masking.py OUT [HEAVY_CHAINS.tsv.gz] [--only DATA] [--pool-only]

Two data sets: real human heavy chains (by default the developers' file from the Observed Antibody Space),
and a simulated paired repertoire, whose N residues and mutations are known. Each arm is trained under three
seeds; the two arms of a seed start from the same weights, see the same batches and draw masks from the same
numbers. Held-out chains share no V-gene and CDR3 group with the training ones. The tables in OUT/pooled hold,
per region, the mean over seeds and residues with an interval that resamples groups, and each seed by itself.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[1] / "shared/data/antibody_pretrain/oas_heavy_regions.tsv.gz"
CONFIG = HERE.parent / "configs/pretrain/antibody-cpu.yaml"

ARMS = {"uniform": ["masking.kind=uniform"], "preferential": []}
SEEDS = (0, 1, 2)
STEPS = {"oas": 1000, "simulated": 1000}
EVALUATED = {"oas": 400, "simulated": 200}
"""Held-out records, chosen by content keys, whose every residue is masked once."""
NUM_SIMULATED = 8000
NUM_DRAWS = 10_000


def main(out: Path, real: Path, data_sets: list[str], *, pool_only: bool) -> None:
    """Run what is not finished, then pool."""
    for data in data_sets:
        if not pool_only:
            prepare(out, data, real)
            for seed in SEEDS:
                for arm, settings in ARMS.items():
                    train(out, data, arm, seed, settings)
                evaluate(out, data, seed)
        pooled = pool(out, data)
        target = out / "pooled" / f"{data}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pooled.write_parquet(target)
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=140, float_precision=4):
            print(f"\n{data}\n{pooled}")


def prepare(out: Path, data: str, real: Path) -> None:
    """Make the corpus with its subsets ``train`` and ``holdout``."""
    corpus = out / data / "corpus"
    if corpus.exists():
        return
    source = real
    if data == "simulated":
        source = out / data / "repertoire.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        protlm("simulate", "--records", NUM_SIMULATED, "--seed", 0, "--out", source)
    protlm("prepare", source, "--holdout", 0.1, "--out", corpus)


def train(out: Path, data: str, arm: str, seed: int, settings: list[str]) -> None:
    """Train one model, or go on with it."""
    run, corpus = out / data / f"{arm}-{seed}", out / data / "corpus"
    if (run / "DONE").exists():
        return
    settings = [
        *settings,
        f"data.train={corpus}:train",
        f"data.eval={corpus}:holdout",
        "data.eval_records=200",
        f"training.max_steps={STEPS[data]}",
        f"seed={seed}",
    ]
    protlm("pretrain", "--config", CONFIG, *(f"--set={each}" for each in settings), "--out", run)


def evaluate(out: Path, data: str, seed: int) -> None:
    """Mask every residue of the held-out records once, under both arms of a seed."""
    run = out / data / f"regions-{seed}"
    if (run / "DONE").exists():
        return
    models = [word for arm in ARMS for word in ("--model", out / data / f"{arm}-{seed}")]
    source = f"{out / data / 'corpus'}:holdout"
    protlm("evaluate", "regions", *models, "--input", source, "--max-records", EVALUATED[data], "--out", run)


def pool(out: Path, data: str) -> pl.DataFrame:
    """Compare the arms per chain, region and segment over all seeds.

    Each group's hits and losses are summed over its residues and averaged over seeds; groups are resampled.
    """
    columns = [
        "id",
        "group",
        "model",
        "chain",
        "index",
        "region",
        "segment",
        "residue",
        "predicted",
        "logprob",
    ]
    tables = []
    for seed in SEEDS:
        table = pl.read_parquet(out / data / f"regions-{seed}/tables/regions.parquet", columns=columns)
        arm = pl.col("model").str.strip_suffix(f"-{seed}")
        tables.append(table.with_columns(arm=arm, seed=pl.lit(seed)).filter(pl.col("arm").is_in(list(ARMS))))
    cells = pl.concat(tables).with_columns(
        accuracy=(pl.col("predicted") == pl.col("residue")).cast(pl.Float64),
        loss=-pl.col("logprob").cast(pl.Float64),
    )
    rows = []
    for kind in ("region", "segment"):
        known = cells.filter(pl.col(kind) != "")
        for (chain, name), part in known.group_by("chain", kind, maintain_order=True):
            rows += [
                {"chain": chain, "part": f"{name}" if kind == "region" else f"segment {name}", **line}
                for line in (difference(part, "accuracy"), difference(part, "loss"))
            ]
    return pl.DataFrame(rows)


def difference(cells: pl.DataFrame, metric: str) -> dict[str, float | int | str]:
    """Give preferential minus uniform with an interval over groups, and the difference of each seed."""
    sums = cells.group_by("group", "seed", "arm").agg(pl.col(metric).sum(), n=pl.len()).sort("group")
    wide = sums.pivot("arm", index=["group", "seed", "n"], values=metric, sort_columns=True)
    by_seed = [
        float((part["preferential"] - part["uniform"]).sum() / part["n"].sum())
        for _, part in wide.group_by("seed", maintain_order=True)
    ]
    groups = wide.group_by("group", maintain_order=True).agg(pl.col("preferential", "uniform", "n").sum())
    size = groups["n"].to_numpy()
    gain = (groups["preferential"] - groups["uniform"]).to_numpy()
    draws = np.random.default_rng(0).multinomial(len(gain), np.full(len(gain), 1 / len(gain)), NUM_DRAWS)
    low, high = np.quantile(draws @ gain / (draws @ size), [0.025, 0.975])
    return {
        "metric": metric,
        "residues": int(size.sum()) // len(SEEDS),
        "groups": len(gain),
        "uniform": float(groups["uniform"].sum() / size.sum()),
        "preferential": float(groups["preferential"].sum() / size.sum()),
        "difference": float(gain.sum() / size.sum()),
        "low": float(low),
        "high": float(high),
        "seeds": " ".join(f"{value:+.4f}" for value in by_seed),
    }


def protlm(*words: object) -> None:
    """Run a command of the tool."""
    command = [sys.executable, "-m", "protlm", *map(str, words)]
    print("+ protlm", *command[3:], flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("real", type=Path, nargs="?", default=REAL)
    parser.add_argument("--only", choices=list(STEPS))
    parser.add_argument("--pool-only", action="store_true")
    given = parser.parse_args()
    chosen = [given.only] if given.only else list(STEPS)
    main(given.out, given.real, chosen, pool_only=given.pool_only)
