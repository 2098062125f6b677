"""What loads: whole ESM models by the flat path, others by their own call; nothing damaged or partial."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EsmcConfig,
    EsmcForMaskedLM,
    EsmcTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

from fixtures.builders import batch_of, enliven, lively_esm
from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.errors import ModelError
from protlm.models.loading import load_model
from protlm.scoring.plans import plans
from protlm.scoring.variants import score_variants
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.variant import parse_variant

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


@pytest.fixture
def esm(tmp_path):
    """The folder of a small ESM model."""
    lively_esm().save(tmp_path / "esm")
    return tmp_path / "esm"


def save_bert(folder, *, specials=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")):
    """Save a small BERT with a vocabulary of residues, as others publish them."""
    tokens = [*specials, *STANDARD]
    module = BertForMaskedLM(BertConfig(vocab_size=len(tokens), **SIZES)).eval()
    enliven(module)
    module.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens))
    return module


def save_roberta(folder):
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *STANDARD, "X", "<mask>"]
    module = RobertaForMaskedLM(
        RobertaConfig(vocab_size=len(tokens), **SIZES, bos_token_id=0, pad_token_id=1, eos_token_id=2)
    ).eval()
    enliven(module)
    module.save_pretrained(folder)
    RobertaTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[]).save_pretrained(
        folder
    )
    return module


def save_esmc(folder):
    """Save a small ESM-C as its publisher does: 64 rows of weights for 33 tokens."""
    module = EsmcForMaskedLM(EsmcConfig(**SIZES)).eval()
    enliven(module)
    module.save_pretrained(folder)
    EsmcTokenizer().save_pretrained(folder)
    return module


KINDS = {
    "bert": (save_bert, "[CLS]ACD[SEP]WY[SEP]", "[UNK]", 64),
    "roberta": (save_roberta, "<s>ACD</s>WY</s>", "X", 62),
    "esmc": (save_esmc, "<cls>ACD|WY<eos>", "X", None),
}


@pytest.fixture(params=KINDS)
def other(request, tmp_path):
    """A module that is no ESM model, its folder, and what its layout should be."""
    save, pair, unknown, max_tokens = KINDS[request.param]
    folder = tmp_path / request.param
    return save(folder), folder, pair, unknown, max_tokens


class TestOtherArchitectures:
    def test_special_tokens_are_those_of_the_tokenizer(self, other):
        _, folder, pair, unknown, max_tokens = other
        layout = load_model(folder, device="cpu").layout
        assert layout.decode(batch_of(layout, "ACD/WY").tokens.numpy()) == pair
        assert (layout.unknown, layout.max_tokens) == (unknown, max_tokens)

    def test_logits_and_hidden_states_are_the_modules_own(self, other):
        module, folder, *_ = other
        model = load_model(folder, device="cpu")
        assert ("no flat path" in model.path) != isinstance(module, RobertaForMaskedLM)
        batch = batch_of(model.layout, "ACDEFGHIKL", "MKT/WY", "GG")
        alone = [batch.select(np.array([number])).tokens[None] for number in range(3)]
        with torch.inference_mode():
            expected = torch.cat([module(input_ids=tokens).logits[0] for tokens in alone])
            assert expected.std() > 0.5
            torch.testing.assert_close(model.logits(batch), expected, atol=1e-5, rtol=0)
            states = torch.cat([module.base_model(tokens).last_hidden_state[0] for tokens in alone])
            torch.testing.assert_close(model.hidden(batch), states, atol=1e-5, rtol=0)

    def test_it_is_the_same_after_saving_and_loading(self, other, tmp_path):
        _, folder, *_ = other
        model = load_model(folder, device="cpu")
        for number in range(2):  # a saved copy can be saved again
            copy = tmp_path / f"copy{number}"
            model.save(copy)
            again = load_model(copy, device="cpu")
            assert again.layout == model.layout
            assert type(again.tokenizer) is type(model.tokenizer)
            batch = batch_of(model.layout, "ACDEF", "MKT/WY")
            with torch.inference_mode():
                assert torch.equal(again.logits(batch), model.logits(batch))
            (copy / FILE_NAME).unlink()  # and its tokenizer files alone say the same
            assert load_model(copy, device="cpu").layout == model.layout
            model = again

    @pytest.mark.parametrize("plan", ["masked_marginal", "wildtype_marginal"])
    def test_variants_are_scored(self, other, plan):
        module, folder, *_ = other
        model = load_model(folder, device="cpu")
        record = Record("w", (Chain("MKTAYIAK"),))
        score = score_variants(model, plans.get(plan)(), record, [parse_variant("T3W", "MKTAYIAK")]).scores
        tokens = batch_of(model.layout, record).tokens.clone()
        if plan == "masked_marginal":
            tokens[3] = model.layout.mask_id
        with torch.inference_mode():
            logprobs = module(input_ids=tokens[None]).logits[0, 3].log_softmax(-1)
        by_hand = logprobs[model.layout.ids["W"]] - logprobs[model.layout.ids["T"]]
        np.testing.assert_allclose(score, [by_hand.item()], atol=1e-5)

    def test_a_vocabulary_of_another_model_is_refused(self, tmp_path):
        save_bert(tmp_path / "m")
        with (tmp_path / "m" / "vocab.txt").open("a") as file:
            file.write("\nX")
        with pytest.raises(ModelError, match="weights for 25 tokens, but its vocabulary has 26"):
            load_model(tmp_path / "m", device="cpu")


class TestSeparator:
    def test_it_is_needed_only_for_several_chains(self):
        layout = TokenLayout(tokens=("<pad>", "<mask>", *STANDARD, "X"), begin=(), end=())
        assert batch_of(layout, "ACD", "W").tokens.tolist() == [layout.ids[letter] for letter in "ACDW"]
        with pytest.raises(ModelError, match="lacks the chain separator <cls>"):
            batch_of(layout, "ACD/W")
        with pytest.raises(ModelError, match="lacks the chain separator <eos>"):
            layout.with_separator("eos")


class TestDamage:
    @pytest.mark.parametrize("kind", ["esm", "bert"])
    def test_an_encoder_without_its_head_is_refused(self, esm, tmp_path, kind):
        folder = esm if kind == "esm" else tmp_path / "bert"
        module = lively_esm().module if kind == "esm" else save_bert(folder)
        module.base_model.save_pretrained(folder)
        with pytest.raises(ModelError, match=r"lacks \d weights .*\n.*without its language model head"):
            load_model(folder, device="cpu")

    def test_one_weight_less_is_refused_but_what_is_never_read_may_lack(self, esm):
        path = esm / "model.safetensors"
        weights = load_file(path)
        needless = ("contact_head", "position_ids", "inv_freq", "lm_head.decoder.weight")
        kept = {
            name: values for name, values in weights.items() if not any(part in name for part in needless)
        }
        assert len(kept) < len(weights)
        save_file(kept, path, metadata={"format": "pt"})
        load_model(esm, device="cpu")
        save_file(
            {k: v for k, v in kept.items() if "layer.1.attention.self.key.bias" not in k},
            path,
            metadata={"format": "pt"},
        )
        with pytest.raises(ModelError, match=r"lacks 1 weights .*layer\.1\.attention\.self\.key\.bias"):
            load_model(esm, device="cpu")

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_weights_cut_short_are_refused(self, esm, share):
        path = esm / "model.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match=r"weights of model 'esm' in .* are damaged: .*\n.*again"):
            load_model(esm, device="cpu")

    def test_weights_of_other_sizes_than_the_configuration_are_refused(self, esm):
        facts = json.loads((esm / "config.json").read_text())
        (esm / "config.json").write_text(json.dumps({**facts, "intermediate_size": 7}))
        with pytest.raises(ModelError, match="cannot load model 'esm'"):
            load_model(esm, device="cpu")

    def test_another_number_of_tokens_than_weights_is_refused(self, esm):
        facts = json.loads((esm / FILE_NAME).read_text())
        (esm / FILE_NAME).write_text(json.dumps({**facts, "tokens": [*facts["tokens"], "<new>"]}))
        with pytest.raises(ModelError, match="weights for 33 tokens, but its vocabulary has 34"):
            load_model(esm, device="cpu")

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "[1]", '{"format_version": 1}', "\xff"])
    def test_a_damaged_layout_is_refused(self, tmp_path, text):
        (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelError, match=rf"{FILE_NAME} is damaged"):
            TokenLayout.load(tmp_path)

    @pytest.mark.parametrize("name", ["tokens", "begin", "separator", "pad", "position_gap", "max_tokens"])
    def test_a_layout_that_lacks_a_value_is_refused_and_not_filled_in(self, esm, name):
        facts = json.loads((esm / FILE_NAME).read_text())
        del facts[name]
        (esm / FILE_NAME).write_text(json.dumps(facts))
        with pytest.raises(ModelError, match=rf"damaged .*{name}"):
            load_model(esm, device="cpu")

    def test_a_layout_of_the_first_format_is_read(self, esm):
        before = load_model(esm, device="cpu").layout
        facts = json.loads((esm / FILE_NAME).read_text())
        del facts["single_chain"], facts["merges"]
        (esm / FILE_NAME).write_text(json.dumps({**facts, "format_version": 1}))
        assert load_model(esm, device="cpu").layout == before
        (esm / FILE_NAME).write_text(json.dumps({**facts, "format_version": 2}))
        with pytest.raises(ModelError, match=r"damaged .*single_chain"):
            load_model(esm, device="cpu")

    def test_a_layout_of_a_later_format_is_refused(self, esm):
        facts = json.loads((esm / FILE_NAME).read_text())
        (esm / FILE_NAME).write_text(json.dumps({**facts, "format_version": 4}))
        with pytest.raises(ModelError, match="format 4; this protlm reads up to 3"):
            load_model(esm, device="cpu")
