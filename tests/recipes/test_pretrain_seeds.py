"""pretrain --seeds: one command, several Runs, one ensemble; resumed, refused, described."""

import json
import signal

import polars as pl
import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.errors import ConfigError, Interrupted, RunError
from protlm.models.members import FILE_NAME
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.recipes.pretrain_seeds import pretrain_seeds, seeds_of
from protlm.runs import Run
from protlm.training.mlm_job import MlmJob


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    return str(write_corpus(path, number_records(simulate_repertoire(12, seed=1))).path)


@pytest.fixture(scope="module")
def config(corpus):
    return PretrainConfig.from_dict(
        {
            "data": {"train": corpus},
            "model": {"num_layers": 1, "hidden_size": 8, "num_heads": 2, "dropout": 0.1},
            "training": {"max_steps": 3, "step_tokens": 600, "log_every": 1, "tensorboard": False},
            "seed": 9,
        }
    )


@pytest.fixture(scope="module")
def three(config, tmp_path_factory):
    """A folder of three seeds; not to be changed."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("runs") / "fam"
    pretrain_seeds(config, (0, 4, 2), out, device="cpu", say=said.append)
    return out, said


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1", (0,)), ("7,", (7,)), ("0, 12,3", (0, 12, 3)), ("100", tuple(range(100)))],
)
def test_seeds_are_a_list_or_a_number_of_them(text, seeds):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0", "0 is there twice"),
        ("1,01", "1 is there twice"),
        ("-1", "'-1' is not a seed"),
        ("0,-1", "'-1' is not a seed"),
        ("1.5", "'1.5' is not a seed"),
        ("five", "'five' is not a seed"),
        ("0-4", "'0-4' is not a seed"),
        ("0,,1", "'' is not a seed"),
        ("", "'' is not a seed"),
        ("²", "'²' is not a seed"),
        ("0", "would train 0 models"),
        ("42424242", "would train 42,424,242 models.*\n.*--seed 42424242"),
    ],
)
def test_wild_seeds(text, message):
    with pytest.raises(ConfigError, match=message):
        seeds_of(text)


def test_each_seed_is_the_run_it_would_be_alone(three, config, tmp_path):
    out, said = three
    assert [line for line in said if line.startswith("seed ")] == [
        f"seed {number} of 3: {out / f'seed-{seed}'}" for number, seed in enumerate((0, 4, 2), start=1)
    ]
    assert json.loads((out / FILE_NAME).read_text())["members"] == ["seed-0", "seed-2", "seed-4"]
    alone = pretrain(config.model_copy(update={"seed": 2}), tmp_path / "alone", device="cpu", say=quiet)
    run = Run.open(out / "seed-2")
    assert run.is_done
    assert run.read_config()["seed"] == 2
    for name, values in weights(run.path).items():
        assert values.equal(weights(alone.path)[name]), name
    assert not weights(out / "seed-4")["lm_head.bias"].equal(weights(run.path)["lm_head.bias"])


def test_an_interrupted_ensemble_goes_on_and_leaves_what_is_finished(three, config, tmp_path, monkeypatch):
    out, _ = three
    calls, original = [], MlmJob.loss

    def watched(self, *arguments):
        calls.append(1)
        if len(calls) == 5:  # Ctrl-C in the second step of the second seed
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(MlmJob, "loss", watched)
    with pytest.raises(Interrupted):
        pretrain_seeds(config, (0, 2), tmp_path / "fam", device="cpu", say=quiet)
    assert (tmp_path / "fam" / "seed-2" / "checkpoints").exists()
    before = (tmp_path / "fam" / "seed-0" / "DONE").stat().st_mtime_ns
    said: list[str] = []
    pretrain_seeds(config, (0, 2), tmp_path / "fam", device="cpu", say=said.append)
    assert f"seed 1 of 2: {tmp_path / 'fam' / 'seed-0'} is finished" in said
    assert (tmp_path / "fam" / "seed-0" / "DONE").stat().st_mtime_ns == before
    assert len(calls) == 6
    for name, values in weights(tmp_path / "fam" / "seed-2").items():
        assert values.equal(weights(out / "seed-2")[name]), name
    pretrain_seeds(config, (0,), tmp_path / "fam", device="cpu", force=True, say=quiet)
    assert (tmp_path / "fam" / "seed-0" / "DONE").stat().st_mtime_ns > before


def test_other_settings_beside_finished_members_are_refused(three, config):
    out, _ = three
    other = PretrainConfig.from_dict(config.model_dump(mode="json") | {"masking": {"kind": "uniform"}})
    for seeds, force in (((0,), False), ((7,), False), ((0,), True)):
        with pytest.raises(
            RunError, match=r"seed-\d was trained under other settings: masking\.\S+ \(.*changed"
        ):
            pretrain_seeds(other, seeds, out, device="cpu", force=force, say=quiet)
    assert not (out / "seed-7").exists()


def test_a_folder_that_is_something_else_is_refused(three, config, tmp_path):
    out, _ = three
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    cases = {
        out / "seed-0": "is a single Run",
        tmp_path / "notes": "is not an ensemble",
        tmp_path / "file": "is a file",
    }
    for place, message in cases.items():
        with pytest.raises(RunError, match=message):
            pretrain_seeds(config, (0, 1), place, device="cpu", say=quiet)
    with pytest.raises(RunError, match="is not a Run folder"):
        pretrain(config, out, device="cpu", say=quiet)


@pytest.fixture
def command(config, tmp_path):
    """The command with a configuration file, and more options."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def run(*more):
        arguments = ["pretrain", "--config", str(tmp_path / "config.yaml"), "--device", "cpu", *more]
        return CliRunner().invoke(app, arguments)

    return run


def test_a_dry_run_says_the_time_of_all_and_makes_nothing(command, tmp_path):
    out = tmp_path / "fam"
    answer = command("--out", str(out), "--seeds", "5", "--dry-run")
    assert answer.exit_code == 0
    assert "of 5 seeds: " in answer.stdout
    assert "seed: 0" in answer.stdout
    assert not out.exists()


def test_a_dry_run_counts_the_seeds_that_are_left(command, three):
    out, _ = three
    answer = command("--out", str(out), "--seeds", "0,4,7,8", "--dry-run")
    assert "of 2 seeds: " in answer.stdout
    assert "seed: 7" in answer.stdout
    answer = command("--out", str(out), "--seeds", "0,2", "--dry-run")
    assert "are finished" in answer.stdout
    assert not (out / "seed-7").exists()


def test_one_command_makes_a_model_that_score_takes(command, tmp_path):
    assert command("--out", str(tmp_path / "fam"), "--seeds", "2").exit_code == 0
    table = tmp_path / "scores.parquet"
    arguments = ["score", "--model", str(tmp_path / "fam"), "--wild-type", "MKTAYIAKQR", "--all-single"]
    answer = CliRunner().invoke(app, [*arguments, "--out", str(table), "--device", "cpu"])
    assert answer.exit_code == 0, answer.exception
    scores = pl.read_parquet(table)
    assert {"score", "score_fam-seed-0", "score_fam-seed-1"} <= set(scores.columns)


@pytest.mark.parametrize("more", [("--seed", "3"), ("--set", "seed=3")])
def test_one_seed_and_several_contradict_each_other(command, tmp_path, more):
    answer = command("--out", str(tmp_path / "fam"), "--seeds", "5", *more)
    assert isinstance(answer.exception, ConfigError)
    assert "--seeds and seed=3 contradict" in str(answer.exception)
