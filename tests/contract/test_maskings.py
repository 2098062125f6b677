"""What every registered masking policy must do, whatever it is."""

import numpy as np
import pytest

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import esm_layout
from protlm.masking import maskings
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Region

LAYOUT = esm_layout()


def antibody(name: str, length: int, *, with_light: bool) -> Record:
    regions = np.sort(np.random.default_rng(length).integers(1, len(Region), length)).astype(np.uint8)
    heavy = Chain(("ACDEFGHIKLMNPQRSTVWYX" * 10)[:length], role=Role.HEAVY, tracks={"region": regions})
    light = Chain(heavy.residues[::-1], role=Role.LIGHT, tracks={"region": regions[::-1].copy()})
    return Record(name, (heavy, light) if with_light else (heavy,))


RECORDS = [
    antibody("a", 100, with_light=True),
    antibody("b", 60, with_light=False),
    antibody("c", 30, with_light=True),
]


@pytest.fixture(params=maskings.names())
def policy(request):
    return maskings.get(request.param).Config().build()


def test_probabilities_are_in_range_and_zero_where_nothing_may_be_masked(policy):
    batch = collate(flatten_records(RECORDS), LAYOUT)
    probabilities = policy(batch)
    assert probabilities.shape == batch.tokens.shape
    assert bool(((probabilities >= 0) & (probabilities <= 1)).all())
    assert float(probabilities[~batch.standard].abs().max()) == 0


def test_each_record_keeps_the_mean_rate(policy):
    batch = collate(flatten_records(RECORDS), LAYOUT)
    probabilities = policy(batch).numpy()
    for sequence in range(batch.num_sequences):
        own = (batch.sequence_index == sequence).numpy() & batch.standard.numpy()
        assert probabilities[own].mean() == pytest.approx(policy.mean_rate, abs=1e-9)


def test_a_record_gets_the_same_probabilities_in_any_company(policy):
    together = collate(flatten_records(RECORDS), LAYOUT)
    alone = collate(flatten_records(RECORDS[1:2]), LAYOUT)
    np.testing.assert_allclose(
        policy(together)[together.sequence_index == 1].numpy(), policy(alone).numpy(), atol=1e-12
    )


def test_its_settings_survive_a_round_trip(policy):
    config = next(
        maskings.get(name).Config for name in maskings.names() if isinstance(policy, maskings.get(name))
    )
    assert config.model_validate(config().model_dump()) == config()
