"""Every shipped configuration of contrast is valid, and its overrides train."""

from pathlib import Path

import pytest

from fixtures.backbone_files import write_backbones
from protlm.models.architectures import EsmArchitecture
from protlm.recipes.contrast import contrast, describe
from protlm.recipes.contrast_config import ContrastConfig

CONFIGS = {path.stem: path for path in (Path(__file__).parents[2] / "configs" / "contrast").glob("*.yaml")}


def test_there_are_some():
    assert set(CONFIGS) >= {"structures-cpu", "esm2-antibody-clip"}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_trains_a_few_steps_with_small_towers(name, tmp_path):
    write_backbones(tmp_path / "structures.parquet", 30, lengths=(66, 70))
    EsmArchitecture.Config(num_layers=1, hidden_size=8, num_heads=2).build(seed=0).save(tmp_path / "lm")
    overrides = [
        f"data.structures={tmp_path / 'structures.parquet'}",
        f"sequence.model={tmp_path / 'lm'}",
        "training.max_steps=2",
        "training.tensorboard=false",
    ]
    overrides += ["data.group=fold"] if name == "structures-cpu" else ["structure.encoder=3di"]
    config = ContrastConfig.load(CONFIGS[name], overrides)
    assert "pairs per step" in describe(config, device="cpu", say=lambda _: None)
    run = contrast(config, tmp_path / "run", device="cpu", cache=tmp_path / "cache", say=lambda _: None)
    assert run.is_done


def test_the_published_recipe_has_the_published_numbers():
    config = ContrastConfig.load(CONFIGS["esm2-antibody-clip"])
    assert config.loss.temperature.scale == pytest.approx(1 / 0.07, rel=1e-6)
    assert config.training.optimizer.betas == (0.9, 0.98)
    assert (config.sequence.pooling, config.sequence.head.last_activation) == ("begin", "gelu")
    assert config.loss.same_cluster == "negative"
