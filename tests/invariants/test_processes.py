"""Any number of processes gives the curve of one; one writes; errors and Ctrl-C in one end all.

Real processes over gloo, started by the launchers that users call.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.sampling import even_parts, process_share
from protlm.data.simulate import simulate_repertoire
from protlm.errors import Interrupted
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.runs import Run
from protlm.training import loop
from protlm.training.processes import Processes, launch_warning, num_launched

ROOT = Path(__file__).parents[2]
STEPS = 6
TIMES = {"tokens_per_second"}
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}


def command(*words, launcher="torch.distributed.run"):
    options = {
        "torch.distributed.run": ["--standalone", "--nproc_per_node", "2"],
        "accelerate.commands.launch": [
            *("--config_file", str(ROOT / "configs/accelerate/ddp-cpu.yaml")),
            *("--num_processes", "2", "--main_process_port", "0"),
        ],
    }
    return [sys.executable, "-m", launcher, *options[launcher], *map(str, words)]


def launch(words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=240, check=False, env=environment, **options
    )


def metrics(path):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in Run(path).metrics()]


def weights(path):
    return load_file(Run(path).model_path / "model.safetensors")


def assert_same_curve(one, other, tolerance=1e-5):
    """Same lines and keys; losses within the tolerance, counts of tokens the same."""
    assert len(metrics(one)) == len(metrics(other)) > STEPS
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert value == (b[name] if isinstance(value, str) else pytest.approx(b[name], abs=tolerance)), (
                name
            )
        assert a.get("tokens") == b.get("tokens")


def assert_same_bits(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def config_of(folder):
    records = list(number_records(simulate_repertoire(60, seed=1), receptor="antibody"))
    corpora = [write_corpus(folder / "train", records[:50]), write_corpus(folder / "eval", records[50:])]

    def build(*, dropout=0.0, adapt="full", data=None, **training):
        training = {
            "max_steps": STEPS,
            "step_tokens": 2500,
            "eval_every": 2,
            "save_every": 2,
            "log_every": 1,
            "tensorboard": False,
            "optimizer": {"warmup_steps": 2, "learning_rate": 1e-2},
            **training,
        }
        sizes = {"kind": "esm", "num_layers": 2, "hidden_size": 8, "num_heads": 2, "token_dropout": True}
        return {
            "data": {"train": str(corpora[0].path), "eval": str(corpora[1].path), **(data or {})},
            "model": {**sizes, "dropout": dropout},
            "adapt": adapt,
            "training": training,
            "seed": 3,
        }

    return build


@pytest.fixture(scope="module")
def alone(folder, config_of):
    """Runs of one process: a plain one, one of two micro-batches a step with dropout, LoRA."""
    configs = {
        "plain": config_of(),
        "dropout": config_of(dropout=0.2, micro_tokens=1300),
        "lora": config_of(adapt="lora"),
    }
    for name, config in configs.items():
        pretrain(PretrainConfig.from_dict(config), folder / f"{name}-1", device="cpu", say=lambda _: None)
    return configs


@pytest.fixture(scope="module")
def together(folder, alone):
    """The same by two processes, in one launch; some are stopped by a signal to one of the two."""
    jobs = [
        {"config": alone["plain"], "out": "plain-2"},
        {"config": alone["dropout"], "out": "dropout-2"},
        {"config": alone["plain"], "out": "sharded-2", "environment": SHARDED},
        {"config": alone["lora"], "out": "lora-2"},
        {"config": alone["dropout"], "out": "changing", "interrupt": (1, 1)},
        {"config": alone["plain"], "out": "sharded-changing", "environment": SHARDED, "interrupt": (1, 2)},
    ]
    run_jobs(folder, "first", jobs)
    return folder


def run_jobs(folder, name, jobs):
    jobs = [{**job, "out": str(folder / job["out"])} for job in jobs]
    (folder / f"{name}.json").write_text(json.dumps(jobs))
    answer = launch(command(ROOT / "tests/fixtures/launched.py", folder / f"{name}.json"))
    assert answer.returncode == 0, answer.stderr


class TestTwoProcesses:
    @pytest.mark.parametrize("name", ["plain", "lora"])
    def test_give_the_curve_of_one(self, together, name):
        assert_same_curve(together / f"{name}-1", together / f"{name}-2")

    def test_give_the_bits_of_one_that_makes_the_same_micro_batches_dropout_included(self, together):
        assert_same_bits(together / "dropout-1", together / "dropout-2")
        assert_same_curve(together / "dropout-1", together / "dropout-2", tolerance=1e-12)

    def test_that_hold_shards_give_the_curve_of_one(self, together):
        assert_same_curve(together / "plain-1", together / "sharded-2")
        one, other = weights(together / "plain-1"), weights(together / "sharded-2")
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0, msg=name)

    def test_draw_the_same_masks(self, together):
        tables = [pl.read_parquet(Run(together / f"plain-{n}").table_path("masking_rates")) for n in (1, 2)]
        assert tables[0].drop("asked").equals(tables[1].drop("asked"))
        assert np.allclose(tables[0]["asked"], tables[1]["asked"], atol=1e-12, rtol=0)

    def test_leave_the_files_of_one(self, together):
        files = [
            sorted(str(p.relative_to(together / name)) for p in (together / name).rglob("*") if p.is_file())
            for name in ("plain-1", "plain-2")
        ]
        assert files[0] == files[1]
        assert Run(together / "plain-2").read_json("environment.json")["processes"] == 2

    def test_that_lora_trained_is_a_plain_model(self, together):
        assert weights(together / "lora-2").keys() == weights(together / "plain-1").keys()
        assert (Run(together / "lora-2").adapter_path / "adapter_config.json").exists()


def test_a_run_goes_on_at_another_number_of_processes(together, alone, monkeypatch):
    """Two processes, one of them interrupted in step 2; then one, interrupted in step 4; then two."""
    checkpoints = together / "changing" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["step-000000002"]
    stop_before(monkeypatch, 3)
    with pytest.raises(Interrupted, match="after step 4 of 6"):
        pretrain_alone(alone["dropout"], together / "changing")
    with pytest.raises(Interrupted, match="after step 4 of 6"):
        pretrain_alone(alone["plain"], together / "sharded-changing")
    run_jobs(
        together,
        "second",
        [
            {"config": alone["dropout"], "out": "changing"},
            {"config": alone["plain"], "out": "sharded-changing", "environment": SHARDED},
        ],
    )
    assert_same_bits(together / "dropout-1", together / "changing")
    assert_same_curve(together / "dropout-1", together / "changing", tolerance=1e-12)
    rates = [Run(together / name).table_path("masking_rates") for name in ("dropout-1", "changing")]
    assert pl.read_parquet(rates[0])["observed"].equals(pl.read_parquet(rates[1])["observed"])
    assert_same_curve(together / "plain-1", together / "sharded-changing")


def pretrain_alone(config, out):
    return pretrain(PretrainConfig.from_dict(config), out, device="cpu", say=lambda _: None)


def stop_before(monkeypatch, step):
    """Ask for a stop just before a step is trained, whichever Run it belongs to."""
    import signal

    original = loop._Trainer._step

    def watched(self, number, batches):
        if number == step:
            signal.raise_signal(signal.SIGINT)
        return original(self, number, batches)

    monkeypatch.setattr(loop._Trainer, "_step", watched)


def test_adapters_resume_with_the_same_bits(config_of, tmp_path, monkeypatch):
    config = config_of(adapt={"kind": "lora", "dropout": 0.1})
    expected = pretrain_alone(config, tmp_path / "uninterrupted")
    with monkeypatch.context() as patch:
        stop_before(patch, 3)
        with pytest.raises(Interrupted, match="after step 4 of 6"):
            pretrain_alone(config, tmp_path / "interrupted")
    resumed = pretrain_alone(config, tmp_path / "interrupted")
    assert_same_bits(expected.path, resumed.path)
    assert metrics(expected.path) == metrics(resumed.path)
    adapters = [
        (each.adapter_path / "adapter_model.safetensors").read_bytes() for each in (expected, resumed)
    ]
    assert adapters[0] == adapters[1]


class TestAccelerateLaunch:
    def test_a_corpus_is_prepared_once_and_one_process_talks(self, folder, config_of, tmp_path):
        fasta = tmp_path / "chains.fasta"
        heavy = (record.chains[0].residues for record in simulate_repertoire(30, seed=2))
        fasta.write_text("".join(f">h{number}\n{residues}\n" for number, residues in enumerate(heavy)))
        data = {"train": str(fasta), "eval": str(fasta)}
        (tmp_path / "config.json").write_text(json.dumps(config_of(data=data, max_steps=2)))
        words = command(
            *("-m", "protlm", "pretrain", "--config", tmp_path / "config.json", "--out", tmp_path / "run"),
            launcher="accelerate.commands.launch",
        )
        answer = launch(words)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.splitlines() == [str(tmp_path / "run")]
        assert answer.stderr.count("30 training records") == 1
        assert "2 processes, each with a whole model (DDP)" in answer.stderr
        assert Run(tmp_path / "run").is_done
        assert [line["step"] for line in metrics(tmp_path / "run")] == [0, 1, 2, 2]
        again = launch(words)
        assert again.returncode != 0
        assert again.stderr.count("error: ") == again.stderr.count("holds a finished 'pretrain' Run") == 1


class TestShares:
    def test_every_part_counts_once_and_processes_have_equally_many(self):
        random = np.random.default_rng(0)
        for size in (1, 2, 7, 40):
            lengths = random.integers(5, 60, size)
            for count in (1, 2, 3, 5):
                parts = even_parts(lengths, 300, multiple_of=count)
                shares = [process_share(parts, process, count) for process in range(count)]
                assert len({len(share) for share in shares}) == 1
                counted = [part for share in shares for part, counts in share if counts]
                assert sorted(np.concatenate(counted).tolist()) == list(range(size))

    def test_are_equal_within_a_tenth(self):
        lengths = np.random.default_rng(1).integers(100, 140, 256)
        sums = [lengths[part].sum() for part in even_parts(lengths, 10**6, multiple_of=8)]
        assert len(sums) == 8
        assert max(sums) < 1.1 * min(sums)


class TestEnvironment:
    def test_one_process_where_nothing_was_launched(self):
        assert num_launched({"WORLD_SIZE": "8", "RANK": "0"}) == 1  # a cluster's, without a launcher
        assert Processes(torch.device("cpu")).count == 1

    def test_a_launcher_that_started_one_process_for_two_is_told_on(self):
        environment = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
        assert "--multi_gpu" in str(launch_warning(environment))
        assert launch_warning({**environment, "LOCAL_RANK": "0"}) is None
        assert launch_warning({"ACCELERATE_MIXED_PRECISION": "no"}) is None
