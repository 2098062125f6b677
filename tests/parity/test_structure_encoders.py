"""ESM-IF1 and ProteinMPNN under small random weights against what the published code gave."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from protlm.models.gvp_transformer import (
    BEGIN,
    TOKENS,
    GVPTransformer,
    GVPTransformerSettings,
)
from protlm.models.protein_mpnn import LETTERS, ProteinMPNN, settings_of
from protlm.models.protein_mpnn_features import batch_chains
from protlm.models.structure_batch import batch_atoms, lay_out
from protlm.models.structure_encoder import GVPTransformerStructures, ProteinMPNNStructures
from protlm.types.structure import Backbone

pytestmark = pytest.mark.real_data
TOLERANCE = {"atol": 1e-4, "rtol": 0}


def golden(shared_data, name):
    folder = shared_data / "golden" / name
    facts = json.loads((folder / "cases.json").read_text())
    return facts, load_file(folder / "cases.safetensors"), load_file(folder / "tiny_state_dict.safetensors")


def with_oxygen(atoms: torch.Tensor) -> np.ndarray:
    """Add a fourth atom, which ESM-IF1 does not look at; what is not finite is not resolved."""
    whole = torch.cat([atoms, atoms[:, 1:2]], dim=1).numpy()
    return np.where(np.isfinite(whole), whole, np.nan)


def chain_of(atoms: torch.Tensor) -> Backbone:
    return Backbone("x", "A" * len(atoms), with_oxygen(atoms), np.zeros(len(atoms), int), ("A",))


@pytest.fixture
def esm_if1(shared_data):
    facts, cases, weights = golden(shared_data, "esm_if1")
    module = GVPTransformer(GVPTransformerSettings.of(facts["args"]))
    module.load_state_dict(weights)
    return facts, cases, GVPTransformerStructures(module, name="golden", origin="file")


def letter_scores(encoder, backbone, sequence) -> torch.Tensor:
    with torch.inference_mode():
        states, is_hidden, _ = encoder.encode([backbone])
        tokens = torch.tensor([[BEGIN, *(TOKENS.index(letter) for letter in sequence)]])
        decoder = encoder.module.decoder
        logits = decoder(tokens[:, :-1], decoder.sources(states), is_hidden)
    return logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[0, :, 0]


@pytest.mark.parametrize("case", [0, 1, 2])
def test_esm_if1_gives_the_published_states_and_likelihoods(esm_if1, case):
    facts, cases, encoder = esm_if1
    assert tuple(facts["alphabet"]) == TOKENS
    backbone, stated = chain_of(cases[f"coords_{case}"]), facts["cases"][case]
    assert int((~backbone.is_resolved).sum()) == stated["nonfinite"]
    np.testing.assert_allclose(encoder.embed([backbone])[0], cases[f"encoder_{case}"].numpy(), **TOLERANCE)
    scores = letter_scores(encoder, backbone, stated["seq"])
    assert float(scores.mean()) == pytest.approx(stated["ll_fullseq"], abs=1e-4)
    assert float(scores[backbone.is_resolved].mean()) == pytest.approx(stated["ll_withcoord"], abs=1e-4)


def test_esm_if1_gives_the_published_states_of_a_complex(esm_if1):
    facts, cases, encoder = esm_if1
    atoms = torch.cat([cases["coords_0"], cases["complex_coords_B"]])
    first = len(cases["coords_0"])
    chains = (np.arange(len(atoms)) >= first).astype(int)
    both = Backbone("x", "A" * len(atoms), with_oxygen(atoms), chains, ("A", "B"))
    np.testing.assert_allclose(
        encoder.embed([both])[0][:first], cases["complex_encoder_A"].numpy(), **TOLERANCE
    )
    scores, stated = letter_scores(encoder, both, facts["cases"][0]["seq"]), facts["cases"][3]
    assert float(scores.mean()) == pytest.approx(stated["ll_fullseq"], abs=1e-4)
    resolved = both.is_resolved[:first]
    assert float(scores[resolved].mean()) == pytest.approx(stated["ll_withcoord"], abs=1e-4)


def test_esm_if1_gives_the_published_logits_of_a_padded_batch(esm_if1):
    _, cases, encoder = esm_if1
    laid = [
        lay_out(cases[f"coords_{case}"].numpy(), np.zeros(len(cases[f"coords_{case}"])))[0] for case in (0, 1)
    ]
    batch = batch_atoms(laid, [1.0, 0.5])
    decoder = encoder.module.decoder
    with torch.inference_mode():
        sources = decoder.sources(encoder.module.encoder(batch))
        logits = decoder(cases["batch_tokens"][:, :-1], sources, batch.is_hidden)
    np.testing.assert_allclose(logits.transpose(1, 2).numpy(), cases["batch_logits"].numpy(), **TOLERANCE)


@pytest.fixture
def protein_mpnn(shared_data):
    facts, cases, weights = golden(shared_data, "protein_mpnn")
    module = ProteinMPNN(settings_of(facts["args"])).eval()
    module.load_state_dict(weights)
    assert facts["alphabet"] == LETTERS
    return facts, cases, module


def atoms_of(cases, case) -> np.ndarray:
    atoms = cases[f"case{case}_X"].clone()
    atoms[cases[f"case{case}_mask"] == 0] = torch.nan
    return atoms.numpy()


@pytest.mark.parametrize("case", [0, 1])
def test_protein_mpnn_gives_the_published_numbers(protein_mpnn, case):
    _, cases, module = protein_mpnn
    own = {
        name.removeprefix(f"case{case}_"): each
        for name, each in cases.items()
        if name.startswith(f"case{case}_")
    }
    batch = batch_chains(
        [atoms_of(cases, case)], [own["chain_encoding"].numpy()], [own["residue_idx"].numpy()]
    )
    with torch.inference_mode():
        encoded = module.encode(batch)
        ordered = module.ordered(encoded, own["S"][None], torch.arange(len(own["S"]))[None])
        free = module.unconditional(encoded)
    for ours, name in ((encoded.nodes, "encoder_nodes"), (ordered, "log_probs_in_order")):
        np.testing.assert_allclose(ours[0].numpy(), own[name].numpy(), **TOLERANCE)
    np.testing.assert_allclose(free[0].numpy(), own["unconditional_log_probs"].numpy(), **TOLERANCE)


def test_backbones_give_the_published_states_in_one_batch(protein_mpnn):
    """Chains and their gap are read from the backbone, and the origin does not matter."""
    facts, cases, module = protein_mpnn
    backbones = []
    for case, stated in enumerate(facts["cases"]):
        sizes = [len(sequence) for sequence in stated["chain_seqs"].values()]
        chains = np.repeat([0, 1], sizes)
        letters = "".join(stated["chain_seqs"].values()).replace("-", "X")
        backbones.append(Backbone(str(case), letters, atoms_of(cases, case), chains, tuple(stated["chains"])))
    found = ProteinMPNNStructures(module, name="golden").embed(backbones)
    for case, nodes in enumerate(found):
        np.testing.assert_allclose(nodes, cases[f"case{case}_encoder_nodes"].numpy(), **TOLERANCE)
