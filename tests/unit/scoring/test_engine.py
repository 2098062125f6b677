from itertools import pairwise

import numpy as np
import pytest
import torch

from fixtures.builders import as_record, lively_esm, random_residues
from fixtures.table_model import EchoModel, fingerprint
from protlm.data.layout import esm_layout
from protlm.errors import DataError
from protlm.scoring.engine import MASK, ContextList, run_contexts
from protlm.scoring.plans import every_residue_masked, plans
from protlm.scoring.variants import plan_contexts, score_variants
from protlm.types.variant import all_single_substitutions, parse_variant


@pytest.fixture
def echo():
    return EchoModel()


def written(record, changes=()):
    """Write a context as the model should see it."""
    chains = [list(chain.residues) for chain in record.chains]
    for chain, index, letter in changes:
        chains[chain][index] = "<mask>" if letter == MASK else letter
    return "<cls>" + "<cls><cls>".join("".join(chain) for chain in chains) + "<eos>"


def random_questions(seed=0):
    """Many contexts over bases of different lengths, and which residues to read in each."""
    random = np.random.default_rng(seed)
    texts = [random_residues(random, int(length)) for length in (3, 17, 8, 8, 1, 30)]
    bases = [as_record(text) for text in (*texts, f"{texts[1]}/{texts[2]}", f"{texts[0]}/{texts[5]}")]
    questions = []
    for _ in range(120):
        base = int(random.integers(len(bases)))
        sites = [(c, i) for c, chain in enumerate(bases[base].chains) for i in range(len(chain))]
        picked = random.permutation(len(sites))[: int(random.integers(0, 4))]
        changes = [(*sites[p], MASK if random.random() < 0.6 else "W") for p in picked]
        reads = [sites[p] for p in random.permutation(len(sites))[: int(random.integers(1, 5))]]
        questions.append((base, changes, reads))
    return bases, questions


def asked(bases, questions):
    contexts = ContextList(bases)
    numbers, expected = [], []
    for base, changes, reads in questions:
        context = contexts.context(base, changes)
        for chain, index in reads:
            numbers.append(contexts.read(context, chain, index))
            expected.append(fingerprint(written(bases[base], changes), (chain, index)))
    return contexts, numbers, torch.log_softmax(torch.stack(expected), dim=-1).numpy()


@pytest.mark.parametrize("max_tokens", [1, 40, 200, 10**6])
def test_each_read_belongs_to_its_context_in_any_mixture(echo, max_tokens):
    contexts, numbers, expected = asked(*random_questions())
    results = run_contexts(echo, contexts, max_tokens=max_tokens)
    np.testing.assert_allclose(results[numbers], expected, atol=1e-6)


def test_the_order_of_the_questions_does_not_matter(echo):
    bases, questions = random_questions(seed=1)
    for order in (questions, questions[::-1], sorted(questions, key=lambda each: each[2])):
        contexts, numbers, expected = asked(bases, order)
        np.testing.assert_allclose(run_contexts(echo, contexts)[numbers], expected, atol=1e-6)


def test_the_token_budget_bounds_each_batch_and_loses_no_context(echo):
    contexts, _, _ = asked(*random_questions())
    finished, sizes = [], []
    logits = echo.logits
    echo.logits = lambda batch, rows: (sizes.append(batch.lengths.tolist()), logits(batch, rows))[1]
    run_contexts(echo, contexts, max_tokens=60, on_batch=finished.append)
    assert all(sum(lengths) <= 60 or len(lengths) == 1 for lengths in sizes)
    assert len(sizes) == len(finished) > 5
    assert sum(finished) == contexts.num_contexts == len(echo.contexts)


def test_identical_contexts_are_run_once_however_they_are_written(echo):
    base = as_record("ACDEF")
    contexts = ContextList([base])
    first = contexts.context(0, [(0, 1, MASK), (0, 3, "W")])
    same = contexts.context(0, [(0, 3, "W"), (0, 1, MASK)])
    other = contexts.context(0, [(0, 3, MASK), (0, 1, "W")])
    assert first == same != other
    reads = [contexts.read(context, 0, 1) for context in (first, same, other, first)]
    assert reads == [0, 0, 1, 0]
    run_contexts(echo, contexts)
    assert sorted(echo.contexts) == ["<cls>A<mask>DWF<eos>", "<cls>AWD<mask>F<eos>"]


def test_the_unmasked_record_is_a_context_but_no_masked_one(echo):
    contexts = ContextList([as_record("ACD")])
    contexts.read(contexts.context(0), 0, 0)
    contexts.read(contexts.context(0, [(0, 0, "W")]), 0, 0)
    contexts.read(contexts.context(0, [(0, 0, MASK)]), 0, 0)
    assert (contexts.num_contexts, contexts.num_masked_contexts) == (3, 1)


def test_only_the_sites_that_are_asked_for_are_run_and_read(echo):
    wild_type = as_record(random_residues(np.random.default_rng(3), 50))
    residues = wild_type.chains[0].residues
    sites = (0, 7, 31, 49)
    variants = [
        parse_variant(f"{residues[i]}{i + 1}{m}", residues) for i in sites for m in "WYF" if m != residues[i]
    ]
    score_variants(echo, plans.get("masked_marginal")(), wild_type, variants)
    assert sorted(map(sorted, echo.masked_sites)) == [[(0, index)] for index in sites]
    assert [sorted(masked) for masked in echo.masked_sites] == echo.read_sites


def test_every_residue_masked_gives_rows_chain_by_chain(echo):
    record = as_record("ACD/EF")
    contexts = ContextList([as_record("WWWWW"), record])
    results = run_contexts(echo, contexts)
    assert results.shape == (0, 33)
    rows = every_residue_masked(contexts, 1)
    results = run_contexts(echo, contexts)
    sites = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    expected = torch.stack([fingerprint(written(record, [(*site, MASK)]), site) for site in sites])
    np.testing.assert_allclose(results[rows], torch.log_softmax(expected, -1).numpy(), atol=1e-6)


def test_reads_are_log_probabilities_over_the_whole_vocabulary(echo):
    contexts, _, _ = asked(*random_questions())
    np.testing.assert_allclose(np.exp(run_contexts(echo, contexts)).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("plan", ["masked_marginal", "wildtype_marginal"])
def test_scores_of_a_network_do_not_depend_on_the_token_budget(plan):
    model = lively_esm(token_dropout=True)
    wild_type = as_record("MKTAYIAKQRQISFVKSHFSRQ")
    variants = [variant for _, variant in all_single_substitutions(wild_type.chains[0].residues)]
    scores = [
        score_variants(model, plans.get(plan)(), wild_type, variants, max_tokens=budget).scores
        for budget in (1, 50, 300, 10**6)
    ]
    assert np.abs(scores[0]).max() > 1
    for one, other in pairwise(scores):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_order_of_the_variants_moves_the_scores_along(echo):
    wild_type = as_record("MKTAYIAKQR")
    variants = [variant for _, variant in all_single_substitutions("MKTAYIAKQR")]
    order = np.random.default_rng(0).permutation(len(variants))
    plan = plans.get("masked_marginal")()
    plain = score_variants(echo, plan, wild_type, variants).scores
    moved = score_variants(echo, plan, wild_type, [variants[index] for index in order]).scores
    np.testing.assert_allclose(moved, plain[order], atol=1e-6)
    assert len(np.unique(plain)) > 100


@pytest.mark.parametrize(("chain", "index"), [(0, 3), (0, -1), (1, 0)])
def test_a_residue_that_is_not_there_is_refused(echo, chain, index):
    contexts = ContextList([as_record("ACD")])
    contexts.read(contexts.context(0), chain, index)
    with pytest.raises(DataError, match=rf"no residue {index} in chain {chain}"):
        run_contexts(echo, contexts)


def test_a_wild_type_over_the_models_limit_is_refused_before_anything_runs():
    echo = EchoModel(layout=esm_layout(max_tokens=8))
    plan = plans.get("masked_marginal")()
    fits, _ = plan_contexts(echo, plan, as_record("ACDEFG"), [parse_variant("A1G", "ACDEFG")])
    assert fits.num_contexts == 1
    with pytest.raises(DataError, match="7 residues and needs 9 tokens, but model 'echo' takes at most 8"):
        plan_contexts(echo, plan, as_record("ACDEFGH"), [parse_variant("A1G", "ACDEFGH")])
    assert echo.num_calls == 0
