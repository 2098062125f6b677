"""`fair-esm` models with random weights, converted, against ours; and its way of scoring against ours."""

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.builders import as_record, enliven
from parity.fair_esm_conversion import convert
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import ESM_TOKENS, esm_layout
from protlm.models.language_model import LanguageModel
from protlm.scoring.plans import plans
from protlm.scoring.variants import score_variants
from protlm.types.alphabet import STANDARD
from protlm.types.variant import all_single_substitutions

fair_esm = pytest.importorskip("esm", reason="fair-esm is in the dev group")

TOLERANCE = {"atol": 1e-4, "rtol": 0}
WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLI"
M = "<mask>"
TEXTS = {
    "no mask": "MKTAYIAKQRQISFVKSHFSRQ",
    "one mask": f"MKTAY{M}AKQRQISFVK",
    "several masks": f"{M}KTA{M}{M}AKQR{M}",
    "one residue": "W",
    "only masks": f"{M}{M}{M}",
    "unusual letters": "MBUZOXKT",
    "same length as the first": f"MKTAYIAKQRQISFVKSHFS{M}Q",
    "long": WILD_TYPE * 2,
}
LAYOUTS = ["esm2", "esm2 without token dropout", "esm1b", "esm1v", "esm1v without token dropout"]


@dataclass
class Pair:
    """The same weights on both sides."""

    fair: Any
    alphabet: Any
    module: Any

    def ours(self, attention):
        return LanguageModel(self.module, esm_layout(), attention=attention).eval()

    def theirs(self, text):
        """Logits of one text by itself, ``[l, v]``."""
        _, _, tokens = self.alphabet.get_batch_converter()([("", text)])
        with torch.inference_mode():
            return self.fair(tokens)["logits"][0]


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request):
    return make_pair(request.param)


def make_pair(layout):
    alphabet = fair_esm.data.Alphabet.from_architecture("ESM-1b")
    token_dropout = "without" not in layout
    if layout.startswith("esm2"):
        from esm.model.esm2 import ESM2

        model = ESM2(3, 24, 4, alphabet="ESM-1b", token_dropout=token_dropout)
    else:
        from esm.model.esm1 import ProteinBertModel

        sizes = {"layers": 3, "embed_dim": 24, "ffn_embed_dim": 40, "attention_heads": 4, "max_positions": 80}
        switches = {"emb_layer_norm_before": layout == "esm1b", "token_dropout": token_dropout}
        model = ProteinBertModel(Namespace(arch="roberta_large", **sizes, **switches), alphabet)
    enliven(model, seed=len(layout))
    return Pair(model.eval(), alphabet, convert(model))


def our_batch(model, texts):
    """Collate texts in which ``<mask>`` may stand for a residue."""
    batch = collate(flatten_records([as_record(text.replace(M, "A")) for text in texts]), model.layout)
    tokens = batch.tokens.clone()
    for text, start in zip(texts, batch.offsets.tolist(), strict=False):
        sites = text.replace(M, "_")
        for index, letter in enumerate(sites):
            if letter == "_":
                tokens[start + 1 + index] = model.layout.mask_id
    return type(batch)(**{**vars(batch), "tokens": tokens})


def our_logits(model, texts, rows=None):
    with torch.inference_mode():
        return model.logits(our_batch(model, texts), rows)


def test_the_vocabulary_is_fair_esms(pair):
    assert tuple(pair.alphabet.all_toks) == ESM_TOKENS


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("name", TEXTS)
def test_logits_agree_alone(pair, name, attention):
    ours = our_logits(pair.ours(attention), [TEXTS[name]])
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, pair.theirs(TEXTS[name]), **TOLERANCE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("order", ["as listed", "reversed", "by length", "doubled"])
def test_logits_agree_in_mixed_batches(pair, order, attention):
    texts = list(TEXTS.values())
    texts = {
        "as listed": texts,
        "reversed": texts[::-1],
        "by length": sorted(texts, key=len),
        "doubled": texts + texts,
    }[order]
    expected = torch.cat([pair.theirs(text) for text in texts])
    torch.testing.assert_close(our_logits(pair.ours(attention), texts), expected, **TOLERANCE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_logits_agree_where_only_some_rows_are_read(pair, share, attention):
    texts = list(TEXTS.values())
    expected = torch.cat([pair.theirs(text) for text in texts])
    chosen = np.random.default_rng(0).random(len(expected)) < share
    rows = torch.from_numpy(np.flatnonzero(chosen))
    ours = our_logits(pair.ours(attention), texts, rows)
    torch.testing.assert_close(ours, expected[rows], **TOLERANCE)


def test_fair_esms_own_padded_batch_agrees_too(pair):
    texts = [text for name, text in TEXTS.items() if name != "only masks"]
    _, _, tokens = pair.alphabet.get_batch_converter()([("", text) for text in texts])
    with torch.inference_mode():
        padded = pair.fair(tokens)["logits"]
    theirs = torch.cat(
        [row[keep] for row, keep in zip(padded, tokens != pair.alphabet.padding_idx, strict=True)]
    )
    torch.testing.assert_close(our_logits(pair.ours("padded"), texts), theirs, **TOLERANCE)


@pytest.mark.parametrize("attention", ["grouped", "padded"])
@pytest.mark.parametrize("plan", ["masked_marginal", "wildtype_marginal"])
def test_scores_agree_with_a_plain_loop_over_positions(pair, plan, attention):
    singles = dict(all_single_substitutions(WILD_TYPE))
    model = pair.ours(attention)
    ours = score_variants(
        model, plans.get(plan)(), as_record(WILD_TYPE), list(singles.values()), max_tokens=100
    )
    theirs = plain_scan(pair, masked=plan == "masked_marginal")
    assert list(singles) == list(theirs)
    assert np.std(list(theirs.values())) > 0.5
    np.testing.assert_allclose(ours.scores, list(theirs.values()), atol=1e-4)


def plain_scan(pair, *, masked):
    """Score all singles the way of `predict.py`: one forward pass per position, batch of one."""
    _, _, tokens = pair.alphabet.get_batch_converter()([("", WILD_TYPE)])
    scores = {}
    for index, wild in enumerate(WILD_TYPE):
        context = tokens.clone()
        token_index = index + 1  # the begin token comes first
        if masked:
            context[0, token_index] = pair.alphabet.mask_idx
        with torch.inference_mode():
            logprobs = torch.log_softmax(pair.fair(context)["logits"], dim=-1)[0, token_index]
        for mutant in STANDARD:
            if mutant != wild:
                difference = logprobs[pair.alphabet.get_idx(mutant)] - logprobs[pair.alphabet.get_idx(wild)]
                scores[f"{wild}{index + 1}{mutant}"] = float(difference)
    return scores


@pytest.mark.parametrize("layout", ["esm2", "esm1b"])
def test_every_weight_norm_and_bias_of_the_compared_models_matters(layout):
    """Otherwise the comparisons above could not see a wrong one."""
    pair = make_pair(layout)
    text = TEXTS["several masks"] + "".join(STANDARD)
    before = pair.theirs(text)
    for name, parameter in pair.fair.named_parameters():
        # softmax takes away what a bias adds to all keys alike, save where rotary positions turn it
        has_no_effect = layout == "esm1b" and name.endswith("k_proj.bias")
        if has_no_effect or name.startswith("contact_head"):
            continue
        kept = parameter.data.clone()
        parameter.data += 0.3 * torch.randn(kept.shape, generator=torch.Generator().manual_seed(0))
        assert (pair.theirs(text) - before).abs().max() > 1e-2, name
        parameter.data = kept
