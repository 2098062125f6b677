"""pretrain --dry-run: what a configuration would do, without its memory or its time."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from protlm.models.adaptation import num_trained
from protlm.models.language_model import LanguageModel
from protlm.models.loading import pick_device
from protlm.progress import duration
from protlm.recipes.pretrain import Parts, PretrainConfig, Say, assemble, counted
from protlm.runs import Run
from protlm.training.processes import Processes, distribution, num_launched
from protlm.types.batch import Corrupted

TIMED_TOKENS = 1024
"""Tokens of the passes that are timed."""


def dry_run(config: PretrainConfig, out: Path | str, *, device: str, num_runs: int = 1, say: Say) -> str:
    """Describe what a configuration would do, without training; leaves no Run behind.

    A new model is laid out without its weights, and one and two of its layers are timed, so that a model
    of any size is described in seconds.

    Parameters
    ----------
    config
        What to do.
    out
        Where the Run would go; only its name is used.
    device
        Where to train.
    num_runs
        How many such Runs there will be, one after the other.
    say
        Tells the user what happens.

    Returns
    -------
    str
        Resolved settings, sizes, estimated time, and a masked record decoded.
    """
    place = pick_device(device)
    shared_by = distribution()
    is_new = hasattr(config.model, "num_layers")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / Path(out).name, verb="pretrain")
        alone = Processes(place, launched=1)
        on = torch.device("meta") if is_new else place
        parts = assemble(config, run, processes=alone, say=say, build_on=on)
        _, micro_batches = next(parts.job.steps(0))
        size = _size(config, parts)
        seconds, computation = _time(config, parts, micro_batches[0], place)
        seconds *= size.tokens / num_launched()
        # forward 2, gradients of the layers' inputs 2, and of the weights that are trained 2
        flops = (4 * parts.model.num_parameters + 2 * num_trained(parts.model)) * size.tokens
        return "\n".join(
            [
                config.dump(),
                f"size: {counted(parts.model)}",
                f"computation: {computation}",
                f"distribution: {shared_by}",
                f"tokens per step: {size.step_tokens:,.0f} in {len(micro_batches)} micro-batches",
                f"tokens in all: {size.tokens:,.0f}, {size.epochs:.2f} epochs",
                f"arithmetic in all: {flops:.2e} FLOP (6 × parameters × tokens where all are trained)",
                f"estimated time: {duration(seconds)} (from a few layers timed here)",
                *([f"of {num_runs} seeds: {duration(num_runs * seconds)}"] if num_runs > 1 else []),
                f"first records of the first batch, masked {_unit(parts.model)} in lower case or as _:",
                *_decoded(micro_batches[0], parts.model),
            ]
        )


@dataclass(frozen=True)
class _Size:
    step_tokens: float
    tokens: float
    epochs: float


def _size(config: PretrainConfig, parts: Parts) -> _Size:
    training, sources = config.training, parts.job.sources
    step_tokens = float(training.step_tokens)
    if training.step_records is not None:
        step_tokens = training.step_records * sources.num_tokens / sources.num_records
    tokens = step_tokens * training.max_steps
    return _Size(step_tokens, tokens, tokens / sources.num_tokens)


def _time(config: PretrainConfig, parts: Parts, first: Corrupted, place: torch.device) -> tuple[float, str]:
    """Give the seconds per token of a forward and backward pass, and the name of the computation."""
    few = _few_sequences(first)
    num_layers = getattr(config.model, "num_layers", 0)
    if num_layers == 0:  # the weights exist
        return _seconds(parts, parts.model, few, config), parts.model.path
    times = []
    for count in (1, 2):
        model = config.model.model_copy(update={"num_layers": count}).build(seed=0)  # type: ignore[attr-defined]
        config.adapt.apply(model, seed=0)  # type: ignore[attr-defined]
        model = model.to(place)
        times.append(_seconds(parts, model, few, config))
    one, two = times
    return one + (num_layers - 1) * max(two - one, 0.0), model.path


def _seconds(parts: Parts, model: LanguageModel, few: Corrupted, config: PretrainConfig) -> float:
    best = float("inf")
    is_mixed = config.training.precision == "bfloat16"
    for _ in range(2):  # the first warms up
        begin = time.perf_counter()
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=is_mixed):
            loss = parts.job.loss(model, few).loss
        loss.backward()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best / len(few.batch.tokens)


def _few_sequences(first: Corrupted) -> Corrupted:
    count = max(1, int(torch.searchsorted(first.batch.offsets, TIMED_TOKENS, right=True)) - 1)
    count = min(count, first.batch.num_sequences)
    is_kept = first.rows < int(first.batch.offsets[count])
    return Corrupted(first.batch.select(np.arange(count)), first.rows[is_kept], first.targets[is_kept])


def _unit(model: LanguageModel) -> str:
    return "residues" if model.layout.is_residue_level else "sub-words"


def _decoded(first: Corrupted, model: LanguageModel, most: int = 3) -> list[str]:
    batch, rows, targets = first.batch, first.rows, first.targets
    tokens = [model.layout.tokens[index] for index in batch.tokens.tolist()]
    for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
        tokens[row] = "_" if tokens[row] == model.layout.mask else model.layout.tokens[target].lower()
    sequences = batch.sequence_index.tolist()
    most = min(most, batch.num_sequences)
    joint = model.layout.joint
    return [
        "  " + joint.join(t for t, s in zip(tokens, sequences, strict=True) if s == i) for i in range(most)
    ]
