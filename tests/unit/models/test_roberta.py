"""A new RoBERTa: its sizes as published, its layouts, and what is refused."""

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from fixtures.builders import batch_of, enliven
from protlm.data.layout import FILE_NAME, layout_of_vocabulary
from protlm.errors import ConfigError, ModelError
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.loading import load_model

TINY = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "max_tokens": 32}


def test_the_published_size_has_the_parameters_counted_by_hand():
    """12 × 768 of binding pairs, with 25 tokens in place of 10,261."""
    width, inner, tokens, positions = 768, 3072, 25, 514
    attention, feed_forward, norm = 4 * (width * width + width), 2 * width * inner + inner + width, 2 * width
    layer = attention + feed_forward + 2 * norm
    head = width * width + width + norm + tokens
    expected = (tokens + positions + 1) * width + norm + 12 * layer + head
    config = RobertaArchitecture.Config(num_layers=12, hidden_size=768, num_heads=12)
    with torch.device("meta"):
        model = config.build(seed=0)
    assert model.num_parameters == expected
    sizes = model.module.config
    assert (sizes.type_vocab_size, sizes.max_position_embeddings, sizes.layer_norm_eps) == (1, 514, 1e-5)
    assert (sizes.hidden_dropout_prob, sizes.attention_probs_dropout_prob) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("vocabulary", "single", "pair"),
    [
        ("balm", "<s>AC<unk>D</s>", "<s>AC</s></s>WY</s>"),
        ("roberta", "<s>ACUD</s>", "<s>AC</s></s>WY</s>"),
    ],
)
def test_chains_are_written_as_published(vocabulary, single, pair):
    layout = RobertaArchitecture.Config(**TINY, vocabulary=vocabulary).layout
    assert layout.decode(batch_of(layout, "ACUD").tokens.numpy()) == single
    assert layout.decode(batch_of(layout, "AC/WY").tokens.numpy()) == pair


def test_it_takes_as_many_tokens_as_it_says_and_loads_everywhere(tmp_path):
    model = RobertaArchitecture.Config(**TINY, dropout=0.0).build(seed=0)
    enliven(model.module)
    model.eval().save(tmp_path / "model")
    longest = "ACDEFGHIKLMNPQRSTVWY" + "ACDEFGHIKL"
    batch = batch_of(model.layout, longest, "AC/DEF")
    assert batch.lengths.tolist() == [32, 9]
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model", device="cpu")
    with torch.inference_mode():
        logits = model.logits(batch)
        assert logits.std() > 0.3
        theirs = plain(**tokenizer(longest, return_tensors="pt")).logits[0]
        torch.testing.assert_close(logits[:32], theirs, atol=1e-5, rtol=0)
        assert torch.equal(again.logits(batch), logits)
    assert again.layout == model.layout


def test_weights_depend_on_the_seed_alone():
    config = RobertaArchitecture.Config(**TINY)
    one, same, other = (config.build(seed=seed).module.state_dict() for seed in (1, 1, 2))
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


def test_a_tokenizers_folder_is_a_vocabulary(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    layout_of_vocabulary("roberta", separator="eos", max_tokens=9).save(folder)
    assert (folder / FILE_NAME).exists()
    layout = RobertaArchitecture.Config(**TINY, vocabulary=str(folder)).layout
    assert (len(layout.tokens), layout.separator_text, layout.max_tokens) == (31, "</s></s>", 32)


class TestRefused:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"hidden_size": 15}, "hidden_size 15 is not a multiple of num_heads 2"),
            ({"vocabulary": "esm"}, "vocabulary 'esm' writes <cls>CHAIN<eos>, and this .* <s>CHAIN</s>"),
            ({"vocabulary": "balm", "separator": "pipe"}, "lacks the chain separator"),
            ({"type_vocab_size": 2}, "unknown key"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            RobertaArchitecture.Config.from_dict({**TINY, **settings})

    def test_a_vocabulary_that_is_nowhere(self):
        config = RobertaArchitecture.Config(**TINY, vocabulary="blam")
        with pytest.raises(ConfigError, match=r"'blam' is neither .*\n.*mean 'balm'.*tokenizer train"):
            config.build(seed=0)

    def test_a_folder_of_another_family(self, tmp_path):
        layout_of_vocabulary("esm").save(tmp_path)
        config = RobertaArchitecture.Config(**TINY, vocabulary=str(tmp_path), separator="cls-cls")
        with pytest.raises(ModelError, match="and this architecture <s>CHAIN</s>"):
            config.build(seed=0)
