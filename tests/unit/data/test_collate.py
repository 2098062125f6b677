from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.builders import as_record, batch_of, random_records
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import SEPARATORS, esm_layout
from protlm.errors import DataError, ModelError
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Chain, Record

LAYOUT = esm_layout()
WRITTEN = {
    "cls-cls": ["<cls>", "<cls>"],
    "cls": ["<cls>"],
    "eos-eos": ["<eos>", "<eos>"],
    "eos": ["<eos>"],
    "sep": ["<sep>"],
    "pipe": ["|"],
    "linker": list("GGGGSGGGGSGGGGS"),
}
# ESM's, with two tokens more, so that every separator can be written
WIDE = replace(LAYOUT, tokens=(*LAYOUT.tokens, "<sep>", "|"))


def text_of(batch, layout, sequence):
    start, stop = batch.offsets[sequence : sequence + 2].tolist()
    return [layout.tokens[token] for token in batch.tokens[start:stop].tolist()]


def slice_of(batch, values, sequence):
    start, stop = batch.offsets[sequence : sequence + 2].tolist()
    return values[start:stop].tolist()


def test_every_named_separator_is_written_down_here():
    assert set(WRITTEN) == set(SEPARATORS)


@pytest.mark.parametrize("separator", WRITTEN)
def test_each_token_of_a_pair_maps_to_its_chain_and_residue(separator):
    layout = WIDE.with_separator(separator)
    between = WRITTEN[separator]
    batch = batch_of(layout, "WY", "QVQL/DIV", "GGG/H/KK")
    none = [-1] * len(between)
    assert text_of(batch, layout, 1) == ["<cls>", *"QVQL", *between, *"DIV", "<eos>"]
    assert slice_of(batch, batch.chain_index, 1) == [-1, 0, 0, 0, 0, *none, 1, 1, 1, -1]
    assert slice_of(batch, batch.residue_start, 1) == [-1, 0, 1, 2, 3, *none, 0, 1, 2, -1]
    assert slice_of(batch, batch.residue_stop, 1) == [-1, 1, 2, 3, 4, *none, 1, 2, 3, -1]
    assert text_of(batch, layout, 2) == ["<cls>", *"GGG", *between, "H", *between, *"KK", "<eos>"]
    assert slice_of(batch, batch.chain_index, 2) == [-1, 0, 0, 0, *none, 1, *none, 2, 2, -1]
    assert slice_of(batch, batch.residue_start, 2) == [-1, 0, 1, 2, *none, 0, *none, 0, 1, -1]
    assert text_of(batch, layout, 0) == ["<cls>", "W", "Y", "<eos>"]


@pytest.mark.parametrize("separator", WRITTEN)
def test_the_map_leads_from_any_token_back_to_its_letter(separator):
    layout = WIDE.with_separator(separator)
    records = random_records(25, seed=2, lengths=(1, 30))
    batch = batch_of(layout, *records)
    for token in range(len(batch.tokens)):
        letter = layout.tokens[int(batch.tokens[token])]
        if batch.is_residue[token]:
            chain = records[int(batch.sequence_index[token])].chains[int(batch.chain_index[token])]
            assert chain.residues[int(batch.residue_index[token])] == letter
        else:
            assert letter in ("<cls>", "<eos>", *WRITTEN[separator])
    assert int(batch.is_residue.sum()) == sum(len(record) for record in records)


def test_offsets_lengths_and_sequence_index_agree():
    batch = batch_of(LAYOUT, "WY", "QVQL/DIV", "G")
    assert batch.offsets.tolist() == [0, 4, 15, 18]
    assert batch.lengths.tolist() == [4, 11, 3]
    assert batch.num_sequences == 3
    assert batch.sequence_index.tolist() == [0] * 4 + [1] * 11 + [2] * 3
    assert batch.positions.tolist() == [*range(4), *range(11), *range(3)]


def test_layouts_without_begin_or_end_tokens_have_none():
    layout = replace(LAYOUT, begin=(), end=(), separator=("<eos>",))
    batch = batch_of(layout, "AC/D", "E")
    assert text_of(batch, layout, 0) == ["A", "C", "<eos>", "D"]
    assert text_of(batch, layout, 1) == ["E"]
    layout = replace(LAYOUT, begin=("<cls>", "<null_1>"), end=("<eos>", "<unk>"))
    assert text_of(batch_of(layout, "AC"), layout, 0) == ["<cls>", "<null_1>", "A", "C", "<eos>", "<unk>"]


def test_chains_joined_by_nothing_still_have_a_map():
    layout = replace(LAYOUT, separator=())
    batch = batch_of(layout, "AC/D")
    assert text_of(batch, layout, 0) == ["<cls>", "A", "C", "D", "<eos>"]
    assert batch.chain_index.tolist() == [-1, 0, 0, 1, -1]


def test_tracks_lie_under_their_residues_and_are_zero_elsewhere():
    heavy = Chain(
        "QV", tracks={"region": np.array([3, 6], np.uint8), "position": np.array([256, 65535], np.uint16)}
    )
    light = Chain("DI", tracks={"region": np.array([1, 2], np.uint8)})
    batch = batch_of(LAYOUT, Record("a", (heavy, light)), Record("b", (Chain("W"),)))
    assert batch.tracks["region"].tolist() == [0, 3, 6, 0, 0, 1, 2, 0, 0, 0, 0]
    assert batch.tracks["position"].tolist() == [0, 256, 65535, 0, 0, 0, 0, 0, 0, 0, 0]
    assert set(batch.tracks) == {"region", "position"}


def test_letters_the_vocabulary_lacks_become_unknown_and_keep_their_place():
    """J is in no ESM vocabulary; O, U, B, Z and X are."""
    batch = batch_of(LAYOUT, "AJCOUBZX")
    assert text_of(batch, LAYOUT, 0) == ["<cls>", *"AXCOUBZX", "<eos>"]
    assert batch.residue_start.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, 7, -1]
    assert LAYOUT.replaced_letters() == "J"


def test_a_layout_may_name_another_unknown_token():
    layout = replace(LAYOUT, unknown="<unk>")
    assert text_of(batch_of(layout, "AJX"), layout, 0) == ["<cls>", "A", "<unk>", "X", "<eos>"]


def test_only_the_twenty_count_as_standard():
    batch = batch_of(LAYOUT, f"{STANDARD}/{UNUSUAL}")
    assert batch.standard.tolist() == [False, *[True] * 20, *[False] * (2 + len(UNUSUAL) + 1)]


def test_a_record_that_fits_exactly_is_taken_and_one_residue_more_is_refused():
    layout = esm_layout(max_tokens=10)
    assert batch_of(layout, "A" * 8, "AC", "AAA/AAA").lengths.tolist() == [10, 4, 10]
    with pytest.raises(DataError, match=r"needs 11 tokens, .* at most 10 \(a single chain of 8 residues\)"):
        batch_of(layout, "AC", "A" * 9)
    with pytest.raises(DataError, match="needs 11 tokens"):
        batch_of(layout, "AAAA/AAA")


def test_selecting_sequences_equals_collating_their_records():
    records = random_records(12, seed=6)
    batch = batch_of(LAYOUT, *records)
    for chosen in ([3], [11, 0, 5], [2, 2, 7], list(range(12))):
        expected = collate(flatten_records([records[index] for index in chosen]), LAYOUT)
        got = batch.select(np.array(chosen))
        for name, value in vars(expected).items():
            if name == "tracks":
                assert {track: values.tolist() for track, values in got.tracks.items()} == {
                    track: values.tolist() for track, values in value.items()
                }
            else:
                found = getattr(got, name)
                assert found is value is None or torch.equal(found, value), name


def test_padding_and_unpadding_give_back_the_flat_values():
    batch = batch_of(LAYOUT, "ACD", "W", "QVQL/DIV")
    padded = batch.pad(batch.tokens, LAYOUT.pad_id)
    assert padded.shape == (3, 11)
    assert LAYOUT.decode(padded[1].numpy()) == "<cls>W<eos>" + "<pad>" * 8
    assert torch.equal(batch.unpad(padded), batch.tokens)
    wide = torch.arange(len(batch.tokens) * 2.0).view(-1, 2)
    assert torch.equal(batch.unpad(batch.pad(wide, -1.0)), wide)


def test_a_token_of_several_residues_has_no_single_residue():
    batch = batch_of(LAYOUT, "ACD")
    stops = batch.residue_stop.clone()
    stops[1] = 2
    with pytest.raises(ModelError, match="several residues into one token"):
        _ = replace(batch, residue_stop=stops).residue_index
    assert batch.residue_index.tolist() == [-1, 0, 1, 2, -1]


def test_the_key_of_a_record_is_its_id_and_residues():
    one, same, renamed, changed, split = (
        Record("a", (Chain("AC"), Chain("D"))),
        Record("a", (Chain("AC", v_call="IGHV1"), Chain("D")), group="g"),
        Record("b", (Chain("AC"), Chain("D"))),
        Record("a", (Chain("AC"), Chain("E"))),
        Record("a", (Chain("A"), Chain("CD"))),
    )
    keys = batch_of(LAYOUT, one, same, renamed, changed, split, as_record("ACD")).record_keys.tolist()
    assert keys[0] == keys[1]
    assert len(set(keys[1:])) == 5
