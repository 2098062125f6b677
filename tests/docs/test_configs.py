"""Every shipped configuration is valid, has the size it says, is dry-run at it, and trains tiny."""

import re
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from protlm.data.corpus import write_corpus
from protlm.data.layout import layout_of_vocabulary
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.models.adaptation import num_trained
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.architectures import EsmArchitecture
from protlm.models.longformer import to_longformer
from protlm.recipes.pretrain import PretrainConfig, pretrain
from protlm.recipes.pretrain_plan import dry_run
from protlm.types.alphabet import STANDARD

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "pretrain").glob("*.yaml"))
_650M = {"num_layers": 33, "hidden_size": 1280, "num_heads": 20, "token_dropout": True}
SHAPES = {"esm2-650m": _650M, "esm1v-1": {**_650M, "positions": "learned", "max_tokens": 1024}}
"""Of the published models that configurations start from, which are not here."""


def test_there_are_configurations():
    names = {path.stem for path in CONFIGS}
    assert names >= {
        "antibody-29m",
        "antibody-cpu",
        "binding-pairs-12l",
        "binding-pairs-6l",
        "binding-pairs-longformer",
        "esm2-antibody-continued",
        "esm2-antibody-lora",
        "ng-briney-354m-preferential",
        "ng-briney-354m-uniform",
    }


def figure(path, name):
    """A number that the comments at the top say; `None` where they do not."""
    found = re.search(rf"^# {name}: ([\d,.e+]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return None if found is None else float(found[1].replace(",", ""))


def laid_out(config, tokenizer):
    """The model of a configuration at its own size, without weights."""
    sizes = config.model
    if config.model.kind == "pretrained":
        sizes = EsmArchitecture.Config(**SHAPES[config.model.name])
    if config.model.kind == "longformer":
        start = next(path for path in CONFIGS if path.stem == Path(config.model.start).name)
        sizes = PretrainConfig.load(start).model
    if sizes.kind == "roberta" and sizes.vocabulary == "tokenizer":
        sizes = sizes.model_copy(update={"vocabulary": str(tokenizer)})
    with torch.device("meta"):
        model = sizes.build(seed=0)
        if config.model.kind == "longformer":
            model = to_longformer(model, max_tokens=config.model.max_tokens, window=config.model.window)
        plain = model.num_parameters
        config.adapt.apply(model, seed=0)
    return model, plain


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    return write_corpus(path, number_records(simulate_repertoire(20, seed=1)))


@pytest.fixture(scope="module")
def tiny_esm2(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "esm2"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(path)
    return path


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "roberta"
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "max_tokens": 256}
    RobertaArchitecture.Config(**sizes).build(seed=0).save(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A folder with as many tokens as the published one: 5 specials, 256 bytes, 10,000 made-up words."""
    path = tmp_path_factory.mktemp("tokenizer")
    words = ("".join(letters) for size in (2, 3, 4) for letters in product(STANDARD, repeat=size))
    own = layout_of_vocabulary("balm", separator="eos-eos")
    tokens = (*own.tokens[:5], *sorted(ByteLevel.alphabet()), *islice(words, 10_000))
    assert len(set(tokens)) == 10_261
    replace(own, tokens=tokens).save(path)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_valid_and_has_the_size_that_it_says(path, tokenizer):
    config = PretrainConfig.load(path)
    assert PretrainConfig.from_dict(config.model_dump(mode="json")) == config
    model, plain = laid_out(config, tokenizer)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    said = figure(path, "parameters")
    assert said is None or plain == said
    trained = figure(path, "trained")
    assert (trained is None) == (config.adapt.kind == "full")
    assert trained is None or num_trained(model.module) == trained


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_arithmetic_is_right(path):
    config = PretrainConfig.load(path)
    training, step_tokens = config.training, figure(path, "tokens per step")
    if training.step_records is None:
        assert step_tokens == training.step_tokens
    else:
        assert step_tokens == training.step_records * figure(path, "tokens per record")
    tokens = step_tokens * training.max_steps
    assert figure(path, "tokens in all") == pytest.approx(tokens, rel=0.01)
    trained = figure(path, "trained") or figure(path, "parameters")
    flops = (4 * figure(path, "parameters") + 2 * trained) * tokens
    assert figure(path, "arithmetic") == pytest.approx(flops, rel=0.02)
    share = re.search(r"time: ([\d.]+) hours.*at (\d+) % of 989 TFLOP/s", path.read_text())
    if share is not None:
        hours = flops / (float(share[2]) / 100 * 989e12) / 3600
        assert float(share[1]) == pytest.approx(hours, rel=0.05)


def test_the_two_published_arms_differ_in_their_masking_alone():
    arms = [PretrainConfig.load(path) for path in CONFIGS if path.stem.startswith("ng-briney-354m-")]
    assert len(arms) == 2
    values = [arm.model_dump() for arm in arms]
    assert [key for key in values[0] if values[0][key] != values[1][key]] == ["masking"]


def test_the_published_hyperparameters(tokenizer):
    """Ng & Briney's training configuration, by the specification's A1, A4 and A5."""
    path = next(path for path in CONFIGS if path.stem == "ng-briney-354m-preferential")
    config = PretrainConfig.load(path)
    model, sizes, optimizer = (
        config.model,
        laid_out(config, tokenizer)[0].module.config,
        config.training.optimizer,
    )
    assert (sizes.hidden_size, sizes.num_hidden_layers, sizes.num_attention_heads) == (960, 32, 20)
    assert (sizes.intermediate_size, sizes.vocab_size, model.max_tokens) == (3840, 26, 320)
    assert (sizes.pad_token_id, sizes.mask_token_id, sizes.token_dropout) == (21, 22, False)
    assert sizes.position_embedding_type == "rotary"
    assert (sizes.hidden_dropout_prob, sizes.attention_probs_dropout_prob) == (0.1, 0.1)
    assert sizes.layer_norm_eps == 1e-12
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.98), 1e-6, 0.01)
    assert (optimizer.clip_norm, optimizer.schedule, config.training.step_records) == (1.0, "linear", 256)
    rates = [optimizer.rate_at(step, 500_000) for step in (14_999, 29_999, 265_000, 499_999)]
    assert rates == pytest.approx([0.5e-4, 1e-4, 0.5e-4, 0], abs=1e-9)


@pytest.fixture(scope="module")
def tiny(tiny_esm2, tiny_roberta, tokenizer):
    """Settings of each kind of model that make it small."""
    sizes = ["model.num_layers=1", "model.hidden_size=16", "model.num_heads=2", "model.ffn_size=32"]
    return {
        "esm": sizes,
        "roberta": [*sizes, f"model.vocabulary={tokenizer}"],
        "longformer": [f"model.start={tiny_roberta}", "model.max_tokens=512", "model.window=64"],
        "pretrained": [f"model.name={tiny_esm2}"],
    }


def tiny_settings(path, corpus, tiny):
    settings = [f"data.train={corpus.path}", f"data.eval={corpus.path}", "training.tensorboard=false"]
    settings += tiny[PretrainConfig.load(path).model.kind]
    by_record = PretrainConfig.load(path).training.step_records is not None
    settings.append("training.step_records=5" if by_record else "training.step_tokens=600")
    return [*settings, "training.max_steps=3", "training.log_every=1"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_three_steps_when_made_tiny(path, corpus, tiny, tmp_path):
    config = PretrainConfig.load(path, tiny_settings(path, corpus, tiny))
    run = pretrain(config, tmp_path / "run", device="cpu", say=lambda _: None)
    assert run.is_done
    losses = [line["loss"] for line in run.metrics() if line["split"] == "train"]
    assert len(losses) == 3
    assert all(0 < loss < 10 for loss in losses)
    assert run.adapter_path.exists() == (config.adapt.kind == "lora")


def test_a_dry_run_takes_neither_the_memory_nor_the_time_of_the_model(corpus, tmp_path):
    """A model of 32 layers of width 960 has 1.4 GB of weights; here two of its layers are made."""
    import resource

    path = next(path for path in CONFIGS if path.stem == "ng-briney-354m-uniform")
    config = PretrainConfig.load(path, [f"data.train={corpus.path}", f"data.eval={corpus.path}"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = dry_run(config, tmp_path / "run", device="cpu", say=lambda _: None)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert "size: 355,245,787 parameters" in text
    assert "distribution: one process" in text
    assert re.search(r"tokens in all: [\d,]+, [\d,.]+ epochs", text)
    assert re.search(r"estimated time: \d+ h", text)
    assert grown < 900_000, "kB"
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_adapters_counts_them(corpus, tiny, tmp_path):
    path = next(path for path in CONFIGS if path.stem == "esm2-antibody-lora")
    config = PretrainConfig.load(path, tiny_settings(path, corpus, tiny))
    text = dry_run(config, tmp_path / "run", device="cpu", say=lambda _: None)
    assert re.search(r"size: [\d,]+ parameters, of which [\d,]+ \([\d.]+%\) are trained", text)


def test_the_shape_of_esm_1v(tokenizer):
    """By the specification's B1, and every number of the training says where it is from."""
    path = next(path for path in CONFIGS if path.stem == "esm1v")
    config = PretrainConfig.load(path)
    sizes = laid_out(config, tokenizer)[0].module.config
    assert (sizes.num_hidden_layers, sizes.hidden_size, sizes.num_attention_heads) == (33, 1280, 20)
    assert (sizes.intermediate_size, sizes.vocab_size, config.model.layout.max_residues) == (5120, 33, 1022)
    assert (sizes.position_embedding_type, sizes.token_dropout) == ("absolute", True)
    assert (config.data.long_records, config.training.max_steps) == ("crop", 170_000)
    assert unmarked(path) == RUNNING


RUNNING = ["micro_tokens", "precision", "eval_every", "save_every", "log_every", "seed"]
"""Numbers of a configuration that are of the machine, not of a paper."""


def unmarked(path):
    """Keys whose lines have a number and do not say where it is from."""
    marks = ("[published]", "[published code]", "[secondary source]", "[unknown, chosen]")
    return [
        line.split(":")[0].strip()
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith(("#", "extends"))
        and any(character.isdigit() for character in line.partition("#")[0])
        and not any(mark in line for mark in marks)
    ]


PAIRS = {path.stem.removeprefix("binding-pairs-"): path for path in CONFIGS if "binding-pairs-" in path.stem}


def test_the_sizes_of_binding_pairs(tokenizer):
    """By the specification's 2.2 to 2.4, and every number says where it is from."""
    for name, num_layers, rows in (("12l", 12, 514), ("6l", 6, 514), ("longformer", 12, 2050)):
        config = PretrainConfig.load(PAIRS[name])
        model = laid_out(config, tokenizer)[0]
        sizes = model.module.config
        assert (sizes.num_hidden_layers, sizes.hidden_size, sizes.num_attention_heads) == (
            num_layers,
            768,
            12,
        )
        assert (sizes.intermediate_size, sizes.vocab_size, sizes.type_vocab_size) == (3072, 10_261, 1)
        assert (sizes.max_position_embeddings, model.layout.max_tokens) == (rows, rows - 2)
        assert (sizes.hidden_dropout_prob, sizes.attention_probs_dropout_prob) == (0.1, 0.1)
        assert (model.layout.separator_text, config.masking.kind) == ("</s></s>", "uniform")
        assert set(unmarked(PAIRS[name])) <= set(RUNNING) | {"start"}
    assert sizes.attention_window == [512] * 12


@pytest.mark.parametrize(
    ("name", "records", "steps", "peak", "warmup", "end"),
    [
        ("12l", 128, 321_000, 1e-4, 20_000, 7.4e-8),
        ("6l", 128, 178_000, 1e-4, 5_000, 5.5e-5),
        ("longformer", 16, 63_000, 7e-5, 512, 6.2e-5),
    ],
)
def test_the_training_of_binding_pairs(name, records, steps, peak, warmup, end):
    training = PretrainConfig.load(PAIRS[name]).training
    optimizer = training.optimizer
    assert (training.step_records, training.max_steps) == (records, steps)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.98), 1e-6, 0.01)
    assert optimizer.rate_at(warmup - 1, steps) == pytest.approx(peak)
    assert optimizer.rate_at(warmup // 2 - 1, steps) == pytest.approx(peak / 2)
    assert optimizer.rate_at(steps - 1, steps) == pytest.approx(end, abs=5e-7)
