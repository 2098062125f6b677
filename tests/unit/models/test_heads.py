"""Pooling and heads: over residues alone, sub-words by their residues, pairs the same in both orders."""

import numpy as np
import pytest
import torch

from fixtures.builders import lively_esm, random_records
from protlm.errors import ConfigError, DataError, ModelError
from protlm.models.adaptation import FrozenAdaptation, LastAdaptation, num_trained
from protlm.models.features import cached_residue_states
from protlm.models.heads import Head, HeadConfig, head_facts, load_head
from protlm.models.pooling import Pooling, ResidueStates
from protlm.types.record import Chain, Record, Role
from protlm.types.target import LabelledRecords, Target

STATES = ResidueStates(
    torch.tensor([[1.0, 0.0], [4.0, 2.0], [7.0, 7.0]]),
    torch.tensor([0, 0, 1]),
    torch.tensor([1.0, 2.0, 1.0]),  # the second token has two residues under it
    2,
)


def test_a_mean_counts_a_token_as_often_as_it_has_residues():
    assert Pooling("mean", 2)(STATES).tolist() == [[3.0, pytest.approx(4 / 3)], [7.0, 7.0]]


def test_attention_is_a_softmax_over_residues():
    pooling = Pooling("attention", 2)
    assert torch.allclose(pooling(STATES), STATES.means())  # begins as the mean
    assert pooling.score is not None
    pooling.score.weight.data = torch.tensor([[0.5, 0.0]])
    weights = np.exp([0.5, 2.0, 2.0])  # one for each residue of the first chain
    expected = (weights[0] * np.array([1, 0]) + weights[1:].sum() * np.array([4, 2])) / weights.sum()
    np.testing.assert_allclose(pooling(STATES)[0].detach().numpy(), expected, rtol=1e-6)
    assert pooling(STATES)[1].tolist() == [7.0, 7.0]


def test_a_head_standardises_what_it_reads():
    facts = head_facts(Target("value", "sequence"), HeadConfig(), 2, [Record("a", (Chain("MK"),))])
    head = Head(facts).eval()
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    head.standardise(values)
    seen = []
    head.layers.register_forward_hook(lambda layer, given, result: seen.append(given[0]))
    head(values)
    assert seen[0].reshape(2, 2).tolist() == [[-1.0, 0.0], [1.0, 0.0]]  # a constant stays finite


def test_a_saved_head_is_the_same(tmp_path):
    pair = Record("p", (Chain("MK"), Chain("GG")))
    target = Target("classes", "pair", ("a", "b", "c"), name="what")
    head = Head(head_facts(target, HeadConfig(encoder="separate", hidden_size=3), 2, [pair]), seed=4).eval()
    head.standardise(torch.randn(9, 2))
    head.save(tmp_path)
    again = load_head(tmp_path)
    assert again.facts == head.facts
    states = torch.randn(6, 2)
    assert torch.equal(head(states), again(states))
    assert not torch.equal(head(states), Head(head.facts, seed=5).eval()(states))
    with pytest.raises(ModelError, match=r"has no head\.json"):
        load_head(tmp_path / "none")


def test_pairs_with_roles_are_read_in_one_order():
    heavy, light = Chain("QVQL", role=Role.HEAVY), Chain("DIQ", role=Role.LIGHT)
    facts = head_facts(Target("value", "pair"), HeadConfig(), 4, [Record("p", (light, heavy))])
    assert not facts.both_orders
    assert facts.num_views == 1
    plain = head_facts(Target("value", "pair"), HeadConfig(), 4, random_pairs())
    assert plain.both_orders


def random_pairs():
    return [Record("p", (Chain("MKT"), Chain("GGA")))]


def test_records_of_unlike_numbers_of_chains_are_refused():
    with pytest.raises(DataError, match="1 and 2 chains"):
        head_facts(Target("value", "sequence"), HeadConfig(), 4, random_records(9))


def test_what_the_last_layers_leave_frozen():
    model = lively_esm(num_layers=3)
    LastAdaptation.Config(layers=2).apply(model, seed=0)
    trained = {name for name, each in model.module.named_parameters() if each.requires_grad}
    assert trained
    assert all("layer.1." in name or "layer.2." in name or "emb_layer_norm_after" in name for name in trained)
    with pytest.raises(ConfigError, match="has 3 layers"):
        LastAdaptation.Config(layers=4).apply(model, seed=0)
    FrozenAdaptation.Config().apply(model, seed=0)
    assert num_trained(model.module) == 0


def test_states_of_residues_are_kept_and_found_again(tmp_path, monkeypatch):
    model, records = lively_esm(), random_records(7)
    states, was_there = cached_residue_states(model, records, tmp_path, max_tokens=50)
    assert not was_there
    alone = [cached_residue_states(model, [record], tmp_path / record.id)[0] for record in records]
    np.testing.assert_allclose(states, np.concatenate(alone), atol=1e-5)
    monkeypatch.setattr(type(model), "hidden", None)
    again, was_there = cached_residue_states(model, records, tmp_path)
    assert was_there
    assert np.array_equal(again, states)


def test_labelled_records_must_fit_their_target():
    records = [Record("a", (Chain("MKT"),))]
    with pytest.raises(DataError, match="has 3 residues and 2 values"):
        LabelledRecords(records, Target("value", "residue"), [np.zeros(2)])
    with pytest.raises(DataError, match="has 1 chain, and 'label' is of pairs"):
        LabelledRecords(records, Target("value", "pair"), [0.0])
    with pytest.raises(DataError, match="2 values of 'label' for 1 records"):
        LabelledRecords(records, Target("value", "sequence"), [0.0, 1.0])
