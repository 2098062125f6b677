"""A sliding window gives what dense attention under a band gives, in memory that grows with the length."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForMaskedLM

from fixtures.builders import batch_of, enliven, lively_esm, random_records, random_residues
from protlm.models import forward
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model

CLOSE = {"atol": 1e-5, "rtol": 0}


def _rotary(window, attention="grouped"):
    return lively_esm(window=window, attention=attention)


def _learned(window, attention="grouped"):
    return lively_esm(
        window=window, attention=attention, positions="learned", max_tokens=256, token_dropout=True
    )


def _roberta(window, attention="grouped"):
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "max_tokens": 256, "dropout": 0.0}
    model = RobertaArchitecture.Config(**sizes).build(seed=0)
    if window is not None:
        model.module.config.attention_window = 2 * window
    enliven(model.module)
    return LanguageModel(model.module, model.layout, attention=attention).eval()


@pytest.fixture(scope="module", params=[_rotary, _learned, _roberta])
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def records():
    """Shorter and longer than every window and block, pairs among them, in no order."""
    return [
        *random_records(8, seed=3, lengths=(4, 45)),
        *random_records(3, seed=5, lengths=(90, 120), pairs=False),
        *random_records(2, seed=6, lengths=(1, 3)),
    ]


def dense(batch, window):
    """Softmax over all tokens of a sequence, those out of the window at minus infinity; no kernel of ours."""

    def mix(query, key, value, rows, dropout):
        assert dropout == 0
        index = torch.arange(len(batch.tokens))
        reads = index if rows is None else rows
        sequence = torch.repeat_interleave(torch.arange(batch.num_sequences), batch.lengths)
        is_seen = (sequence[reads][:, None] == sequence) & ((reads[:, None] - index).abs() <= window)
        scores = torch.einsum("rhk,thk->hrt", query, key) / query.shape[-1] ** 0.5
        return torch.einsum("hrt,thk->rhk", scores.masked_fill(~is_seen, -torch.inf).softmax(-1), value)

    return mix


@pytest.fixture
def with_dense(monkeypatch):
    """Run something with the dense reference in place of ours."""

    def run(window, call):
        with monkeypatch.context() as patched:
            patched.setattr(forward, "mixer_of", lambda batch, attention, **_: dense(batch, window))
            return call()

    return run


def logits(model, batch, rows=None):
    with torch.inference_mode():
        return model.logits(batch, rows)


def gradients(model, picked, targets):
    model.zero_grad()
    torch.nn.functional.cross_entropy(picked, targets).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("window", [1, 3, 50, 63, 64, 65])
@pytest.mark.parametrize("attention", ["grouped", "padded"])
def test_logits_are_those_of_a_dense_band(shape, records, with_dense, window, attention):
    model = shape(window, attention)
    batch = batch_of(model.layout, *records)
    ours = logits(model, batch)
    torch.testing.assert_close(ours, with_dense(window, lambda: logits(model, batch)), **CLOSE)
    assert (ours - logits(shape(None), batch)).abs().max() > 0.05
    assert (ours - with_dense(window + 1, lambda: logits(model, batch))).abs().max() > 1e-3


@pytest.mark.parametrize("window", [2, 40])
def test_rows_and_gradients_are_those_of_a_dense_band(shape, records, with_dense, window):
    model = shape(window)
    batch = batch_of(model.layout, *records)
    rows = torch.from_numpy(np.flatnonzero(np.random.default_rng(2).random(len(batch.tokens)) < 0.1))
    targets = batch.tokens.roll(1)[rows]
    full = with_dense(window, lambda: logits(model, batch))
    torch.testing.assert_close(logits(model, batch, rows), full[rows], **CLOSE)
    reference = with_dense(window, lambda: gradients(model, model.logits(batch)[rows], targets))
    for ours in (
        gradients(model, model.logits(batch, rows), targets),
        gradients(model, model.logits(batch)[rows], targets),
    ):
        assert ours.keys() == reference.keys()
        for name, gradient in ours.items():
            torch.testing.assert_close(gradient, reference[name], **CLOSE, msg=name)
    assert max(float(each.abs().max()) for each in reference.values()) > 0.05


def test_a_window_as_long_as_the_sequences_is_full_attention(shape, records):
    full = shape(None)
    batch = batch_of(full.layout, *records)
    longest = int(batch.lengths.max())
    for window in (longest - 1, longest, 5 * longest):
        torch.testing.assert_close(logits(shape(window), batch), logits(full, batch), atol=1e-6, rtol=0)
    # one token less, and the first does not see the last
    assert (logits(shape(longest - 2), batch) - logits(full, batch)).abs().max() > 1e-6


def test_what_is_out_of_reach_of_all_layers_does_not_matter():
    """Two layers of window 3 reach 6 tokens; a change 7 tokens away does nothing, one 6 away does."""
    model = lively_esm(window=3)
    random = np.random.default_rng(0)
    text = random_residues(random, 60)
    batch = batch_of(model.layout, text)
    before = logits(model, batch)
    changed = batch_of(model.layout, text[:30] + ("W" if text[30] != "W" else "C") + text[31:])
    is_moved = ((logits(model, changed) - before).abs().max(-1).values > 1e-7).nonzero()[:, 0]
    place = 31  # behind the begin token
    assert is_moved.tolist() == list(range(place - 6, place + 7))


def test_dropout_of_attention_leaves_the_mean_where_it_is():
    model = lively_esm(window=4, dropout=0.1).eval()
    batch = batch_of(model.layout, *random_records(3, seed=1, lengths=(40, 60)))
    layer = model.module.esm.encoder.layer[0].attention.self
    still = logits(model, batch)
    layer.train()
    torch.manual_seed(0)
    drawn = torch.stack([logits(model, batch) for _ in range(300)])
    assert drawn.std(0).max() > 0.05
    assert (drawn.mean(0) - still).abs().mean() < 0.1


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.size = max(self.size, each.numel())
        return result


def test_memory_grows_with_length_times_window():
    model, sizes = lively_esm(window=32), {}
    for length in (1000, 2000):
        batch = batch_of(model.layout, random_residues(np.random.default_rng(0), length))
        with Largest() as largest:
            model.logits(batch).sum().backward()
        sizes[length] = largest.size
    assert sizes[2000] < 2.1 * sizes[1000]
    assert sizes[2000] < 2000**2 / 8


def test_bfloat16_keeps_the_window():
    model = lively_esm(window=8, hidden_size=32)
    batch = batch_of(model.layout, *random_records(4, seed=1, lengths=(60, 90)))
    before = logits(model, batch)
    after = logits(deepcopy(model).cast("bfloat16"), batch)
    assert torch.corrcoef(torch.stack([before.flatten(), after.float().flatten()]))[0, 1] > 0.999


def test_the_window_is_saved_and_loaded_and_said(records, tmp_path):
    model = lively_esm(window=5)
    model.save(tmp_path)
    loaded = load_model(tmp_path, device="cpu")
    batch = batch_of(model.layout, *records)
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert "within 5 tokens on each side" in loaded.path
    assert "on each side" not in lively_esm().path
    # plain Hugging Face knows nothing of it, and attends to all
    stock = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert stock.config.attention_window == 10
    one = batch.select(np.array([9]))
    with torch.inference_mode():
        theirs = stock(input_ids=one.tokens[None]).logits[0]
    torch.testing.assert_close(theirs, logits(lively_esm(), one), **CLOSE)
    assert (theirs - logits(model, one)).abs().max() > 0.05
