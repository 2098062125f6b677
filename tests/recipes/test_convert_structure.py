"""convert: checkpoints of ESM-IF1 and ProteinMPNN, as they are published, to folders that load."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from protlm.errors import ConfigError, ModelError
from protlm.models.structure_encoder import load_structure_encoder, new_structure_encoder
from protlm.recipes.convert import convert
from protlm.types.structure import Backbone

ESM_IF1 = {
    "gvp_top_k_neighbors": 6,
    "gvp_node_hidden_dim_scalar": 16,
    "gvp_node_hidden_dim_vector": 4,
    "gvp_edge_hidden_dim_scalar": 8,
    "gvp_edge_hidden_dim_vector": 1,
    "gvp_num_encoder_layers": 1,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_embed_dim": 16,
    "decoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "decoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
IN_THE_FILE = {
    "gvp_encoder.embed_graph.embed_node": "gvp_encoder.W_v",
    "gvp_encoder.embed_graph.embed_edge": "gvp_encoder.W_e",
    "gvp_encoder.embed_graph.embed_confidence.": "gvp_encoder.embed_score.",
    "encoder.embed_confidence": "encoder.embed_scores.0",
    "embed_dihedrals": "embed_ingraham_features",
    "embed_gvp_output": "embed_gvp_in_local_frame.0",
    "embed_gvp_input_features": "embed_features_in_local_frame.0",
}
"""Names that the published file has in place of those of the published code."""


def backbone() -> Backbone:
    atoms = np.random.default_rng(0).normal(size=(12, 4, 3)).astype(np.float32) * 5
    return Backbone("x", "A" * 12, atoms, np.repeat([0, 1], 6), ("A", "B"))


def published_esm_if1(path):
    encoder = new_structure_encoder("gvp-transformer", ESM_IF1, seed=1)
    weights = {"encoder.version": torch.ones(1)}
    for name, value in encoder.module.state_dict().items():
        for ours, theirs in IN_THE_FILE.items():
            name = name.replace(ours, theirs)
        weights[name] = value
    args = Namespace(arch="gvp_transformer_invariant_gvp", lr=1e-3, **ESM_IF1)
    torch.save({"args": args, "model": weights}, path)
    return encoder


def published_protein_mpnn(path, **changes):
    sizes = {"hidden_dim": 16, "num_encoder_layers": 2, "num_decoder_layers": 1, "k_neighbors": 5}
    encoder = new_structure_encoder("protein-mpnn", sizes, seed=1)
    state = encoder.module.state_dict() | changes
    torch.save({"model_state_dict": state, "num_edges": 5, "noise_level": 0.2, "epoch": 3}, path)
    return encoder


@pytest.mark.parametrize("make", [published_esm_if1, published_protein_mpnn])
def test_a_published_file_becomes_a_folder_that_gives_the_same_vectors(make, tmp_path):
    encoder = make(tmp_path / "published.pt")
    said = []
    folder = convert(tmp_path / "published.pt", tmp_path / "out", say=said.append)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    again = load_structure_encoder(folder, device="cpu")
    np.testing.assert_array_equal(again.embed([backbone()])[0], encoder.embed([backbone()])[0])
    assert "all of known names and shapes" in said[0]


def test_weights_that_do_not_fit_are_named(tmp_path):
    published_protein_mpnn(tmp_path / "more.pt", extra=torch.ones(2))
    with pytest.raises(ModelError, match="weight extra is of no known place"):
        convert(tmp_path / "more.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    published_protein_mpnn(tmp_path / "ca.pt", **{"features.node_embedding.weight": torch.ones(16, 3)})
    with pytest.raises(ModelError, match="CA atoms alone"):
        convert(tmp_path / "ca.pt", tmp_path / "out")
    published_protein_mpnn(tmp_path / "wide.pt", **{"W_out.bias": torch.ones(20)})
    with pytest.raises(ModelError, match=r"W_out.bias is \[20\], expected \[21\]"):
        convert(tmp_path / "wide.pt", tmp_path / "out")
    published_protein_mpnn(tmp_path / "fine.pt")
    with pytest.raises(ConfigError, match="--layout esm"):
        convert(tmp_path / "fine.pt", tmp_path / "out", layout="esm")


def test_settings_that_are_missing_are_named(tmp_path):
    published_esm_if1(tmp_path / "x.pt")
    values = torch.load(tmp_path / "x.pt", weights_only=False)
    del values["args"].decoder_layers
    torch.save(values, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="args have no decoder_layers"):
        convert(tmp_path / "x.pt", tmp_path / "out")
