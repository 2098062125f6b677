"""Chains longer than a model takes: geometry of the pieces, and scores against pieces run by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.builders import as_record, batch_of, lively_esm, random_residues, with_tokens
from fixtures.table_model import EchoModel
from protlm.data.layout import esm_layout, published_layout
from protlm.errors import ConfigError, DataError
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.engine import run_contexts
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import plan_contexts, score_variants
from protlm.scoring.windows import LengthPolicy, Windows, tile_starts, tile_weights
from protlm.types.variant import Variant, parse_variant, variant_of_sequence

LONGER = st.integers(8, 200).flatmap(lambda size: st.tuples(st.just(size), st.integers(size + 1, 12 * size)))


def substitution(residues, index, letter="W"):
    letter = letter if residues[index] != letter else "Y"
    return parse_variant(f"{residues[index]}{index + 1}{letter}", residues)


@settings(deadline=None)
@given(LONGER)
def test_tiles_cover_the_chain_and_overlap_by_half(sizes):
    size, length = sizes
    starts = tile_starts(length, size)
    assert starts[0] == 0
    assert starts[-1] == length - size
    steps = np.diff(starts)
    assert steps.min() >= 1
    assert steps.max() <= size // 2
    assert len(starts) == 1 + -(-(length - size) // (size // 2))  # the fewest


@settings(deadline=None)
@given(LONGER)
def test_weights_of_a_residue_sum_to_one_and_an_inner_edge_weighs_nothing(sizes):
    size, length = sizes
    starts, weights = tile_starts(length, size), tile_weights(length, size)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert (weights >= 0).all()
    for tile, start in enumerate(starts):
        inside = weights[tile, start : start + size]
        assert weights[tile].sum() == pytest.approx(inside.sum())
        assert (inside[0] == 0) == (start > 0)
        assert (inside[-1] == 0) == (start + size < length)
    assert weights[0, 0] == weights[-1, -1] == 1.0  # flat at the true ends


@settings(deadline=None)
@given(LONGER)
def test_weights_change_smoothly(sizes):
    """Neighbours differ by at most four times the steepest slope of a sine squared over half a tile."""
    size, length = sizes
    assert np.abs(np.diff(tile_weights(length, size), axis=1)).max() <= 4 * np.pi / (2 * (size // 2))


@settings(deadline=None)
@given(LONGER)
def test_places_are_the_weights_that_are_not_zero(sizes):
    size, length = sizes
    starts, weights = tile_starts(length, size).tolist(), tile_weights(length, size)
    for index, places in enumerate(Windows("tile", size).places(length)):
        assert all(weight > 0 for _, weight in places)
        assert dict(places) == {
            start: weight for start, weight in zip(starts, weights[:, index], strict=True) if weight
        }


@settings(deadline=None)
@given(LONGER)
def test_a_window_is_full_and_as_central_as_the_ends_allow(sizes):
    size, length = sizes
    for index, ((start, weight),) in enumerate(Windows("window", size).places(length)):
        assert weight == 1.0
        assert 0 <= start <= index < start + size <= length
        if start > 0 and start + size < length:
            assert index - start == size // 2
        elif start == 0:
            assert index <= size // 2
        else:
            assert index >= length - size + size // 2


@pytest.mark.parametrize("kind", ["window", "tile"])
@pytest.mark.parametrize("plan", ["masked_marginal", "pseudo_log_likelihood", "wildtype_marginal"])
def test_a_chain_that_fits_is_scored_as_without_windows(plan, kind):
    model, wild_type = lively_esm(token_dropout=True), as_record("MKTAYIAKQRQI")
    variants = [parse_variant(text, "MKTAYIAKQRQI") for text in ("M1L", "M1L:R10W", "I12V")]
    plain = score_variants(model, make_plan(plan), wild_type, variants)
    cut = score_variants(model, make_plan(plan), wild_type, variants, length=LengthPolicy(kind, 12))
    assert cut.scores.tolist() == plain.scores.tolist()
    assert (cut.num_contexts, cut.cut_to) == (plain.num_contexts, None)


def logprobs(model, residues, masked, letters=()):
    """Run one piece by hand, with its own begin and end tokens; give ``[residues, v]``."""
    batch = batch_of(model.layout, residues)
    changes = {1 + index: model.layout.mask_id for index in masked}
    changes |= {1 + index: model.layout.ids[letter] for index, letter in letters}
    with torch.inference_mode():
        logits = model.logits(with_tokens(batch, changes), torch.arange(len(residues) + 2))
    return torch.log_softmax(logits, dim=-1).double().numpy()[1:-1]


def by_hand(model, wild_type, variant, size):
    """Masked marginal in tiles: for each site every tile that has it, other sites of the tile masked too."""
    starts, weights = tile_starts(len(wild_type), size), tile_weights(len(wild_type), size)
    total, runs = 0.0, set()
    for site in variant.mutations:
        for tile, start in enumerate(starts):
            if weights[tile, site.index] == 0:
                continue
            masked = [m.index - start for m in variant.mutations if start <= m.index < start + size]
            runs.add((start, *masked))
            row = logprobs(model, wild_type[start : start + size], masked)[site.index - start]
            change = row[model.layout.ids[site.mutant]] - row[model.layout.ids[site.wild_type]]
            total += weights[tile, site.index] * change
    return total, len(runs)


def test_tiles_of_a_long_protein_on_a_model_of_1024_tokens_match_each_tile_run_by_hand():
    model = lively_esm(positions="learned", max_tokens=1024, token_dropout=True)
    assert model.layout.max_residues == 1022
    wild_type = random_residues(np.random.default_rng(0), 2500)
    sites = [(0,), (1021,), (1022,), (1250,), (2499,), (740, 760), (300, 2100)]
    variants = [
        Variant(tuple(substitution(wild_type, index).mutations[0] for index in each)) for each in sites
    ]
    plan = make_plan("masked_marginal", fill="joint")
    found = score_variants(model, plan, as_record(wild_type), variants, length=LengthPolicy("tile"))
    expected, runs = zip(*(by_hand(model, wild_type, each, 1022) for each in variants), strict=True)
    assert np.abs(expected).min() > 0.05
    np.testing.assert_allclose(found.scores, expected, atol=2e-5)
    assert found.own_masked_contexts.tolist() == list(runs)
    assert (found.num_contexts, found.cut_to) == (sum(runs), 1022)


def test_each_residue_is_read_in_its_own_window():
    echo = EchoModel()
    wild_type = random_residues(np.random.default_rng(1), 30)
    variants = [substitution(wild_type, index) for index in (0, 4, 5, 17, 29)]
    length = LengthPolicy("window", 9)
    result = score_variants(echo, make_plan("masked_marginal"), as_record(wild_type), variants, length=length)
    written = set()
    for index in (0, 4, 5, 17, 29):
        start = min(max(0, index - 4), 21)
        piece = [*wild_type[start : start + 9]]
        piece[index - start] = "<mask>"
        written.add(f"<cls>{''.join(piece)}<eos>")
    assert set(echo.contexts) == written
    assert result.num_contexts == result.num_masked_contexts == len(echo.contexts) == 5
    assert result.own_masked_contexts.tolist() == [1] * 5


def test_a_mask_outside_a_window_makes_no_other_context():
    contexts = ContextList([as_record("ACDEFGHIKLMNPQRSTVWY")], Windows("window", 8))
    for masked in ((2,), (2, 15), (2, 19)):
        contexts.read(contexts.context(0, [(0, index, MASK) for index in masked]), 0, 2)
    assert (contexts.num_reads, contexts.num_contexts) == (3, 1)
    echo = EchoModel()
    reads = run_contexts(echo, contexts)
    assert echo.contexts == ["<cls>AC<mask>EFGHI<eos>"]
    assert reads[0].tolist() == reads[1].tolist() == reads[2].tolist()


@pytest.mark.parametrize("kind", ["window", "tile"])
@pytest.mark.parametrize(
    ("plan", "fill"),
    [
        ("masked_marginal", None),
        ("masked_marginal", "mutant"),
        ("pseudo_log_likelihood", None),
        ("wildtype_marginal", None),
    ],
)
def test_the_number_said_beforehand_is_the_number_that_runs(plan, fill, kind):
    wild_type = random_residues(np.random.default_rng(2), 25)
    variants = [substitution(wild_type, 3), substitution(wild_type, 20)]
    variants.append(Variant(variants[0].mutations + variants[1].mutations))
    echo = EchoModel(layout=esm_layout(max_tokens=12))
    length = LengthPolicy(kind)
    contexts, _ = plan_contexts(
        echo, make_plan(plan, fill=fill), as_record(wild_type), variants, length=length
    )
    finished = []
    run_contexts(echo, contexts, max_tokens=40, on_batch=finished.append)
    assert contexts.num_contexts == sum(finished) == len(echo.contexts) == len(set(echo.contexts))
    assert contexts.num_masked_contexts == sum("<mask>" in each for each in echo.contexts)
    assert {len(each.replace("<mask>", "-")) for each in echo.contexts} == {len("<cls><eos>") + 10}


def test_longer_variants_are_cut_too_and_far_residues_cancel():
    """Under windows, residues that no window joins to the change are read alike in both sequences."""
    model = lively_esm()
    wild_type = random_residues(np.random.default_rng(3), 40)
    longer = variant_of_sequence(wild_type[:20] + "WW" + wild_type[20:], wild_type)
    length = LengthPolicy("window", 9)
    plan = make_plan("pseudo_log_likelihood")
    found = score_variants(model, plan, as_record(wild_type), [longer], length=length)

    def pseudo_log_likelihood(residues, sites):
        total = 0.0
        for index in sites:
            start = min(max(0, index - 4), len(residues) - 9)
            row = logprobs(model, residues[start : start + 9], [index - start])[index - start]
            total += row[model.layout.ids[residues[index]]]
        return total

    whole = pseudo_log_likelihood(longer.residues, range(42)) - pseudo_log_likelihood(wild_type, range(40))
    near = pseudo_log_likelihood(longer.residues, range(16, 26))
    near -= pseudo_log_likelihood(wild_type, range(16, 24))
    assert found.scores[0] == pytest.approx(whole, abs=1e-4)
    assert whole == pytest.approx(near, abs=1e-4)


def test_a_lone_light_chain_keeps_its_separator_in_every_piece():
    from fixtures.antibodies import VL

    layout = published_layout("currab")
    echo = EchoModel(layout=layout)
    contexts = ContextList([as_record(VL)], Windows("tile", 60))
    contexts.read(contexts.context(0, [(0, 50, MASK)]), 0, 50)
    run_contexts(echo, contexts)
    assert len(echo.contexts) == 3
    whole = "".join([*layout.begin, layout.separator_text])
    assert all(each.startswith(whole) for each in echo.contexts)


def test_a_chain_over_the_limit_proposes_the_policy():
    echo, residues = EchoModel(layout=esm_layout(max_tokens=12)), "ACDEFGHIKLMNP"
    with pytest.raises(DataError) as error:
        plan_contexts(echo, make_plan("masked_marginal"), as_record(residues), [substitution(residues, 0)])
    assert "--long tile" in (error.value.hint or "")


def test_several_chains_over_the_limit_are_refused_with_what_can_be_done():
    echo, record = EchoModel(layout=esm_layout(max_tokens=16)), as_record("ACDEFGHIK/LMNPQRST")
    variant = [parse_variant("A1G", "ACDEFGHIK")]
    for length in (LengthPolicy("tile"), LengthPolicy("window", 8)):
        with pytest.raises(DataError, match="only a single chain can be cut"):
            plan_contexts(echo, make_plan("masked_marginal"), record, variant, length=length)
    with pytest.raises(DataError) as error:
        plan_contexts(echo, make_plan("masked_marginal"), record, variant)
    assert "--long" not in (error.value.hint or "")


def test_pairs_that_fit_are_run_whole_under_any_policy():
    echo, record = EchoModel(layout=esm_layout(max_tokens=30)), as_record("ACDEF/LMNPQ")
    variant = [parse_variant("A1G", "ACDEF")]
    score_variants(echo, make_plan("masked_marginal"), record, variant, length=LengthPolicy("tile"))
    assert echo.contexts == ["<cls><mask>CDEF<cls><cls>LMNPQ<eos>"]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (("tiles", None), "--long 'tiles'"),
        (("error", 100), "nothing is to be cut"),
        (("tile", 7), "--window 7 is too short"),
    ],
)
def test_wrong_policies_are_refused(policy, says):
    with pytest.raises(ConfigError, match=says):
        LengthPolicy(*policy)


def test_a_window_that_the_model_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="longer than the 10 residues that model 'm' takes"):
        LengthPolicy("tile", 11).windows(esm_layout(max_tokens=12), "m")
    assert LengthPolicy("tile", 10).windows(esm_layout(max_tokens=12), "m") == Windows("tile", 10)
    assert LengthPolicy("tile").windows(esm_layout(), "m") is None


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 20), st.integers(21, 60), st.sampled_from(["window", "tile"]), st.randoms())
def test_every_read_is_the_weighted_mean_over_its_pieces(size, length, kind, random):
    """Against a model whose log-probabilities tell the piece and the residue."""
    wild_type = random_residues(np.random.default_rng(random.randrange(100)), length)
    windows = Windows(kind, size)
    contexts = ContextList([as_record("ACDEF"), as_record(wild_type)], windows)
    index = random.randrange(length)
    masked = sorted(random.sample(range(length), 3))
    row = contexts.read(contexts.context(1, [(0, each, MASK) for each in masked]), 0, index)
    contexts.read(contexts.context(0), 0, 4)
    echo = EchoModel()
    found = run_contexts(echo, contexts)[row]
    expected = np.zeros(33)
    for start, weight in windows.places(length)[index]:
        one = ContextList([replace(as_record(wild_type[start : start + size]), id="piece")])
        changes = [(0, each - start, MASK) for each in masked if start <= each < start + size]
        one.read(one.context(0, changes), 0, index - start)
        # the fingerprint of a residue is of its place in the piece
        expected += weight * run_contexts(EchoModel(), one)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
