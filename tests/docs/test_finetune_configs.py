"""Every shipped configuration of finetune is valid, and trains three steps on a tiny table."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fixtures.builders import lively_esm, random_residues
from protlm.recipes.finetune import finetune
from protlm.recipes.finetune_config import FinetuneConfig

CONFIGS = {path.stem: path for path in (Path(__file__).parents[2] / "configs" / "finetune").glob("*.yaml")}


def table(path, count, columns, *, seed=0):
    random = np.random.default_rng(seed)
    rows = [columns(number, random_residues(random, int(random.integers(20, 40)))) for number in range(count)]
    pl.DataFrame(rows).write_csv(path, separator="\t")


def located(number, text):
    return {"sequence": text, "location": "abc"[number % 3]}


def structured(number, text):
    states = {"ss3": ("HEC" * 20)[: len(text)], "resolved_mask": "1" * len(text)}
    return {"sequence": text, **states, "set": "val" if number % 4 == 0 else "train"}


def measured(number, text):
    return {
        "sequence": text,
        "kd": number * 7 % 11 / 2,
        "split": ["train", "train", "valid", "test"][number % 4],
    }


def paired(number, text):
    return {"sequence_a": text, "sequence_b": text[::-1], "label": number % 2}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_it_trains_three_steps(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lively_esm(hidden_size=8, num_heads=2).save(tmp_path / "tiny")
    if name == "localisation":
        table("deeploc_train.tsv", 24, located)
        table("deeploc_test.tsv", 24, located, seed=1)
    elif name == "affinity":
        table("affinity.tsv", 40, measured)
    elif name == "secondary-structure":
        table("ss3.tsv", 16, structured)
    else:
        table("pairs.tsv", 30, paired)
    overrides = ["model=tiny", "training.max_steps=3", "num_draws=20", "seeds=[0]"]
    overrides += ["subsets=[12, all]"] if name == "pairs-lora" else []
    run = finetune(
        FinetuneConfig.load(CONFIGS[name], overrides),
        tmp_path / "run",
        cache=tmp_path / "cache",
        device="cpu",
        say=lambda _: None,
    )
    assert run.is_done
    assert "finetune_metrics" in run.tables()
