"""Uniform against preferential masking at equal tokens: trains, evaluates, pools; resumes where it stopped.

    python studies/preferential_masking.py OUT [DATA_FOLDER]

Two data sets: real human heavy chains, and a simulated paired repertoire whose N residues and mutations are
known. Each arm is trained under three seeds; both arms of a seed start from the same weights, see the same
batches and draw masks from the same numbers. Held-out chains share no V-gene and CDR3 group with the training
ones. Then the frozen models tell native from shuffled pairs, simulated with and without a coupling of
V families, and the epitopes of SARS-CoV-2 antibodies. DATA_FOLDER is the developers' shared data by default.
OUT/pooled-* are Runs for `protlm report`; OUT/pooled-*.csv are the tables of the tasks.
"""

import os
import resource
from pathlib import Path

import polars as pl
from pooling import pool_regions, pool_tasks
from steps import folder_parser, protlm

HERE = Path(__file__).resolve().parent
REAL = "antibody_pretrain/oas_heavy_regions.tsv.gz"
SPECIFICITY = "antibody_specificity"
CONFIG = HERE.parent / "configs/pretrain/antibody-cpu.yaml"

ARMS = {"preferential": [], "uniform": ["masking.kind=uniform"]}
SEEDS = (0, 1, 2)
STEPS = 800
EVALUATED = {"oas": 400, "simulated": 80}
"""Held-out records, chosen by content keys, whose every residue is masked once."""
NUM_SIMULATED = 8000
PAIRS = {"coupled": 1, "independent": 0}
"""Coupling of the V families in simulated test pairs without mutations: positive and negative control."""
NUM_PAIRS = 1000
FROZEN = ("--random-weights", "--seeds", 2)


def main(out: Path, data_folder: Path) -> None:
    """Run what is not finished, then pool."""
    os.environ.setdefault("PROTLM_CACHE", str(out / "cache"))
    for data in EVALUATED:
        prepare(out, data, data_folder)
        for seed in SEEDS:
            for arm, settings in ARMS.items():
                train(out, data, arm, seed, settings)
    for data in EVALUATED:
        for seed in SEEDS:
            evaluate_regions(out, data, seed)
    for name, strength in PAIRS.items():
        evaluate_pairs(out, name, strength)
    evaluate_specificity(out, data_folder)
    pool(out)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU time of what ran now: {(used.ru_utime + used.ru_stime) / 3600:.2f} hours")


def prepare(out: Path, data: str, data_folder: Path) -> None:
    """Make the corpus with its subsets ``train`` and ``holdout``."""
    corpus = out / data / "corpus"
    if corpus.exists():
        return
    source = data_folder / REAL
    if data == "simulated":
        source = out / data / "repertoire.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        protlm("simulate", "--records", NUM_SIMULATED, "--pairing-strength", 1, "--seed", 0, "--out", source)
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
        f"training.max_steps={STEPS}",
        f"seed={seed}",
    ]
    protlm("pretrain", "--config", CONFIG, *(f"--set={each}" for each in settings), "--out", run)


def evaluate_regions(out: Path, data: str, seed: int) -> None:
    """Mask every residue of the held-out records once, under both arms of a seed."""
    run = out / data / f"regions-{seed}"
    if (run / "DONE").exists():
        return
    source = f"{out / data / 'corpus'}:holdout"
    models = models_of(out, data, [seed])
    protlm("evaluate", "regions", *models, "--input", source, "--max-records", EVALUATED[data], "--out", run)


def evaluate_pairs(out: Path, name: str, strength: float) -> None:
    """Tell native from shuffled simulated pairs with the models of simulated pairs, frozen."""
    run, pairs = out / f"pairs-{name}", out / f"pairs-{name}.parquet"
    if (run / "DONE").exists():
        return
    simulated = ("--pairing-strength", strength, "--mutation-rate", 0, "--seed", 1)
    protlm("simulate", "--records", NUM_PAIRS, *simulated, "--out", pairs, "--force")
    models = models_of(out, "simulated", SEEDS)
    protlm("evaluate", "pairs", "--input", pairs, *models, *FROZEN, "--out", run)


def evaluate_specificity(out: Path, data_folder: Path) -> None:
    """Tell binders of the receptor-binding domain with the models of real heavy chains, frozen."""
    run = out / "specificity"
    if (run / "DONE").exists():
        return
    card = ("--task", "specificity-cov-rbd", "--data", data_folder / SPECIFICITY)
    protlm("evaluate", "tasks", *card, *models_of(out, "oas", SEEDS), *FROZEN, "--out", run)


def pool(out: Path) -> None:
    """Average over seeds; print and keep."""
    arms = ("preferential", "uniform")
    for data in EVALUATED:
        evaluations = {seed: out / data / f"regions-{seed}" for seed in SEEDS}
        for name, table in pool_regions(evaluations, arms, out / f"pooled-{data}").items():
            show(f"{data}: {name}", table)
    for name in (*(f"pairs-{each}" for each in PAIRS), "specificity"):
        table = pool_tasks(out / name, arms, SEEDS)
        table.write_csv(out / f"pooled-{name}.csv")
        show(name, table)


def models_of(out: Path, data: str, seeds: tuple[int, ...] | list[int]) -> list[object]:
    """Give the options that name both arms under these seeds."""
    return [word for seed in seeds for arm in ARMS for word in ("--model", out / data / f"{arm}-{seed}")]


def show(title: str, table: pl.DataFrame) -> None:
    """Print a table whole."""
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=250, float_precision=4, tbl_hide_dataframe_shape=True
    ):
        print(f"\n{title}\n{table}", flush=True)


if __name__ == "__main__":
    given = folder_parser(__doc__).parse_args()
    main(given.out, given.data_folder)
