"""Towers that pool the segments of a molecule apart."""

import numpy as np
import pytest
import torch

from fixtures.backbone_files import walking_backbone
from protlm.data.structure_pairs import record_of
from protlm.errors import ModelError
from protlm.models.architectures import EsmArchitecture
from protlm.models.dual_tower import DualTower
from protlm.models.pooling import ResidueStates, in_segments, segment_means
from protlm.models.projection import ProjectionConfig, TemperatureConfig
from protlm.models.structure_encoder import new_structure_encoder
from protlm.models.structure_features import segment_features
from protlm.models.towers import SequenceTower, StructureTower
from protlm.types.structure import Backbone

SEGMENTS = 4


@pytest.fixture(scope="module")
def backbones():
    random = np.random.default_rng(0)
    made = [walking_backbone(f"b{length}", length, random) for length in (9, 22, 16)]
    coordinates = made[1].coordinates.copy()
    coordinates[3:7] = np.nan
    long = Backbone("long", made[1].residues, coordinates, np.repeat([0, 1], 11), ("H", "L"))
    return [made[0], long, made[2]]


@pytest.fixture(scope="module")
def language_model():
    return EsmArchitecture.Config(num_layers=1, hidden_size=8, num_heads=2).build(seed=0)


def encoder():
    arguments = {"hidden_dim": 16, "num_decoder_layers": 0, "k_neighbors": 6}
    return new_structure_encoder("protein-mpnn", arguments, seed=0)


def by_hand(vectors, counts):
    """The mean of each run of residues, the runs cut where i · segments / n passes a whole number."""
    found = []
    for segment in range(SEGMENTS):
        rows = [i for i in range(len(vectors)) if int(i * SEGMENTS / len(vectors)) == segment and counts[i]]
        found.append(vectors[rows].mean(axis=0) if rows else np.zeros(vectors.shape[1]))
    return np.array(found)


def test_structures_are_pooled_over_the_resolved_residues_of_each_segment(backbones):
    tower = StructureTower(encoder(), is_trained=False, segments=SEGMENTS).eval()
    pooled = tower(backbones).numpy()
    assert pooled.shape == (3, SEGMENTS, 16)
    for each, backbone in zip(pooled, backbones, strict=True):
        vectors = tower.encoder.embed([backbone])[0]
        np.testing.assert_allclose(each, by_hand(vectors, backbone.is_resolved), atol=1e-5)


def test_sequences_are_pooled_over_the_residues_of_each_segment(backbones, language_model):
    records = [record_of(backbone) for backbone in backbones]
    tower = SequenceTower(language_model, "mean", SEGMENTS).eval()
    with torch.inference_mode():
        pooled = tower(tower.batch(records)).numpy()
        for each, record in zip(pooled, records, strict=True):
            batch = tower.batch([record])
            states = language_model.hidden(batch)[batch.is_residue].numpy()
            np.testing.assert_allclose(each, by_hand(states, np.ones(len(states), bool)), atol=1e-5)


def test_what_is_kept_of_a_frozen_tower_is_what_it_gives(backbones, tmp_path):
    tower = StructureTower(encoder(), is_trained=False, segments=SEGMENTS).eval()
    expected = tower(backbones).numpy()
    for _ in range(2):  # computed, then read
        kept = segment_features(tower.encoder, backbones, SEGMENTS, tmp_path)
        np.testing.assert_allclose(kept, expected, atol=1e-5)


def test_fewer_residues_than_segments_leave_some_empty():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    found = segment_means(vectors, np.ones(3, bool), SEGMENTS)
    np.testing.assert_array_equal(found, [vectors[0], vectors[1], vectors[2], [0, 0]])


def test_tokens_of_several_residues_have_no_segment():
    states = ResidueStates(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), torch.tensor([1.0, 2.0]), 1)
    assert in_segments(states, 1) is states
    with pytest.raises(ModelError, match="several residues into one token"):
        in_segments(states, 2)


def test_the_vectors_of_segments_stand_side_by_side_with_unit_length(backbones, language_model):
    towers = DualTower(
        SequenceTower(language_model, "mean", SEGMENTS),
        StructureTower(encoder(), is_trained=False, segments=SEGMENTS),
        sequence_head=ProjectionConfig(dim=6),
        structure_head=ProjectionConfig(dim=6),
        temperature=TemperatureConfig(),
    )
    vectors = towers.embed_structures(backbones)
    assert vectors.shape == (3, SEGMENTS * 6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert towers.untrained(1).dim == SEGMENTS * 6
    with pytest.raises(ModelError, match="pools 1 segments, the other 4"):
        DualTower(
            SequenceTower(language_model, "mean"),
            towers.structure,
            sequence_head=ProjectionConfig(dim=6),
            structure_head=ProjectionConfig(dim=6),
            temperature=TemperatureConfig(),
        )
    with pytest.raises(ModelError, match="begin token is one"):
        SequenceTower(language_model, "begin", SEGMENTS)
