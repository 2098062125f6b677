"""What every registered scoring plan must do, whatever it is."""

from functools import partial

import numpy as np
import pytest

from protlm.errors import DataError
from protlm.scoring.chunks import cut
from protlm.scoring.plans import plans
from protlm.scoring.pseudo_likelihood import LegacyPseudoPerplexity
from protlm.scoring.variants import plan_contexts, score_variants
from protlm.types.record import Chain, Record
from protlm.types.variant import parse_variant, variant_of_sequence

WILD_TYPE = "MKTAYIAKQR"
TEXTS = ["", "M1L", "R10W", "M1L:R10W", "K2K"]


@pytest.fixture(params=plans.names())
def plan(request):
    return plans.get(request.param)()


@pytest.fixture
def variants():
    return [parse_variant(text, WILD_TYPE) for text in TEXTS]


def test_the_wild_type_and_a_synonymous_change_score_zero(plan, tiny_model, variants):
    scores = score_variants(tiny_model, plan, Record("w", (Chain(WILD_TYPE),)), variants).scores
    if isinstance(plan, LegacyPseudoPerplexity):  # the published script subtracts no wild type
        assert scores[0] == scores[4] < 0
        return
    assert scores[0] == 0
    assert scores[4] == 0


def test_scores_follow_their_variant_in_any_order(plan, tiny_model, variants):
    record = Record("w", (Chain(WILD_TYPE),))
    forward = score_variants(tiny_model, plan, record, variants).scores
    backward = score_variants(tiny_model, plan, record, variants[::-1]).scores
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-6)


def test_scores_do_not_depend_on_the_token_budget(plan, tiny_model, variants):
    record = Record("w", (Chain(WILD_TYPE),))
    scores = [score_variants(tiny_model, plan, record, variants, max_tokens=n).scores for n in (1, 30, 9999)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-5)


def test_each_variant_rests_on_some_of_the_contexts_that_run(plan, tiny_model, variants):
    contexts, terms = plan_contexts(tiny_model, plan, Record("w", (Chain(WILD_TYPE),)), variants)
    runs = contexts.runs()
    own = terms.num_masked_contexts(runs)
    assert len(own) == len(variants)
    of_the_wild_type = len(np.unique(runs.runs_of(terms.row[terms.variant == len(variants)])[0]))
    assert own.max() <= contexts.num_masked_contexts <= own.sum() + of_the_wild_type
    if not isinstance(plan, LegacyPseudoPerplexity):
        assert own[0] == own[4] == 0


def test_only_plans_that_say_so_take_another_length(plan, tiny_model):
    record = Record("w", (Chain(WILD_TYPE),))
    longer = [variant_of_sequence("MKTAYYIAKQR", WILD_TYPE), parse_variant("M1L", WILD_TYPE)]
    if plan.accepts_indels:
        scores = score_variants(tiny_model, plan, record, longer).scores
        assert np.isfinite(scores).all()
        assert scores[0] != 0
        alone = score_variants(tiny_model, plan, record, longer[:1]).scores
        np.testing.assert_allclose(scores[:1], alone, atol=1e-5)
    else:
        with pytest.raises(DataError, match="insertions or deletions"):
            score_variants(tiny_model, plan, record, longer)


def test_no_variants_cost_nothing(plan, tiny_model):
    result = score_variants(tiny_model, plan, Record("w", (Chain(WILD_TYPE),)), [])
    assert len(result.scores) == 0
    assert result.num_masked_contexts == 0


def test_scores_do_not_depend_on_the_chunks(plan, tiny_model, variants, monkeypatch):
    record = Record("w", (Chain(WILD_TYPE),))
    whole = score_variants(tiny_model, plan, record, variants)
    monkeypatch.setattr("protlm.scoring.variants.cut", partial(cut, most=1))
    pieces = score_variants(tiny_model, plan, record, variants)
    np.testing.assert_allclose(pieces.scores, whole.scores, atol=1e-5)
    assert pieces.own_masked_contexts.tolist() == whole.own_masked_contexts.tolist()


def test_chunks_have_every_variant_once(plan, variants):
    for most in (1, 7, 1000):
        chunks = cut(plan, variants, len(WILD_TYPE), most=most)
        assert sorted(np.concatenate(chunks).tolist()) == list(range(len(variants)))
