"""Shared by the benchmarks: time two ways in turns in one run, keep the ratio with the machine."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import EsmConfig, EsmForMaskedLM

from protlm.data.layout import esm_layout
from protlm.models.language_model import LanguageModel
from protlm.runs import environment

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared" / "data"
"""The developers' real data; every benchmark can run on simulated input instead."""


def in_turns(
    ways: dict[str, Callable[[], Any]],
    *,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each way once per round, in turns, after one untimed warm-up each; seconds of a clock."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            begin = clock()
            way()
            seconds[name].append(clock() - begin)
    return seconds


def ratio(seconds: dict[str, list[float]], plain: str, ours: str) -> dict[str, float]:
    """Median ratio over the rounds, and its spread."""
    ratios = [a / b for a, b in zip(seconds[plain], seconds[ours], strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def ratio_of(ours: list[float], plain: list[float]) -> dict[str, float]:
    """Median ratio of two rates over the rounds, and its spread."""
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def matmul_ceiling(dtype: torch.dtype) -> float:
    """Best rate of a large square matrix product here, in GFLOP/s."""
    a = torch.randn(2048, 2048).to(dtype)
    best = 0.0
    for _ in range(6):
        begin = time.perf_counter()
        _ = a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
    return best


def esm2_8m() -> LanguageModel:
    """A model of the 8M ESM-2 shape with random weights: 6 layers, 320 wide, 20 heads."""
    torch.manual_seed(0)
    layout = esm_layout()
    config = EsmConfig(
        vocab_size=33,
        mask_token_id=layout.mask_id,
        pad_token_id=layout.pad_id,
        hidden_size=320,
        num_hidden_layers=6,
        num_attention_heads=20,
        intermediate_size=1280,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        initializer_range=0.1,  # large enough that scores spread
    )
    return LanguageModel(EsmForMaskedLM(config).eval(), layout, name="esm2-8m-shape")


def keep(name: str, result: dict[str, Any]) -> None:
    """Print a result and write it with the machine to results/NAME.json."""
    machine = environment("benchmark")
    facts = {
        "measured": datetime.now(UTC).date().isoformat(),
        "processor": machine["processor"],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": machine["versions"],
        "commit": _head(),
        **result,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    print(f"written to {path.relative_to(HERE.parent)}", file=sys.stderr)


def _head() -> str:
    answer = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()
