"""One training step on paired antibodies, in residues per second, against the published script's way.

    python benchmarks/train_step.py [PAIRS.csv[.gz]]

The plain way is that of Hugging Face's Trainer with the published collator: every pair padded to 320
tokens, selection probabilities per token made beforehand, `EsmForMaskedLM`, AdamW, clipping. Ours trains
the same model on the same pairs through the loop's own parts: flat tokens, region masking, the last layer
and the head at the selected rows. Each way is timed from the prepared data to the finished optimiser step.
Also: the share of each part of a step of ours, from one profiled step.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from measuring import in_turns, keep, ratio
from protlm.data.corpus import Corpus, write_corpus
from protlm.data.numbering import number_records
from protlm.data.readers import iterate_records
from protlm.data.simulate import simulate_repertoire
from protlm.masking.policies import RegionMasking
from protlm.models.architectures import EsmArchitecture
from protlm.models.language_model import LanguageModel
from protlm.runs import Run
from protlm.training.loop import TrainingConfig, _Trainer
from protlm.training.mlm_job import MlmJob
from protlm.training.processes import Processes
from protlm.training.sources import Source
from protlm.types.regions import Region

PAIRS_PER_STEP, NUM_STEPS, PADDED = 16, 1, 320
SIZES = {"num_layers": 6, "hidden_size": 256, "num_heads": 8, "max_tokens": PADDED, "dropout": 0.1}
"""4.8 M parameters."""
RATE = 1e-4
IGNORED = -100


def main(source: Path | None) -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        records = simulate_repertoire(PAIRS_PER_STEP * NUM_STEPS, seed=5) if source is None else None
        pairs = number_records(records or iterate_records(source), receptor="antibody")
        corpus = write_corpus(Path(folder) / "corpus", list(pairs)[: PAIRS_PER_STEP * NUM_STEPS])
        residues = int(corpus.lengths.sum())
        result = {
            "input": "simulated pairs" if source is None else source.name,
            "load average before": os.getloadavg()[0],
            "pairs": len(corpus),
            "residues": residues,
            "parameters": _model().num_parameters,
            "padding share at 320": 1 - (residues + 4 * len(corpus)) / (PADDED * len(corpus)),
        }
        ways = {
            f"{name}, {precision}": way(corpus, Path(folder), precision)
            for precision in ("float32", "bfloat16")
            for name, way in (("plain", plain_way), ("ours", our_way))
        }
        seconds = in_turns(ways, rounds=3)
        result["residues_per_second"] = {name: residues / min(times) for name, times in seconds.items()}
        for ours, plain in (
            ("ours, float32", "plain, float32"),
            ("ours, bfloat16", "plain, float32"),
            ("ours, bfloat16", "plain, bfloat16"),
            ("ours, bfloat16", "ours, float32"),
        ):
            result[f"ratio, {ours} over {plain}"] = ratio(seconds, plain, ours)
        result["shares of our step"] = {
            precision: _profiled(ways[f"ours, {precision}"]) for precision in ("float32", "bfloat16")
        }
        keep("train_step", result)


def _model() -> LanguageModel:
    return EsmArchitecture.Config(**SIZES).build(seed=0)


def our_way(corpus: Corpus, folder: Path, precision: str):
    """Give a call that trains over the corpus once, by the loop's own step."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    settings = TrainingConfig(step_records=PAIRS_PER_STEP, precision=precision, tensorboard=False)
    run = Run.create(folder / precision, verb="pretrain")
    model, processes = _model(), Processes(torch.device("cpu"))
    job = MlmJob(
        sources=[Source("pairs", corpus, np.arange(len(corpus)))],
        evaluation=None,
        masking=RegionMasking(region_rates={Region.CDR3: 0.25}, mean_rate=0.15),
        model=model,
        settings=settings,
        run=run,
        corruption=_corruption(),
        seed=0,
    )
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if precision == "bfloat16" else "no")
    optimizer = settings.optimizer.build(model)
    wrapped = accelerator.prepare_model(model)
    trainer = _Trainer(wrapped, model, optimizer, accelerator, job, settings, run, processes, seed=0)
    wrapped.train()

    def train() -> None:
        for (step, batches), _ in zip(job.steps(0), range(NUM_STEPS), strict=False):
            trainer._step(step, batches)

    return train


def _corruption():
    from protlm.masking.corrupt import CorruptionConfig

    return CorruptionConfig()


def plain_way(corpus: Corpus, folder: Path, precision: str):
    """Give a call that trains over the corpus once as Trainer and the published collator do."""
    del folder
    model = _model()
    layout, module = model.layout, model.module
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-6)
    examples = _examples(corpus, model)

    def train() -> None:
        for start in range(0, len(examples), PAIRS_PER_STEP):
            tokens, attention, labels = _collated(examples[start : start + PAIRS_PER_STEP], layout)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                output = module(input_ids=tokens, attention_mask=attention, labels=labels)
            output.loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return train


def _examples(corpus: Corpus, model: LanguageModel) -> list[dict[str, torch.Tensor]]:
    """Tokens padded to 320 and selection probabilities, per pair, as made before the training."""
    ids, examples = model.layout.ids, []
    for row in range(len(corpus)):
        heavy, light = (chain for chain in corpus.record(row).chains)
        text = ["<cls>", *heavy.residues, "<cls>", "<cls>", *light.residues, "<eos>"]
        is_cdr3 = [False]
        for chain, after in ((heavy, 2), (light, 1)):
            is_cdr3 += [*(chain.tracks["region"] == Region.CDR3).tolist(), *([False] * after)]
        share = sum(is_cdr3) / (len(text) - 4)
        other = (0.15 - share * 0.25) / (1 - share)
        probabilities = torch.zeros(PADDED, dtype=torch.float64)
        probabilities[: len(text)] = torch.tensor([0.25 if each else other for each in is_cdr3])
        tokens = torch.full((PADDED,), model.layout.pad_id)
        tokens[: len(text)] = torch.tensor([ids[token] for token in text])
        examples.append({"tokens": tokens, "probabilities": probabilities})
    return examples


def _collated(examples: list[dict[str, torch.Tensor]], layout) -> tuple[torch.Tensor, ...]:
    """Draw and corrupt as the published collator: Bernoulli per token, 80 / 10 / 10."""
    tokens = torch.stack([each["tokens"] for each in examples])
    probabilities = torch.stack([each["probabilities"] for each in examples])
    is_special = torch.zeros_like(tokens, dtype=torch.bool)
    for token in ("<cls>", "<eos>", "<pad>"):
        is_special |= tokens == layout.ids[token]
    chosen = torch.bernoulli(probabilities.masked_fill(is_special, 0.0)).bool()
    labels = tokens.masked_fill(~chosen, IGNORED)
    attention = (tokens != layout.pad_id).long()
    hidden = torch.bernoulli(torch.full(tokens.shape, 0.8)).bool() & chosen
    tokens = tokens.masked_fill(hidden, layout.mask_id)
    random = torch.bernoulli(torch.full(tokens.shape, 0.5)).bool() & chosen & ~hidden
    tokens = torch.where(random, torch.randint(len(layout.tokens), tokens.shape), tokens)
    return tokens, attention, labels


def _profiled(train) -> dict[str, float]:
    """Share of the time of our steps by operator, the largest ones, children not counted."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        begin = time.perf_counter()
        train()
        total = time.perf_counter() - begin
    events = sorted(profiler.key_averages(), key=lambda each: -each.self_cpu_time_total)
    return {each.key: each.self_cpu_time_total / 1e6 / total for each in events[:14]}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
