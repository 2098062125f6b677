"""The store of embeddings: what is computed once, what survives, what is refused."""

import multiprocessing

import numpy as np
import pytest

from protlm.data.backbones import BackboneSet, backbone_digest
from protlm.data.embedding_store import EmbeddingStore, stored_embeddings
from protlm.errors import DataError
from protlm.types.structure import Backbone


def backbone(seed, size=5, name="", gone=()):
    places = np.random.default_rng(seed).normal(size=(size, 4, 3)).astype(np.float32)
    places[list(gone)] = np.nan
    return Backbone(name or f"n{seed}", "MKTAYIAK"[:size], places, np.zeros(size, int), ("A",))


class Encoder:
    """Gives the row, its square, and a sum of coordinates; counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, backbones):
        self.asked += [each.id for each in backbones]
        found = []
        for each in backbones:
            rows = np.arange(len(each))
            found.append(np.stack([rows, rows**2, np.nansum(each.coordinates, (1, 2))], 1).astype("f4"))
        return found


@pytest.mark.parametrize("segment", [1, 12, 1 << 14])
def test_each_content_is_computed_once(tmp_path, monkeypatch, segment):
    monkeypatch.setattr("protlm.data.embedding_store._SEGMENT_RESIDUES", segment)
    some = [backbone(1), backbone(2, 8), backbone(1, name="again"), backbone(3, 3, gone=(1,))]
    encoder, done = Encoder(), []
    first = stored_embeddings(some, EmbeddingStore(tmp_path, "e"), encoder, on_done=done.append)
    assert sorted(encoder.asked) == ["again", "n2", "n3"]  # of two alike the later, one of them
    assert sum(done) == 4
    expected = Encoder()(some)
    more = [*some[::-1], backbone(4)]
    second = stored_embeddings(BackboneSet.of(more), EmbeddingStore(tmp_path, "e"), encoder)
    assert encoder.asked[3:] == ["n4"]
    for found, truth in zip([*first, *second[:4][::-1]], [*expected, *expected], strict=True):
        assert found.dtype == np.float32
        assert np.array_equal(found, truth)
    with pytest.raises(ValueError, match="read-only"):
        second[0][0, 0] = 1
    stored_embeddings(some, EmbeddingStore(tmp_path, "another"), encoder)
    assert len(encoder.asked) == 7
    assert not list(tmp_path.rglob("*.part*"))


def test_the_mean_is_over_resolved_residues(tmp_path):
    one = backbone(5, 4, gone=(0, 2))
    (found,) = stored_embeddings([one], EmbeddingStore(tmp_path, "e", "mean"), Encoder())
    np.testing.assert_allclose(found, Encoder()([one])[0][[1, 3]].mean(axis=0))
    assert backbone_digest(one) not in EmbeddingStore(tmp_path, "e")  # a store of its own


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_a_cut_segment_is_computed_again(tmp_path, keep):
    some, encoder = [backbone(1), backbone(2)], Encoder()
    before = [each.copy() for each in stored_embeddings(some, EmbeddingStore(tmp_path, "e"), encoder)]
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    after = stored_embeddings(some, EmbeddingStore(tmp_path, "e"), encoder)
    assert encoder.asked == ["n1", "n2"] * 2
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    assert len(EmbeddingStore(tmp_path, "e")) == 2


def _add(folder, seeds):
    stored_embeddings([backbone(seed) for seed in seeds], EmbeddingStore(folder, "e"), Encoder())


def test_several_processes_add_to_one_store(tmp_path):
    context = multiprocessing.get_context("fork")
    seen = EmbeddingStore(tmp_path, "e")
    workers = [context.Process(target=_add, args=(tmp_path, range(at, at + 6))) for at in (0, 3, 3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert [each.exitcode for each in workers] == [0, 0, 0]
    assert len(seen) == 0
    seen.refresh()
    assert set(seen) == {backbone_digest(backbone(seed)) for seed in range(9)}
    for seed in range(9):
        one = backbone(seed)
        assert np.array_equal(seen[backbone_digest(one)], Encoder()([one])[0])


def test_what_an_encoder_may_not_give(tmp_path):
    some = [backbone(1)]
    for wrong, says in (
        (lambda _: [np.zeros((4, 3))], r"shape \[4, 3\] for backbone 'n1' of 5 residues"),
        (lambda _: [np.zeros(5)], r"shape \[5\]"),
        (lambda _: [np.full((5, 3), np.nan)], "has numbers that are none"),
    ):
        with pytest.raises(DataError, match=says):
            stored_embeddings(some, EmbeddingStore(tmp_path, "e"), wrong)
    with pytest.raises(ValueError, match="shorter"):
        stored_embeddings(some, EmbeddingStore(tmp_path, "e"), lambda _: [])
    assert not list(tmp_path.rglob("*.safetensors"))
    stored_embeddings(some, EmbeddingStore(tmp_path, "e"), Encoder())
    with pytest.raises(DataError, match="in a store of residues with 3 numbers each"):
        stored_embeddings([backbone(2)], EmbeddingStore(tmp_path, "e"), lambda _: [np.zeros((5, 4))])
