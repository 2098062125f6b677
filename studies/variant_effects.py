"""Every plan on every assay of a folder, under one model: the proof that they run, and what they are worth.

    python studies/variant_effects.py MODEL OUT [DATA_FOLDER]

Plans with few passes score all rows. `joint` scores all rows of the assays with at most 20,000 different sets
of sites, and like `pseudo_log_likelihood` and `fill mutant`, which need passes for each variant, a seeded
sample of 300 of the others that keeps the shares of the numbers of mutations. OUT/table.csv has Spearman by
assay and plan; OUT/doubles.csv compares masking both sites at once with adding two single masks.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.readers.assay_reference import find_assays
from protlm.data.readers.assays import read_assay
from protlm.statistics.bootstrap import bootstrap_metric
from protlm.statistics.metrics import spearman

DATA = Path(__file__).resolve().parents[2] / "shared/data"
MOST_SITE_SETS = 20_000
SAMPLE = 300
WHOLE = {
    "wildtype_marginal": ["--plan", "wildtype_marginal"],
    "masked_marginal": ["--plan", "masked_marginal"],
    "mutant_marginal": ["--plan", "mutant_marginal"],
    "one_fell_swoop": ["--plan", "one_fell_swoop"],
}
SAMPLED = {
    "fill-mutant": ["--plan", "masked_marginal", "--fill", "mutant"],
    "pseudo_log_likelihood": ["--plan", "pseudo_log_likelihood"],
}
JOINT = ["--plan", "masked_marginal", "--fill", "joint"]
DOUBLES = ("avgfp", "gb1_four_site", "pab1")


def main(model: Path, out: Path, data: Path) -> None:
    """Run what is not finished, then compare."""
    folder, begin = data / "dms", time.monotonic()
    few, many = by_site_sets(folder)
    print(f"at most {MOST_SITE_SETS:,} sets of sites: {', '.join(few)}; more: {', '.join(many)}")
    sample = ["--sample", SAMPLE]
    for name, plan in WHOLE.items():
        evaluate(folder, model, out / name, plan)
    evaluate(folder, model, out / "joint", [*JOINT, *chosen(few)])
    evaluate(folder, model, out / "joint-sampled", [*JOINT, *chosen(many), *sample])
    for name, plan in SAMPLED.items():
        evaluate(folder, model, out / name, [*plan, *sample])
    write_doubles(folder, out / "assays")
    evaluate(out / "assays", model, out / "doubles-joint", JOINT)
    evaluate(out / "assays", model, out / "doubles-sum", WHOLE["masked_marginal"])
    print(f"all plans: {(time.monotonic() - begin) / 60:.1f} minutes for what ran now")
    for name, frame in (("table", table(out)), ("doubles", doubles(out))):
        frame.write_csv(out / f"{name}.csv", float_precision=4)
        with pl.Config(tbl_rows=40, tbl_cols=20):
            print(frame)


def by_site_sets(folder: Path) -> tuple[list[str], list[str]]:
    """Name the assays with few and with many different sets of mutated sites."""
    few, many = [], []
    for path, facts in find_assays(folder)[0].assays:
        assay = read_assay(path, facts, invalid="drop")
        sets = {tuple(mutation.index for mutation in variant.mutations) for variant in assay.variants}
        (few if len(sets) <= MOST_SITE_SETS else many).append(assay.facts.id)
    return few, many


def chosen(assays: list[str]) -> list[str]:
    """Say which assays, as options."""
    return [word for assay in assays for word in ("--assay", assay)]


def evaluate(folder: Path, model: Path, run: Path, options: list) -> None:
    """Score and judge, unless that is done."""
    if (run / "DONE").exists():
        return
    settings = ["--model", model, "--invalid", "drop", "--precision", "bfloat16", "--out", run]
    words = ["evaluate", "variants", folder, *options, *settings]
    print("+ protlm", *words, flush=True)
    subprocess.run([sys.executable, "-m", "protlm", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def table(out: Path) -> pl.DataFrame:
    """Give Spearman by assay: a column per plan, and the BLOSUM62 baseline."""
    frames = []
    for run in sorted(each.parent for each in out.glob("*/DONE") if "doubles" not in each.parent.name):
        rows = pl.read_parquet(run / "tables/assays.parquet")
        rows = rows.filter((pl.col("subset") == "all") & (pl.col("depth") == "all"))
        model = rows.filter(pl.col("model") != "blosum62").with_columns(plan=pl.lit(run.name))
        frames.append(model.select("assay", "plan", "n", "spearman"))
        if run.name == "masked_marginal":
            plain = rows.filter(pl.col("model") == "blosum62").with_columns(plan=pl.lit("blosum62"))
            frames.append(plain.select("assay", "plan", "n", "spearman"))
    rows = pl.concat(frames).with_columns(pl.col("plan").replace("joint-sampled", "joint"))
    sizes = rows.group_by("assay", maintain_order=True).agg(pl.col("n").max())
    return sizes.join(rows.pivot("plan", index="assay", values="spearman"), on="assay")


def write_doubles(folder: Path, out: Path) -> None:
    """Write the double mutants of some assays as assays of their own."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path, facts in find_assays(folder)[0].assays:
        if facts is None or facts.id not in DOUBLES:
            continue
        assay = read_assay(path, facts, invalid="drop")
        frame = pl.DataFrame({"mutant": assay.mutants, "DMS_score": assay.values})
        frame.filter(pl.col("mutant").str.count_matches(":") == 1).write_csv(out / f"{facts.id}.csv")
        rows.append((facts.id, f"{facts.id}.csv", facts.id, facts.wild_type, "Activity"))
    columns = ["DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type"]
    pl.DataFrame(rows, columns, orient="row").write_csv(out / "reference.csv")


def doubles(out: Path) -> pl.DataFrame:
    """Compare joint masks with the sum of single ones on double mutants, resampling first sites."""
    rows = []
    for assay in DOUBLES:
        joint, alone = (
            pl.read_parquet(out / f"doubles-{fill}/scores/{assay}.parquet") for fill in ("joint", "sum")
        )
        (name,) = [c for c in joint.columns if c not in ("mutant", "value", "is_fit", "blosum62")]
        sites = joint["mutant"].str.extract(r"^[A-Z](\d+)").to_numpy()
        columns = [joint[name].to_numpy(), alone[name].to_numpy(), joint["value"].to_numpy()]
        found = bootstrap_metric(_gain, *columns, clusters=sites, num_draws=1000)
        values = [spearman(columns[place], columns[2]) for place in (0, 1)]
        rows.append((assay, found.n, *values, found.value, found.low, found.high))
    names = ["assay", "n_doubles", "joint", "sum", "joint_minus_sum", "low", "high"]
    return pl.DataFrame(rows, names, orient="row")


def _gain(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> float:
    return spearman(first, values) - spearman(second, values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="?", default=DATA)
    options = parser.parse_args()
    main(options.model, options.out, options.data)
