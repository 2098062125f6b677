"""Do towers of sequence and structure learn each other, and is it worth anything to affinity? Resumes.

    python studies/sequence_structure.py OUT [DATA_FOLDER]

CATH domains, split by topology: towers that pool 32, 8 or no segments, judged by retrieval among held-out
topologies as they are and with noise on the coordinates. Antibodies (VHH and the variable domains of
antibody-antigen cases), split by clusters at 90 % identity: ours, and the published recipe; both take the
structure encoder that was trained on CATH. Then a probe of secondary structure, and the affinity of
trastuzumab and emibetuzumab variants from few to all labels, from the box's antibody model as it is and
aligned by either. OUT/*.csv are the tables.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from downstream_tables import card_table
from sequence_structure_tables import affinity_table, difference_table, retrieval_table
from steps import folder_parser, keep_tables, protlm, train_general

from protlm.data.backbone_tables import BackboneWriter
from protlm.data.backbones import open_backbones
from protlm.types.structure import Backbone

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parent / "configs"
CATH = "structures/cath_domains_backbone.parquet"
CHAINS = ("structures/vhh_backbone.parquet", "structures/antibody_antigen/antibody_chains_backbone.parquet")
BOX = "protlm-ab-mini"

WIDE = ("--set=sequence.head.dim=64", "--set=structure.head.dim=64")
TOWERS: dict[str, tuple[tuple[int, ...], tuple[object, ...]]] = {
    "32-segments": ((0, 1, 2), ()),
    "8-segments": ((0,), ("--segments", 8)),
    "1-segment": ((0, 1, 2), ("--segments", 1, *WIDE)),
}
"""By arm: seeds, and what differs from configs/contrast/structures-cpu.yaml."""
NOISE = (0.1, 0.3)
"""Å on every coordinate that is judged; matchers without a model are fitted on training pairs as noised."""
SPLIT = ("--cluster-identity", 0.9, "--set=data.tested=0.2")
ANTIBODIES: dict[str, tuple[str, tuple[object, ...]]] = {
    "32-segments": (
        "structures-cpu",
        (
            *("--set=data.group=null", "--set=data.crop_residues=null", "--set=structure.arguments={}"),
            "--set=data.min_residues=32",
            *("--set=training.step_records=32", "--set=training.max_steps=100"),
            *("--set=training.eval_every=20", "--set=training.save_every=20"),
        ),
    ),
    "published": (
        "esm2-antibody-clip",
        ("--set=training.max_steps=130", "--set=training.eval_every=26", "--set=training.save_every=26"),
    ),
}
"""By arm: the configuration and what differs; five passes of batches of eight, as published."""
SEEDS = (0, 1, 2)

FROZEN = ("--set=training.max_steps=300", "--set=training.optimizer.learning_rate=0.001")
FULL = (
    *("--train", "full", "--set=training.max_steps=60", "--set=training.step_tokens=2048"),
    "--set=training.optimizer.learning_rate=0.0003",
)
AFFINITY: dict[str, tuple[str, tuple[object, ...]]] = {
    "emibetuzumab-frozen": ("affinity-emibetuzumab", ("--subsets", "20%,40%,80%,all", *FROZEN)),
    "trastuzumab-frozen": ("affinity-trastuzumab", ("--subsets", "20%,40%,80%,all", *FROZEN)),
    "emibetuzumab-full": ("affinity-emibetuzumab", ("--subsets", "20%,all", *FULL)),
}
"""By name: the card and how it is fine-tuned; five seeds each."""
ALIGNED = {
    "32-segments": "32-segments/seed-0",
    "32-segments-1": "32-segments/seed-1",
    "32-segments-2": "32-segments/seed-2",
    "published": "published/seed-0",
    "masked": "masked",
}
"""Learned from beside the box's model; `masked` saw the same chains, without structures."""
PROBED = 1000
"""Chains of the probe of secondary structure."""


def main(out: Path, data: Path) -> None:
    """Run what is not finished, then pool."""
    os.environ.setdefault("PROTLM_CACHE", str(out / "cache"))
    general = train_general(out, data)
    train_towers(out, data, general)
    judge_towers(out, data)
    train_antibodies(out, data)
    train_masked(out, data, general)
    judge_antibodies(out)
    probe_structure(out, data, general)
    learn_affinity(out, data)
    pool(out)


def train_towers(out: Path, data: Path, general: Path) -> None:
    """Train every arm on CATH domains."""
    what = ("--config", CONFIGS / "contrast/structures-cpu.yaml", "--structures", data / CATH)
    for arm, (seeds, differences) in TOWERS.items():
        for seed in seeds:
            run = out / "towers" / arm / f"seed-{seed}"
            if not (run / "DONE").exists():
                protlm("contrast", *what, "--model", general, *differences, "--seed", seed, "--out", run)


def judge_towers(out: Path, data: Path) -> None:
    """Find partners among held-out topologies, as they are and with noise."""
    models = [word for arm in TOWERS for word in ("--model", out / "towers" / arm)]
    what: dict[str, tuple[object, ...]] = {"retrieval": ("--structures", data / CATH)}
    for noise in NOISE:
        train, test = (with_noise(data / CATH, out, noise, side) for side in ("train", "test"))
        cut = ("--gallery", "sampled", "--gallery", "cropped")
        what[f"retrieval-noise-{noise}"] = ("--structures", test, "--train", train, *cut)
    for name, words in what.items():
        if not (out / name / "DONE").exists():
            protlm("evaluate", "retrieval", *models, *words, "--cluster", "topology", "--out", out / name)


def with_noise(source: Path, folder: Path, noise: float, side: str) -> Path:
    """Write the backbones of one side with normal noise of so many Å on every coordinate."""
    out = folder / f"cath-{side}-noise-{noise}.parquet"
    if not out.exists():
        pairs = pl.read_parquet(folder / "towers/32-segments/seed-0/tables/pairs.parquet")
        own = set(pairs.filter(pl.col("side") == side)["id"])
        random = np.random.default_rng(0)
        backbones = open_backbones(source)
        topologies = backbones.labels["topology"].to_list()
        with BackboneWriter(out, {"topology": pa.string()}) as writer:
            for one, topology in zip(backbones, topologies, strict=True):
                if one.id not in own:
                    continue
                moved = one.coordinates + random.normal(scale=noise, size=one.coordinates.shape)
                noised = Backbone(
                    one.id, one.residues, moved.astype(np.float32), one.chain_index, one.chain_ids
                )
                writer.add(noised, {"topology": topology})
    return out


def train_antibodies(out: Path, data: Path) -> None:
    """Align the box's antibody model with structures of variable domains."""
    corpus = out / "antibodies/corpus"
    if not corpus.exists():
        table = out / "antibodies/chains.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        vhh, chains = (pl.read_parquet(data / name) for name in CHAINS)
        named = [
            vhh.with_columns(id=pl.concat_str("pdb", "chain", separator="_")),
            chains.with_columns(id=pl.concat_str("case", "state", "chain", separator="_")),
        ]
        kept = ["id", "n_res", "sequence", "residue_ids", "backbone_xyz"]
        pl.concat([each.select(kept) for each in named]).write_parquet(table)
        protlm("prepare", table, "--structures", "--region", "fv", "--out", corpus)
    for seed in SEEDS:
        encoder = out / "towers/32-segments" / f"seed-{seed}" / "structure_encoder"
        for arm, (config, differences) in ANTIBODIES.items():
            run = out / "antibodies" / arm / f"seed-{seed}"
            if not (run / "DONE").exists():
                what = ("--config", CONFIGS / f"contrast/{config}.yaml", "--structures", corpus, *SPLIT)
                how = ("--model", BOX, "--encoder", encoder, *differences, "--seed", seed)
                protlm("contrast", *what, *how, "--out", run)


def train_masked(out: Path, data: Path, general: Path) -> None:
    """Train both starting models on as many steps of the same chains by masking alone: controls."""
    uniform = ("training.max_steps=300", "training.step_tokens=4096", "masking.kind=uniform")
    mask_alone(out / "towers", data / CATH, general, uniform)
    by_region = ("training.max_steps=100", "training.step_records=32")
    mask_alone(out / "antibodies", out / "antibodies/corpus", BOX, by_region)


def mask_alone(folder: Path, structures: Path, model: Path | str, settings: tuple[str, ...]) -> None:
    """Go on training a model by masking the chains that the first alignment of a folder learned from."""
    fasta, corpus, run = folder / "train.fasta", folder / "train", folder / "masked"
    if not corpus.exists():
        pairs = pl.read_parquet(folder / "32-segments/seed-0/tables/pairs.parquet")
        learned = set(pairs.filter(pl.col("side") == "train")["id"])
        chosen = [each for each in open_backbones(structures) if each.id in learned]
        fasta.write_text("".join(f">{each.id}\n{each.residues}\n" for each in chosen))
        protlm("prepare", fasta, "--out", corpus)
    if not (run / "DONE").exists():
        all_settings = [
            f"data.train={corpus}",
            *("model.kind=pretrained", f"model.name={model}", *settings, "training.keep=last"),
            *("training.optimizer.learning_rate=0.001", "training.optimizer.warmup_steps=20"),
            *("training.optimizer.schedule=cosine", "training.optimizer.weight_decay=0.05"),
        ]
        protlm("pretrain", *(f"--set={each}" for each in all_settings), "--out", run)


def judge_antibodies(out: Path) -> None:
    """Find partners among antibodies of held-out clusters."""
    run = out / "antibodies/retrieval"
    if not (run / "DONE").exists():
        models = [word for arm in ANTIBODIES for word in ("--model", out / "antibodies" / arm)]
        what = ("--structures", out / "antibodies/corpus", "--gallery", "full", "--gallery", "hard")
        protlm("evaluate", "retrieval", *models, *what, "--out", run)


def probe_structure(out: Path, data: Path, general: Path) -> None:
    """Ask the sequence towers, frozen, for secondary structure, beside the model they began as."""
    if not (out / "probe/DONE").exists():
        aligned = [out / "towers/32-segments" / f"seed-{seed}" for seed in SEEDS]
        models = [general, out / "towers/masked", *aligned]
        named = [word for model in models for word in ("--model", model)]
        what = ("--task", "secondary-structure", "--data", data, "--max-records", PROBED)
        protlm("evaluate", "tasks", *what, *named, "--out", out / "probe")


def learn_affinity(out: Path, data: Path) -> None:
    """Learn affinities from few to all labels, from the antibody model as it is and as aligned."""
    everything = {**{arm: str(out / "antibodies" / path) for arm, path in ALIGNED.items()}, "box": BOX}
    for name, (card, how) in AFFINITY.items():
        folder = out / "affinity" / name
        arms = ("32-segments", "box") if name.endswith("full") else tuple(everything)
        models = {arm: everything[arm] for arm in arms}
        for arm, model in models.items():
            if not (folder / arm / "DONE").exists():
                what = ("--task", card, "--data", data, "--model", model)
                protlm("finetune", *what, *how, "--seeds", 5, "--out", folder / arm)
        for arm in arms[:-1]:
            table = folder / f"{arm}-minus-box.parquet"
            if not table.exists():
                protlm("evaluate", "finetuned", folder / arm, folder / "box", "--out", table)


def pool(out: Path) -> None:
    """Bring it together; print and keep."""
    tables = {
        "retrieval": retrieval_table(out / "retrieval"),
        "retrieval-differences": difference_table(out / "retrieval"),
        "antibodies": retrieval_table(out / "antibodies/retrieval"),
        "antibodies-differences": difference_table(out / "antibodies/retrieval"),
        **{f"noise-{noise}": retrieval_table(out / f"retrieval-noise-{noise}") for noise in NOISE},
        "probe": card_table(out / "probe"),
        **{name: affinity_table(out / "affinity" / name) for name in AFFINITY},
    }
    keep_tables(tables, out)


if __name__ == "__main__":
    given = folder_parser(__doc__).parse_args()
    main(given.out, given.data_folder)
