"""Tokenising: `EsmTokenizer` per sequence and a batch call of BPE against the corpus and `collate`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from transformers import EsmTokenizer

from measuring import SHARED, in_turns, keep, ratio
from protlm.data.collate import collate
from protlm.data.corpus import Corpus, write_corpus
from protlm.data.layout import TokenLayout, esm_layout
from protlm.data.readers import InputPolicy, read_records
from protlm.data.sampling import budget_batches
from protlm.data.subword_training import train_subwords
from protlm.data.token_counts import corpus_counts
from protlm.models.tokenizers import roberta_tokenizer

BATCH_TOKENS = 16_384
MERGES = 2_000
SEQUENCES = 2_000
"""The plain way takes milliseconds for each."""


def main() -> None:
    """Tokenise every sequence once each way, in turns."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED / "general_sequences" / "nr_10k.fasta.gz"
    how_many = int(sys.argv[2]) if len(sys.argv) > 2 else SEQUENCES
    records = read_records(path, policy=InputPolicy(invalid="drop", duplicate_ids="rename"))[:how_many]
    with TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", records)
        texts = corpus.chain_column("residues").take(corpus.chain_rows(np.arange(len(corpus)))).to_pylist()
        learnt = texts[: len(texts) // 4]
        seconds = {
            **in_turns(residue_level(corpus, texts, Path(folder))),
            **in_turns(subwords(corpus, texts, train_subwords(learnt, num_merges=MERGES).layout)),
        }
    keep(
        "tokenising",
        {
            "input": path.name,
            "sequences": len(texts),
            "residues": sum(map(len, texts)),
            "merges": MERGES,
            "sequences_per_second": {name: len(texts) / min(times) for name, times in seconds.items()},
            "residue_level_times_faster": ratio(seconds, "EsmTokenizer, each sequence", "collate"),
            "residue_level_times_faster_than_a_batch_call": ratio(
                seconds, "EsmTokenizer, all in one call", "collate"
            ),
            "subwords_times_faster": ratio(seconds, "RobertaTokenizer, a batch", "collate, sub-words"),
        },
    )


def residue_level(corpus: Corpus, texts: list[str], folder: Path) -> dict:
    """Both ways at residue level; ours gives spans, chains and keys as well."""
    layout = esm_layout()
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(layout.tokens))
    plain = EsmTokenizer(str(vocabulary))

    def each_sequence() -> list[list[int]]:
        return [plain(text)["input_ids"] for text in texts]

    assert _ours(corpus, layout) == sum(map(len, each_sequence()))
    return {
        "EsmTokenizer, each sequence": each_sequence,
        "EsmTokenizer, all in one call": lambda: plain(texts)["input_ids"],
        "collate": lambda: _ours(corpus, layout),
    }


def subwords(corpus: Corpus, texts: list[str], layout: TokenLayout) -> dict:
    """Both ways with sub-words, in batches of the same sequences; ours gives the residue level as well."""
    plain = roberta_tokenizer(layout)
    batches = _batches(corpus, layout)

    def batch_calls() -> int:
        return sum(len(ids) for rows in batches for ids in plain([texts[row] for row in rows])["input_ids"])

    assert _ours(corpus, layout) == batch_calls()
    return {
        "RobertaTokenizer, a batch": batch_calls,
        "collate, sub-words": lambda: _ours(corpus, layout),
    }


def _ours(corpus: Corpus, layout: TokenLayout) -> int:
    return sum(len(collate(corpus.gather(rows), layout).tokens) for rows in _batches(corpus, layout))


def _batches(corpus: Corpus, layout: TokenLayout) -> list[np.ndarray]:
    return list(budget_batches(corpus_counts(corpus, layout), BATCH_TOKENS))


if __name__ == "__main__":
    main()
