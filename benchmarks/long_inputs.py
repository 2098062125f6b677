"""Memory and time against length, 512 to 4,096 tokens: full attention, Longformer, sliding windows.

    python benchmarks/long_inputs.py [ROUNDS]

One protein per batch, 8 layers, 320 wide, 20 heads, random weights, float32. Every point has a process of its
own, which tells the growth of its resident memory over the model and its gradients at rest, and the time, in
a forward pass that reads all tokens and in a step of training (forward and backward, a seventh of the tokens
read). Time is of the processor, on one thread, the best of the rounds: others may use the machine meanwhile.
Windows are 512 tokens, 256 on each side.
"""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LENGTHS = (512, 1024, 2048, 4096)
WINDOW = 512
SIZES: dict[str, Any] = {"num_layers": 8, "hidden_size": 320, "num_heads": 20, "dropout": 0.0}
START = 512
"""Positions of the RoBERTa that the Longformers come from."""

WARM_UP = 512

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
    from protlm.models.architecture_roberta import RobertaArchitecture
    from protlm.models.architectures import EsmArchitecture
    from protlm.models.longformer import to_longformer

    if way.startswith("ESM"):
        window = WINDOW // 2 if way.endswith("window") else None
        return EsmArchitecture.Config(**SIZES, window=window).build(seed=0)
    if way.startswith("RoBERTa"):
        return RobertaArchitecture.Config(**SIZES, max_tokens=length).build(seed=0)
    start = RobertaArchitecture.Config(**SIZES, max_tokens=START).build(seed=0)
    return to_longformer(start, max_tokens=length, window=WINDOW)


def calls(way: str, length: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A forward pass over all tokens, and a step of training on a seventh of them."""
    import numpy as np
    import torch

    from protlm.data.collate import collate
    from protlm.data.flat import flatten_records
    from protlm.models.padded import padded_inputs
    from protlm.types.alphabet import STANDARD
    from protlm.types.record import Chain, Record

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


def point(way: str, length: int, rounds: int) -> None:
    """Measure in this process, and print as JSON."""
    for work in calls(way, WARM_UP):
        work()  # loads libraries and makes their buffers
    forward, train = calls(way, length)
    rest = rest_memory()
    facts: dict[str, Any] = {}
    for name, work in (("forward", forward), ("step", train)):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak so far
        seconds = []
        for _ in range(rounds):
            begin = time.process_time()
            work()
            seconds.append(time.process_time() - begin)
        facts[f"{name}, MB"] = round(resident("VmHWM") - rest)
        facts[f"{name}, s"] = round(min(seconds), 2)
    print(json.dumps(facts))


def main(rounds: int) -> None:
    points: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for length in LENGTHS:  # all ways of one length together, so that a busy machine hits them alike
        for way in WAYS:
            words = [sys.executable, __file__, "--point", way, str(length), str(rounds)]
            answer = subprocess.run(
                words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            points[way][str(length)] = json.loads(answer.stdout)
            print(way, length, points[way][str(length)], file=sys.stderr)
    from measuring import keep

    keep("long_inputs", {"window": WINDOW, "ways": WAYS, "points": points})


if __name__ == "__main__":
    if "--point" in sys.argv:
        point(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
