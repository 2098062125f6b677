"""Which attention is taken, and what is said of it, without an accelerator."""

import numpy as np
import pytest
import torch

from fixtures.builders import batch_of, lively_esm, random_records
from protlm.models import attention, varlen
from protlm.models.attention import attention_for, mixer_of
from protlm.models.mixers import Blocks, Padded
from protlm.models.varlen import VARLEN_BOUND, Varlen, varlen_difference, varlen_problem

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _forget():
    varlen_problem.cache_clear()
    yield
    varlen_problem.cache_clear()


def by_hand(query, key, value, query_offsets, key_offsets, longest_query, longest_key, *, window_size):
    """What the kernel promises: sequence by sequence, in the same precision; the band counts from the end."""
    assert longest_query == int(query_offsets.diff().max())
    assert longest_key == int(key_offsets.diff().max())
    assert query.dtype == key.dtype == value.dtype == torch.bfloat16
    mixed = []
    for number in range(len(key_offsets) - 1):
        q = query[query_offsets[number] : query_offsets[number + 1]].float()
        k, v = (each[key_offsets[number] : key_offsets[number + 1]].float() for each in (key, value))
        scores = torch.einsum("qhk,lhk->hql", q, k) / q.shape[-1] ** 0.5
        if window_size != (-1, -1):
            places = torch.arange(len(q))[:, None] + len(k) - len(q)
            distance = torch.arange(len(k)) - places
            scores = scores.masked_fill(
                (distance < -window_size[0]) | (distance > window_size[1]), -torch.inf
            )
        mixed.append(torch.einsum("hql,lhk->qhk", scores.softmax(-1), v))
    return torch.cat(mixed).to(value.dtype)


@pytest.fixture
def kernel(monkeypatch):
    """Stand in for the kernel, which no CPU has."""

    def use(function):
        monkeypatch.setattr(varlen, "_varlen_kernel", lambda: function)

    use(by_hand)
    return use


def test_a_cpu_takes_groups():
    assert attention_for("cpu", head_width=16)[0] == "grouped"
    assert lively_esm().path.startswith("flat tokens, grouped attention: on a CPU")


def test_an_accelerator_takes_the_kernel_where_the_check_passes(monkeypatch, kernel):
    asked = []
    monkeypatch.setattr(varlen, "varlen_difference", lambda *each: asked.append(each) or VARLEN_BOUND / 2)
    for _ in range(2):
        path, reason = attention_for(CUDA, head_width=16)
        assert path == "varlen"
        assert "passed its check" in reason
    assert asked == [(CUDA, 16)]  # once for a device and width
    attention_for(CUDA, head_width=32)
    assert len(asked) == 2


@pytest.mark.parametrize("difference", [2 * VARLEN_BOUND, float("nan"), float("inf")])
def test_an_accelerator_pads_where_the_check_fails_and_says_why(monkeypatch, kernel, difference):
    monkeypatch.setattr(varlen, "varlen_difference", lambda *_: difference)
    path, reason = attention_for(CUDA, head_width=16)
    assert path == "padded"
    assert f"differs from a padded rectangle in float32 by {difference:.2g}" in reason


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no kernel image\nmore"),
        TypeError("no kernel image"),
        NotImplementedError("no kernel image"),
    ],
)
def test_an_accelerator_pads_where_the_kernel_fails_and_says_why(monkeypatch, kernel, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(varlen, "varlen_difference", fail)
    path, reason = attention_for(CUDA, head_width=16)
    assert path == "padded"
    assert reason.endswith(
        f"no kernel for offsets: it failed on a small batch with {type(error).__name__}: no kernel image"
    )


def test_an_accelerator_pads_where_torch_has_no_kernel(kernel):
    kernel(None)
    path, reason = attention_for(CUDA, head_width=16)
    assert path == "padded"
    assert f"torch {torch.__version__} does not have it" in reason


def test_another_accelerator_pads():
    assert attention_for("mps", head_width=16)[0] == "padded"
    assert "it needs CUDA, not mps" in attention_for("mps", head_width=16)[1]


def test_the_check_passes_a_kernel_that_does_what_it_promises(kernel):
    assert 0 < varlen_difference(torch.device("cpu"), 16) < VARLEN_BOUND


@pytest.mark.parametrize(
    "change",
    [
        lambda mixed, value: mixed * 1.1,
        lambda mixed, value: mixed.roll(1, 0),
        lambda mixed, value: mixed * float("nan"),
        lambda mixed, value: mixed.detach() + 0 * value[: len(mixed)],  # right values, no gradient
    ],
    ids=["scaled", "moved", "not numbers", "without a gradient"],
)
def test_the_check_fails_a_kernel_that_does_not(kernel, change):
    def wrong(query, key, value, *others, **options):
        mixed = change(by_hand(query, key, value, *others, **options), value)
        return mixed + 0 * (query.sum() + key.sum() + value.sum())

    kernel(wrong)
    assert not varlen_difference(torch.device("cpu"), 16) <= VARLEN_BOUND


def test_the_check_fails_a_kernel_that_ignores_the_window(kernel):
    kernel(lambda *given, window_size: by_hand(*given, window_size=(-1, -1)))
    assert varlen_difference(torch.device("cpu"), 16) > VARLEN_BOUND


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("pruned", [False, True])
def test_a_model_gives_the_same_through_the_kernel(kernel, window, pruned):
    models = [
        lively_esm(attention=each, hidden_size=32, token_dropout=True, window=window).cast("bfloat16")
        for each in ("varlen", "padded")
    ]
    batch = batch_of(models[0].layout, *random_records(6, seed=1))
    rows = torch.arange(3, len(batch.tokens), 5) if pruned else None
    with torch.inference_mode():
        ours, plain = (model.logits(batch, rows).float() for model in models)
    assert ours.std() > 0.5
    assert (ours - plain).abs().max() < 0.25
    assert (ours - plain).abs().mean() < 0.02


class TestWhatTheKernelIsNotGiven:
    @pytest.fixture
    def inputs(self):
        batch = batch_of(lively_esm().layout, *random_records(4, seed=1))
        return batch, *torch.randn((3, len(batch.tokens), 2, 8), generator=torch.Generator().manual_seed(0))

    @pytest.fixture(autouse=True)
    def _none(self, kernel):
        def fail(*_, **__):
            raise AssertionError("the kernel was called")

        kernel(fail)

    def test_float32(self, inputs):
        batch, *qkv = inputs
        assert torch.equal(Varlen(batch, None)(*qkv, None, 0.0), Padded(batch)(*qkv, None, 0.0))

    def test_pruned_rows_under_a_window(self, inputs):
        batch, query, key, value = inputs[0], *(each.bfloat16() for each in inputs[1:])
        rows = torch.tensor([1, 5, 9])
        given = (query[rows], key, value, rows, 0.0)
        assert torch.equal(Varlen(batch, 3)(*given), Blocks(batch, 3)(*given))

    def test_dropout(self, inputs):
        batch, *qkv = inputs
        qkv = [each.bfloat16() for each in qkv]
        assert Varlen(batch, None)(*qkv, None, 0.5).shape == qkv[0].shape


def test_asking_for_a_path_overrides_the_choice():
    assert lively_esm(attention="padded").path == "flat tokens, padded attention: asked for"


def test_a_window_that_reaches_everything_is_none(kernel):
    batch = batch_of(lively_esm().layout, "ACDEF", "AC")  # seven tokens at most
    assert type(mixer_of(batch, "padded", window=6)) is Padded
    assert type(mixer_of(batch, "padded", window=5)) is Blocks
    assert mixer_of(batch, "varlen", window=6)._window is None
    assert mixer_of(batch, "varlen", window=5)._window == 5
    assert attention.attention_for("cpu", head_width=8)[0] == "grouped"


def test_a_window_is_said():
    path = lively_esm(window=7).path
    assert path.startswith("flat tokens, blockwise attention within 7 tokens on each side: memory grows with")
    assert path.endswith("(plain Hugging Face attends to all)")
    assert "varlen attention within 7 tokens" in lively_esm(window=7, attention="varlen").path


def test_the_share_of_padding_is_counted_where_the_module_pads(monkeypatch):
    model = lively_esm()
    batch = batch_of(model.layout, "ACDEF", "AC")  # 7 and 4 tokens, 14 in the rectangle
    model.logits(batch)
    assert (model.padding_share, model.padding_note) == (0.0, "")
    model.is_flat = False
    model.logits(batch)
    assert model.padding_share == pytest.approx(3 / 14)
    assert model.padding_note == "21.4% of the tokens that were computed were padding"
    model.hidden(batch.select(np.array([0])))
    assert model.padding_share == pytest.approx(3 / 21)
