"""Structure encoders: nothing but the shape counts, and no vector depends on padding or on its batch."""

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file

from protlm.errors import ConfigError, DataError, ModelError
from protlm.models.structure_batch import lay_out
from protlm.models.structure_encoder import load_structure_encoder, new_structure_encoder
from protlm.models.three_di import three_di
from protlm.types.structure import Backbone

SIZES = {
    "gvp-transformer": {
        "gvp_node_hidden_dim_scalar": 16,
        "gvp_node_hidden_dim_vector": 4,
        "gvp_edge_hidden_dim_scalar": 8,
        "gvp_num_encoder_layers": 2,
        "gvp_top_k_neighbors": 8,
        "encoder_layers": 1,
        "decoder_layers": 0,
        "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 32,
        "encoder_attention_heads": 2,
    },
    "protein-mpnn": {"hidden_dim": 16, "num_decoder_layers": 0, "k_neighbors": 12},
}
KINDS = list(SIZES)


def walk(size: int, *, seed: int = 0, chains: tuple[int, ...] = ()) -> Backbone:
    """Make a chain that bends at random, with bonds of about the right length."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(size * 3, 3))
    atoms = np.cumsum(1.45 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0).reshape(size, 3, 3)
    oxygen = atoms[:, 2:] + random.normal(size=(size, 1, 3)) * 0.7
    index = np.repeat(np.arange(len(chains)), chains) if chains else np.zeros(size, int)
    names = tuple("ABCDEF"[: max(1, len(chains))])
    whole = np.concatenate([atoms, oxygen], axis=1).astype(np.float32)
    return Backbone(f"walk{size}", "A" * size, whole, index, names)


def moved(backbone: Backbone, *, turn: np.ndarray, shift: np.ndarray) -> Backbone:
    atoms = (backbone.coordinates.astype(np.float64) @ turn.T + shift).astype(np.float32)
    return Backbone(
        backbone.id, backbone.residues, atoms, backbone.chain_index, backbone.chain_ids, backbone.residue_ids
    )


def without(backbone: Backbone, rows: list[int]) -> Backbone:
    atoms = backbone.coordinates.copy()
    atoms[rows] = np.nan
    return Backbone(backbone.id, backbone.residues, atoms, backbone.chain_index, backbone.chain_ids)


@pytest.fixture(params=KINDS)
def encoder(request):
    found = new_structure_encoder(request.param, SIZES[request.param], seed=3)
    with torch.no_grad():
        for name, parameter in found.module.named_parameters():
            if parameter.dim() == 1:  # so that every bias and norm counts
                parameter.add_(
                    0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                )
    return found


def test_vectors_do_not_change_when_the_structure_is_turned_and_moved(encoder):
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    backbone = without(walk(40, chains=(25, 15)), [0, 7, 8, 30])
    before = encoder.embed([backbone])[0]
    after = encoder.embed([moved(backbone, turn=turn, shift=np.array([40.0, -25.0, 9.0]))])[0]
    np.testing.assert_allclose(after, before, atol=2e-4)
    mirrored = encoder.embed([moved(backbone, turn=-np.eye(3), shift=np.zeros(3))])[0]
    assert np.abs(mirrored - before).max() > 1e-3  # handedness counts


def test_a_batch_gives_what_each_gives_alone(encoder):
    """Also where a structure has fewer residues than neighbours, so that padding could be taken for one."""
    sizes = (5, 33, 9, 21)
    backbones = [without(walk(size, seed=size), [2]) for size in sizes]
    together, _ = encoder.states(backbones)
    for row, backbone in enumerate(backbones):
        alone = encoder.embed([backbone])[0]
        np.testing.assert_allclose(together[row, : len(backbone)].detach().numpy(), alone, atol=1e-5)
    batched = encoder.embed(backbones, max_residues=40)
    assert [len(each) for each in batched] == list(sizes)
    np.testing.assert_allclose(batched[1], encoder.embed([backbones[1]])[0], atol=1e-5)


def test_unresolved_residues_do_not_shift_the_others(encoder):
    """Far from what is missing, little changes; one step off, everything would."""
    backbone = walk(60, seed=1)
    whole = encoder.embed([backbone])[0]
    holed = encoder.embed([without(backbone, [30])])[0]
    kept = np.delete(np.arange(60), 30)
    same = np.abs(holed - whole)[kept].mean()
    shifted = np.abs(holed[kept][1:] - whole[kept][:-1]).mean()
    assert same < 0.5 * shifted
    assert np.isfinite(holed).all()


def test_chains_are_told_apart(encoder):
    one, two = walk(30), walk(30, chains=(15, 15))
    assert np.abs(encoder.embed([one])[0] - encoder.embed([two])[0]).max() > 1e-3


def test_nothing_resolved_still_gives_finite_vectors(encoder):
    backbone = without(walk(6), list(range(6)))
    assert np.isfinite(encoder.embed([backbone, walk(9)])[0]).all()


def test_a_saved_encoder_comes_back(encoder, tmp_path):
    encoder.save(tmp_path / "mine")
    again = load_structure_encoder(tmp_path / "mine", device="cpu")
    backbone = walk(20)
    np.testing.assert_array_equal(again.embed([backbone])[0], encoder.embed([backbone])[0])
    assert (again.identity, again.dim, again.name) == (encoder.identity, 16, "mine")
    other = new_structure_encoder(encoder.kind, SIZES[encoder.kind], seed=4)
    assert other.identity != encoder.identity


def test_gradients_reach_every_weight(encoder):
    encoder.module.train()
    states, is_residue = encoder.states([walk(20), walk(12)])
    states[is_residue].square().sum().backward()
    idle = [
        name
        for name, each in encoder.module.named_parameters()
        if each.grad is None or not torch.isfinite(each.grad).all()
    ]
    last = encoder.kind == "protein-mpnn"  # the last update of its edges serves the decoder alone
    assert all(last and name.startswith(("encoder_layers.2.W1", "encoder_layers.2.norm3")) for name in idle)


def test_places_are_looked_up_around_the_spacers():
    backbone = walk(6, chains=(1, 3, 2))
    atoms, token = lay_out(backbone.coordinates, backbone.chain_index, spacer=4)
    assert token.tolist() == [1, 6, 7, 8, 13, 14]
    assert len(atoms) == 16
    np.testing.assert_array_equal(atoms[token], backbone.coordinates[:, :3])
    assert np.isnan(atoms).all(axis=(1, 2)).nonzero()[0].tolist() == [2, 3, 4, 5, 9, 10, 11, 12]
    assert np.isinf(atoms).all(axis=(1, 2)).nonzero()[0].tolist() == [0, 15]


def test_three_di_letters_stay_with_their_residues():
    backbone = walk(30, seed=2, chains=(18, 12))
    letters = three_di(backbone)
    assert len(letters) == 30
    assert letters[:18] == three_di(backbone.chain("A"))  # neighbours are of the own chain
    holed = three_di(without(backbone, [5, 25]))
    assert holed[5] == holed[25] == "x"
    vectors = load_structure_encoder("3di").embed([backbone])[0]
    np.testing.assert_array_equal(vectors.sum(axis=1), [letter != "x" for letter in letters])


def test_precomputed_vectors_go_by_id(tmp_path):
    per_residue = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    save_file({"walk7": per_residue, "walk4": np.ones(3, np.float32)}, tmp_path / "v.safetensors")
    encoder = load_structure_encoder(tmp_path / "v.safetensors")
    four, seven = encoder.embed([walk(4), walk(7)])
    np.testing.assert_array_equal(seven, per_residue)
    np.testing.assert_array_equal(four, np.ones((4, 3)))
    with pytest.raises(DataError, match="no vector for structure 'walk5'"):
        encoder.embed([walk(5)])
    pl.DataFrame({"id": ["walk4", "walk7"], "vector": [[1.0, 2.0], [3.0, 4.0]]}).write_parquet(
        tmp_path / "v.parquet"
    )
    assert load_structure_encoder(tmp_path / "v.parquet").embed([walk(7)])[0][6].tolist() == [3.0, 4.0]
    pl.DataFrame({"id": ["a", "a"], "vector": [[1.0], [2.0]]}).write_parquet(tmp_path / "w.parquet")
    with pytest.raises(ModelError, match="share an id"):
        load_structure_encoder(tmp_path / "w.parquet")
    save_file({"walk7": per_residue[:6]}, tmp_path / "short.safetensors")
    with pytest.raises(DataError, match="6 vectors for the 7 residues"):
        load_structure_encoder(tmp_path / "short.safetensors").embed([walk(7)])


@pytest.mark.parametrize("odd", [np.full(4, np.nan), np.float32(3.0), np.zeros((2, 2, 4))])
def test_precomputed_vectors_are_finite_and_of_one_or_two_dimensions(tmp_path, odd):
    vectors = {"a": np.zeros(4, np.float32), "b": np.asarray(odd, np.float32)}
    save_file(vectors, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=r"odd: 1 of 2 entries are no finite vectors \(first: 'b'\)"):
        load_structure_encoder(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"hidden_dim": -3}, "hidden_dim is -3"),
        ({"hidden_dim": "abc"}, "hidden_dim is 'abc'"),
        ({"k_neighbors": 0}, "k_neighbors is 0"),
        ({"k_neighbors": True}, "k_neighbors is True"),
        ({"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_sizes_that_are_none_are_named(arguments, says):
    with pytest.raises(ConfigError, match=f"protein-mpnn: argument {says}"):
        new_structure_encoder("protein-mpnn", arguments)


def test_what_is_no_encoder_is_named(tmp_path):
    with pytest.raises(ModelError, match="there is no structure encoder 'nothing'"):
        load_structure_encoder("nothing")
    (tmp_path / "config.json").write_text('{"model_type": "esm"}')
    with pytest.raises(ModelError, match="not that of a structure encoder"):
        load_structure_encoder(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"structure_encoder": "protein-mpnn", "arguments": {"hidden_dim": 8}, "architectures": ["x"]}'
    )
    with pytest.raises(ModelError, match="a setting that protein-mpnn has not"):
        load_structure_encoder(tmp_path)
    with pytest.raises(ConfigError, match="has no argument 'width'"):
        new_structure_encoder("protein-mpnn", {"width": 3})
    with pytest.raises(ConfigError, match="unknown structure encoder 'mpnn'"):
        new_structure_encoder("mpnn")
