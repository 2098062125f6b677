"""What every registered masking policy must do, whatever it is."""

import numpy as np
import pytest
import torch

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import esm_layout
from protlm.masking import maskings
from protlm.masking.corrupt import corrupt
from protlm.masking.selection import Draw
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Region, Segment

LAYOUT = esm_layout()


def antibody(name: str, length: int, *, with_light: bool) -> Record:
    random = np.random.default_rng(length)
    tracks = {
        "region": np.sort(random.integers(1, len(Region), length)).astype(np.uint8),
        "segment": np.sort(random.integers(1, len(Segment), length)).astype(np.uint8),
        "mutated": random.integers(0, len(Mutated), length).astype(np.uint8),
        "weight": random.random(length).astype(np.float32),
    }
    back = {track: values[::-1].copy() for track, values in tracks.items()}
    heavy = Chain(("ACDEFGHIKLMNPQRSTVWYX" * 10)[:length], role=Role.HEAVY, tracks=tracks)
    light = Chain(heavy.residues[::-1], role=Role.LIGHT, tracks=back)
    return Record(name, (heavy, light) if with_light else (heavy,))


RECORDS = [
    antibody("a", 100, with_light=True),
    antibody("b", 60, with_light=False),
    antibody("c", 30, with_light=True),
    Record("d", (Chain("XXX"),)),
]
DRAWS = [Draw(seed=3), Draw(seed=3, epoch=5, progress=0.5), Draw(seed=4, epoch=1, progress=1.0)]


def batch_of(records):
    return collate(flatten_records(records), LAYOUT)


@pytest.fixture(params=maskings.names())
def policy(request):
    return maskings.get(request.param).Config().build()


@pytest.fixture(params=DRAWS, ids=str)
def draw(request):
    return request.param


def test_probabilities_are_in_range_and_zero_where_nothing_may_be_masked(policy, draw):
    batch = batch_of(RECORDS)
    probabilities = policy(batch, draw).probabilities
    assert probabilities.shape == batch.tokens.shape
    assert probabilities.dtype == torch.float64
    assert bool(((probabilities >= 0) & (probabilities <= 1)).all())
    assert float(probabilities[~batch.standard].abs().max()) == 0
    assert float(probabilities.sum()) > 0


def test_the_deciding_number_is_of_a_residue_of_the_same_chain(policy, draw):
    batch = batch_of(RECORDS)
    source = policy(batch, draw).draw_from
    if source is None:
        return
    assert torch.equal(batch.sequence_index[source], batch.sequence_index)
    assert torch.equal(batch.chain_index[source], batch.chain_index)


@pytest.mark.parametrize("records", [RECORDS[::-1], RECORDS[1:3], RECORDS[:1]], ids=["turned", "some", "one"])
def test_a_record_is_masked_alike_in_any_company(policy, draw, records):
    def by_record(chosen):
        batch = batch_of(chosen)
        selection = policy(batch, draw)
        corrupted = corrupt(batch, selection, LAYOUT, draw=draw).batch.tokens
        cuts = batch.offsets[1:-1].tolist()
        parts = zip(
            batch.record_keys.tolist(),
            np.split(selection.probabilities.numpy(), cuts),
            np.split(corrupted.numpy(), cuts),
            strict=True,
        )
        return {key: (chances, tokens) for key, chances, tokens in parts}

    whole = by_record(RECORDS)
    for key, (chances, tokens) in by_record(records).items():
        np.testing.assert_allclose(chances, whole[key][0], atol=1e-12)
        assert tokens.tolist() == whole[key][1].tolist()


def test_a_number_for_each_sequence_does_as_an_epoch(policy):
    """Records of several epochs in one batch are drawn as each would be alone."""
    batch, epochs = batch_of(RECORDS), np.array([7, 0, 3, 1])
    mixed = Draw(seed=3, epoch=epochs)
    together = corrupt(batch, policy(batch, mixed), LAYOUT, draw=mixed).batch.tokens
    for number, epoch in enumerate(epochs.tolist()):
        alone = Draw(seed=3, epoch=epoch)
        tokens = corrupt(batch, policy(batch, alone), LAYOUT, draw=alone).batch.tokens
        own = batch.sequence_index == number
        assert torch.equal(together[own], tokens[own])


def test_it_does_not_change_its_batch(policy, draw):
    batch, again = batch_of(RECORDS), batch_of(RECORDS)
    policy(batch, draw)
    assert torch.equal(batch.tokens, again.tokens)
    assert all(torch.equal(values, again.tracks[name]) for name, values in batch.tracks.items())


@pytest.mark.parametrize("kind", maskings.names())
def test_its_settings_survive_a_round_trip(kind):
    config = maskings.get(kind).Config
    assert config.model_validate(config().model_dump()) == config()
    assert config.model_validate(config().model_dump(mode="json")) == config()
