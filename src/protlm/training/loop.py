"""The one training loop: accumulate, clip, step, evaluate, save, resume.

It knows neither data nor loss. A `Job` gives the micro-batches of each step and turns one into a
`LossOutput`; the loop divides by the count of the whole step, so that accumulation, and any number of
processes, give the gradient of one large batch.
"""

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import Field
from torch import nn

from protlm.config import BaseConfig
from protlm.errors import Interrupted, RunError
from protlm.progress import Progress
from protlm.runs import Run
from protlm.training.checkpoint import load_checkpoint, save_checkpoint
from protlm.training.optim import OptimizerConfig
from protlm.training.stopping import StopRequest
from protlm.types.batch import LossOutput


class TrainingConfig(BaseConfig):
    """How long and how to train."""

    max_steps: int = Field(default=1000, ge=1)
    """Optimiser steps."""
    step_tokens: int = Field(default=16384, ge=1)
    """Tokens per optimiser step, special tokens included, over all processes."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Tokens per forward pass; a step is cut into as many as needed. `null` is the whole step."""
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
    tensorboard: bool = True
    """Also write TensorBoard events."""


class Job(Protocol):
    """What the loop trains on."""

    def steps(self, first_step: int) -> Iterator[tuple[int, list[Any]]]:
        """Give ``(step, micro-batches)`` without end, from `first_step` on."""
        ...

    def loss(self, model: nn.Module, micro_batch: Any) -> LossOutput:
        """Give the summed loss of one micro-batch."""
        ...

    def num_tokens(self, micro_batch: Any) -> int:
        """Count the tokens of a micro-batch."""
        ...

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give what else the log says when `num_steps` are done, such as scheduled settings."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Give metrics on held-out data, `loss` among them; empty where there is none."""
        ...

    def save_model(self, model: nn.Module) -> None:
        """Write the model into the Run."""
        ...

    def state(self) -> dict[str, Any]:
        """Give what must survive an interruption besides weights, as plain values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        ...


def train(model: nn.Module, job: Job, settings: TrainingConfig, run: Run, *, device: torch.device) -> None:
    """Train to the end, from the newest checkpoint if the Run has one.

    Parameters
    ----------
    model
        Trained in place.
    job
        Data and loss.
    settings
        How long and how.
    run
        Where metrics, checkpoints and the model go.
    device
        Where to run when not launched by `accelerate`.

    Raises
    ------
    RunError
        If the loss stops being a number.
    """
    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    accelerator = Accelerator(
        cpu=device.type == "cpu", mixed_precision="bf16" if settings.precision == "bfloat16" else "no"
    )
    optimizer = settings.optimizer.build(model)
    restored = load_checkpoint(run.checkpoints_path, model, optimizer)
    first_step, best, meter = 0, math.inf, _Meter()
    if restored is not None:
        first_step, best = restored["step"], restored["best"]
        job.restore(restored["job"])
        meter.restore(restored["meter"])
    run.rewind_log(first_step if restored is not None else -1)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    trainer = _Trainer(wrapped, model, optimizer, accelerator, job, settings, run, best, meter)
    try:
        trainer.run_from(first_step)
    finally:
        trainer.board.close()


class _Trainer:
    def __init__(
        self,
        wrapped: nn.Module,
        model: nn.Module,
        optimizer: Any,
        accelerator: Accelerator,
        job: Job,
        settings: TrainingConfig,
        run: Run,
        best: float,
        meter: "_Meter",
    ) -> None:
        self.wrapped, self.model, self.optimizer = wrapped, model, optimizer
        self.accelerator, self.job, self.settings, self.run_folder = accelerator, job, settings, run
        self.best, self.meter = best, meter
        self.board = _Board(run, enabled=settings.tensorboard and accelerator.is_main_process)

    def run_from(self, first_step: int) -> None:
        settings, meter, done = self.settings, self.meter, first_step
        self.wrapped.train()
        progress = Progress("training", settings.max_steps, unit="step", start=first_step)
        with progress, StopRequest() as stop:
            if first_step == 0:
                self._evaluate(0)
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
                if not is_last and (stop.is_asked or done % settings.save_every == 0):
                    self._save(done)
                if stop.is_asked:
                    break
        if done < settings.max_steps:
            raise Interrupted(
                f"stopped after step {done} of {settings.max_steps}; the state is saved",
                hint="run the same command again to go on from there",
            )
        if settings.keep == "last" or math.isinf(self.best):
            self.job.save_model(self.model)

    def _step(self, step: int, micro_batches: list[Any]) -> tuple[dict[str, tuple[float, int]], int, float]:
        accelerator = self.accelerator
        if not micro_batches:  # so few residues that none was selected
            return {}, 0, 0.0
        rate = self.settings.optimizer.rate_at(step, self.settings.max_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        mine, weights = _share(micro_batches, accelerator.process_index, accelerator.num_processes)
        sums: dict[str, tuple[float, int]] = {}
        for number, (micro_batch, weight) in enumerate(zip(mine, weights, strict=True)):
            is_last = number == len(mine) - 1
            with (
                accelerator.autocast(),
                torch.enable_grad(),
                _maybe_no_sync(accelerator, self.wrapped, not is_last),
            ):
                output = self.job.loss(self.wrapped, micro_batch)
                accelerator.backward(output.loss * weight)
            if weight:
                _accumulate(sums, {"loss": (output.loss.item(), output.count), **output.parts})
        sums = _over_processes(sums, accelerator)
        total, count = sums["loss"]
        if not math.isfinite(total):
            raise RunError(
                f"the loss became {total} at step {step + 1}",
                hint="lower training.optimizer.learning_rate or raise warmup_steps, and pass --force",
            )
        norm = self._scale_and_clip(accelerator.num_processes / count)
        self.optimizer.step()
        num_tokens = sum(self.job.num_tokens(each) for each in micro_batches)
        return sums, num_tokens, norm

    def _scale_and_clip(self, factor: float) -> float:
        """Turn the summed gradient into that of the mean; give its norm before clipping."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        for parameter in parameters:
            parameter.grad.mul_(factor)  # type: ignore[union-attr]
        limit = self.settings.optimizer.clip_norm
        return float(nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit))

    def _log(self, step: int, meter: "_Meter") -> None:
        rate = self.settings.optimizer.rate_at(step - 1, self.settings.max_steps)
        values = {
            "step": step,
            "split": "train",
            **meter.take(),
            "learning_rate": rate,
            **self.job.facts(step),
        }
        self._write(values)

    def _evaluate(self, step: int) -> None:
        self.wrapped.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            metrics = self.job.evaluate(self.model)
        self.wrapped.train()
        if not metrics:
            return
        self._write({"step": step, "split": "eval", **metrics})
        if metrics["loss"] < self.best:
            self.best = metrics["loss"]
            if self.settings.keep == "best" and self.accelerator.is_main_process:
                self.job.save_model(self.model)

    def _write(self, values: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.run_folder.log(**values)
            self.board.write(values)

    def _save(self, step: int) -> None:
        if self.accelerator.is_main_process:
            optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
            state = {"best": self.best, "job": self.job.state(), "meter": self.meter.state()}
            save_checkpoint(self.run_folder.checkpoints_path, step, self.model, optimizer, state)
        self.accelerator.wait_for_everyone()


class _Meter:
    """Sums since the last log line."""

    def __init__(self) -> None:
        self.loss = self.tokens_per_second = math.nan
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._tokens, self._norm, self._steps = 0, 0.0, 0
        self._start = time.perf_counter()

    def add(self, sums: dict[str, tuple[float, int]], num_tokens: int, norm: float) -> None:
        _accumulate(self._sums, sums)
        self._tokens += num_tokens
        self._norm += norm
        self._steps += 1
        total, count = self._sums.get("loss", (math.nan, 1))
        self.loss = total / count
        self.tokens_per_second = self._tokens / (time.perf_counter() - self._start)

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
        return {"sums": sums, "tokens": self._tokens, "norm": self._norm, "steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        self._tokens, self._norm, self._steps = state["tokens"], state["norm"], state["steps"]


class _Board:
    """TensorBoard events, where wanted."""

    def __init__(self, run: Run, *, enabled: bool) -> None:
        self._writer = None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(str(run.path / "tensorboard"))

    def write(self, values: dict[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{values['split']}/{name}", value, values["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _share(micro_batches: list[Any], rank: int, world: int) -> tuple[list[Any], list[float]]:
    """Deal micro-batches out to processes; one without work in the last round repeats one for nothing."""
    rounds = -(-len(micro_batches) // world)
    indices = [number * world + rank for number in range(rounds)]
    weights = [1.0 if index < len(micro_batches) else 0.0 for index in indices]
    return [micro_batches[min(index, len(micro_batches) - 1)] for index in indices], weights


def _maybe_no_sync(accelerator: Accelerator, module: nn.Module, hold: bool) -> Any:
    return accelerator.no_sync(module) if hold else torch.enable_grad()


def _accumulate(sums: dict[str, tuple[float, int]], more: Mapping[str, tuple[float, int]]) -> None:
    for name, (total, count) in more.items():
        old_total, old_count = sums.get(name, (0.0, 0))
        sums[name] = (old_total + total, old_count + count)


def _over_processes(
    sums: dict[str, tuple[float, int]], accelerator: Accelerator
) -> dict[str, tuple[float, int]]:
    if accelerator.num_processes == 1:
        return sums
    from accelerate.utils import gather_object

    merged: dict[str, tuple[float, int]] = {}
    for each in gather_object([sums]):
        _accumulate(merged, each)
    return merged
