"""Full fine-tuning on proteins of natural lengths, in residues per second, against Hugging Face's Trainer.

    python benchmarks/finetune_step.py [PROTEINS.tsv[.gz]] [COLUMN]

The plain way is `EsmForSequenceClassification` under `Trainer` with `DataCollatorWithPadding`, which pads
each batch to its longest protein. Ours trains the same shape on the same proteins through the job and the
loop of `protlm finetune`. Both see every protein once a round, eight a step, in float32, with AdamW and
clipping, from the tokenised or read proteins to the last step; nothing is evaluated. The clock is CPU time
of one thread. (Trainer's own sampler by length does nothing for so few proteins: it sorts inside a batch.)
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import (
    DataCollatorWithPadding,
    EsmConfig,
    EsmForMaskedLM,
    EsmForSequenceClassification,
    EsmTokenizer,
    Trainer,
    TrainingArguments,
)

from measuring import SHARED, in_turns, keep, ratio
from protlm.data.layout import esm_layout
from protlm.models.heads import Head, HeadConfig, head_facts
from protlm.models.language_model import LanguageModel
from protlm.models.predictor import Predictor
from protlm.objectives.supervised import Supervised
from protlm.runs import Run
from protlm.training.loop import TrainingConfig, train
from protlm.training.processes import Processes
from protlm.training.supervised_job import RecordInputs, Rows, SupervisedJob
from protlm.types.record import Chain, Record
from protlm.types.target import LabelledRecords, Target

NUM_PROTEINS, PER_STEP, MOST_RESIDUES, RATE = 48, 8, 1022, 1e-4
SIZES = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
"""0.8 M parameters, as configs/pretrain/general-cpu.yaml."""


def main(source: Path, column: str) -> None:
    torch.set_num_threads(1)
    separator = "\t" if ".tsv" in source.suffixes else ","
    table = pl.read_csv(source, separator=separator).sample(NUM_PROTEINS, seed=0)
    residues = [text[:MOST_RESIDUES] for text in table["sequence"]]
    names = sorted(set(table[column]))
    labels = [names.index(name) for name in table[column]]
    total = sum(map(len, residues))
    with tempfile.TemporaryDirectory() as name:
        ways = {
            "plain": plain_way(residues, labels, len(names), Path(name)),
            "ours": our_way(residues, labels, names, Path(name)),
        }
        before = os.getloadavg()[0]
        seconds = in_turns(ways, rounds=2, clock=time.process_time)
    result: dict[str, Any] = {
        "clock": "CPU time of one thread",
        "input": source.name,
        "proteins": len(residues),
        "residues": total,
        "padding share of random batches": _padding_share([len(text) + 2 for text in residues]),
        "load average before": before,
        "residues_per_cpu_second": {way: total / min(times) for way, times in seconds.items()},
        "ratio, ours over plain": ratio(seconds, "plain", "ours"),
    }
    keep("finetune_step", result)


def _padding_share(lengths: list[int]) -> float:
    """Expected share of padding in batches of `PER_STEP` that are drawn at random."""
    random = np.random.default_rng(0)
    drawn = [random.permutation(lengths).reshape(-1, PER_STEP) for _ in range(200)]
    return 1 - float(np.mean([batch.sum() / (batch.max(axis=1).sum() * PER_STEP) for batch in drawn]))


def _config(num_labels: int) -> EsmConfig:
    layout = esm_layout()
    return EsmConfig(
        vocab_size=33,
        mask_token_id=layout.mask_id,
        pad_token_id=layout.pad_id,
        position_embedding_type="rotary",
        token_dropout=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        emb_layer_norm_before=False,
        num_labels=num_labels,
        **SIZES,
    )


def plain_way(residues: list[str], labels: list[int], num_labels: int, folder: Path):
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(esm_layout().tokens) + "\n")
    tokenizer = EsmTokenizer(str(vocabulary))
    items = [{**tokenizer(text), "labels": label} for text, label in zip(residues, labels, strict=True)]
    keys = ("input_ids", "attention_mask", "labels")
    dataset = _Items([{key: item[key] for key in keys if key in item} for item in items])

    def way() -> None:
        torch.manual_seed(0)
        arguments = TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=PER_STEP,
            num_train_epochs=1,
            learning_rate=RATE,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_num_workers=0,
        )
        Trainer(
            model=EsmForSequenceClassification(_config(num_labels)),
            args=arguments,
            train_dataset=dataset,
            data_collator=DataCollatorWithPadding(tokenizer),
        ).train()

    return way


class _Items(torch.utils.data.Dataset):
    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items
        self.column_names = list(items[0])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return [item[index] for item in self.items] if isinstance(index, str) else self.items[index]


def our_way(residues: list[str], labels: list[int], names: list[str], folder: Path):
    records = [Record(f"p{number}", (Chain(text),)) for number, text in enumerate(residues)]
    target = Target("classes", "sequence", tuple(names))
    labelled = LabelledRecords(records, target, labels)
    settings = TrainingConfig.from_dict(
        {
            "max_steps": -(-len(records) // PER_STEP),
            "step_records": PER_STEP,
            "save_every": 10**6,
            "keep": "last",
            "tensorboard": False,
            "optimizer": {"learning_rate": RATE, "schedule": "linear", "warmup_steps": 0, "final_share": 0},
        }
    )
    rounds = iter(range(10**6))

    def way() -> None:
        torch.manual_seed(0)
        model = LanguageModel(EsmForMaskedLM(_config(2)), esm_layout(), name="small")
        facts = head_facts(target, HeadConfig(dropout=0.0), SIZES["hidden_size"], records)
        predictor = Predictor(model, Head(facts))
        job = SupervisedJob(
            train=Rows(labelled, RecordInputs(predictor, records)),
            valid=None,
            objective=Supervised(target),
            facts=facts,
            settings=settings,
            run=Run.create(folder / f"run-{next(rounds)}", verb="finetune"),
            seed=0,
        )
        train(predictor, job, settings, job.run, processes=Processes(torch.device("cpu")))

    return way


if __name__ == "__main__":
    given = sys.argv[1:]
    path = Path(given[0]) if given else SHARED / "localization" / "deeploc1_val.tsv.gz"
    main(path, given[1] if len(given) > 1 else "location")
