"""A model's fingerprint changes with everything that changes its numbers, and with nothing else."""

import torch

from fixtures.builders import lively_esm
from protlm.models.digest import model_digest
from protlm.models.loading import load_model


def test_weights_configuration_and_tokens_all_count():
    model = lively_esm(seed=1, num_layers=1)
    digest = model_digest(model)
    assert model_digest(lively_esm(seed=1, num_layers=1)) == digest
    assert model_digest(lively_esm(seed=2, num_layers=1)) != digest
    for name, value in (
        ("token_dropout", True),
        ("layer_norm_eps", 1e-12),
        ("position_embedding_type", "none"),
    ):
        before = getattr(model.module.config, name)
        setattr(model.module.config, name, value)
        assert model_digest(model) != digest, name
        setattr(model.module.config, name, before)
    assert model_digest(model) == digest
    assert model_digest(lively_esm(seed=1, num_layers=1, num_heads=1)) != digest  # the same weights


def test_where_a_model_is_does_not_count(tmp_path):
    model = lively_esm(seed=1, num_layers=1)
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    one, two = (load_model(str(tmp_path / name), device="cpu") for name in "ab")
    assert model_digest(one) == model_digest(two) == model_digest(model)
    one.module.to(torch.bfloat16)
    assert model_digest(one) != model_digest(two)
