"""Accumulation, interruption and input order leave no trace in the trained weights."""

import json
import signal
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from fixtures.builders import random_records
from protlm.data.corpus import Corpus, write_corpus
from protlm.data.numbering import number_records
from protlm.data.sampling import StepSampler, budget_batches
from protlm.data.simulate import simulate_repertoire
from protlm.errors import Interrupted, RunError
from protlm.evaluation.baselines import TABLES as BASELINE_TABLES
from protlm.recipes.pretrain import DataConfig, PretrainConfig, pretrain
from protlm.runs import Run
from protlm.training.checkpoint import save_checkpoint
from protlm.training.loop import _Trainer
from protlm.training.mlm_job import MlmJob, token_lengths

STEPS = 6
TIMES = {"tokens_per_second"}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    records = list(number_records(simulate_repertoire(60, seed=1), receptor="antibody"))
    return {
        "train": str(write_corpus(folder / "train", records[:50]).path),
        "shuffled": str(write_corpus(folder / "shuffled", records[49::-1]).path),
        "eval": str(write_corpus(folder / "eval", records[50:]).path),
    }


@pytest.fixture(scope="module")
def config_of(corpora):
    def build(*, train="train", dropout=0.0, model=None, masking="region", seed=3, **training):
        training = {
            "max_steps": STEPS,
            "step_tokens": 2500,
            "eval_every": 2,
            "save_every": 2,
            "log_every": 1,
            "keep": "last",
            "tensorboard": False,
            "optimizer": {"warmup_steps": 2, "learning_rate": 1e-2},
            **training,
        }
        sizes = {"kind": "esm", "num_layers": 2, "hidden_size": 8, "num_heads": 2, "token_dropout": True}
        return PretrainConfig.from_dict(
            {
                "data": {"train": corpora[train], "eval": corpora["eval"]},
                "model": {**sizes, "dropout": dropout, **(model or {})},
                "masking": masking,
                "training": training,
                "seed": seed,
            }
        )

    return build


def run(config, out, **options):
    return pretrain(config, out, device="cpu", say=lambda _: None, **options)


def weights(finished):
    return load_file(finished.model_path / "model.safetensors")


def metrics(finished):
    """Metric lines without what the clock says."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in finished.metrics()]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_close(one, other, atol):
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=0, msg=name)


class Killed(BaseException):
    """Stands for the end of the process: nothing is saved after it."""


def kill():
    raise Killed


def at_call(monkeypatch, owner, name, number, action):
    """Do something just before the n-th call of a method, once."""
    calls, original = [], getattr(owner, name)

    def watched(*args, **kwargs):
        calls.append(name)
        if len(calls) == number:
            action()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, watched)
    return calls


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def run_interrupted(config, out):
    """Run into the interruption, then give the same command again."""
    with pytest.raises(
        Interrupted, match=r"stopped after step \d of 6; the state is saved\n.*same command again"
    ):
        run(config, out)
    assert not Run.open(out).is_done
    return run(config, out)


class TestAccumulation:
    @pytest.mark.parametrize("micro_tokens", [1, 700], ids=["one record at a time", "a few at a time"])
    def test_small_micro_batches_give_the_weights_of_one_batch(self, config_of, tmp_path, micro_tokens):
        whole = run(config_of(), tmp_path / "whole")
        parts = run(config_of(micro_tokens=micro_tokens), tmp_path / "parts")
        assert_close(weights(whole), weights(parts), atol=1e-6)
        for one, other in zip(metrics(whole), metrics(parts), strict=True):
            assert one == pytest.approx(other, abs=1e-4)

    def test_training_moves_the_weights_far_more_than_that(self, config_of, tmp_path):
        short, longer = run(config_of(max_steps=1), tmp_path / "1"), run(config_of(), tmp_path / "6")
        name = "esm.encoder.layer.0.attention.self.query.weight"
        assert (weights(short)[name] - weights(longer)[name]).abs().max() > 1e-2

    def test_the_loss_is_the_mean_over_masked_residues_and_not_over_micro_batches(self, config_of, tmp_path):
        """Micro-batches of one record have different counts; a mean of their means would differ."""
        parts = run(config_of(micro_tokens=1, max_steps=1), tmp_path / "parts")
        whole = run(config_of(max_steps=1), tmp_path / "whole")
        one, other = (
            next(line for line in metrics(each) if line["split"] == "train") for each in (parts, whole)
        )
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_the_order_of_the_input_does_not_matter(config_of, tmp_path):
    one, other = run(config_of(), tmp_path / "one"), run(config_of(train="shuffled"), tmp_path / "other")
    assert_same_bits(weights(one), weights(other))
    assert metrics(one) == metrics(other)


def test_the_same_settings_give_the_same_bits_and_another_seed_does_not(config_of, tmp_path):
    one, same = (run(config_of(dropout=0.1), tmp_path / name) for name in ("one", "same"))
    other = run(config_of(dropout=0.1, seed=4), tmp_path / "other")
    assert_same_bits(weights(one), weights(same))
    assert metrics(one) == metrics(same)
    assert not torch.equal(
        weights(one)["esm.embeddings.word_embeddings.weight"],
        weights(other)["esm.embeddings.word_embeddings.weight"],
    )


INTERRUPTIONS = {
    "in the first evaluation": (MlmJob, "evaluate", 1),
    "while the data of step 1 are made": (MlmJob, "_corrupted", 1),
    "while the data of step 4 are made": (MlmJob, "_corrupted", 7),
    "in the forward pass of step 4": (MlmJob, "loss", 14),
    "before the optimiser of step 4": (_Trainer, "_scale_and_clip", 4),
    "while step 4 is logged": (_Trainer, "_log", 4),
    "in the evaluation after step 4": (MlmJob, "evaluate", 3),
    "while step 4 is saved": (_Trainer, "_save", 2),
}


class TestInterruption:
    @pytest.fixture(scope="class")
    def config(self, config_of):
        return config_of(dropout=0.2, micro_tokens=1300)

    @pytest.fixture(scope="class")
    def expected(self, config, tmp_path_factory):
        return run(config, tmp_path_factory.mktemp("expected") / "uninterrupted")

    @pytest.mark.parametrize("when", INTERRUPTIONS)
    def test_an_interrupted_and_resumed_run_has_the_bits_of_an_uninterrupted_one(
        self, config, expected, tmp_path, monkeypatch, when
    ):
        calls = at_call(monkeypatch, *INTERRUPTIONS[when], press_ctrl_c)
        resumed = run_interrupted(config, tmp_path / "interrupted")
        assert len(calls) >= INTERRUPTIONS[when][2]
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)
        assert_same_tables(expected, resumed)

    def test_without_dropout_too(self, config_of, tmp_path, monkeypatch):
        expected = run(config_of(), tmp_path / "uninterrupted")
        at_call(monkeypatch, MlmJob, "loss", 3, press_ctrl_c)
        resumed = run_interrupted(config_of(), tmp_path / "interrupted")
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)

    def test_a_run_that_a_cluster_stops_goes_on_too(self, config, expected, tmp_path, monkeypatch):
        at_call(monkeypatch, MlmJob, "loss", 14, lambda: signal.raise_signal(signal.SIGTERM))
        assert_same_bits(weights(expected), weights(run_interrupted(config, tmp_path / "interrupted")))

    def test_several_interruptions_leave_no_trace_either(self, config, expected, tmp_path, monkeypatch):
        calls = at_call(monkeypatch, _Trainer, "_log", 2, press_ctrl_c)
        with pytest.raises(Interrupted, match="after step 2"):
            run(config, tmp_path / "interrupted")
        at_call(monkeypatch, _Trainer, "_log", 2, press_ctrl_c)
        resumed = run_interrupted(config, tmp_path / "interrupted")
        assert len(calls) == STEPS
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)

    def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_counts(
        self, config, expected, tmp_path, monkeypatch
    ):
        at_call(monkeypatch, _Trainer, "_scale_and_clip", 4, lambda: (press_ctrl_c(), press_ctrl_c()))
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "interrupted")
        assert [path.name for path in (tmp_path / "interrupted/checkpoints").iterdir()] == ["step-000000002"]
        resumed = run(config, tmp_path / "interrupted")
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)
        assert_same_tables(expected, resumed)

    def test_signals_are_handled_as_before_once_training_is_over(self, config_of, tmp_path):
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        run(config_of(max_steps=1), tmp_path / "run")
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before

    def test_a_killed_run_goes_on_from_its_last_checkpoint(self, config, expected, tmp_path, monkeypatch):
        """Step 5 was done and logged after the checkpoint of step 4; it is done again, and logged once."""
        at_call(monkeypatch, _Trainer, "_scale_and_clip", 6, kill)
        with pytest.raises(Killed):
            run(config, tmp_path / "killed")
        assert [path.name for path in (tmp_path / "killed/checkpoints").iterdir()] == ["step-000000004"]
        assert max(line["step"] for line in metrics(Run(tmp_path / "killed"))) == 5
        resumed = run(config, tmp_path / "killed")
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)
        assert_same_tables(expected, resumed)

    def test_a_run_killed_before_its_first_checkpoint_starts_over_cleanly(
        self, config_of, tmp_path, monkeypatch
    ):
        config = config_of(save_every=100)
        expected = run(config, tmp_path / "uninterrupted")
        at_call(monkeypatch, _Trainer, "_scale_and_clip", 4, kill)
        with pytest.raises(Killed):
            run(config, tmp_path / "killed")
        resumed = run(config, tmp_path / "killed")
        assert_same_bits(weights(expected), weights(resumed))
        assert metrics(resumed) == metrics(expected)

    def test_a_run_killed_while_a_line_was_written_has_whole_lines(
        self, config, expected, tmp_path, monkeypatch
    ):
        at_call(monkeypatch, _Trainer, "_scale_and_clip", 6, kill)
        with pytest.raises(Killed):
            run(config, tmp_path / "killed")
        log = tmp_path / "killed/metrics.jsonl"
        log.write_text(log.read_text()[:-20])
        assert metrics(run(config, tmp_path / "killed")) == metrics(expected)

    def test_the_best_model_so_far_survives(self, config_of, tmp_path, monkeypatch):
        config = config_of(keep="best", dropout=0.1)
        expected = run(config, tmp_path / "uninterrupted")
        at_call(monkeypatch, MlmJob, "_corrupted", 5, press_ctrl_c)
        resumed = run_interrupted(config, tmp_path / "interrupted")
        assert_same_bits(weights(expected), weights(resumed))

    def test_metrics_have_each_step_once(self, config, tmp_path, monkeypatch):
        at_call(monkeypatch, MlmJob, "_corrupted", 7, press_ctrl_c)
        resumed = run_interrupted(config, tmp_path / "interrupted")
        lines = [json.loads(line) for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
        steps = [(line["split"], line["step"]) for line in lines]
        assert steps == sorted(steps, key=lambda each: (each[1], each[0] == "eval"))
        assert Counter(steps) == Counter(
            [("train", step) for step in range(1, STEPS + 1)]
            + [("eval", step) for step in range(0, STEPS + 1, 2)]
        )

    def test_a_checkpoint_that_was_cut_short_is_not_used(self, config, expected, tmp_path, monkeypatch):
        at_call(monkeypatch, MlmJob, "_corrupted", 7, press_ctrl_c)
        with pytest.raises(Interrupted, match="after step 4"):
            run(config, tmp_path / "interrupted")
        part = tmp_path / "interrupted/checkpoints/step-000000005.part"
        part.mkdir()
        (part / "model.safetensors").write_bytes(b"half")
        assert_same_bits(weights(expected), weights(run(config, tmp_path / "interrupted")))

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"seed": 9}, "seed"),
            ({"micro_tokens": 600}, "training"),
            ({"masking": "uniform"}, "masking"),
            ({"model": {"num_layers": 1}}, "model"),
            ({"train": "shuffled"}, "data"),
        ],
        ids=str,
    )
    def test_resuming_under_other_settings_is_refused(self, config_of, tmp_path, monkeypatch, change, named):
        at_call(monkeypatch, MlmJob, "_corrupted", 2, press_ctrl_c)
        with pytest.raises(Interrupted, match="after step 2"):
            run(config_of(), tmp_path / "run")
        before = (tmp_path / "run/config.yaml").read_text()
        with pytest.raises(RunError, match=rf"under other settings: {named}.* changed\n.*--force"):
            run(config_of(**change), tmp_path / "run")
        assert (tmp_path / "run/config.yaml").read_text() == before
        assert run(config_of(**change), tmp_path / "run", force=True).is_done


@pytest.mark.parametrize("sizes", [{"step_tokens": 12}, {"step_tokens": 200, "micro_tokens": 8}], ids=str)
def test_batches_so_small_that_nothing_is_masked_in_some_do_no_harm(config_of, tmp_path, sizes):
    """Peptides of 3 to 8 residues: nothing is selected in more than half of them."""
    peptides = write_corpus(tmp_path / "peptides", random_records(20, lengths=(3, 9), pairs=False))
    config = config_of(masking="uniform", max_steps=12, **sizes).model_copy(
        update={"data": DataConfig(train=str(peptides.path))}
    )
    finished = run(config, tmp_path / "run")
    losses = [line["loss"] for line in metrics(finished) if "loss" in line]
    assert losses
    assert np.isfinite(losses).all()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(finished).values())


def test_runs_of_different_precision_follow_each_other_in_one_process(config_of, tmp_path):
    plain = run(config_of(max_steps=1), tmp_path / "float32")
    mixed = run(config_of(max_steps=1, precision="bfloat16"), tmp_path / "bfloat16")
    assert {tensor.dtype for tensor in weights(mixed).values()} == {torch.float32}
    one, other = (metrics(each)[0]["loss"] for each in (plain, mixed))
    assert one != other
    assert one == pytest.approx(other, abs=0.05)


def assert_same_tables(one, other):
    assert one.tables().keys() == other.tables().keys() != set()
    for name, path in one.tables().items():
        assert pl.read_parquet(path).equals(pl.read_parquet(other.tables()[name])), name


class TestFinishedRun:
    def test_is_refused_without_force_and_left_alone(self, config_of, tmp_path):
        finished = run(config_of(max_steps=1), tmp_path / "run")
        files = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match=r"holds a finished 'pretrain' Run\n.*--force"):
            run(config_of(max_steps=1), tmp_path / "run")
        assert {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()} == files

    def test_starts_over_with_force(self, config_of, tmp_path):
        run(config_of(max_steps=2), tmp_path / "run")
        again = run(config_of(max_steps=3), tmp_path / "run", force=True)
        fresh = run(config_of(max_steps=3), tmp_path / "fresh")
        assert metrics(again) == metrics(fresh)
        assert_same_bits(weights(again), weights(fresh))

    def test_holds_what_a_report_needs(self, config_of, tmp_path):
        finished = run(config_of(max_steps=1), tmp_path / "run")
        names = {path.name for path in finished.path.iterdir()}
        assert {
            "config.yaml",
            "environment.json",
            "metrics.jsonl",
            "data_manifest.json",
            "model",
            "DONE",
        } <= names
        assert set(finished.tables()) == {"masking_rates", *BASELINE_TABLES}

    def test_tables_the_masking_rates_it_asked_for_and_saw(self, config_of, tmp_path):
        """Asked: CDR3 0.25 and 0.15 over all, exactly; seen: within 4.5 standard deviations."""
        finished = run(config_of(), tmp_path / "run")
        table = {row["region"]: row for row in pl.read_parquet(finished.tables()["masking_rates"]).to_dicts()}
        assert table["CDR3"]["asked"] == pytest.approx(0.25, abs=1e-9)
        assert table["all"]["asked"] == pytest.approx(0.15, abs=1e-9)
        for row in table.values():
            deviation = (row["asked"] * (1 - row["asked"]) / row["n_residues"]) ** 0.5
            assert abs(row["observed"] - row["asked"]) < 4.5 * deviation


def test_a_checkpoint_keeps_only_the_newest(tmp_path):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    for step in (2, 10, 9_999):
        save_checkpoint(tmp_path, step, module, optimizer, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000009999"]


class TestSampler:
    @pytest.fixture
    def sampler(self):
        random = np.random.default_rng(0)
        keys = random.integers(0, 2**63, 500).astype(np.uint64)
        return StepSampler(random.integers(5, 60, 500), keys, step_tokens=300, seed=2, pool_steps=4)

    @staticmethod
    def by_key(sampler, epoch):
        return [sorted(sampler.keys[step].tolist()) for step in sampler.epoch(epoch)]

    def test_every_record_is_in_exactly_one_step_of_an_epoch(self, sampler):
        for epoch in range(3):
            rows = np.concatenate(sampler.epoch(epoch))
            assert np.sort(rows).tolist() == list(range(500))

    def test_no_step_is_over_the_budget_and_few_are_far_below(self, sampler):
        sums = np.array([sampler.lengths[step].sum() for step in sampler.epoch(0)])
        assert sums.max() <= 300
        assert sums.mean() > 225
        assert sums.min() > 150

    def test_a_record_over_the_budget_has_a_step_of_its_own(self):
        sampler = StepSampler(np.array([10, 900, 10]), np.arange(3, dtype=np.uint64), step_tokens=100)
        assert sorted(step.tolist() for step in sampler.epoch(0)) in (
            [[0, 2], [1]],
            [[1], [2, 0]],
            [[0], [1], [2]],
        )

    def test_the_order_of_the_records_does_not_matter(self, sampler):
        order = np.random.default_rng(1).permutation(500)
        moved = StepSampler(sampler.lengths[order], sampler.keys[order], 300, seed=2, pool_steps=4)
        for epoch in range(2):
            assert self.by_key(moved, epoch) == self.by_key(sampler, epoch)

    def test_records_of_a_step_differ_little_in_length(self, sampler):
        spreads = [np.ptp(sampler.lengths[step]) for step in sampler.epoch(0)]
        assert np.mean(spreads) < 0.5 * np.ptp(sampler.lengths)

    def test_epochs_and_seeds_differ(self, sampler):
        other = StepSampler(sampler.lengths, sampler.keys, 300, seed=3, pool_steps=4)
        assert self.by_key(sampler, 0) != self.by_key(sampler, 1)
        assert self.by_key(sampler, 0) != self.by_key(other, 0)
        assert self.by_key(sampler, 0) == self.by_key(sampler, 0)

    def test_steps_do_not_come_in_the_order_of_length(self, sampler):
        means = [sampler.lengths[step].mean() for step in sampler.epoch(0)]
        rises = sum(one < other for one, other in pairwise(means))
        assert 0.25 < rises / (len(means) - 1) < 0.75

    def test_starting_later_gives_the_tail(self, sampler):
        per_epoch = len(sampler.epoch(0))
        plain = [(step, epoch, rows.tolist()) for step, epoch, rows in islice(sampler.steps(), 3 * per_epoch)]
        assert [step for step, _, _ in plain] == list(range(3 * per_epoch))
        assert {epoch for _, epoch, _ in plain} >= {0, 1, 2}
        for first in (0, 1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch + 3):
            tail = islice(sampler.steps(first), 3 * per_epoch - first)
            assert [(step, epoch, rows.tolist()) for step, epoch, rows in tail] == plain[first:]

    def test_the_sampler_of_a_job_counts_special_tokens(self, corpora, tiny_model):
        corpus = Corpus(corpora["train"])
        lengths = token_lengths(corpus, tiny_model.layout)
        assert lengths.tolist() == [len(corpus.record(row)) + 4 for row in range(len(corpus))]

    @pytest.mark.parametrize("budget", [1, 50, 10**9])
    def test_budget_batches_hold_every_item_once_within_the_budget(self, budget):
        lengths = np.random.default_rng(0).integers(1, 40, 200)
        batches = budget_batches(lengths, budget)
        assert np.sort(np.concatenate(batches)).tolist() == list(range(200))
        assert all(lengths[batch].sum() <= budget or len(batch) == 1 for batch in batches)
        assert (np.diff(lengths[np.concatenate(batches)]) >= 0).all()
