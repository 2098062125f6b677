"""Attention maps against Hugging Face's own, and the correction by hand."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from fixtures.builders import batch_of, enliven, lively_esm
from fixtures.subwords import SUBWORDS
from protlm.data.layout import esm_layout
from protlm.errors import ModelError
from protlm.explain.attention import apc, attention_between, attention_maps, residue_tokens
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.language_model import LanguageModel
from protlm.models.longformer import to_longformer

SEQUENCES = ("QVQLVE/DIQMT", "MKTAYIAKQR", "GG/A/QVQLVESGGG", "A")


def lively_roberta(**sizes) -> LanguageModel:
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "ffn_size": 24, **sizes}
    model = RobertaArchitecture.Config(**sizes).build(seed=0)
    enliven(model.module)
    return model.eval()


def eager(model: LanguageModel, batch) -> list[torch.Tensor]:
    """Each sequence alone through the stock call."""
    module = type(model.module)(model.module.config)
    module.load_state_dict(model.module.state_dict())
    module.set_attn_implementation("eager")
    maps = []
    for start, stop in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        with torch.no_grad():
            found = module.eval()(batch.tokens[None, start:stop], output_attentions=True).attentions
        maps.append(torch.stack([each[0] for each in found]))
    return maps


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lively_esm(positions="rotary"), id="rotary"),
        pytest.param(lively_esm(positions="learned", max_tokens=64), id="learned"),
        pytest.param(lively_roberta(), id="roberta"),
    ],
)
def test_flat_maps_are_those_of_hugging_face(model):
    batch = batch_of(model.layout, *SEQUENCES)
    batch.tokens[3] = model.layout.mask_id
    found = attention_maps(model, batch)
    for ours, theirs in zip(found, eager(model, batch), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert found[0].std(dim=-1).max() > 0.05  # they are not flat, so that an error would show


def test_a_window_is_kept():
    wide, narrow = (lively_esm(window=window) for window in (None, 3))
    batch = batch_of(narrow.layout, "QVQLVESGGGLV")
    (full,), (cut,) = attention_maps(wide, batch), attention_maps(narrow, batch)
    place = torch.arange(len(batch.tokens))
    inside = (place[:, None] - place).abs() <= 3
    assert (cut[:, :, ~inside] == 0).all()
    masked = full[0] * inside
    torch.testing.assert_close(cut[0], masked / masked.sum(dim=-1, keepdim=True), atol=1e-5, rtol=0)


def other_architecture() -> LanguageModel:
    layout = esm_layout()
    config = BertConfig(
        vocab_size=len(layout.tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        pad_token_id=layout.pad_id,
    )
    module = BertForMaskedLM(config)
    enliven(module)
    return LanguageModel(module, layout, name="bert").eval()


def test_other_architectures_are_asked_and_left_as_they_were():
    model = other_architecture()
    before = model.module.config._attn_implementation
    batch = batch_of(model.layout, *SEQUENCES)
    found = attention_maps(model, batch)
    assert model.module.config._attn_implementation == before
    for ours, theirs in zip(found, eager(model, batch), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_longformer_attends_as_its_roberta_within_its_window():
    short = lively_roberta(max_tokens=32)
    wide, narrow = (to_longformer(short, max_tokens=64, window=window) for window in (32, 8))
    batch = batch_of(short.layout, "QVQLVESG/DIQ")
    (full,), (same,), (cut,) = (attention_maps(each.eval(), batch) for each in (short, wide, narrow))
    torch.testing.assert_close(same, full, atol=1e-5, rtol=0)
    place = torch.arange(len(batch.tokens))
    assert cut[:, :, (place[:, None] - place).abs() > 4].eq(0).all()


def test_a_model_without_full_maps_is_refused_by_name():
    model = to_longformer(lively_roberta(max_tokens=32), max_tokens=64, window=32, name="long")
    config = model.module.config
    config.attention_window = [16, 32]  # unequal windows have no flat path
    model = LanguageModel(type(model.module)(config), model.layout, name="long").eval()
    with pytest.raises(ModelError, match=r"model 'long' .LongformerForMaskedLM. gives no attention map"):
        attention_maps(model, batch_of(model.layout, "QVQ/DI"))


def test_hooks_are_taken_off_even_after_an_error():
    model = lively_esm()
    batch = batch_of(model.layout, "QVQ")
    attention_maps(model, batch)
    batch.tokens[1] = 10_000
    with pytest.raises(IndexError):
        attention_maps(model, batch)
    assert not any(module._forward_hooks for module in model.modules())


def test_apc_by_hand():
    rows = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 4.0]])
    # sums 3, 5, 8; total 16
    expected = rows - torch.tensor([[9.0, 15, 24], [15, 25, 40], [24, 40, 64]]) / 16
    torch.testing.assert_close(apc(rows), expected)
    assert apc(torch.zeros(2, 3, 3)).eq(0).all()


def test_block_between_chains_leaves_special_tokens_out_before_the_correction():
    model = lively_esm()
    batch = batch_of(model.layout, "QVQ/DI")
    (maps,) = attention_maps(model, batch)
    is_first = torch.tensor([True, True, True, False, False])
    found = attention_between(model, batch, is_first)
    assert found.shape == (2, 2, 3, 2)
    places = [1, 2, 3, 6, 7]  # begin, Q, V, Q, two separators, D, I, end
    for layer in range(2):
        for head in range(2):
            plain = maps[layer, head].numpy().astype(np.float64)[np.ix_(places, places)]
            both = plain + plain.T
            corrected = both - np.outer(both.sum(1), both.sum(0)) / both.sum()
            np.testing.assert_allclose(found[layer, head], corrected[:3, 3:], atol=1e-6)


def test_residues_under_one_sub_word_share_its_attention():
    config = RobertaConfig(
        vocab_size=len(SUBWORDS.tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        pad_token_id=SUBWORDS.pad_id,
    )
    module = RobertaForMaskedLM(config)
    enliven(module)
    model = LanguageModel(module, SUBWORDS).eval()
    batch = batch_of(SUBWORDS, "MLLAB/LLLX")  # <s> M LLA <unk> </s> </s> LL L X </s>
    assert residue_tokens(batch).tolist() == [1, 2, 2, 2, 3, 6, 6, 7, 8]
    block = attention_between(model, batch, torch.tensor([True] * 5 + [False] * 4))
    assert block.shape == (2, 2, 5, 4)
    torch.testing.assert_close(block[..., 1, :], block[..., 3, :])
    torch.testing.assert_close(block[..., 0], block[..., 1])
    assert (block[..., 0, :] - block[..., 1, :]).abs().max() > 1e-3


def test_one_sequence_at_a_time():
    model = lively_esm()
    with pytest.raises(ValueError, match="one sequence, not 2"):
        attention_between(model, batch_of(model.layout, "A/A", "A/A"), torch.tensor([True, False]))
