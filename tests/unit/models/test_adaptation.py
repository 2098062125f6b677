"""Low-rank adapters: where they are, what is trained, and the plain model they merge into."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForMaskedLM

from fixtures.builders import batch_of, lively_esm
from protlm.errors import ConfigError
from protlm.models.adaptation import (
    LoraAdaptation,
    is_adapted,
    merged_weights,
    num_trained,
    save_adapter,
)

PAIR = "QVQLVESGG/DIQMTQ"


def adapted(*, alive=True, **settings):
    model = lively_esm()
    LoraAdaptation.Config(rank=3, **settings).apply(model, seed=1)
    if alive:
        enliven_adapters(model)
    return model.eval()


def enliven_adapters(model):
    """Move the adapters off 0, where training begins."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=random))


def logits(model):
    with torch.inference_mode():
        return model.logits(batch_of(model.layout, PAIR, "ACDEFG"))


def test_a_fresh_adapter_changes_nothing():
    torch.testing.assert_close(logits(adapted(alive=False)), logits(lively_esm()))


def test_only_the_adapters_of_the_targets_are_trained():
    """Width 16, rank 3, two layers, query and value: 2 · 2 · 3 · (16 + 16) = 384."""
    model = adapted(targets=("query", "value"))
    assert is_adapted(model.module)
    assert num_trained(model.module) == 384
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".lora_" in name and (".query." in name or ".value." in name) for name in trained)
    assert not is_adapted(lively_esm().module)


def test_the_flat_forward_pass_reads_the_adapters_as_hugging_face_does():
    model = adapted()
    assert (logits(model) - logits(lively_esm())).abs().max() > 0.1
    batch = batch_of(model.layout, PAIR)
    with torch.inference_mode():
        theirs = model.module(
            input_ids=batch.tokens[None], attention_mask=torch.ones_like(batch.tokens[None])
        )
    torch.testing.assert_close(model.logits(batch), theirs.logits[0], atol=1e-4, rtol=1e-4)


def test_the_initial_weights_come_from_the_seed_alone():
    before = torch.get_rng_state()
    one, same = (adapted(alive=False).module.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    other = lively_esm()
    LoraAdaptation.Config(rank=3).apply(other, seed=2)
    name = "esm.encoder.layer.0.attention.self.query.lora_A.default.weight"
    assert not torch.equal(other.module.state_dict()[name], one[name])


class TestSaved:
    @pytest.fixture
    def saved(self, tmp_path):
        model = adapted(alpha=7.0)
        own = model.module.state_dict()
        save_adapter(model.module, own, tmp_path / "adapter")
        model.save(tmp_path / "model", merged_weights(model.module, own))
        lively_esm().save(tmp_path / "base")
        return model

    def test_the_merged_weights_load_as_a_plain_model_with_the_same_logits(self, saved, tmp_path):
        plain, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "model", output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert not [name for name, _ in plain.named_modules() if "lora" in name]
        batch = batch_of(saved.layout, PAIR)
        with torch.inference_mode():
            theirs = plain.eval()(input_ids=batch.tokens[None]).logits[0]
        torch.testing.assert_close(theirs, saved.logits(batch), atol=1e-4, rtol=1e-4)

    def test_a_merged_weight_is_the_sum_that_the_paper_writes(self, saved):
        own = saved.module.state_dict()
        prefix = "esm.encoder.layer.1.output.dense"
        a, b = own[f"{prefix}.lora_A.default.weight"], own[f"{prefix}.lora_B.default.weight"]
        expected = own[f"{prefix}.base_layer.weight"].double() + 7 / 3 * b.double() @ a.double()
        merged = merged_weights(saved.module, own)[f"{prefix}.weight"]
        np.testing.assert_allclose(merged, expected, atol=1e-5)

    def test_peft_reads_the_adapters_beside_the_base_model(self, saved, tmp_path):
        settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
        assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 3, 7.0)
        base = AutoModelForMaskedLM.from_pretrained(tmp_path / "base")
        theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
        batch = batch_of(saved.layout, PAIR)
        with torch.inference_mode():
            found = theirs(input_ids=batch.tokens[None]).logits[0]
        torch.testing.assert_close(found, saved.logits(batch), atol=1e-4, rtol=1e-4)


def test_a_target_that_is_no_layer_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"no linear layer of model is 'qurey'\n.*query"):
        LoraAdaptation.Config(targets=("query", "qurey")).apply(lively_esm(), seed=0)
