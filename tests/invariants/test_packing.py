"""Sequences packed end to end give what stock Hugging Face gives for each alone, in training too."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from fixtures.builders import batch_of, enliven, lively_esm, random_records, with_tokens
from protlm.data.corpus import write_corpus
from protlm.masking.corrupt import CorruptionConfig
from protlm.masking.policies import UniformMasking
from protlm.models import forward
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.language_model import LanguageModel
from protlm.objectives.mlm import MaskedLanguageModelling
from protlm.runs import Run
from protlm.training.loop import TrainingConfig, _Trainer
from protlm.training.mlm_job import MlmJob
from protlm.training.processes import Processes
from protlm.training.sources import Source
from protlm.types.batch import Corrupted

CLOSE = {"atol": 1e-5, "rtol": 0}
IGNORED = -100


def _esm1b(attention):
    return lively_esm(positions="learned", max_tokens=512, token_dropout=True, attention=attention)


def _esm2(attention):
    return lively_esm(token_dropout=True, attention=attention)


def _roberta(attention):
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "max_tokens": 512, "dropout": 0.0}
    model = RobertaArchitecture.Config(**sizes).build(seed=0)
    enliven(model.module)
    return LanguageModel(model.module, model.layout, attention=attention).eval()


SHAPES = {"ESM-1b": _esm1b, "ESM-2": _esm2, "RoBERTa": _roberta}
MASK_SHARES = {"with <mask>": 0.8, "without <mask>": 0.0}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(params=["grouped", "padded"])
def model(request, shape):
    return shape(request.param)


@pytest.fixture(params=[False, True], ids=["single proteins", "pairs"])
def records(request):
    """Equal lengths, neighbouring lengths and ones far apart; in order of length or not."""
    kept = random_records(40, seed=4, pairs=True)
    kept = [each for each in kept if (len(each.chains) == 2) == request.param][:7]
    return [*kept, kept[0], kept[3]]


@pytest.fixture(params=MASK_SHARES)
def corrupted(request, model, records):
    """Rows to learn from, of which most or none hold the mask; shares differ between sequences."""
    return corrupt(batch_of(model.layout, *records), model.layout, MASK_SHARES[request.param])


def corrupt(batch, layout, mask_share):
    random = np.random.default_rng(1)
    shares = random.uniform(0.1, 0.5, batch.num_sequences)[batch.sequence_index.numpy()]
    rows = np.flatnonzero((random.random(len(batch.tokens)) < shares) & batch.is_residue.numpy())
    hidden = rows[random.random(len(rows)) < mask_share]
    changed = with_tokens(batch, dict.fromkeys(hidden.tolist(), layout.mask_id))
    return Corrupted(changed, torch.from_numpy(rows), batch.tokens[rows])


def each_alone(corrupted):
    """Stock calls on one sequence each, which know no padding and no packing: tokens and labels."""
    batch, labels = corrupted.batch, labels_of(corrupted)
    for start, stop in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        yield {"input_ids": batch.tokens[None, start:stop]}, labels[None, start:stop]


def all_padded(corrupted, layout):
    """One stock call on the padded rectangle with its attention mask."""
    batch = corrupted.batch
    inputs = {
        "input_ids": batch.pad(batch.tokens, layout.pad_id),
        "attention_mask": batch.pad(torch.ones_like(batch.tokens), 0),
    }
    yield inputs, batch.pad(labels_of(corrupted), IGNORED)


def labels_of(corrupted):
    return torch.full_like(corrupted.batch.tokens, IGNORED).index_put((corrupted.rows,), corrupted.targets)


def learned(module, calls, count):
    """Loss per row, and the gradient of every parameter, of stock calls with labels."""
    module.zero_grad()
    total = 0.0
    for inputs, labels in calls:
        num_rows = int((labels != IGNORED).sum())
        if num_rows:  # Hugging Face gives nan for none
            loss = module(**inputs, labels=labels).loss * num_rows / count
            loss.backward()
            total += loss.item()
    return total, gradients_of(module)


def gradients_of(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(ours, stock):
    assert ours.keys() == stock.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], stock[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert max(float(each.abs().max()) for each in stock.values()) > 0.05


def test_logits_are_those_of_each_sequence_alone(model, corrupted):
    with torch.inference_mode():
        ours = model.logits(corrupted.batch)
        alone = torch.cat([model.module(**inputs).logits[0] for inputs, _ in each_alone(corrupted)])
        ((inputs, _),) = all_padded(corrupted, model.layout)
        padded = corrupted.batch.unpad(model.module(**inputs).logits)
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, alone, **CLOSE)
    torch.testing.assert_close(ours, padded, **CLOSE)


def test_loss_and_every_gradient_are_those_of_each_sequence_alone(model, corrupted):
    module, count = model.module, len(corrupted.rows)
    model.zero_grad()
    loss = MaskedLanguageModelling()(model, corrupted).loss / count
    loss.backward()
    ours = gradients_of(module)
    for calls in (each_alone(corrupted), all_padded(corrupted, model.layout)):
        stock_loss, stock = learned(module, calls, count)
        assert loss.item() == pytest.approx(stock_loss, abs=1e-5)
        assert_same_gradients(ours, stock)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert ours.keys() == trained


@pytest.mark.parametrize("micro_tokens", [None, 1], ids=["packed", "one sequence at a time"])
def test_a_training_step_is_that_of_each_sequence_alone(shape, records, micro_tokens, tmp_path):
    """The loop's own step, against stock calls, clipping and AdamW by hand."""
    model = shape("grouped")
    stock = deepcopy(model.module)
    settings = TrainingConfig.from_dict(
        {
            "step_tokens": 10_000,
            "micro_tokens": micro_tokens,
            "tensorboard": False,
            "optimizer": {"warmup_steps": 0, "learning_rate": 1e-3, "eps": 1e-3},
        }
    )
    corpus = write_corpus(tmp_path / "corpus", records)
    job = MlmJob(
        sources=[Source("proteins", corpus, np.arange(len(corpus)))],
        evaluation=None,
        masking=UniformMasking(mean_rate=0.3),
        model=model,
        settings=settings,
        run=Run.create(tmp_path / "run", verb="pretrain"),
        corruption=CorruptionConfig(),
        seed=0,
    )
    step, micro_batches = next(job.steps(0))
    assert len(micro_batches) == (1 if micro_tokens is None else len(records))
    AcceleratorState._reset_state()
    processes = Processes(torch.device("cpu"))
    optimizer = settings.optimizer.build(model)
    trainer = _Trainer(
        model, model, optimizer, Accelerator(cpu=True), job, settings, job.run, processes, seed=0
    )
    sums, _, norm = trainer._step(step, micro_batches)

    total, count = sums["loss"]
    before = {name: value.clone() for name, value in stock.state_dict().items()}
    optimizer = settings.optimizer.build(stock)
    calls = [call for each in micro_batches for call in each_alone(each)]
    stock_loss, _ = learned(stock, calls, count)
    stock_norm = torch.nn.utils.clip_grad_norm_(stock.parameters(), 1.0)
    optimizer.step()
    assert total / count == pytest.approx(stock_loss, abs=1e-5)
    assert norm == pytest.approx(float(stock_norm), rel=1e-4)
    ours = model.module.state_dict()
    moved = 0.0
    for name, value in stock.state_dict().items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0, msg=name)
        moved = max(moved, float((value - before[name]).abs().max()))
    assert moved > 1e-4


class TestTheCheckCanFail:
    """What other packings get wrong is far outside the tolerance."""

    @pytest.fixture
    def packed(self, shape):
        model = shape("grouped")
        return model, corrupt(batch_of(model.layout, *random_records(6, seed=2)), model.layout, 0.8)

    def logits(self, model, batch):
        with torch.inference_mode():
            return model.logits(batch)

    def test_one_scale_of_token_dropout_for_a_whole_row(self, packed, shape, monkeypatch):
        model, corrupted = packed
        batch = corrupted.batch
        right = self.logits(model, batch)
        embed = forward._embed
        row = {"offsets": torch.tensor([0, len(batch.tokens)]), "sequence_index": batch.sequence_index * 0}
        monkeypatch.setattr(forward, "_embed", lambda module, batch: embed(module, replace(batch, **row)))
        wrong = self.logits(model, batch)
        if shape is _roberta:  # which has no such scale
            assert torch.equal(wrong, right)
        else:
            assert (wrong - right).abs().max() > 0.05

    def test_positions_that_run_on(self, packed, shape):
        model, corrupted = packed
        batch = corrupted.batch
        running = replace(batch, positions=torch.arange(len(batch.tokens)))
        difference = (self.logits(model, running) - self.logits(model, batch)).abs().max()
        if shape is _esm2:  # rotary positions tell distances only
            assert difference < 1e-4
        else:
            assert difference > 0.05

    def test_attention_across_sequences(self, packed):
        model, corrupted = packed
        batch = corrupted.batch
        row = {"offsets": torch.tensor([0, len(batch.tokens)]), "sequence_index": batch.sequence_index * 0}
        difference = (self.logits(model, replace(batch, **row)) - self.logits(model, batch)).abs().max()
        assert difference > 0.05
