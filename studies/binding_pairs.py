"""Does training on binding pairs help, and would we see it? Trains, judges and pools; resumes.

    python studies/binding_pairs.py OUT [DATA_FOLDER]

Four data sets: simulated pairs with planted couplings of stated information, many and few of them (the power
of the method), native antibody pairs (a natural control), and yeast links with clusters kept apart. Four arms
at equal tokens and steps: single proteins, random pairs, binding pairs, half and half; three seeds. Arms of a
seed start from the same weights. Judged on held-out true pairs: loss of each chain alone, beside its true and
beside another partner; and for yeast by a classifier on frozen embeddings beside baselines that know only
degrees, similarity or composition. OUT/*.csv are the tables.
"""

import os
import resource
from pathlib import Path

import polars as pl
from pair_judging import judge_classifiers, judge_losses, judge_power
from steps import folder_parser, keep_tables, protlm

from protlm.data.corpus import Corpus, CorpusWriter
from protlm.data.hashing import combine
from protlm.data.simulate_couplings import couplings_frame, pairs_frame, simulate_coupled_pairs
from protlm.types.record import Chain, Record

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs/pretrain/binding-pairs-cpu.yaml"
SEEDS = (0, 1, 2)
_ALL = ("single", "random", "binding", "half")
ARMS = {"coupled": _ALL, "coupled-few": _ALL[:3], "antibodies": _ALL, "yeast": _ALL}

NUM_SIMULATED, NUM_FEW, NUM_TESTED = 13_500, 1_350, 400
CHAIN_LENGTH = 24
POSITIONS = ("model.positions=learned", "model.max_tokens=64", "model.num_layers=2", "model.hidden_size=64")
SMALL_STEPS = ("training.step_tokens=1024", "training.max_steps=4000", "training.save_every=2000")
SETTINGS = {
    "coupled": (*POSITIONS, *SMALL_STEPS),
    "coupled-few": (*POSITIONS, *SMALL_STEPS),
    "antibodies": ("training.max_steps=400",),
    "yeast": (),
}
"""What differs from the configuration, by data set."""
JUDGED = {"coupled": 200, "coupled-few": 200, "antibodies": 100, "yeast": 150}
"""Held-out pairs, chosen by content keys."""
WINDOW = 160
"""Longest part of a held-out yeast protein that is judged; training crops pairs to twice that."""


def main(out: Path, data_folder: Path) -> None:
    """Run what is not finished, then pool."""
    os.environ.setdefault("PROTLM_CACHE", str(out / "cache"))
    for data in SETTINGS:
        prepare(out, data, data_folder)
    for seed in SEEDS:
        for data in SETTINGS:
            for arm in ARMS[data]:
                train(out, data, arm, seed)
    for data in SETTINGS:
        evaluate(out, data)
    pool(out)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU time of what ran now: {(used.ru_utime + used.ru_stime) / 3600:.2f} hours")


def prepare(out: Path, data: str, data_folder: Path) -> None:
    """Make the corpus of training pairs and that of tested ones."""
    folder = out / data
    if (folder / "tested").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if data.startswith("coupled"):
        _prepare_simulated(folder, NUM_FEW if data == "coupled-few" else NUM_SIMULATED)
    elif data == "antibodies":
        _prepare_antibodies(folder, data_folder)
    else:
        _prepare_yeast(folder, data_folder)


def _prepare_simulated(folder: Path, num_trained: int) -> None:
    """One seed gives the same family and first records, so tested pairs are the last of the longest list."""
    records, couplings = simulate_coupled_pairs(NUM_SIMULATED + NUM_TESTED, length=CHAIN_LENGTH)
    pairs_frame(records[:num_trained]).write_csv(folder / "pairs.tsv", separator="\t")
    couplings_frame(couplings).write_csv(folder / "couplings.csv")
    protlm("prepare", folder / "pairs.tsv", "--pairs", "--negatives", "uniform", "--out", folder / "corpus")
    _write_corpus(folder / "tested", records[NUM_SIMULATED:])


def _prepare_antibodies(folder: Path, data_folder: Path) -> None:
    """Human pairs of two sources; V gene and CDR3 are on one side only."""
    source = data_folder / "antibody_pairs"
    sabdab = pl.read_csv(source / "sabdab_fv_pairs.tsv.gz", separator="\t", infer_schema=False)
    tenx = pl.read_csv(source / "tenx_pbmc_bcr_pairs.tsv.gz", separator="\t", infer_schema=False)
    pairs = pl.concat(
        [
            sabdab.filter(pl.col("organism") == "human_ig").select(heavy="heavy_seq", light="light_seq"),
            tenx.select(heavy="variable_domain_heavy", light="variable_domain_light"),
        ]
    ).unique(maintain_order=True)
    pairs.with_row_index("id").write_csv(folder / "pairs.tsv", separator="\t")
    protlm("prepare", folder / "pairs.tsv", "--holdout", 0.15, "--out", folder / "all")
    protlm("prepare", f"{folder / 'all'}:train", "--negatives", "degree", "--out", folder / "corpus")
    held_out = Corpus(f"{folder / 'all'}:holdout")
    _write_corpus(folder / "tested", [held_out.record(row) for row in range(len(held_out))])


def _prepare_yeast(folder: Path, data_folder: Path) -> None:
    links, fasta = (
        data_folder / "ppi" / f"dscript_yeast_{name}" for name in ("pairs.tsv.gz", "seqs.fasta.gz")
    )
    split = ("--cluster-identity", 0.4, "--holdout", 0.35, "--negatives", "degree")
    protlm("prepare", links, "--sequences", fasta, *split, "--out", folder / "corpus")
    held_out = Corpus(f"{folder / 'corpus'}:holdout-binding")
    _write_corpus(folder / "tested", [cut(held_out.record(row)) for row in range(len(held_out))])


def cut(record: Record) -> Record:
    """Cut each chain to a window of at most `WINDOW` residues, drawn by the record's name."""
    chains = []
    for number, chain in enumerate(record.chains):
        name = int.from_bytes(record.id.encode()[-8:], "little")
        starts = max(0, len(chain) - WINDOW) + 1
        start = int(combine(name, number)[0] % starts)
        chains.append(Chain(chain.residues[start : start + WINDOW], role=chain.role))
    return Record(record.id, tuple(chains), labels=record.labels, group=record.group)


def _write_corpus(path: Path, records: list[Record]) -> None:
    with CorpusWriter(path) as writer:
        for record in records:
            writer.add(record)
        writer.close()


def train(out: Path, data: str, arm: str, seed: int) -> None:
    """Train one model, or go on with it."""
    run, folder = out / data / f"{arm}-{seed}", out / data
    if (run / "DONE").exists():
        return
    prefix = f"{folder / 'corpus'}:" + ("train-" if data == "yeast" else "")
    source = f"{prefix}{arm}"
    if arm == "half":
        source = f"[{{source: '{prefix}binding', share: 0.5}}, {{source: '{prefix}random'}}]"
    settings = [*SETTINGS[data], f"data.train={source}", f"data.eval={folder / 'tested'}", f"seed={seed}"]
    protlm("pretrain", "--config", CONFIG, *(f"--set={each}" for each in settings), "--out", run)


def evaluate(out: Path, data: str) -> None:
    """Mask every residue of the tested pairs once, in seven turns, beside the true, another, no partner."""
    run, folder = out / data / "partner", out / data
    if (run / "DONE").exists():
        return
    names = [f"{arm}-{seed}" for seed in SEEDS for arm in ARMS[data]]
    models = [word for name in names for word in ("--model", folder / name)]
    options = ("--turns", 7, "--max-records", JUDGED[data], "--min-mutations", 1000)
    protlm("evaluate", "partner", *models, "--input", folder / "tested", *options, "--out", run)


def pool(out: Path) -> None:
    """Average over seeds; print and keep."""
    tables = {f"losses-{data}": judge_losses(out / data / "partner", ARMS[data], SEEDS) for data in SETTINGS}
    tables |= {
        f"power-{data}": judge_power(out / data / "partner", out / data / "couplings.csv", ARMS[data], SEEDS)
        for data in ("coupled", "coupled-few")
    }
    tables["classifiers"] = judge_classifiers(out / "yeast", ARMS["yeast"], SEEDS, cut)
    keep_tables(tables, out)


if __name__ == "__main__":
    given = folder_parser(__doc__).parse_args()
    main(given.out, given.data_folder)
