"""Homologues as records to train on, and models that know where their family's residues stand."""

import numpy as np
import pytest
import torch

from fixtures.builders import lively_esm
from protlm.data.collate import collate
from protlm.data.corpus import Corpus
from protlm.data.family import Family, read_family
from protlm.data.flat import flatten_records
from protlm.data.layout import esm_layout
from protlm.data.sampling import StepSampler
from protlm.errors import DataError, ModelError
from protlm.models.loading import load_model
from protlm.recipes.prepare_family import prepare_family
from protlm.types.record import Chain, Record
from protlm.types.variant import parse_variant

WILD_TYPE = "MKTAYIAKQR"
ROWS = (("q/2-10", "KTAYIAKQR"), ("a", "KTaaAYIA--R"), ("b", "-TAYIAKQRgg"), ("c", "WWWWWWWWW"))


@pytest.fixture
def alignment(tmp_path):
    path = tmp_path / "family.a3m"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in ROWS))
    return path


def columns(record):
    return record.chains[0].tracks["column"].tolist()


def test_aligned_rows_have_the_positions_of_the_wild_type(alignment):
    records = [record for record, _ in read_family(alignment, wild_type=WILD_TYPE)]
    assert [record.chains[0].residues for record in records] == [WILD_TYPE, "KTAYIAR", "TAYIAKQR", "W" * 9]
    assert columns(records[0]) == list(range(1, 11))  # the query is whole, also where it has no column
    assert columns(records[1]) == [2, 3, 4, 5, 6, 7, 10]  # without insertions; two deleted
    assert columns(records[2]) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_whole_sequences_keep_insertions_and_have_no_columns(alignment):
    records = [record for record, _ in read_family(alignment, wild_type=WILD_TYPE, rows_as="sequences")]
    residues = [record.chains[0].residues for record in records]
    assert residues == ["KTAYIAKQR", "KTAAAYIAR", "TAYIAKQRGG", "W" * 9]
    assert all(not record.chains[0].tracks for record in records)


def test_held_out_rows_have_no_similar_one_and_never_are_the_query(alignment):
    family = read_family(alignment, wild_type=WILD_TYPE, holdout=0.5, identity=0.6)
    held_out = [record.id for record, is_held_out in family if is_held_out]
    assert family.num_free == 1
    assert held_out == []  # one free row cannot be halved
    family = read_family(alignment, wild_type=WILD_TYPE, holdout=0.5, identity=1.0)
    assert {record.id for record, is_held_out in family if is_held_out} <= {"a", "c"}


def test_the_corpus_keeps_weights_and_the_family(alignment, tmp_path):
    prepared = prepare_family(alignment, tmp_path / "corpus", wild_type=WILD_TYPE, identity=0.6)
    corpus = Corpus(tmp_path / "corpus")
    np.testing.assert_allclose(corpus.sample_weights, prepared.family.alignment.weights)
    assert corpus.sample_weights.min() == pytest.approx(1 / 3)
    assert corpus.record(1).sample_weight == pytest.approx(1 / 3)
    facts = corpus.manifest["family"]
    assert Family.of(facts) == Family(WILD_TYPE, tuple(range(1, 10)))
    assert (facts["as"], facts["covered"]) == ("aligned", [[2, 10]])


def test_too_few_rows_to_hold_any_out_is_an_error(alignment, tmp_path):
    with pytest.raises(DataError, match="1 rows have no other row so similar"):
        prepare_family(alignment, tmp_path / "corpus", wild_type=WILD_TYPE, identity=0.6, holdout=0.2)
    assert not (tmp_path / "corpus").exists()


def test_tokens_stand_where_their_column_is():
    aligned = Record("a", (Chain("KAR", tracks={"column": np.array([2, 4, 10], np.uint16)}),))
    plain = Record("b", (Chain("MK"),))
    batch = collate(flatten_records([aligned, plain]), esm_layout())
    assert batch.positions.tolist() == [0, 2, 4, 10, 11, 0, 1, 2, 3]
    assert batch.residue_start.tolist() == [-1, 0, 1, 2, -1, -1, 0, 1, -1]  # residues are counted as ever


def test_a_column_beyond_the_model_is_an_error():
    record = Record("a", (Chain("KA", tracks={"column": np.array([2, 40], np.uint16)}),))
    with pytest.raises(DataError, match=r"aligned to position 40 .* at most 20 tokens"):
        collate(flatten_records([record]), esm_layout(max_tokens=20))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_part_of_the_wild_type_reads_as_the_whole_with_the_rest_left_out(positions):
    """Columns alone say where a residue stands: a row with all of them is the plain sequence."""
    model = lively_esm(num_layers=1, hidden_size=16, num_heads=2, positions=positions, max_tokens=32)
    family = Family(WILD_TYPE, tuple(range(10)))
    plain, placed = Record("a", (Chain(WILD_TYPE),)), family.locate(Record("a", (Chain(WILD_TYPE),)))
    batches = [collate(flatten_records([each]), model.layout) for each in (plain, placed)]
    with torch.inference_mode():
        first, second = (model.logits(batch) for batch in batches)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    part = family.locate(Record("a", (Chain(WILD_TYPE[3:7]),)))
    assert columns(part) == [4, 5, 6, 7]


def test_a_family_refuses_what_it_does_not_know():
    family = Family(WILD_TYPE, (1, 2, 3))
    with pytest.raises(DataError, match="of 10 residues, and the one to score, of 3, is no part"):
        family.place("WWW")
    with pytest.raises(DataError, match="has 2 chains"):
        family.locate(Record("p", (Chain("MK"), Chain("TA"))))
    single, double = (parse_variant(text, "KTAY") for text in ("K1A", "K1A:Y4W"))
    assert family.covers("KTAY", [single, double]).tolist() == [True, False]


def test_a_saved_model_keeps_its_family(tmp_path):
    model = lively_esm(num_layers=1, hidden_size=16, num_heads=2)
    model.family = Family(WILD_TYPE, (1, 2, 3, 7))
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model", device="cpu").family == model.family
    (tmp_path / "model" / "family.json").write_text("{}")
    with pytest.raises(ModelError, match=r"family\.json is damaged"):
        load_model(tmp_path / "model", device="cpu")


def test_records_are_drawn_by_their_weights():
    weights = np.array([1.0, 0.5, 0.1] * 200)
    keys = np.random.default_rng(0).integers(0, 2**63, size=600).astype(np.uint64)
    sampler = StepSampler(np.full(600, 10), keys, step_tokens=100, weights=weights)
    counts = np.zeros(600)
    for epoch in range(40):
        rows = np.concatenate(sampler.epoch(epoch))
        assert len(np.unique(rows)) == len(rows)
        counts[rows] += 1
    means = [counts[first::3].mean() / 40 for first in range(3)]
    assert means[0] == 1.0
    np.testing.assert_allclose(means[1:], [0.5, 0.1], atol=0.015)  # 8,000 draws: 3 standard deviations


def test_no_epoch_is_empty():
    sampler = StepSampler(np.array([10]), np.array([7], np.uint64), 100, weights=np.array([1e-6]))
    assert [rows.tolist() for rows in sampler.epoch(0)] == [[0]]


def test_weights_of_one_change_nothing():
    lengths, keys = np.arange(1, 50), np.arange(49).astype(np.uint64)
    plain, weighted = (StepSampler(lengths, keys, 100, weights=each) for each in (None, np.ones(49)))
    assert [rows.tolist() for rows in plain.epoch(3)] == [rows.tolist() for rows in weighted.epoch(3)]
