"""Training steps on proteins of mixed lengths, in residues per second, against three ways of padding.

    python benchmarks/packed_training.py [PROTEINS.fasta[.gz]]
    python benchmarks/packed_training.py --device cuda

The 8M ESM-2 shape, proteins cut to 1,022 residues, 15 % masked; a step is forward, backward, clipping and
AdamW, over 8 proteins or their mean number of tokens. The padded ways are `EsmForMaskedLM` with
`DataCollatorForLanguageModeling` on sequences tokenised beforehand: padded to 1,024; to the longest of a
random batch; to the longest of a batch of Hugging Face's `LengthGroupedSampler`. Ours is the loop's own step,
from the corpus on disk: flat tokens, the last layer and the head at the selected rows; ``packed, all rows``
leaves that last thing out and says what packing alone gives.

Every way has its own batches of a whole epoch. A round takes a few of each way, spread evenly over the
lengths of its epoch and others in each round, in turns; rates are residues over seconds of one round.

On a GPU: ours against the three, bfloat16, at the 650M, 150M and 35M shapes, tokens per second and
utilisation.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import DataCollatorForLanguageModeling
from transformers.trainer_pt_utils import LengthGroupedSampler

from measuring import SHARED, keep, ratio_of
from protlm.data.corpus import Corpus, write_corpus
from protlm.data.readers import iterate_records
from protlm.masking.corrupt import CorruptionConfig
from protlm.masking.policies import UniformMasking
from protlm.models.architectures import EsmArchitecture
from protlm.models.language_model import LanguageModel
from protlm.models.tokenizers import tokenizer_of
from protlm.runs import Run
from protlm.training.loop import TrainingConfig, _Trainer
from protlm.training.mlm_job import MlmJob
from protlm.training.processes import Processes
from protlm.training.sources import Source
from protlm.types.record import Chain, Record

INPUT = SHARED / "general_sequences" / "nr_10k.fasta.gz"
LONGEST, PADDED = 1022, 1024
RECORDS_PER_STEP = 8
CPU_SHAPE = {"num_layers": 6, "hidden_size": 320, "num_heads": 20}
GPU_SHAPES = {
    "650M": {"num_layers": 33, "hidden_size": 1280, "num_heads": 20},
    "150M": {"num_layers": 30, "hidden_size": 640, "num_heads": 20},
    "35M": {"num_layers": 12, "hidden_size": 480, "num_heads": 20},
}
PEAK_FLOPS = 989e12
"""Dense bfloat16 of an H100 or H200."""
ASKED = {"padded to 1,024": 2.2, "random batches": 1.4, "length-grouped": 1.0}


@dataclass(frozen=True)
class Way:
    """One way to train, with all batches of an epoch in order of their mean length."""

    batches: Sequence[Any]
    residues: Callable[[Any], int]
    train: Callable[[Any], None]
    padding_share: float
    """Of the tokens of the whole epoch."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=2, help="of each way in a round")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU")
    source = arguments.source or (INPUT if INPUT.exists() else None)
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", map(_cut, _records(source)))
        result: dict[str, Any] = {
            "input": "simulated" if source is None else source.name,
            "proteins": len(corpus),
            "residues": int(corpus.lengths.sum()),
            "records per step": RECORDS_PER_STEP,
        }
        if arguments.device == "cpu":
            torch.set_num_threads(arguments.threads)
            result["load average before"] = os.getloadavg()[0]
            measured = _measured(corpus, Path(folder), CPU_SHAPE, arguments, records=RECORDS_PER_STEP)
            keep("packed_training", {**result, **measured})
            return
        for name, shape in GPU_SHAPES.items():
            measured = _measured(corpus, Path(folder) / name, shape, arguments, records=128)
            result[name] = {**measured, **_utilisation(measured, shape, corpus)}
        result["accelerator"] = torch.cuda.get_device_name()
        keep("packed_training_gpu", {**result, "records per step": 128})


def _records(source: Path | None) -> list[Record]:
    if source is not None:
        return list(iterate_records(source))
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5.6, 0.7, 4000), 30, 5000).astype(int)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    return [
        Record(f"p{number}", (Chain("".join(random.choice(letters, length))),))
        for number, length in enumerate(lengths)
    ]


def _cut(record: Record) -> Record:
    (chain,) = record.chains
    return Record(record.id, (Chain(chain.residues[:LONGEST]),))


def _measured(
    corpus: Corpus, folder: Path, shape: dict[str, int], arguments: argparse.Namespace, *, records: int
) -> dict[str, Any]:
    device = torch.device(arguments.device)

    def model() -> LanguageModel:
        return EsmArchitecture.Config(**shape, token_dropout=True).build(seed=0).to(device)

    examples = _examples(corpus, model())
    ways = {
        "packed": our_way(corpus, model(), folder / "packed", records=records),
        "packed, all rows": our_way(corpus, model(), folder / "all", records=records, all_rows=True),
        "padded to 1,024": padded_way(examples, model(), _shuffled(examples, records), to=PADDED),
        "random batches": padded_way(examples, model(), _shuffled(examples, records)),
        "length-grouped": padded_way(examples, model(), _grouped(examples, records)),
    }
    rates, seconds = _in_rounds(ways, arguments.rounds, arguments.batches, device)
    ours = rates["packed"]
    ratios = {f"ratio, packed over {name}": ratio_of(ours, rates[name]) for name in rates if name != "packed"}
    for name, least in ASKED.items():
        ratios[f"ratio, packed over {name}"]["asked"] = least
    return {
        "parameters": model().num_parameters,
        "computation": model().path,
        "rounds": arguments.rounds,
        "batches of each way in a round": arguments.batches,
        "median residues per second": {name: float(np.median(each)) for name, each in rates.items()},
        "padding share": {name: way.padding_share for name, way in ways.items()},
        **ratios,
        "seconds": seconds,
    }


def _in_rounds(
    ways: dict[str, Way], rounds: int, per_round: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Give residues per second of each way by round, and the seconds of all rounds."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way.train(way.batches[len(way.batches) // 2])
    # each round at other quantiles of the lengths, all rounds together evenly over them
    offsets = (np.random.default_rng(0).permutation(rounds) + 0.5) / rounds
    for offset in offsets:
        for name, way in ways.items():
            places = ((np.arange(per_round) + offset) / per_round * len(way.batches)).astype(int)
            chosen = [way.batches[place] for place in places]
            _wait(device)
            begin = time.perf_counter()
            for batch in chosen:
                way.train(batch)
            _wait(device)
            taken = time.perf_counter() - begin
            rates[name].append(sum(map(way.residues, chosen)) / taken)
            seconds[name] += taken
        print({name: round(each[-1]) for name, each in rates.items()}, file=sys.stderr)
    return rates, seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def our_way(
    corpus: Corpus, model: LanguageModel, folder: Path, *, records: int, all_rows: bool = False
) -> Way:
    """Give the loop's own steps, over as many tokens as `records` have on average."""
    from accelerate.state import AcceleratorState

    on_gpu = model.device.type == "cuda"
    lengths = corpus.lengths + 2
    settings = TrainingConfig(
        step_tokens=round(records * float(lengths.mean())),
        precision="bfloat16" if on_gpu else "float32",
        tensorboard=False,
    )
    run, processes = Run.create(folder, verb="pretrain"), Processes(model.device)
    job = MlmJob(
        sources=[Source("proteins", corpus, np.arange(len(corpus)))],
        evaluation=None,
        masking=UniformMasking(mean_rate=0.15),
        model=model,
        settings=settings,
        run=run,
        corruption=CorruptionConfig(),
        seed=0,
    )
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if on_gpu else "no")
    optimizer = settings.optimizer.build(model)
    wrapped = accelerator.prepare_model(_AllRows(model) if all_rows else model)
    trainer = _Trainer(wrapped, model, optimizer, accelerator, job, settings, run, processes, seed=0)
    wrapped.train()
    steps = job.sources.samplers[0].epoch(0)
    order = np.argsort([lengths[rows].mean() for rows in steps])

    def train(step: int) -> None:
        for number, batches in islice(job.steps(step), 1):
            trainer._step(number, batches)

    return Way(order.tolist(), lambda step: int(corpus.lengths[steps[step]].sum()), train, 0.0)


class _AllRows(nn.Module):
    """A model that computes all rows of the last layer and picks afterwards."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any, rows: torch.Tensor) -> torch.Tensor:
        return self.model(batch)[rows]


def padded_way(
    examples: list[dict[str, list[int]]],
    model: LanguageModel,
    batches: list[list[int]],
    *,
    to: int | None = None,
) -> Way:
    """Give steps as Hugging Face's Trainer makes them, with its own collator."""
    module, device = model.module, model.device
    settings = TrainingConfig()
    optimizer = settings.optimizer.build(module)
    module.train()
    collator = DataCollatorForLanguageModeling(tokenizer_of(module, model.layout), mlm_probability=0.15)
    if to is not None:
        examples = [_padded(each, to, model.layout.pad_id) for each in examples]
    lengths = np.array([sum(each["attention_mask"]) for each in examples])

    def train(batch: list[int]) -> None:
        inputs = {name: values.to(device) for name, values in collator([examples[i] for i in batch]).items()}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = module(**inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    slots = sum((to or int(lengths[batch].max())) * len(batch) for batch in batches)
    return Way(
        sorted(batches, key=lambda batch: lengths[batch].mean()),
        lambda batch: int(lengths[batch].sum()) - 2 * len(batch),
        train,
        1 - int(lengths.sum()) / slots,
    )


def _examples(corpus: Corpus, model: LanguageModel) -> list[dict[str, list[int]]]:
    tokenizer = tokenizer_of(model.module, model.layout)
    texts = [corpus.record(row).chains[0].residues for row in range(len(corpus))]
    tokens = tokenizer(texts)["input_ids"]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in tokens]


def _padded(example: dict[str, list[int]], length: int, pad_id: int) -> dict[str, list[int]]:
    ids = example["input_ids"]
    missing = length - len(ids)
    return {
        "input_ids": ids + [pad_id] * missing,
        "attention_mask": [1] * len(ids) + [0] * missing,
        # as a tokenizer that is asked for padding gives it; otherwise the collator masks padding too
        "special_tokens_mask": [1, *[0] * (len(ids) - 2), 1, *[1] * missing],
    }


def _shuffled(examples: list[Any], size: int) -> list[list[int]]:
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    return [order[start : start + size] for start in range(0, len(order), size)]


def _grouped(examples: list[dict[str, list[int]]], size: int) -> list[list[int]]:
    lengths = [len(each["input_ids"]) for each in examples]
    sampler = LengthGroupedSampler(size, lengths=lengths, generator=torch.Generator().manual_seed(0))
    order = list(sampler)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _utilisation(measured: dict[str, Any], shape: dict[str, int], corpus: Corpus) -> dict[str, Any]:
    """Real tokens per second; share of the peak at 6 N + 12 · layers · width · length operations each."""
    lengths = corpus.lengths + 2
    length = float((lengths**2).sum() / lengths.sum())  # that the sequence of a token has, on average
    per_token = 6 * measured["parameters"] + 12 * shape["num_layers"] * shape["hidden_size"] * length
    per_residue = float(lengths.sum() / corpus.lengths.sum())
    rates = {name: rate * per_residue for name, rate in measured["median residues per second"].items()}
    return {
        "median tokens per second": rates,
        "utilisation": {name: rate * per_token / PEAK_FLOPS for name, rate in rates.items()},
    }


if __name__ == "__main__":
    main()
