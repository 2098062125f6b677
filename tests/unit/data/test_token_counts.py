"""How many tokens records take up: the same as collating them, counted once for a corpus."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.builders import random_records
from fixtures.subwords import SUBWORDS
from protlm.data import token_counts
from protlm.data.collate import collate
from protlm.data.corpus import Corpus, CorpusWriter
from protlm.data.crops import Crop
from protlm.data.flat import flatten_records
from protlm.data.layout import esm_layout
from protlm.data.token_counts import corpus_counts, is_counted, record_counts, record_lengths
from protlm.training.sources import token_lengths


@pytest.fixture
def records():
    return random_records(40, seed=1, letters="LLAMKGSX")


@pytest.fixture
def corpus(records, tmp_path):
    with CorpusWriter(tmp_path / "corpus") as writer:
        for number, record in enumerate(records):
            writer.add(record, subset="some" if number % 3 == 0 else "")
        return writer.close()


@pytest.mark.parametrize("layout", [SUBWORDS, esm_layout()], ids=["sub-words", "residues"])
def test_lengths_are_those_of_the_batch(layout, records, corpus):
    expected = collate(flatten_records(records), layout).lengths.tolist()
    assert record_lengths(records, layout).tolist() == expected
    assert token_lengths(corpus, layout).tolist() == expected
    some = Corpus(f"{corpus.path}:some")
    assert token_lengths(some, layout).tolist() == expected[::3]


def test_chains_are_counted_once_and_kept_beside_the_corpus(corpus, monkeypatch):
    assert not is_counted(corpus, SUBWORDS)
    done = []
    monkeypatch.setattr(token_counts, "_CHUNK_RESIDUES", 100)
    counts = corpus_counts(corpus, SUBWORDS, on_chains=done.append)
    assert len(done) > 5
    assert sum(done) == len(corpus.chain_lengths)
    assert is_counted(corpus, SUBWORDS)
    (file,) = corpus.path.glob("token_lengths.*.npy")
    assert np.load(file).dtype == np.int32
    monkeypatch.setattr(token_counts, "_count_chains", lambda *_: pytest.fail("counted again"))
    assert corpus_counts(Corpus(corpus.path), SUBWORDS).tolist() == counts.tolist()


def test_other_merges_have_counts_of_their_own(corpus, records):
    fewer = replace(SUBWORDS, merges=SUBWORDS.merges[:1])
    corpus_counts(corpus, SUBWORDS)
    assert not is_counted(corpus, fewer)
    assert corpus_counts(corpus, fewer).tolist() == record_counts(records, fewer).tolist()
    assert len(list(corpus.path.glob("token_lengths.*.npy"))) == 2


def test_a_file_that_was_cut_short_is_counted_again(corpus, records):
    corpus_counts(corpus, SUBWORDS)
    (file,) = corpus.path.glob("token_lengths.*.npy")
    for content in (b"", file.read_bytes()[:-40]):
        file.write_bytes(content)
        assert corpus_counts(corpus, SUBWORDS).tolist() == record_counts(records, SUBWORDS).tolist()


def test_counts_stay_in_memory_where_the_folder_cannot_be_written(corpus, records, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "no")

    monkeypatch.setattr("numpy.save", refuse)
    assert corpus_counts(corpus, SUBWORDS).tolist() == record_counts(records, SUBWORDS).tolist()
    assert is_counted(corpus, SUBWORDS)
    assert not list(corpus.path.glob("token_lengths*"))


def test_windows_are_counted_by_their_share(corpus):
    whole, cut = (token_lengths(corpus, SUBWORDS, crop=crop) for crop in (None, Crop(10, SUBWORDS)))
    specials = SUBWORDS.num_specials(corpus.num_chains_per_record)
    share = np.minimum(corpus.lengths, 10) / corpus.lengths
    assert (cut - specials).tolist() == np.ceil((whole - specials) * share - 1e-9).tolist()
    residues = token_lengths(corpus, esm_layout(), crop=Crop(10, esm_layout()))
    assert residues.tolist() == (np.minimum(corpus.lengths, 10) + specials_of_esm(corpus)).tolist()


def specials_of_esm(corpus):
    return esm_layout().num_specials(corpus.num_chains_per_record)
