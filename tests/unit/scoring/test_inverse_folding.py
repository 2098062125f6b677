"""Inverse-folding scores against likelihoods added up by hand, and how often the backbone is encoded."""

import numpy as np
import pytest
import torch

from fixtures.structures import small_encoder, walk
from protlm.errors import DataError, ModelError
from protlm.models import gvp_transformer, protein_mpnn
from protlm.models.structure_encoder import new_structure_encoder
from protlm.scoring.inverse_folding import MARGINAL, ORDERED, open_inverse_folding
from protlm.types.structure import Backbone
from protlm.types.variant import Variant, all_single_substitutions, parse_variant

WILD = "MKTAYIAKQRQISFVKSHFS"
OTHER = "GSHMLE"
LABELS = ["M1L", "S20A", "K2R:F19Y", "A7G", "WT", "Y5W:I6V:Q9E"]


def complex_of_two(without: list[int] | None = None) -> Backbone:
    both = walk(WILD + OTHER, chains=(len(WILD), len(OTHER)))
    atoms = both.coordinates.copy()
    atoms[without or []] = np.nan
    return Backbone(both.id, both.residues, atoms, both.chain_index, both.chain_ids)


def variants() -> list[Variant]:
    return [parse_variant(label, WILD) for label in LABELS]


def by_hand_esm_if1(encoder, backbone, sequence) -> float:
    tokens = [gvp_transformer.BEGIN, *(gvp_transformer.TOKENS.index(letter) for letter in sequence)]
    decoder = encoder.module.decoder
    with torch.inference_mode():
        states, is_hidden, _ = encoder.encode([backbone])
        logits = decoder(torch.tensor([tokens[:-1]]), decoder.sources(states), is_hidden)[0]
    logs = logits.double().log_softmax(-1)
    return sum(float(logs[place, token]) for place, token in enumerate(tokens[1:]))


def by_hand_mpnn(encoder, backbone, sequence) -> float:
    """Read the letters one after the other, with all later ones written as alanine."""
    place = protein_mpnn.LETTERS.index
    size, total = len(sequence), 0.0
    turn = torch.tensor([[*range(100, 100 + size), *range(len(backbone) - size)]])
    with torch.inference_mode():
        encoded = encoder.encode([backbone])
        for index in range(size):
            known = sequence[:index] + "A" * (size - index) + backbone.residues[size:]
            letters = torch.tensor([[place(letter) for letter in known]])
            logs = encoder.module.ordered(encoded, letters, turn)[0].double()
            if backbone.is_resolved[index]:
                total += float(logs[index, place(sequence[index])])
    return total


@pytest.mark.parametrize(
    ("kind", "by_hand"), [("gvp-transformer", by_hand_esm_if1), ("protein-mpnn", by_hand_mpnn)]
)
def test_scores_are_differences_of_likelihoods(kind, by_hand):
    encoder, backbone = small_encoder(kind), complex_of_two([3, 22])
    found = open_inverse_folding(encoder, backbone).scores(variants())
    wild = by_hand(encoder, backbone, WILD)
    expected = [by_hand(encoder, backbone, each.apply(WILD)) - wild for each in variants()]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[LABELS.index("WT")] == 0
    assert np.ptp(found) > 0.1


@pytest.mark.parametrize("kind", ["gvp-transformer", "protein-mpnn"])
def test_the_backbone_is_encoded_once_and_batches_change_nothing(kind, monkeypatch):
    encoder, backbone = small_encoder(kind), complex_of_two()
    calls = []
    real = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda given: calls.append(len(given)) or real(given))
    every = [variant for _, variant in all_single_substitutions(WILD)]
    done = []
    whole = open_inverse_folding(encoder, backbone).scores(every, on_batch=done.append)
    assert calls == [1]
    assert sum(done) == len(every) == 380
    small = open_inverse_folding(encoder, backbone, max_tokens=60).scores(every)
    np.testing.assert_allclose(small, whole, atol=1e-5)


def test_marginals_come_from_the_structure_alone_and_add_up():
    encoder, backbone = small_encoder("protein-mpnn"), complex_of_two()
    folding = open_inverse_folding(encoder, backbone, MARGINAL)
    with torch.inference_mode():
        logs = encoder.module.unconditional(encoder.encode([backbone]))[0].double().numpy()
    place = protein_mpnn.LETTERS.index
    both, first, second = folding.scores([parse_variant(each, WILD) for each in ("K2R:F19Y", "K2R", "F19Y")])
    assert both == pytest.approx(first + second)
    assert first == pytest.approx(logs[1, place("R")] - logs[1, place("K")])


def test_letters_of_further_chains_are_seen_by_protein_mpnn():
    encoder, backbone = small_encoder("protein-mpnn"), complex_of_two()
    mutated = Backbone("x", WILD + "WWWWWW", backbone.coordinates, backbone.chain_index, backbone.chain_ids)
    one, two = (open_inverse_folding(encoder, each).scores(variants()) for each in (backbone, mutated))
    assert np.abs(one - two).max() > 1e-4


def test_unresolved_residues_have_no_score_where_the_model_has_none():
    backbone = complex_of_two([1])
    scores = open_inverse_folding(small_encoder("protein-mpnn"), backbone).scores(variants())
    assert np.isnan(scores).tolist() == ["K2R" in label for label in LABELS]
    folding = open_inverse_folding(small_encoder("gvp-transformer"), backbone)
    assert folding.scores_unresolved
    assert np.isfinite(folding.scores(variants())).all()


def test_what_cannot_score_is_named():
    backbone = complex_of_two()
    with pytest.raises(ModelError, match="gives no letters for inverse_folding_marginal"):
        open_inverse_folding(small_encoder("gvp-transformer"), backbone, MARGINAL)
    alone = new_structure_encoder("protein-mpnn", {"hidden_dim": 8, "num_decoder_layers": 0})
    with pytest.raises(ModelError, match="gives no letters for inverse_folding"):
        open_inverse_folding(alone, backbone, ORDERED)
    with pytest.raises(DataError, match="no residue of chain 'H' has N, CA and C"):
        open_inverse_folding(small_encoder("protein-mpnn"), complex_of_two(list(range(len(WILD)))))
