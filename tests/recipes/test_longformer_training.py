"""Masked training of a Longformer goes on where its RoBERTa stopped, resumes, and loads everywhere."""

import signal

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from fixtures.builders import batch_of, random_records
from protlm.data.corpus import write_corpus
from protlm.errors import Interrupted, ModelError
from protlm.models.loading import load_model
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.recipes.pretrain_plan import dry_run
from protlm.training.mlm_job import MlmJob

SIZES = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "max_tokens": 32}


def run(config, out, **options):
    return pretrain(config, out, device="cpu", say=options.pop("say", lambda _: None), **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a corpus of short and long records, and the finished Run of a RoBERTa."""
    folder = tmp_path_factory.mktemp("trained")
    records = [
        *random_records(30, seed=1, lengths=(10, 25), pairs=False),
        *random_records(20, seed=2, lengths=(30, 60)),
    ]
    write_corpus(folder / "corpus", records)
    config = PretrainConfig.from_dict(
        {
            "data": {"train": str(folder / "corpus"), "long_records": "drop"},
            "model": {"kind": "roberta", **SIZES},
            "masking": "uniform",
            "training": {"max_steps": 4, "step_tokens": 200, "tensorboard": False, "keep": "last"},
        }
    )
    run(config, folder / "roberta")
    return folder


def config_of(folder, **model):
    return PretrainConfig.from_dict(
        {
            "data": {"train": str(folder / "corpus"), "eval": str(folder / "corpus")},
            "model": {
                "kind": "longformer",
                "start": str(folder / "roberta"),
                "max_tokens": 128,
                "window": 16,
                **model,
            },
            "masking": "uniform",
            "training": {
                "max_steps": 4,
                "step_tokens": 400,
                "micro_tokens": 150,
                "save_every": 2,
                "eval_every": 2,
                "log_every": 1,
                "tensorboard": False,
                "keep": "last",
                "optimizer": {"learning_rate": 1e-2, "warmup_steps": 1},
            },
        }
    )


@pytest.fixture(scope="module")
def longer(trained):
    said = []
    finished = run(config_of(trained), trained / "longer", say=said.append)
    return finished, "\n".join(said)


def weights(finished):
    return load_file(finished.model_path / "model.safetensors")


def test_it_starts_from_the_roberta_and_says_how_it_computes(trained, longer):
    finished, said = longer
    assert "attention within 8 tokens on each side" in said
    start, end = weights(type(finished)(trained / "roberta")), weights(finished)
    name = "encoder.layer.0.attention.self.{}.weight"
    own, moved = start[f"roberta.{name.format('query')}"], end[f"longformer.{name.format('query')}"]
    assert 1e-3 < (own - moved).abs().max() < 0.2
    assert torch.equal(end[f"longformer.{name.format('query_global')}"], own)
    losses = [line["loss"] for line in finished.metrics() if line["split"] == "eval"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["longformer", "roberta"])
def test_an_interrupted_run_has_the_bits_of_one_in_a_row(kind, trained, longer, tmp_path, monkeypatch):
    config, expected = config_of(trained), longer[0]
    if kind == "roberta":  # its decoder is tied by weight and bias
        settings = config.model_dump(mode="json")
        settings["model"] = {"kind": "roberta", **SIZES, "max_tokens": 128}
        config = PretrainConfig.from_dict(settings)
        expected = run(config, tmp_path / "expected")
    original, calls = MlmJob.loss, []

    def watched(self, model, micro_batch):
        calls.append(len(micro_batch.rows))
        if len(calls) == 12:
            signal.raise_signal(signal.SIGINT)
        return original(self, model, micro_batch)

    monkeypatch.setattr(MlmJob, "loss", watched)
    with pytest.raises(Interrupted, match="the state is saved"):
        run(config, tmp_path / "run")
    one, other = weights(expected), weights(run(config, tmp_path / "run"))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_run_loads_with_plain_transformers_and_here(longer):
    finished, _ = longer
    model = load_model(finished.path, device="cpu")
    plain = AutoModelForMaskedLM.from_pretrained(finished.model_path).eval()
    assert plain.config.model_type == "longformer"
    batch = batch_of(model.layout, "ACDEFGHIKL" * 9)
    with torch.inference_mode():
        theirs = plain(input_ids=batch.tokens[None]).logits[0]
        torch.testing.assert_close(model.logits(batch), theirs, atol=1e-5, rtol=0)


def test_a_longformer_can_be_trained_on_but_not_be_converted_again(trained, longer, tmp_path):
    config = config_of(trained, start=str(longer[0].path))
    with pytest.raises(ModelError, match="is of type 'longformer', and a Longformer is made of a RoBERTa"):
        run(config, tmp_path / "again")
    settings = config.model_dump(mode="json")
    settings["model"] = {"kind": "pretrained", "name": str(longer[0].path)}
    further = run(PretrainConfig.from_dict(settings), tmp_path / "further")
    assert load_model(further.path, device="cpu").module.config.attention_window == [16, 16]


def test_a_dry_run_counts_it(trained, tmp_path):
    text = dry_run(config_of(trained), tmp_path / "run", device="cpu", say=lambda _: None)
    assert "attention within 8 tokens on each side" in text
    assert "estimated time" in text
