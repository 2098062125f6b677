"""Every shipped configuration is valid, builds at its own size, and trains three tiny steps."""

from pathlib import Path

import pytest
import torch

from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.recipes.pretrain import PretrainConfig, pretrain

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "pretrain").glob("*.yaml"))


def test_there_are_configurations():
    assert CONFIGS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    return write_corpus(path, number_records(simulate_repertoire(20, seed=1)))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_valid_and_builds_at_its_own_size_on_the_meta_device(path):
    config = PretrainConfig.load(path)
    with torch.device("meta"):
        model = config.model.build(seed=0)
    assert model.num_parameters > 10_000
    assert PretrainConfig.from_dict(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_three_steps_when_made_tiny(path, corpus, tmp_path):
    tiny = [
        f"data.train={corpus.path}",
        f"data.eval={corpus.path}",
        "model.num_layers=1",
        "model.hidden_size=16",
        "model.num_heads=2",
        "training.max_steps=3",
        "training.step_tokens=600",
        "training.log_every=1",
        "training.tensorboard=false",
    ]
    run = pretrain(PretrainConfig.load(path, tiny), tmp_path / "run", device="cpu", say=lambda _: None)
    assert run.is_done
    losses = [line["loss"] for line in run.metrics() if line["split"] == "train"]
    assert len(losses) == 3
    assert all(0 < loss < 10 for loss in losses)
