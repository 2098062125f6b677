"""Memory of a contrastive step, while the pairs that are told apart in it grow 16-fold.

    python benchmarks/gradient_cache.py

`ContrastiveJob`'s own batch and loss, forward and backward, on simulated backbones of 64 residues: once as
one chunk, once in chunks of 16 pairs (``training.micro_tokens``). Both towers are trained and have fresh
weights. Every step has a process of its own; memory is how much the peak grew over that of a step of two
pairs. It is what is held: the allocator is told to give every freed tensor back at once. As it is, it keeps
some between the chunks, which stands beside. Losses, and gradients weight by weight, of the two ways are
compared at every size. One thread.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from many_variants import peak
from measuring import keep
from protlm.data.structure_pairs import StructurePairs, record_of
from protlm.models.architectures import EsmArchitecture
from protlm.models.dual_tower import DualTower
from protlm.models.projection import ProjectionConfig, TemperatureConfig
from protlm.models.structure_encoder import new_structure_encoder
from protlm.models.towers import SequenceTower, StructureTower
from protlm.objectives.contrastive import Contrastive
from protlm.runs import Run
from protlm.training.contrastive_job import ContrastiveJob
from protlm.training.loop import TrainingConfig
from protlm.training.processes import Processes
from protlm.types.alphabet import STANDARD
from protlm.types.structure import Backbone

SIZES = (32, 64, 128, 256, 512)
RESIDUES = 64
CHUNK_PAIRS = 16
WHOLE = SIZES[-1] * (RESIDUES + 1)
"""Residues that hold any of the batches."""
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc give back tensors when they are freed."""


def main() -> None:
    steps: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            files = [Path(name) / f"{way}.safetensors" for way in ("chunks", "one")]
            chunks = in_a_process(size, CHUNK_PAIRS * RESIDUES, files[0], AT_ONCE)
            one = in_a_process(size, WHOLE, files[1], AT_ONCE)
            found = differences(*files)
            kept = in_a_process(size, CHUNK_PAIRS * RESIDUES, files[0], {})
            ways = {"chunks": chunks, "one chunk": one, "chunks, allocator as it is": kept}
            steps[f"{size} pairs"] = {**ways, "differences": found}
    first, last = steps[f"{SIZES[0]} pairs"], steps[f"{SIZES[-1]} pairs"]
    result = {
        "steps": steps,
        f"memory of {SIZES[-1]} pairs against {SIZES[0]}": {
            way: growth(first[way], last[way]) for way in first if way != "differences"
        },
        f"one chunk against chunks, memory at {SIZES[-1]} pairs": growth(last["chunks"], last["one chunk"]),
    }
    torch.set_num_threads(1)
    keep("gradient_cache", result)


def growth(before: dict[str, float], after: dict[str, float]) -> float:
    key = "peak memory grew by, MB"
    return after[key] / before[key]


def in_a_process(size: int, micro_tokens: int, gradients: Path, settings: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, str(size), str(micro_tokens), str(gradients)]
    environment = {**os.environ, **settings}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(answer.stdout.strip().rpartition("\n")[2])


def differences(one: Path, other: Path) -> dict[str, float]:
    """Compare mean losses and gradients; the latter beside the largest gradient of all."""
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    loss = abs(float(left.pop("loss") - right.pop("loss")))
    return {
        "loss": loss,
        "gradient": max(float((left[name] - right[name]).abs().max()) for name in left),
        "largest gradient": max(float(each.abs().max()) for each in left.values()),
    }


def step(size: int, micro_tokens: int, gradients: Path) -> None:
    torch.set_num_threads(1)
    model = towers().train()
    backward(model, 2, micro_tokens)  # what is loaded once does not count
    model.zero_grad(set_to_none=True)
    before, begin = peak(), time.process_time()
    loss, num_chunks = backward(model, size, micro_tokens)
    seconds, grown = time.process_time() - begin, peak() - before
    found = {name: each.grad / size for name, each in model.named_parameters() if each.grad is not None}
    save_file({**found, "loss": loss / size}, gradients)
    print(
        json.dumps(
            {"chunks": num_chunks, "peak memory grew by, MB": grown, "seconds of the processor": seconds}
        )
    )


def backward(model: DualTower, size: int, micro_tokens: int) -> tuple[torch.Tensor, int]:
    """Do a step but for the optimiser; give the loss summed over pairs, and the number of chunks."""
    job = ContrastiveJob(
        train=simulated_pairs(size),
        valid=None,
        objective=Contrastive(),
        model=model,
        settings=TrainingConfig(step_records=size, micro_tokens=micro_tokens),
        run=Run("none"),
        processes=Processes(torch.device("cpu"), launched=1),
        seed=0,
    )
    _, (batch,) = next(job.steps(0))
    output = job.loss(model, batch)
    output.loss.backward()
    return output.loss.detach(), len(batch.sequences)


def towers() -> DualTower:
    """Two small towers; without dropout, which is drawn per chunk."""
    torch.manual_seed(0)
    language = EsmArchitecture.Config(num_layers=2, hidden_size=64, num_heads=4).build(seed=0)
    arguments = {"hidden_dim": 32, "num_decoder_layers": 0, "k_neighbors": 16, "dropout": 0.0}
    head = ProjectionConfig(dim=64)
    return DualTower(
        SequenceTower(language, "mean"),
        StructureTower(new_structure_encoder("protein-mpnn", arguments), is_trained=True),
        sequence_head=head,
        structure_head=head,
        temperature=TemperatureConfig(),
    )


def simulated_pairs(size: int) -> StructurePairs:
    random = np.random.default_rng(0)
    backbones = [helix(f"h{number}", random) for number in range(size)]
    numbers = np.arange(size)
    records = [record_of(backbone) for backbone in backbones]
    return StructurePairs(records, backbones, numbers // 2, numbers.astype(np.uint64))


def helix(name: str, random: np.random.Generator) -> Backbone:
    """Make a helix with noise and a random sequence."""
    turn = np.arange(RESIDUES * 4) * np.deg2rad(25)
    atoms = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 0.375 * np.arange(RESIDUES * 4)], axis=1)
    atoms = (atoms + random.normal(size=atoms.shape) * 0.2).reshape(RESIDUES, 4, 3).astype(np.float32)
    residues = "".join(random.choice(list(STANDARD), RESIDUES))
    return Backbone(name, residues, atoms, np.zeros(RESIDUES, dtype=np.int64), ("A",))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        step(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
