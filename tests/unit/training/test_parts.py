"""Optimiser groups, signals from a launcher, a Run that another process writes."""

import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fixtures.builders import lively_esm
from protlm.errors import RunError
from protlm.runs import Run
from protlm.training import stopping
from protlm.training.loop import _Board
from protlm.training.optim import OptimizerConfig
from protlm.training.processes import Processes
from protlm.training.stopping import StopRequest


@pytest.mark.parametrize("decay", [False, True])
def test_embeddings_are_decayed_where_asked_and_norms_and_biases_never(decay):
    model = lively_esm()
    decayed, undecayed = (
        {id(p) for p in group["params"]}
        for group in OptimizerConfig(decay_embeddings=decay).build(model).param_groups
    )
    embeddings = model.module.esm.embeddings.word_embeddings.weight
    assert (id(embeddings) in decayed) == decay
    assert not decayed & undecayed
    for parameter in model.parameters():
        if parameter.ndim < 2 and parameter.requires_grad:
            assert id(parameter) in undecayed


class TestSignals:
    def test_the_echo_of_a_launcher_is_no_second_signal(self):
        with StopRequest(is_launched=True) as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_asked

    def test_a_later_signal_is(self, monkeypatch):
        monkeypatch.setattr(stopping, "ECHO_SECONDS", 0.0)
        with StopRequest(is_launched=True), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


class TestRunOfAnotherProcess:
    def test_nothing_is_written_or_checked(self, tmp_path):
        run = Run.create(tmp_path / "run", verb="pretrain", writes=False)
        run.write_config("a: 1\n")
        run.write_json("x.json", {})
        run.log(step=1)
        run.note(device="cpu") if Run.is_run(run.path) else None
        run.finish()
        assert not (tmp_path / "run").exists()

    def test_what_the_other_wrote_is_read(self, tmp_path):
        writer = Run.create(tmp_path / "run", verb="pretrain")
        reader = Run.create(tmp_path / "run", verb="pretrain", writes=False)
        writer.log(step=1)
        writer.log(step=2)
        reader.rewind_log(1)
        reader.note(device="elsewhere")
        assert [line["step"] for line in reader.metrics()] == [1, 2]
        assert "device" not in reader.read_json("environment.json")


class FailedMain(Processes):
    """The second of two processes, the first of which failed."""

    def __init__(self):
        self.index, self.count = 1, 2

    def gather(self, value):
        return [False, value]


def test_others_stop_where_the_main_process_failed():
    with pytest.raises(RunError, match="main process failed"), FailedMain().main_first():
        pytest.fail("its work must not begin")


def test_the_events_of_lost_steps_are_void_after_a_resume(tmp_path):
    """Killed after step 4 with a checkpoint of step 2: steps 3 and 4 are done again."""
    run = Run.create(tmp_path / "run", verb="pretrain")
    for purge_step, steps, offset in ((0, (1, 2, 3, 4), 0.0), (3, (3, 4, 5), 10.0)):
        board = _Board(run, is_on=True, purge_step=purge_step)
        for step in steps:
            board.write({"step": step, "split": "train", "loss": step + offset})
        board.close()
    events = EventAccumulator(str(run.path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(1, 1), (2, 2), (3, 13), (4, 14), (5, 15)]


def test_dropout_depends_on_step_and_micro_batch_and_not_on_the_process():
    from protlm.training.loop import _Trainer

    def drawn(index, count, step, number, seed=0):
        trainer = object.__new__(_Trainer)
        trainer.seed, trainer.processes = seed, Processes(torch.device("cpu"))
        trainer.processes.index, trainer.processes.count = index, count
        trainer._seed_dropout(step, number)
        return torch.rand(4).tolist()

    assert drawn(0, 1, 5, 3) == drawn(1, 2, 5, 1)  # the fourth micro-batch of step 6
    assert len({tuple(drawn(0, 1, *place)) for place in ((5, 3), (5, 2), (4, 3))}) == 3
    assert drawn(0, 1, 5, 3) != drawn(0, 1, 5, 3, seed=1)
