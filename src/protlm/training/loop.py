"""The one training loop: accumulate, clip, step, evaluate, save, resume.

It knows neither data nor loss. A `Job` gives the micro-batches of each step and turns one into a
`LossOutput`; the loop divides by the count of the whole step, so that accumulation, and any number of
processes, give the gradient of one large batch.

Dropout is drawn from a generator that is seeded anew for each micro-batch by the number of its step and
its own, so there is no generator state to save, and who computes a micro-batch makes no difference.
"""

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import Field
from torch import Tensor, nn

from protlm.config import BaseConfig
from protlm.data.hashing import combine
from protlm.errors import Interrupted, RunError
from protlm.progress import Progress
from protlm.runs import Run
from protlm.training.checkpoint import load_checkpoint, save_checkpoint
from protlm.training.optim import OptimizerConfig
from protlm.training.processes import Processes
from protlm.training.sharding import gradients_held, is_sharded_module, whole, whole_weights, wrap
from protlm.training.stopping import StopRequest
from protlm.types.batch import LossOutput

_DROPOUT_STREAM = 201

Sums = dict[str, tuple[float, int]]
"""Named sums and their counts."""


class TrainingConfig(BaseConfig):
    """How long and how to train."""

    max_steps: int = Field(default=1000, ge=1)
    """Optimiser steps."""
    step_tokens: int = Field(default=16384, ge=1)
    """Tokens per optimiser step, special tokens included, over all processes."""
    step_records: int | None = Field(default=None, ge=1)
    """Records per optimiser step instead of tokens, as published recipes count; their lengths then vary."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass; a step is cut into as many as needed, equally many for each process.
    `null` is the whole step, or one share per process."""
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Literal["float32", "bfloat16"] = "float32"
    """``bfloat16`` is mixed precision: weights stay in float32."""
    eval_every: int = Field(default=200, ge=1)
    """Steps between evaluations."""
    save_every: int = Field(default=500, ge=1)
    """Steps between checkpoints, from which an interrupted Run resumes."""
    log_every: int = Field(default=10, ge=1)
    keep: Literal["best", "last"] = "best"
    """Which weights the Run ends with: lowest evaluation loss, or the last step."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations in a row without a lower loss; `null` trains to the last step."""
    tensorboard: bool = True
    """Also write TensorBoard events."""


class Job(Protocol):
    """What the loop trains on."""

    def steps(self, first_step: int) -> Iterator[tuple[int, list[Any]]]:
        """Give ``(step, micro-batches of this process)`` without end, from `first_step` on.

        In one step every process has equally many, and at least one.
        """
        ...

    def loss(self, model: nn.Module, micro_batch: Any) -> LossOutput:
        """Give the summed loss of one micro-batch; where it counts nothing, a 0 with a gradient."""
        ...

    def num_tokens(self, micro_batch: Any) -> int:
        """Count the tokens of a micro-batch."""
        ...

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give what else the log says when `num_steps` are done, such as scheduled settings."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, tuple[float, int]]:
        """Give sums and counts over this process's share of the held-out data; empty where there is none.

        `loss` is among them. `watched`, if it is there, decides in its place which weights are best; lower is
        better. Every process calls the model equally often.
        """
        ...

    def save_model(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Write the model into the Run, with these weights; called in the main process alone."""
        ...

    def state(self) -> dict[str, Any]:
        """Give what must survive an interruption besides weights: numbers, lists and mappings of them.

        The states of all processes are added up.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the sum of what `state` gave; called in the main process alone."""
        ...


def train(
    model: nn.Module, job: Job, settings: TrainingConfig, run: Run, *, processes: Processes, seed: int = 0
) -> None:
    """Train to the end, from the newest checkpoint if the Run has one.

    Parameters
    ----------
    model
        On the device of this process; trained in place.
    job
        Data and loss.
    settings
        How long and how.
    run
        Where metrics, checkpoints and the model go.
    processes
        All that train together.
    seed
        Of dropout.

    Raises
    ------
    RunError
        If the loss stops being a number.
    Interrupted
        If a signal stopped it; the state is saved.
    """
    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    accelerator = Accelerator(
        cpu=processes.device.type == "cpu",
        mixed_precision="bf16" if settings.precision == "bfloat16" else "no",
    )
    wrapped = wrap(model, accelerator, processes)
    optimizer = settings.optimizer.build(model)
    trainer = _Trainer(wrapped, model, optimizer, accelerator, job, settings, run, processes, seed)
    first_step = trainer.resume()
    try:
        trainer.run_from(first_step)
    finally:
        trainer.board.close()


class _Trainer:
    def __init__(
        self,
        wrapped: nn.Module,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        job: Job,
        settings: TrainingConfig,
        run: Run,
        processes: Processes,
        seed: int,
    ) -> None:
        self.wrapped, self.model, self.optimizer = wrapped, model, optimizer
        self.accelerator, self.job, self.settings, self.run_folder = accelerator, job, settings, run
        self.processes, self.seed = processes, seed
        self.best, self.num_since_best, self.meter = math.inf, 0, _Meter()
        self.board = _Board(run, is_on=False)

    def resume(self) -> int:
        """Take up the newest checkpoint, if there is one; give the steps done before."""
        restored = load_checkpoint(self.run_folder.checkpoints_path, self.model, self.optimizer)
        first_step = 0
        if restored is not None:
            first_step, self.best = restored["step"], restored["best"]
            self.num_since_best = restored.get("num_since_best", 0)
            self.meter.restore(restored["meter"])
            if self.processes.is_main:  # states are added up over processes
                self.job.restore(restored["job"])
        counts_to = first_step if restored is not None else -1
        self.run_folder.rewind_log(counts_to)
        self.board = _Board(
            self.run_folder,
            is_on=self.settings.tensorboard and self.processes.is_main,
            purge_step=counts_to + 1,
        )
        return first_step

    def run_from(self, first_step: int) -> None:
        settings, meter, done = self.settings, self.meter, first_step
        self.wrapped.train()
        progress = Progress(
            "training", settings.max_steps, unit="step", start=first_step, is_shown=self.processes.is_main
        )
        with progress, self._stop_request() as stop:
            if first_step == 0:
                self._evaluate(0)
            meter.start()
            for step, micro_batches in itertools.islice(
                self.job.steps(first_step), settings.max_steps - first_step
            ):
                meter.add(*self._step(step, micro_batches))
                done = step + 1
                is_last = done == settings.max_steps
                if done % settings.log_every == 0 or is_last:
                    self._log(done, meter)
                progress.advance(f"loss {meter.loss:.3f} · {meter.tokens_per_second:,.0f} tokens/s")
                if done % settings.eval_every == 0 or is_last:
                    self._evaluate(done)
                    meter.start()
                if self._is_out_of_patience():
                    break
                is_asked = self.processes.any(stop.is_asked)
                if not is_last and (is_asked or done % settings.save_every == 0):
                    self._save(done)
                    meter.start()
                if is_asked:
                    break
        if done < settings.max_steps and not self._is_out_of_patience():
            raise Interrupted(
                f"stopped after step {done} of {settings.max_steps}; the state is saved",
                hint="run the same command again to go on from there",
            )
        if settings.keep == "last" or math.isinf(self.best):
            self._save_model()
        state = self._job_state()
        if self.processes.is_main:
            self.job.restore(state)

    def _is_out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.num_since_best >= patience

    def _stop_request(self) -> StopRequest:
        return StopRequest(is_launched=self.processes.count > 1, is_shown=self.processes.is_main)

    def _step(self, step: int, micro_batches: list[Any]) -> tuple[Sums, int, float]:
        """Train one step; give what it sums to over all processes, its tokens, and the gradient norm."""
        rate = self.settings.optimizer.rate_at(step, self.settings.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        mine: Sums = {}
        for number, micro_batch in enumerate(micro_batches):
            self._seed_dropout(step, number)
            hold = number < len(micro_batches) - 1
            with (
                self.accelerator.autocast(),
                torch.enable_grad(),
                gradients_held(self.wrapped, self.accelerator, hold=hold),
            ):
                output = self.job.loss(self.wrapped, micro_batch)
                self.accelerator.backward(output.loss)
            if output.count:
                _accumulate(mine, {"loss": (output.loss.item(), output.count), **output.parts})
        num_tokens = sum(self.job.num_tokens(each) for each in micro_batches)
        sums, num_tokens = self._over_processes(mine, num_tokens)
        if not sums:  # so few residues that none was selected
            return {}, num_tokens, 0.0
        total, count = sums["loss"]
        if not math.isfinite(total):
            raise RunError(
                f"the loss became {total} at step {step + 1}",
                hint="lower training.optimizer.learning_rate or raise warmup_steps, and pass --force",
            )
        # processes average their gradients
        norm = self._scale_and_clip(self.processes.count / count)
        self.optimizer.step()
        return sums, num_tokens, norm

    def _seed_dropout(self, step: int, number: int) -> None:
        number = number * self.processes.count + self.processes.index
        drawn = combine(self.seed, _DROPOUT_STREAM, step, np.array([number]))
        torch.manual_seed(int(drawn[0]))

    def _scale_and_clip(self, factor: float) -> float:
        """Turn the summed gradient into that of the mean; give its norm before clipping."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        for parameter in parameters:
            parameter.grad.mul_(factor)  # type: ignore[union-attr]
        limit = self.settings.optimizer.clip_norm
        return float(whole(nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)))

    def _over_processes(self, sums: Sums, num_tokens: int = 0) -> tuple[Sums, int]:
        merged: Sums = {}
        total = 0
        for each, tokens in self.processes.gather((sums, num_tokens)):
            _accumulate(merged, each)
            total += tokens
        return merged, total

    def _log(self, step: int, meter: "_Meter") -> None:
        rate = self.settings.optimizer.rate_at(step - 1, self.settings.max_steps)
        values = {"step": step, "split": "train", **meter.take(), "learning_rate": rate}
        values |= self.job.facts(step)
        self._write(values)

    def _evaluate(self, step: int) -> None:
        # sharded parameters are put together for the pass, which inference mode does not allow
        no_gradients = torch.no_grad() if is_sharded_module(self.model) else torch.inference_mode()
        self.wrapped.eval()
        with no_gradients, self.accelerator.autocast():
            sums, _ = self._over_processes(self.job.evaluate(self.model))
        self.wrapped.train()
        if not sums:
            return
        metrics = {name: total / count for name, (total, count) in sums.items()}
        watched = metrics.get("watched", metrics["loss"])
        self._write({"step": step, "split": "eval", **metrics})
        self.num_since_best += 1
        if watched < self.best:
            self.best, self.num_since_best = watched, 0
            if self.settings.keep == "best":
                self._save_model()

    def _save_model(self) -> None:
        weights = whole_weights(self.model)
        if self.processes.is_main:
            self.job.save_model(self.model, weights)

    def _write(self, values: dict[str, Any]) -> None:
        self.run_folder.log(**values)
        self.board.write(values)

    def _save(self, step: int) -> None:
        state = {
            "best": self.best,
            "num_since_best": self.num_since_best,
            "job": self._job_state(),
            "meter": self.meter.state(),
        }
        save_checkpoint(
            self.run_folder.checkpoints_path,
            step,
            self.model,
            self.optimizer,
            state,
            writes=self.processes.is_main,
        )
        self.processes.gather(None)  # none goes on before the state is safe

    def _job_state(self) -> dict[str, Any]:
        first, *others = self.processes.gather(self.job.state())
        for other in others:
            first = _added(first, other)
        return first


class _Meter:
    """Sums since the last log line."""

    def __init__(self) -> None:
        self.loss = self.tokens_per_second = math.nan
        self._reset()
        self.start()

    def _reset(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._tokens, self._norm, self._steps, self._seconds = 0, 0.0, 0, 0.0

    def start(self) -> None:
        """Count time from now on: what came since the last step was no training."""
        self._since = time.perf_counter()

    def add(self, sums: dict[str, tuple[float, int]], num_tokens: int, norm: float) -> None:
        _accumulate(self._sums, sums)
        self._tokens += num_tokens
        self._norm += norm
        self._steps += 1
        total, count = self._sums.get("loss", (math.nan, 1))
        self.loss = total / count
        self._seconds += time.perf_counter() - self._since
        self.tokens_per_second = self._tokens / self._seconds
        self.start()

    def take(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self._sums.items()}
        means |= {
            "grad_norm": self._norm / self._steps,
            "tokens": self._tokens,
            "tokens_per_second": self.tokens_per_second,
        }
        self._reset()
        return means

    def state(self) -> dict[str, Any]:
        """Give the sums since the last log line as plain values, so that a resumed line is whole."""
        sums = {name: list(pair) for name, pair in self._sums.items()}
        facts = {"tokens": self._tokens, "norm": self._norm, "steps": self._steps, "seconds": self._seconds}
        return {"sums": sums, **facts}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        self._tokens, self._norm, self._steps = state["tokens"], state["norm"], state["steps"]
        self._seconds = state["seconds"]


class _Board:
    """TensorBoard events, where wanted."""

    def __init__(self, run: Run, *, is_on: bool, purge_step: int = 0) -> None:
        self._writer = None
        if is_on:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            # events from this step on, of a process that was killed after its last checkpoint, are void
            self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=purge_step)

    def write(self, values: dict[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{values['split']}/{name}", value, values["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _accumulate(sums: Sums, more: Mapping[str, tuple[float, int]]) -> None:
    for name, (total, count) in more.items():
        old_total, old_count = sums.get(name, (0.0, 0))
        sums[name] = (old_total + total, old_count + count)


def _added(one: Any, other: Any) -> Any:
    """Add two nested structures of numbers of one shape; a mapping may lack keys that the other has."""
    if isinstance(one, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        return {
            key: _added(one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
            for key in keys
        }
    if isinstance(one, list):
        return [_added(a, b) for a, b in zip(one, other, strict=True)]
    return one + other
