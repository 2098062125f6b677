"""Mean embeddings of a proteome with a model of the 8M ESM-2 shape, against one at a time.

    python benchmarks/embed_proteins.py [SEQUENCES.fasta[.gz]] [HOW_MANY]

The plain way is `EsmModel` from Hugging Face in float32, one sequence at a time, mean over the residues.
Memory is measured in processes of their own: the growth of the peak over a quarter and over all of the
sequences at one token budget, and at a budget four times as large.
"""

import copy
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from measuring import SHARED, esm2_8m, keep, ratio
from protlm.data.readers import InputPolicy, iterate_records
from protlm.models.embed import embed_records
from protlm.models.language_model import LanguageModel
from protlm.types.record import Record

SLICES = 3
"""The proteins are dealt out to this many slices; each is timed all ways before the next."""

LONGEST = 1022
"""Longer proteins are left out, as they would be for ESM-1b; the plain way gets the same ones."""


def main(source: Path, how_many: int) -> None:
    records = read(source, how_many)
    slices = [records[start::SLICES] for start in range(SLICES)]
    ours = esm2_8m()
    half = LanguageModel(copy.deepcopy(ours.module), ours.layout, name="bfloat16").cast("bfloat16")
    layout = ours.layout

    def plain(records: list[Record]) -> np.ndarray:
        means = []
        with torch.inference_mode():
            for record in records:
                ids = layout.residue_ids[np.frombuffer(record.chains[0].residues.encode(), dtype=np.uint8)]
                tokens = torch.tensor([[0, *ids.tolist(), 2]])
                hidden = ours.module.esm(input_ids=tokens).last_hidden_state
                means.append(hidden[0, 1:-1].mean(0).numpy())
        return np.stack(means)

    def engine(model: LanguageModel, records: list[Record]) -> np.ndarray:
        return np.stack([states[0] for states in embed_records(model, records)])

    ways = {
        "plain": plain,
        "float32": lambda records: engine(ours, records),
        "bfloat16": lambda records: engine(half, records),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for way in ways.values():
        way(records[:50])  # warms up
    for part in slices:  # in turns, so that what else the machine does falls on all ways alike
        for name, way in ways.items():
            begin = time.perf_counter()
            kept[name].append(way(part))
            seconds[name].append(time.perf_counter() - begin)
    means = {name: np.concatenate(parts) for name, parts in kept.items()}
    residues = sum(map(len, records))
    keep(
        "embed_proteins",
        {
            "input": source.name,
            "sequences": len(records),
            "residues": residues,
            "seconds": {name: sum(times) for name, times in seconds.items()},
            "residues_per_second": {name: residues / sum(times) for name, times in seconds.items()},
            "ratio, float32": ratio(seconds, "plain", "float32"),
            "ratio, bfloat16": ratio(seconds, "plain", "bfloat16"),
            "largest difference, float32": float(np.abs(means["float32"] - means["plain"]).max()),
            "lowest cosine, bfloat16": float(_cosines(means["bfloat16"], means["plain"]).min()),
            "peak memory growth, MB": {
                f"{len(records) // 4} sequences, 4,096 tokens": _memory(source, how_many // 4, 4096),
                f"{len(records)} sequences, 4,096 tokens": _memory(source, how_many, 4096),
                f"{len(records) // 4} sequences, 16,384 tokens": _memory(source, how_many // 4, 16384),
            },
        },
    )


def read(source: Path, how_many: int) -> list[Record]:
    stream = iterate_records(source, policy=InputPolicy(invalid="drop", duplicate_ids="rename"))
    short = [record for record in stream if len(record) <= LONGEST]
    return short[:: max(1, len(short) // how_many)][:how_many]  # spread evenly over the file


def _cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)


def _memory(source: Path, how_many: int, max_tokens: int) -> float:
    words = [sys.executable, __file__, str(source), str(how_many), "--memory", str(max_tokens)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def _print_memory(source: Path, how_many: int, max_tokens: int) -> None:
    records, model = read(source, how_many), esm2_8m()
    embed_records(model, records[:2], max_tokens=256)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    embed_records(model, records, max_tokens=max_tokens)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - resident / 1e6)


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED / "general_sequences/yeast_swissprot.fasta.gz"
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 6000
    if "--memory" in sys.argv:
        _print_memory(path, number, int(sys.argv[-1]))
    else:
        main(path, number)
