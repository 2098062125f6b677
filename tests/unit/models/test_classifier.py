"""Heads on the begin token: Hugging Face's numbers, sliding windows kept, files that load everywhere."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM

from fixtures.builders import batch_of, enliven, lively_esm, random_residues
from protlm.errors import ModelError
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.classifier import load_classifier, sequence_classifier
from protlm.models.language_model import LanguageModel
from protlm.models.longformer import to_longformer
from protlm.models.padded import padded_inputs

CLOSE = {"atol": 1e-5, "rtol": 0}


def lively_roberta():
    config = RobertaArchitecture.Config(num_layers=2, hidden_size=16, num_heads=2, max_tokens=32)
    model = config.build(seed=0)
    enliven(model.module)
    return model.eval()


def lively_longformer(window=8):
    return to_longformer(lively_roberta(), max_tokens=64, window=window)


MODELS = {"esm": lively_esm, "roberta": lively_roberta, "longformer": lively_longformer}


@pytest.fixture(params=MODELS)
def classifier(request):
    made = sequence_classifier(MODELS[request.param](), 3, labels=["a", "b", "c"], seed=5)
    enliven(made.module.classifier)
    return made.eval()


def batch_for(layout, lengths=(30, 5, 17, 8)):
    random = np.random.default_rng(0)
    residues = [random_residues(random, length - 2) for length in lengths]
    return batch_of(layout, *residues, "ACD/EFGHI")


def alone(module, batch):
    """Hugging Face's own call on one sequence at a time."""
    parts = [batch.select(np.array([number])).tokens[None] for number in range(batch.num_sequences)]
    return torch.cat([module(input_ids=tokens).logits for tokens in parts])


def test_logits_are_those_of_hugging_face(classifier):
    batch = batch_for(classifier.layout)
    with torch.inference_mode():
        logits = classifier(batch)
        assert logits.shape == (5, 3)
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, alone(classifier.module, batch), **CLOSE)


def test_a_folder_loads_with_plain_transformers_and_here(classifier, tmp_path):
    classifier.save(tmp_path / "model")
    plain, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    again = load_classifier(tmp_path / "model")
    batch = batch_for(classifier.layout)
    with torch.inference_mode():
        expected = classifier(batch)
        torch.testing.assert_close(alone(plain.eval(), batch), expected, **CLOSE)
        assert torch.equal(again(batch), expected)
    assert again.layout == classifier.layout
    assert plain.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_the_encoder_is_that_of_the_language_model(classifier):
    kind = classifier.module.config.model_type
    own = MODELS[kind]().module.base_model.state_dict()
    for name, values in classifier.module.base_model.state_dict().items():
        assert torch.equal(values, own[name]), name


def test_the_head_depends_on_its_seed_alone():
    model = lively_roberta()
    one, same, other = (sequence_classifier(model, 2, seed=seed) for seed in (1, 1, 2))
    weights = [each.module.classifier.dense.weight for each in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_weight_that_is_trained_gets_a_gradient(classifier):
    F.cross_entropy(classifier(batch_for(classifier.layout)), torch.tensor([0, 1, 2, 0, 1])).backward()
    without = [
        name for name, weight in classifier.named_parameters() if weight.requires_grad and weight.grad is None
    ]
    assert without == []


class TestLongformer:
    def test_windows_stay_in_the_file(self, tmp_path):
        sequence_classifier(lively_longformer(), 2).save(tmp_path)
        facts = json.loads((tmp_path / "config.json").read_text())
        assert (facts["model_type"], facts["attention_window"]) == ("longformer", [8, 8])
        assert facts["architectures"] == ["LongformerForSequenceClassification"]

    def test_the_begin_token_sees_and_is_seen_by_all_and_others_see_their_window(self):
        """With one layer, the state of a residue moves with those in its window and the begin token alone."""
        config = RobertaArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2, max_tokens=32)
        start = config.build(seed=0)
        enliven(start.module)
        made = sequence_classifier(to_longformer(start.eval(), max_tokens=64, window=8), 2).eval()
        batch = batch_for(made.layout, lengths=(40,)).select(np.array([0]))
        inputs = padded_inputs(made.module, made.layout, batch, name="")
        embeddings = made.module.longformer.embeddings.word_embeddings(inputs.pop("input_ids"))
        embeddings = embeddings.detach().requires_grad_()
        is_global = torch.zeros_like(inputs["attention_mask"])
        is_global[:, 0] = 1
        states = made.module.longformer(
            inputs_embeds=embeddings, global_attention_mask=is_global, **inputs
        ).last_hidden_state

        def seen_from(token):
            (gradient,) = torch.autograd.grad(states[0, token].sum(), embeddings, retain_graph=True)
            return set(gradient[0].abs().sum(-1).nonzero().flatten().tolist())

        assert seen_from(0) == set(range(40))
        assert seen_from(20) == {0, *range(16, 25)}

    def test_far_residues_reach_the_head(self):
        made = sequence_classifier(lively_longformer(), 2).eval()
        one, other = "A" * 55 + "W", "A" * 55 + "D"
        with torch.inference_mode():
            logits = made(batch_of(made.layout, one, other))
        assert (logits[0] - logits[1]).abs().max() > 1e-6

    @pytest.mark.parametrize("renew", [True, False])
    def test_global_projections_are_renewed_after_masked_training_or_kept(self, renew):
        model = lively_longformer()
        own = model.module.longformer.encoder.layer[0].attention.self
        before = own.query_global.weight.clone()
        with torch.no_grad():
            own.query.weight += 1.0  # as training moves it
        made = sequence_classifier(model, 2, renew_global=renew)
        copied = made.module.longformer.encoder.layer[0].attention.self
        expected = own.query.weight if renew else before
        assert torch.equal(copied.query_global.weight, expected)
        assert copied.query_global.weight.data_ptr() != copied.query.weight.data_ptr()
        assert copied.query_global.weight.requires_grad


class TestRefused:
    def test_architectures_without_a_path(self):
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        module = BertForMaskedLM(BertConfig(vocab_size=33, intermediate_size=32, **sizes))
        model = LanguageModel(module, lively_esm().layout, name="bert")
        with pytest.raises(ModelError, match=r"is of type 'bert', which has no .*\n.*esm, roberta, longf"):
            sequence_classifier(model, 2)

    def test_names_that_do_not_fit(self):
        with pytest.raises(ModelError, match="2 names for 3 labels: a, b"):
            sequence_classifier(lively_esm(), 3, labels=["a", "b"])

    def test_a_language_model_is_no_classifier(self, tmp_path):
        lively_roberta().save(tmp_path)
        with pytest.raises(ModelError, match="no classifier: it is of type 'roberta' and lacks 4 weights"):
            load_classifier(tmp_path)

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(ModelError, match="nowhere is no classifier of ours"):
            load_classifier(tmp_path / "nowhere")
