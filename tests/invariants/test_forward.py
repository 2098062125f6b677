"""The flat forward pass is the Hugging Face call, whatever stands beside a sequence in its batch."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from fixtures.builders import as_record, batch_of, lively_esm, random_records, with_tokens
from protlm.data.layout import SEPARATORS, TokenLayout, esm_layout
from protlm.errors import ConfigError, ModelError
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model

CLOSE = {"atol": 1e-5, "rtol": 0}
KINDS = {
    "rotary": {},
    "rotary, token dropout": {"token_dropout": True},
    "learned": {"positions": "learned", "max_tokens": 128},
    "learned, token dropout": {"positions": "learned", "max_tokens": 128, "token_dropout": True},
}


@pytest.fixture(scope="module", params=KINDS)
def models(request):
    """The same weights with both attention paths."""
    sizes = KINDS[request.param]
    return {attention: lively_esm(attention=attention, **sizes) for attention in ("grouped", "padded")}


@pytest.fixture(scope="module")
def records():
    return random_records(12, seed=4)


def masked(batch, layout, share=0.2, seed=0):
    """Put the mask at some residues, a different share of them in each sequence."""
    random = np.random.default_rng(seed)
    shares = random.uniform(0, 2 * share, batch.num_sequences)[batch.sequence_index.numpy()]
    places = np.flatnonzero((random.random(len(batch.tokens)) < shares) & batch.is_residue.numpy())
    return with_tokens(batch, dict.fromkeys(places.tolist(), layout.mask_id))


def logits(model, batch, rows=None):
    with torch.inference_mode():
        return model.logits(batch, rows)


def stock_logits(model, batch):
    """Logits from Hugging Face's own call on a padded rectangle, back in flat order."""
    tokens = batch.pad(batch.tokens, model.layout.pad_id)
    mask = batch.pad(torch.ones_like(batch.tokens), 0)
    with torch.inference_mode():
        return batch.unpad(model.module(input_ids=tokens, attention_mask=mask).logits)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_flat_logits_are_hugging_faces_own(models, records, attention):
    model = models[attention]
    batch = masked(batch_of(model.layout, *records), model.layout)
    ours = logits(model, batch)
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, stock_logits(model, batch), **CLOSE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_hidden_states_are_hugging_faces_own(models, records, attention):
    model = models[attention]
    batch = batch_of(model.layout, *records)
    tokens = batch.pad(batch.tokens, model.layout.pad_id)
    mask = batch.pad(torch.ones_like(batch.tokens), 0)
    with torch.inference_mode():
        stock = batch.unpad(model.module.esm(input_ids=tokens, attention_mask=mask).last_hidden_state)
        torch.testing.assert_close(model.hidden(batch), stock, **CLOSE)


def test_grouped_attention_equals_padded_attention(models, records):
    layout = models["grouped"].layout
    batch = masked(batch_of(layout, *records), layout, seed=1)
    torch.testing.assert_close(logits(models["grouped"], batch), logits(models["padded"], batch), **CLOSE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_logits_of_a_sequence_do_not_depend_on_its_batch(models, records, attention):
    model = models[attention]
    batch = masked(batch_of(model.layout, *records), model.layout, seed=2)
    random = np.random.default_rng(0)
    alone = [logits(model, batch.select(np.array([number]))) for number in range(len(records))]
    for _ in range(6):
        chosen = random.integers(0, len(records), int(random.integers(2, 9)))
        together = logits(model, batch.select(chosen))
        torch.testing.assert_close(together, torch.cat([alone[number] for number in chosen]), **CLOSE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("share", [0.02, 0.15, 0.8, 1.0])
def test_reading_some_rows_gives_those_rows(models, records, share, attention):
    model = models[attention]
    batch = masked(batch_of(model.layout, *records), model.layout, seed=3)
    chosen = np.random.default_rng(1).random(len(batch.tokens)) < share
    rows = torch.from_numpy(np.flatnonzero(chosen))
    torch.testing.assert_close(logits(model, batch, rows), logits(model, batch)[rows], **CLOSE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_reading_no_rows_gives_no_logits(attention):
    model = lively_esm(attention=attention)
    none = torch.zeros(0, dtype=torch.int64)
    assert logits(model, batch_of(model.layout, "ACD", "ACDEF"), none).shape == (0, 33)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_token_dropout_counts_masks_per_sequence_and_not_per_packed_row(attention):
    """The published bug: one mask share for a whole row of packed sequences."""
    model = lively_esm(attention=attention, token_dropout=True)
    packed = batch_of(model.layout, "MKTAYIAKQRQISF", "MKTAYIAKQRQISF", "GGSW")
    packed = with_tokens(packed, dict.fromkeys(range(2, 12), model.layout.mask_id))
    shares = torch.zeros(3).index_add_(0, packed.sequence_index, (packed.tokens == 32).float())
    assert shares.tolist() == [10, 0, 0]
    alone = [logits(model, packed.select(np.array([number]))) for number in range(3)]
    torch.testing.assert_close(logits(model, packed), torch.cat(alone), **CLOSE)
    # the masks of the first sequence do move its own logits
    assert (alone[0][-1] - alone[1][-1]).abs().max() > 0.1


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_the_gradient_through_some_rows_is_that_of_the_full_pass(models, records, attention):
    model = deepcopy(models[attention]).double()
    batch = masked(batch_of(model.layout, *records), model.layout, seed=5)
    rows = torch.from_numpy(np.flatnonzero(np.random.default_rng(2).random(len(batch.tokens)) < 0.15))
    targets = batch.tokens[rows]

    def gradients(picked):
        model.zero_grad()
        torch.nn.functional.cross_entropy(picked, targets, reduction="sum").backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    full = gradients(model.logits(batch)[rows])
    pruned = gradients(model.logits(batch, rows))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(full) == set(pruned) == trained
    for name, gradient in full.items():
        torch.testing.assert_close(pruned[name], gradient, atol=1e-10, rtol=1e-10, msg=name)


def test_the_gradient_is_that_of_hugging_faces_own_call(models, records):
    model = deepcopy(models["grouped"]).double()
    batch = masked(batch_of(model.layout, *records), model.layout, seed=6)
    tokens, mask = batch.pad(batch.tokens, model.layout.pad_id), batch.pad(torch.ones_like(batch.tokens), 0)

    def gradients(flat):
        model.zero_grad()
        torch.nn.functional.cross_entropy(flat, batch.tokens.roll(1), reduction="sum").backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    stock = gradients(batch.unpad(model.module(input_ids=tokens, attention_mask=mask).logits))
    ours = gradients(model.logits(batch))
    for name in ours:
        # the scale of token dropout and the rotary angles are float32 in both
        torch.testing.assert_close(ours[name], stock[name], atol=1e-3, rtol=1e-4, msg=name)


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_saved_model_loads_in_plain_hugging_face_and_gives_the_same_logits(models, tmp_path, separator):
    model = models["grouped"]
    tokens = list(model.layout.tokens)
    tokens[31] = {"sep": "<sep>", "pipe": "|"}.get(separator, tokens[31])
    layout = replace(model.layout, tokens=tuple(tokens)).with_separator(separator)
    model = LanguageModel(model.module, layout, attention="grouped")
    model.save(tmp_path)
    texts = ["MKTAYIAKQRX", "QVQLBZUO"]
    stock = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    batch = batch_of(model.layout, *texts)
    assert batch.unpad(tokens.input_ids).tolist() == batch.tokens.tolist()
    with torch.inference_mode():
        theirs = batch.unpad(stock(**tokens).logits)
    torch.testing.assert_close(logits(model, batch), theirs, **CLOSE)


def test_a_saved_model_loads_here_with_its_layout_and_gives_the_same_bits(models, records, tmp_path):
    model = models["grouped"]
    layout = replace(model.layout.with_separator("eos-eos"), position_gap=7)
    model = LanguageModel(model.module, layout, attention="grouped")
    model.save(tmp_path)
    loaded = load_model(tmp_path, device="cpu")
    assert loaded.layout == layout
    assert not loaded.training
    batch = batch_of(layout, *records)
    assert torch.equal(logits(loaded, batch), logits(model, batch))


@pytest.mark.parametrize(
    "layout",
    [
        esm_layout(),
        esm_layout(max_tokens=1024, separator="eos"),
        replace(esm_layout(), begin=(), end=("<eos>", "<eos>"), position_gap=25, unknown="<unk>"),
    ],
    ids=["esm2", "esm1b", "unlike any other"],
)
def test_a_token_layout_comes_back_from_disk_as_it_was(layout, tmp_path):
    layout.save(tmp_path)
    assert TokenLayout.load(tmp_path) == layout


def test_a_layout_refuses_a_vocabulary_without_what_it_needs():
    with pytest.raises(ModelError, match="the vocabulary lacks <mask>, W"):
        TokenLayout(tokens=tuple(token for token in esm_layout().tokens if token not in ("<mask>", "W")))
    with pytest.raises(ConfigError, match="eos-eos"):
        esm_layout(separator="eos-eso")


def test_a_position_gap_moves_later_chains_only():
    """Begin 0, A 1, C 2, separators 3 and 4, then D at 5 + 10 and E at 16 + 10, end behind it."""
    layout = replace(esm_layout(), position_gap=10)
    batch = batch_of(layout, "W", "AC/DE/F", "AC")
    assert [
        batch.positions[a:b].tolist() for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    ] == [
        [0, 1, 2],
        [0, 1, 2, 3, 4, 15, 16, 17, 18, 29, 30],
        [0, 1, 2, 3],
    ]


def test_a_position_gap_changes_logits_of_pairs_and_not_of_single_chains():
    model = lively_esm()
    gapped = LanguageModel(model.module, replace(model.layout, position_gap=10)).eval()
    both = [as_record("MKTAYIAK"), as_record("MKTA/YIAK")]
    plain, moved = (logits(each, batch_of(each.layout, *both)) for each in (model, gapped))
    assert torch.equal(plain[:10], moved[:10])
    assert (plain[10:] - moved[10:]).abs().max() > 0.1


def test_learned_positions_see_the_gap_as_that_many_places_further_on():
    """A gap of 2 is two more separator places: the second chain gets the embeddings from there."""
    model = lively_esm(positions="learned", max_tokens=64)
    layout = replace(model.layout, position_gap=2)
    batch = batch_of(layout, "ACD/EFG")
    by_hand = replace(batch, positions=torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, 10, 11]))
    assert torch.equal(logits(model, batch), logits(model, by_hand))
    assert (logits(model, batch) - logits(model, batch_of(model.layout, "ACD/EFG"))).abs().max() > 0.01


def test_bfloat16_keeps_the_rotary_frequencies_in_float32():
    model = lively_esm(hidden_size=32)
    kept = {name: value.clone() for name, value in model.module.named_buffers() if name.endswith("inv_freq")}
    assert kept
    batch = batch_of(model.layout, "MKTAYIAKQRQISFVKSHFSRQ" * 4, "MKTAY")
    before = logits(model, batch)
    model.cast("bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for name, value in kept.items():
        assert torch.equal(model.module.get_buffer(name), value)
        assert model.module.get_buffer(name).dtype == torch.float32
    after = logits(model, batch)
    assert after.dtype == torch.bfloat16
    correlation = torch.corrcoef(torch.stack([before.flatten(), after.float().flatten()]))[0, 1]
    assert correlation > 0.999


@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_bfloat16_logits_do_not_mix_sequences(attention):
    model = lively_esm(attention=attention, token_dropout=True, hidden_size=32).cast("bfloat16")
    batch = masked(batch_of(model.layout, "MKTAYIAKQR", "GGSWFLL", "MKTAYIAKQRQISFVK"), model.layout)
    alone = torch.cat([logits(model, batch.select(np.array([number]))) for number in range(3)])
    torch.testing.assert_close(logits(model, batch), alone, atol=0.2, rtol=0.05)
