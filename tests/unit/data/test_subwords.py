"""Batches of sub-words: the same records, with the map from each token to its residues."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.builders import batch_of as residue_batch_of
from fixtures.builders import random_records
from fixtures.subwords import SUBWORDS, slow_pairs
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import TokenLayout
from protlm.data.subwords import layout_of_tokenizer
from protlm.errors import DataError, ModelError
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Chain, Record, Role


def batch_of(*texts, layout=SUBWORDS):
    return residue_batch_of(layout, *texts)


def spans(batch):
    """Sequence, chain, start and stop of each token that stands for residues."""
    columns = (batch.sequence_index, batch.chain_index, batch.residue_start, batch.residue_stop)
    return [row for row in zip(*(column.tolist() for column in columns), strict=True) if row[1] >= 0]


def test_a_batch_written_out_by_hand():
    batch = batch_of("MLLAB/LLLX", "LLALLA")
    assert SUBWORDS.decode(batch.tokens.numpy()) == ("<s>·M·LLA·<unk>·</s>·</s>·LL·L·X·</s>·<s>·LLA·LLA·</s>")
    assert batch.offsets.tolist() == [0, 10, 14]
    assert batch.positions.tolist() == [*range(10), *range(4)]
    assert spans(batch) == [
        *[(0, 0, 0, 1), (0, 0, 1, 4), (0, 0, 4, 5)],
        *[(0, 1, 0, 2), (0, 1, 2, 3), (0, 1, 3, 4)],
        *[(1, 0, 0, 3), (1, 0, 3, 6)],
    ]
    assert batch.standard.tolist() == [
        *[False, True, True, False, False, False, True, True, False, False],
        *[False, True, True, False],
    ]
    assert batch.residue_tokens.tolist() == [
        *[0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9],
        *[10, 11, 11, 11, 12, 12, 12, 13],
    ]
    with pytest.raises(ModelError, match="several residues into one token"):
        _ = batch.residue_index


def test_sub_words_are_those_of_merging_the_first_pair_again_and_again():
    records = random_records(40, seed=3, letters="LAMK" + "XB")
    batch = collate(flatten_records(records), SUBWORDS)
    for number, record in enumerate(records):
        for place, chain in enumerate(record.chains):
            own = (batch.sequence_index == number) & (batch.chain_index == place)
            words = [SUBWORDS.tokens[token] for token in batch.tokens[own].tolist()]
            assert words == slow_pairs(chain.residues, SUBWORDS)


def test_every_residue_is_under_the_token_of_its_chain_that_spans_it():
    records = random_records(15, seed=4)
    batch = collate(flatten_records(records), SUBWORDS)
    fine, under = batch.by_residue, batch.residue_tokens
    assert len(under) == len(fine.tokens)
    for column in ("sequence_index", "chain_index", "roles"):
        assert torch.equal(getattr(batch, column)[under], getattr(fine, column))
    inside = fine.is_residue
    assert bool((batch.residue_start[under] <= fine.residue_start)[inside].all())
    assert bool((fine.residue_start < batch.residue_stop[under])[inside].all())
    assert torch.equal(batch.tokens[under][~inside], fine.tokens[~inside])
    whole = collate(flatten_records(records), SUBWORDS.of_residues)
    assert torch.equal(fine.tokens, whole.tokens)
    assert not batch.tracks
    assert fine.tracks.keys() == whole.tracks.keys()


def test_selecting_sequences_equals_collating_their_records():
    records = random_records(12, seed=6)
    batch = collate(flatten_records(records), SUBWORDS)
    for chosen in ([3], [11, 0, 5], [2, 2, 7]):
        expected = collate(flatten_records([records[index] for index in chosen]), SUBWORDS)
        got = batch.select(np.array(chosen))
        for wide in (lambda each: each, lambda each: each.by_residue):
            for name, value in vars(wide(expected)).items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(getattr(wide(got), name), value), name


def test_the_gap_between_chains_counts_in_positions():
    batch = batch_of("LLA/ML", layout=replace(SUBWORDS, position_gap=100))
    assert batch.positions.tolist() == [0, 1, 2, 3, 104, 105, 106]


def test_a_chain_alone_keeps_its_separator():
    layout = replace(SUBWORDS, single_chain="keep-separator")
    heavy = Record("h", (Chain("LLA", role=Role.HEAVY),))
    light = Record("l", (Chain("LLA", role=Role.LIGHT),))
    batch = batch_of(heavy, light, layout=layout)
    assert layout.decode(batch.tokens.numpy()) == "<s>·LLA·</s>·</s>·</s>·<s>·</s>·</s>·LLA·</s>"


def test_the_limit_counts_tokens():
    layout = replace(SUBWORDS, max_tokens=5)
    assert batch_of("LLALLALLA", layout=layout).lengths.tolist() == [5]
    with pytest.raises(DataError, match="needs 6 tokens, but this model takes at most 5"):
        batch_of("A", "LLALLALLAM", layout=layout)


def test_residues_aligned_to_a_wild_type_are_refused():
    aligned = Record("a", (Chain("LLA", tracks={"column": np.array([1, 2, 4], np.uint16)}),))
    with pytest.raises(DataError, match="need a token each"):
        batch_of(aligned)


def test_residues_per_token_and_what_is_standard():
    words = {
        token: (int(size), bool(standard))
        for token, size, standard in zip(
            SUBWORDS.tokens, SUBWORDS.residues_per_token, SUBWORDS.is_standard, strict=True
        )
    }
    assert words["LLA"] == (3, True)
    assert words["X"] == (1, False)
    assert words["<s>"] == words["<unk>"] == (0, False)
    replacements = {SUBWORDS.tokens[index] for index in SUBWORDS.replacement_ids.tolist()}
    assert replacements == {*STANDARD, "LL", "LLA", "AK", "MK", "GS", "GSG", "SGS"}


def test_layouts_are_saved_with_their_merges_and_older_files_have_none(tmp_path):
    SUBWORDS.save(tmp_path)
    assert TokenLayout.load(tmp_path) == SUBWORDS
    assert layout_of_tokenizer(tmp_path, max_tokens=9) == replace(SUBWORDS, max_tokens=9)
    file = tmp_path / "token_layout.json"
    text = file.read_text()
    file.write_text(text.replace('"format_version": 3', '"format_version": 2').split(',\n "merges"')[0] + "}")
    assert TokenLayout.load(tmp_path) == replace(SUBWORDS, merges=())


@pytest.mark.parametrize("merge", ["L", "L  L", "L W", "L J"])
def test_a_merge_of_what_the_vocabulary_lacks_is_refused(merge):
    with pytest.raises(ModelError, match=f"merge '{merge}'"):
        replace(SUBWORDS, merges=(*SUBWORDS.merges, merge))


def test_a_tokenizer_that_lacks_residues_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        '{"model": {"type": "BPE", "vocab": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4,'
        + ", ".join(f'"{letter}": {number + 5}' for number, letter in enumerate("ACDEFGHIKLMNPQRSTV"))
        + '}, "merges": []}}'
    )
    with pytest.raises(ModelError, match="the vocabulary lacks W, Y"):
        layout_of_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(ModelError, match="kind WordPiece"):
        layout_of_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="protlm tokenizer train"):
        layout_of_tokenizer(tmp_path / "none")


def test_letters_outside_the_vocabulary_are_one_unknown_token_each():
    lacking = [letter for letter in UNUSUAL if letter not in SUBWORDS.ids]
    batch = batch_of("L" + "".join(lacking) + "LL")
    assert SUBWORDS.decode(batch.tokens.numpy()) == "<s>·L·" + "<unk>·" * len(lacking) + "LL·</s>"
