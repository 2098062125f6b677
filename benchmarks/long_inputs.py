"""Memory and time against length, 512 to 4,096 tokens: full attention, Longformer, sliding windows.

    python benchmarks/long_inputs.py

One protein per batch, 8 layers, 320 wide, 20 heads, random weights, float32. Every point has a process of its
own, which tells the growth of its resident memory over the model and its gradients at rest, and the time, in
a forward pass that reads all tokens and in a step of training (forward and backward, a seventh of the tokens
read). Time is of the processor, on one thread, so that others may use the machine meanwhile. Windows are 512
tokens, 256 on each side.
"""

import ctypes
import gc
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import keep
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.architectures import EsmArchitecture
from protlm.models.longformer import to_longformer
from protlm.models.padded import padded_inputs
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record

LENGTHS = (512, 1024, 2048, 4096)
WINDOW = 512
SIZES: dict[str, Any] = {"num_layers": 8, "hidden_size": 320, "num_heads": 20, "dropout": 0.0}
START = 512
"""Positions of the RoBERTa that the Longformers come from."""

WARM_UP = 64
NOT_RUN = {("RoBERTa, all scores at once", 4096): "scores of eight layers are 11 GB, and more to learn by"}

WAYS = {
    "RoBERTa, all scores at once": "Hugging Face, attn_implementation='eager', as in 2020",
    "RoBERTa, full": "flat path, scaled dot product attention",
    "Longformer, Hugging Face": "its own call, converted from a RoBERTa of 512 tokens",
    "Longformer": "flat path by blocks, the same weights",
    "ESM rotary, full": "flat path, scaled dot product attention",
    "ESM rotary, window": "flat path by blocks",
}


def build(way: str, length: int) -> Any:
    """The model of one way, taking `length` tokens."""
    if way.startswith("ESM"):
        window = WINDOW // 2 if way.endswith("window") else None
        return EsmArchitecture.Config(**SIZES, window=window).build(seed=0)
    if way.startswith("RoBERTa"):
        return RobertaArchitecture.Config(**SIZES, max_tokens=length).build(seed=0)
    start = RobertaArchitecture.Config(**SIZES, max_tokens=START).build(seed=0)
    return to_longformer(start, max_tokens=max(START, length), window=WINDOW)


def calls(way: str, length: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A forward pass over all tokens, and a step of training on a seventh of them."""
    model = build(way, length)
    letters = np.random.default_rng(0).choice(list(STANDARD), length - 2)
    batch = collate(flatten_records([Record("one", (Chain("".join(letters)),))]), model.layout)
    rows = torch.arange(1, length - 1, 7)
    if "at once" in way:
        model.module.set_attn_implementation("eager")

    def by_hugging_face(batch: Any, rows: Any = None) -> Any:
        inputs = padded_inputs(model.module, model.layout, batch, name=way)
        own = batch.unpad(model.module(**inputs).logits)
        return own if rows is None else own[rows]

    logits = by_hugging_face if "at once" in way or "Hugging Face" in way else model.logits

    def forward() -> Any:
        with torch.inference_mode():
            return logits(batch)

    def train() -> None:
        model.zero_grad(set_to_none=False)
        torch.nn.functional.cross_entropy(logits(batch, rows), batch.tokens[rows]).backward()

    for parameter in model.parameters():  # gradients are the model's, not the input's
        parameter.grad = torch.zeros_like(parameter)
    return forward, train


def resident(name: str) -> float:
    """`VmRSS` or `VmHWM` of this process, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1024


def rest_memory() -> float:
    """Resident memory with everything given back that is not in use, in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident("VmRSS")


def point(way: str, length: int) -> dict[str, Any]:
    """Measure in this process."""
    for work in calls(way, WARM_UP):
        work()  # loads libraries and makes their buffers
    forward, train = calls(way, length)
    rest = rest_memory()
    facts: dict[str, Any] = {}
    for name, work in (("forward", forward), ("step", train)):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak so far
        begin = time.process_time()
        work()
        facts[f"{name}, s"] = round(time.process_time() - begin, 2)
        facts[f"{name}, MB"] = round(resident("VmHWM") - rest)
    return facts


def in_own_process(way: str, length: int) -> dict[str, Any]:
    """Give one point, or why there is none."""
    if (way, length) in NOT_RUN:
        return {"not run": NOT_RUN[way, length]}
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    process = fork.Process(target=lambda: answers.put(point(way, length)))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{way} at {length} tokens ended with status {process.exitcode}")
    return answers.get()


def main() -> None:
    torch.set_num_threads(1)
    points: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for length in LENGTHS:  # all ways of one length together, so that a busy machine hits them alike
        for way in WAYS:
            points[way][str(length)] = in_own_process(way, length)
            print(way, length, points[way][str(length)], file=sys.stderr)
    keep("long_inputs", {"window": WINDOW, "threads of each point": 1, "ways": WAYS, "points": points})


if __name__ == "__main__":
    main()
