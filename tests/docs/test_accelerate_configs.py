"""Accelerate's own parser takes the shipped launcher configurations, and each dry-runs as it says."""

import os
from pathlib import Path

import pytest
import torch
from accelerate import DeepSpeedPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, is_deepspeed_available
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.errors import ConfigError
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.recipes.pretrain_plan import dry_run
from protlm.training.processes import fsdp_plugin

FOLDER = Path(__file__).parents[2] / "configs" / "accelerate"
KINDS = {
    "ddp": DistributedType.MULTI_GPU,
    "ddp-cpu": DistributedType.MULTI_GPU,
    "fsdp": DistributedType.FSDP,
    "zero1": DistributedType.DEEPSPEED,
}


def test_all_are_known():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


def launched(name):
    """Parse a launch as `accelerate launch` does; give its arguments and what its processes would see."""
    words = [
        "--config_file",
        str(FOLDER / f"{name}.yaml"),
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
    ]
    arguments, _, _ = _validate_launch_command(
        launch_command_parser().parse_args([*words, "-m", "protlm", "pretrain"])
    )
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""
        _, environment = prepare_deepspeed_cmd_env(arguments)
    else:
        environment = prepare_multi_gpu_env(arguments)
    ranks = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    return arguments, {**environment, **ranks}


@pytest.mark.parametrize("name", KINDS)
def test_the_launcher_starts_processes_of_the_right_kind(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == KINDS[name]
    assert config.mixed_precision == "no"  # protlm's own setting decides
    arguments, _ = launched(name)
    assert arguments.num_processes == 2
    assert arguments.multi_gpu == (KINDS[name] == DistributedType.MULTI_GPU)
    assert arguments.use_fsdp == (name == "fsdp")
    assert arguments.use_deepspeed == (name == "zero1")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    corpus = write_corpus(path, number_records(simulate_repertoire(20, seed=1)))
    return PretrainConfig.from_dict(
        {
            "data": {"train": str(corpus.path)},
            "model": {"num_layers": 3, "hidden_size": 16, "num_heads": 2},
            "training": {"max_steps": 2, "step_tokens": 600},
        }
    )


SAID = {
    "ddp": "2 processes, each with a whole model (DDP)",
    "ddp-cpu": "2 processes, each with a whole model (DDP)",
    "fsdp": "2 processes, parameters and optimiser state in 2 shards (FSDP2, reshard_after_forward=True)",
    "zero1": "2 processes, DeepSpeed ZeRO stage 1",
}


@pytest.mark.parametrize("name", KINDS)
def test_it_dry_runs(name, config, tmp_path, monkeypatch):
    _, environment = launched(name)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    text = dry_run(config, tmp_path / "run", device="cpu", say=lambda _: None)
    line = next(line for line in text.splitlines() if line.startswith("distribution: "))
    assert line.startswith(f"distribution: {SAID[name]}")
    if name == "zero1" and not is_deepspeed_available():
        assert "deepspeed is not installed" in line


def test_the_plugin_of_fsdp_is_built_from_the_configuration(monkeypatch):
    for key, value in launched("fsdp")[1].items():
        monkeypatch.setenv(key, value)
    plugin = fsdp_plugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    for name, value in {"FSDP_VERSION": "1", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(ConfigError, match=rf"{name.lower()} '{value}' is not supported; only"):
                fsdp_plugin()


def test_the_plugin_of_zero_is_built_from_the_configuration(monkeypatch):
    for key, value in launched("zero1")[1].items():
        monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    assert plugin.deepspeed_config["zero_optimization"]["stage"] == 1
    assert plugin.gradient_clipping == 1.0


def test_training_under_deepspeed_is_refused_before_anything_is_written(config, tmp_path, monkeypatch):
    for key, value in launched("zero1")[1].items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=r"DeepSpeed is not supported.*\n.*fsdp\.yaml"):
        pretrain(config, tmp_path / "run", device="cpu", say=lambda _: None)
    assert not (tmp_path / "run").exists()
    assert not torch.distributed.is_initialized()
    assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "true"
