"""What small models are worth on every downstream task: judges, fine-tunes and pools; resumes.

    python studies/downstream.py OUT [DATA_FOLDER] [--model RUN]...

Models: the one in the box, a general one (`configs/pretrain/general-cpu.yaml`, trained here if it is not
there), those given with --model (such as pair and single models of `studies/binding_pairs.py`), and ESM-2
if its weights are on the machine. Every one is judged frozen on every card with data, beside the same network
with random weights and the trivial baselines of the card; specificity on all its records. Then three
fine-tunings, which are compared with the baselines of their card on the same residues or records: secondary
structure, paratope, and localisation with few labels. OUT/*.csv are the tables.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from downstream_tables import card_table, compare_finetuned, curve_table
from steps import folder_parser, keep_tables, protlm, train_general

from protlm.errors import ModelError
from protlm.models.loading import load_model

HERE = Path(__file__).resolve().parent
BOX, ESM2 = "protlm-ab-mini", "esm2-8m"

_STEPS = ("training.optimizer.learning_rate=0.001", "training.optimizer.weight_decay=0.05")
FINETUNED: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "secondary-structure": ("general", "full", 10_000, (*_STEPS, "training.max_steps=1200")),
    "paratope": (BOX, "full", 800, (*_STEPS, "training.max_steps=100")),
}
"""By card: the model, what is trained, the cut of the records, settings. Chosen before a result was seen."""
SEEDS = {"secondary-structure": 1, "paratope": 3}
SPECIFICITY = "specificity-cov-rbd"
MOST_RECORDS = 300
"""Cut of either side of a card, by content, so that all cards take about an hour of one core."""
CURVE = "32,100,320,1000,all"


def main(out: Path, data: Path, models: Sequence[str]) -> None:
    """Run what is not finished, then pool."""
    os.environ.setdefault("PROTLM_CACHE", str(out / "cache"))
    general = train_general(out, data)
    judge_cards(out, data, [BOX, str(general), *models, *esm2()])
    judge_specificity(out, data)
    for card in FINETUNED:
        finetune(out, data, card, general)
    finetune_with_few(out, data, general)
    pool(out)


def esm2() -> list[str]:
    """Name ESM-2 if its weights are here, and say so if not."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        load_model(ESM2)
    except ModelError as error:
        print(f"without {ESM2}: {error}")
        return []
    return [ESM2]


def judge_cards(out: Path, data: Path, models: Sequence[str]) -> None:
    """Judge frozen models on every card that has its data."""
    if not (out / "tasks/DONE").exists():
        named = [word for model in models for word in ("--model", model)]
        cut = ("--max-records", MOST_RECORDS)
        protlm("evaluate", "tasks", "--task", "all", "--data", data, *named, *cut, "--out", out / "tasks")


def judge_specificity(out: Path, data: Path) -> None:
    """Judge the antibody model, frozen, on every antibody of the card."""
    run = out / f"{SPECIFICITY}-frozen"
    if not (run / "DONE").exists():
        protlm("evaluate", "tasks", "--task", SPECIFICITY, "--data", data, "--model", BOX, "--out", run)


def finetune(out: Path, data: Path, card: str, general: Path) -> None:
    """Fine-tune one model, and judge frozen ones and baselines on the same split."""
    name, kind, cut, settings = FINETUNED[card]
    model = general if name == "general" else name
    what = ("--task", card, "--data", data, "--max-records", cut)
    if not (out / f"{card}-frozen/DONE").exists():
        protlm("evaluate", "tasks", *what, "--model", model, "--out", out / f"{card}-frozen")
    if not (out / f"{card}-{kind}/DONE").exists():
        how = ("--train", kind, "--seeds", SEEDS[card], *(f"--set={each}" for each in settings))
        protlm("finetune", *what, "--model", model, *how, "--out", out / f"{card}-{kind}")


def finetune_with_few(out: Path, data: Path, general: Path) -> None:
    """Localisation from few labels: nested subsets, three seeds, a frozen model, and a control."""
    what = ("--task", "localisation", "--data", data, "--seeds", 3, "--subsets", CURVE)
    for name, more in (("curve", ()), ("curve-random", ("--random-weights",))):
        if not (out / name / "DONE").exists():
            protlm("finetune", *what, "--model", general, *more, "--out", out / name)


def pool(out: Path) -> None:
    """Bring it together; print and keep."""
    tables = {"cards": card_table(out / "tasks"), "curve": curve_table(out / "curve", out / "curve-random")}
    tables["specificity"] = card_table(out / f"{SPECIFICITY}-frozen")
    for card, (_, kind, _, _) in FINETUNED.items():
        tables[card] = compare_finetuned(card, out / f"{card}-{kind}", out / f"{card}-frozen")
    keep_tables(tables, out)


if __name__ == "__main__":
    parser = folder_parser(__doc__)
    parser.add_argument("--model", action="append", default=[])
    given = parser.parse_args()
    main(given.out, given.data_folder, given.model)
