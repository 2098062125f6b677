"""Corpus to masked batch, in residues per second, against Hugging Face's tokenizer and collator.

    python benchmarks/corpus_to_batch.py [SEQUENCES.fasta[.gz]]

The plain way holds the sequences as Python strings, tokenizes each with `EsmTokenizer` and pads and masks
with `DataCollatorForLanguageModeling`. Ours reads a memory-mapped corpus and draws counter-based masks.
Both make batches of the same records. Also: a corpus of a million sequences is walked through, and the
growth of resident memory is kept.
"""

import resource
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
from transformers import DataCollatorForLanguageModeling, EsmTokenizer

from measuring import SHARED, in_turns, keep, ratio
from protlm.data.collate import collate
from protlm.data.corpus import Corpus, write_corpus
from protlm.data.layout import ESM_TOKENS, esm_layout
from protlm.data.readers import InputPolicy, iterate_records
from protlm.data.sampling import StepSampler
from protlm.masking.corrupt import corrupt
from protlm.masking.policies import RegionMasking, UniformMasking
from protlm.masking.selection import Draw
from protlm.types.record import Chain, Record
from protlm.types.regions import Region

BATCH_TOKENS = 16384
MILLION = 1_000_000


def main(source: Path) -> None:
    layout = esm_layout()
    with tempfile.TemporaryDirectory() as folder:
        policy = InputPolicy(invalid="drop", duplicate_ids="rename")
        corpus = write_corpus(Path(folder) / "corpus", iterate_records(source, policy=policy))
        steps = StepSampler(corpus.lengths + 2, corpus.keys, BATCH_TOKENS).epoch(0)
        texts = corpus.chain_column("residues").to_pylist()
        batches = [[texts[row] for row in corpus.chain_rows(rows)] for rows in steps]
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(ESM_TOKENS))
        tokenizer = EsmTokenizer(str(vocabulary))
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        uniform = UniformMasking(mean_rate=0.15)
        region = RegionMasking(region_rates={Region.CDR3: 0.25}, mean_rate=0.15)

        def plain() -> None:
            for sequences in batches:
                collator([{"input_ids": ids} for ids in tokenizer(sequences)["input_ids"]])

        def ours(masking: UniformMasking | RegionMasking, own: Corpus) -> None:
            for rows in steps:
                batch = collate(own.gather(rows), layout)
                corrupt(batch, masking(batch, Draw()), layout, draw=Draw())

        with_regions = write_corpus(Path(folder) / "regions", _with_regions(corpus))
        seconds = in_turns(
            {
                "plain": plain,
                "ours, uniform": lambda: ours(uniform, corpus),
                "ours, region": lambda: ours(region, with_regions),
            }
        )
        residues = int(corpus.lengths.sum())
        keep(
            "corpus_to_batch",
            {
                "input": source.name,
                "sequences": len(corpus),
                "residues": residues,
                "residues_per_second": {name: residues / min(times) for name, times in seconds.items()},
                "ratio, uniform masking": ratio(seconds, "plain", "ours, uniform"),
                "ratio, region masking with tracks": ratio(seconds, "plain", "ours, region"),
                "a million sequences": _million(Path(folder) / "million", texts),
            },
        )


def _with_regions(corpus: Corpus) -> list[Record]:
    """Give every residue a region code, so that the policy has work to do as on antibodies."""
    records = []
    for row in range(len(corpus)):
        record = corpus.record(row)
        codes = (np.arange(len(record)) // 17 % 8).astype(np.uint8)
        records.append(Record(record.id, (Chain(record.chains[0].residues, tracks={"region": codes}),)))
    return records


def _million(path: Path, texts: list[str]) -> dict[str, float]:
    """Walk a corpus of a million sequences; what Python objects it takes is traced."""
    short = [text[:110] for text in texts]
    rotated = (short[i % len(short)][i % 37 :] or "M" for i in range(MILLION))
    write_corpus(path, (Record(f"r{i}", (Chain(text),)) for i, text in enumerate(rotated)))
    layout, masking = esm_layout(), UniformMasking(mean_rate=0.15)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    corpus = Corpus(path)
    sampler = StepSampler(corpus.lengths + 2, corpus.keys, BATCH_TOKENS)
    for count, (_, epoch, rows) in enumerate(sampler.steps()):
        if count == 200:
            break
        batch = collate(corpus.gather(rows), layout)
        draw = Draw(epoch=epoch)
        corrupt(batch, masking(batch, draw), layout, draw=draw)
    _, peak = tracemalloc.get_traced_memory()
    objects = tracemalloc.take_snapshot().statistics("filename")
    tracemalloc.stop()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "sequences": len(corpus),
        "residues": int(corpus.lengths.sum()),
        "traced peak, MB": peak / 1e6,
        "allocated blocks at the end": sum(each.count for each in objects),
        "growth of peak resident memory, MB": (after - before) / 1e3,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED / "general_sequences" / "nr_10k.fasta.gz")
