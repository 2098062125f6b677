"""Every score here is worked out on paper from the tables that the model is made of.

The wild type is ACDEF, sites (0, 0) to (0, 4). Logits that are not named are 0. W at the first site has
a large logit that no score may depend on, since normalisation cancels in a difference.

==========  ===========================  ===========================
site        while masked                 while visible
==========  ===========================  ===========================
(0, 0) A    A 1.0   G 0.5   W 9.0        A 5.0   G 1.0   W 9.0
(0, 2) D    D 2.0   E 1.5                D 6.0   E 3.0
(0, 4) F    F 3.0   Y 2.0                F 7.0   Y 4.0
==========  ===========================  ===========================

Couplings: where the third residue shows D, G at the first site gains 0.25; where it is masked, G loses
10. Where the first residue shows A, Y at the last site gains 0.5; where it is masked, Y loses 20.
"""

import math

import numpy as np
import pytest

from fixtures.builders import as_record
from fixtures.table_model import Coupling
from protlm.scoring.contexts import MASK, ContextList
from protlm.scoring.plans import Terms, make_plan, plans
from protlm.scoring.pseudo_likelihood import masked_from_visible
from protlm.scoring.variants import score_variants
from protlm.types.variant import all_single_substitutions, parse_variant, variant_of_sequence

WILD_TYPE = "ACDEF"
MASKED = {
    (0, 0): {"A": 1.0, "G": 0.5, "W": 9.0},
    (0, 2): {"D": 2.0, "E": 1.5},
    (0, 4): {"F": 3.0, "Y": 2.0},
}
VISIBLE = {
    (0, 0): {"A": 5.0, "G": 1.0, "W": 9.0},
    (0, 2): {"D": 6.0, "E": 3.0},
    (0, 4): {"F": 7.0, "Y": 4.0},
}
COUPLINGS = (
    Coupling(to=(0, 0), source=(0, 2), shows="D", adds={"G": 0.25}),
    Coupling(to=(0, 0), source=(0, 2), shows="<mask>", adds={"G": -10.0}),
    Coupling(to=(0, 4), source=(0, 0), shows="A", adds={"Y": 0.5}),
    Coupling(to=(0, 4), source=(0, 0), shows="<mask>", adds={"Y": -20.0}),
)


@pytest.fixture
def model(table_model):
    return table_model(masked=MASKED, visible=VISIBLE, couplings=COUPLINGS)


def score(model, plan, *texts, wild_type=WILD_TYPE, chain=0, fill=None):
    record = as_record(wild_type)
    variants = [parse_variant(text, record.chains[chain].residues) for text in texts]
    return score_variants(model, make_plan(plan, fill=fill), record, variants, chain=chain)


def logprob(letter, **logits):
    """Natural-log probability of a letter where all others of the 33 tokens have logit 0."""
    total = sum(math.exp(value) for value in logits.values()) + 33 - len(logits)
    return logits.get(letter, 0.0) - math.log(total)


def test_masked_marginal_of_a_single_at_the_first_residue(model):
    """G 0.5 + 0.25 (D is there) − A 1.0 = −0.25."""
    assert score(model, "masked_marginal", "A1G").scores == pytest.approx([-0.25], abs=1e-5)


def test_masked_marginal_of_a_single_in_the_middle(model):
    """E 1.5 − D 2.0 = −0.5."""
    assert score(model, "masked_marginal", "D3E").scores == pytest.approx([-0.5], abs=1e-5)


def test_masked_marginal_of_a_single_at_the_last_residue(model):
    """Y 2.0 + 0.5 (A is there) − F 3.0 = −0.5."""
    assert score(model, "masked_marginal", "F5Y").scores == pytest.approx([-0.5], abs=1e-5)


def test_masked_marginal_sums_a_double_over_sites_in_the_wild_type_context(model):
    """−0.25 + −0.5 = −0.75. Masking both at once would give −0.25 + (2.0 − 20 − 3.0) = −21.25."""
    assert score(model, "masked_marginal", "A1G:F5Y").scores == pytest.approx([-0.75], abs=1e-5)


def test_masked_marginal_never_shows_the_mutant_of_one_site_to_another(model):
    """A1G:D3E = −0.25 + −0.5 = −0.75 with D in place; with E in its place A1G would be −0.5."""
    assert score(model, "masked_marginal", "A1G:D3E").scores == pytest.approx([-0.75], abs=1e-5)


def test_wildtype_marginal_of_singles_reads_the_visible_table(model):
    """A1G: 1.0 + 0.25 − 5.0 = −3.75. D3E: 3.0 − 6.0 = −3. F5Y: 4.0 + 0.5 − 7.0 = −2.5."""
    scores = score(model, "wildtype_marginal", "A1G", "D3E", "F5Y").scores
    assert scores == pytest.approx([-3.75, -3.0, -2.5], abs=1e-5)


def test_wildtype_marginal_of_a_triple_is_the_sum_of_its_singles(model):
    """−3.75 − 3 − 2.5 = −9.25."""
    assert score(model, "wildtype_marginal", "A1G:D3E:F5Y").scores == pytest.approx([-9.25], abs=1e-5)


def test_wildtype_marginal_runs_the_wild_type_once_and_masks_nothing(model):
    result = score(model, "wildtype_marginal", "A1G", "D3E", "F5Y", "A1G:F5Y")
    assert model.contexts == ["<cls>ACDEF<eos>"]
    assert (result.num_contexts, result.num_masked_contexts) == (1, 0)


def test_a_gain_is_positive(model):
    """A1W while masked: 9.0 − 1.0 = 8; while visible: 9.0 − 5.0 = 4."""
    assert score(model, "masked_marginal", "A1W").scores == pytest.approx([8.0], abs=1e-5)
    assert score(model, "wildtype_marginal", "A1W").scores == pytest.approx([4.0], abs=1e-5)


def test_joint_masks_all_sites_of_a_double_at_once(model):
    """A1G: 0.5 − 1.0 (D is there) + 0.25 = −0.25. F5Y with A masked: 2.0 − 20 − 3.0 = −21."""
    result = score(model, "masked_marginal", "A1G:F5Y", fill="joint")
    assert result.scores == pytest.approx([-21.25], abs=1e-5)
    assert model.contexts == ["<cls><mask>CDE<mask><eos>"]


def test_joint_shares_one_context_among_all_variants_of_the_same_sites(model):
    score(model, "masked_marginal", "A1G:F5Y", "A1W:F5Y", "F5W:A1G", fill="joint")
    assert model.contexts == ["<cls><mask>CDE<mask><eos>"]


def test_fill_mutant_shows_the_mutant_at_the_other_site(model):
    """A1G beside E: 0.5 − 1.0 = −0.5, the gain of 0.25 gone. D3E beside G: 1.5 − 2.0 = −0.5."""
    result = score(model, "masked_marginal", "A1G:D3E", fill="mutant")
    assert result.scores == pytest.approx([-1.0], abs=1e-5)
    assert sorted(model.contexts) == ["<cls><mask>CEEF<eos>", "<cls>GC<mask>EF<eos>"]


@pytest.mark.parametrize("fill", ["wildtype", "joint", "mutant"])
def test_fill_does_not_matter_to_singles(model, fill):
    scores = score(model, "masked_marginal", "A1G", "D3E", "F5Y", fill=fill).scores
    assert scores == pytest.approx([-0.25, -0.5, -0.5], abs=1e-5)


def test_mutant_marginal_reads_both_letters_in_the_variant(model):
    """A1G:D3E in GCEEF, visible: G 1.0 (D is gone) − A 5.0 = −4; E 3.0 − D 6.0 = −3."""
    result = score(model, "mutant_marginal", "A1G:D3E", "F5Y")
    assert result.scores == pytest.approx([-7.0, 4.0 + 0.5 - 7.0], abs=1e-5)
    assert sorted(model.contexts) == ["<cls>ACDEY<eos>", "<cls>GCEEF<eos>"]


def test_pseudo_log_likelihood_sums_every_residue_masked(model):
    """A1G changes what stands at the first site, and Y's gain at the last, where F is read."""
    changed = logprob("G", A=1.0, G=0.75, W=9.0) + logprob("F", F=3.0, Y=2.0)
    reference = logprob("A", A=1.0, G=0.75, W=9.0) + logprob("F", F=3.0, Y=2.5)
    result = score(model, "pseudo_log_likelihood", "A1G")
    assert result.scores == pytest.approx([changed - reference], abs=1e-5)
    assert result.num_masked_contexts == 9  # 5 each; with the first residue masked the two are one


def test_pseudo_log_likelihood_of_a_deletion(table_model):
    """MKT against MT: a table that favours K by 2 nats at the second site only."""
    model = table_model(masked={(0, 1): {"K": 2.0}})
    record = as_record("MKT")
    plan = make_plan("pseudo_log_likelihood")
    found = score_variants(model, plan, record, [variant_of_sequence("MT", "MKT")]).scores
    flat = -math.log(33)
    assert found == pytest.approx(
        [flat + logprob("T", K=2.0) - (flat + logprob("K", K=2.0) + flat)], abs=1e-5
    )


def test_one_fell_swoop_recovers_masked_probabilities_of_a_model_at_its_optimum(table_model):
    """Masked p(A) = 0.6; shown A, the same model says 0.6 (0.1 + 0.005) / (0.06 + 0.005) = 0.969."""
    masked = 0.6
    visible = masked * 0.105 / (0.1 * masked + 0.005)
    assert np.exp(masked_from_visible(np.log([visible]))) == pytest.approx([masked])
    model = table_model(visible={(0, 0): {"A": math.log(32 * visible / (1 - visible))}})
    result = score(model, "one_fell_swoop", "A1G")
    shown = math.log((1 - visible) / 32)
    expected = masked_from_visible(np.array([shown]))[0] - math.log(masked)
    assert result.scores == pytest.approx([expected], abs=1e-5)
    assert sorted(model.contexts) == ["<cls>ACDEF<eos>", "<cls>GCDEF<eos>"]


def test_legacy_pseudo_perplexity_reads_the_letter_after_the_masked_residue(model):
    """ACDEF: masks A, C, D and reads the letters C, D, E there."""
    expected = logprob("C", A=1.0, G=0.75, W=9.0) + logprob("D") + logprob("E", D=2.0, E=1.5)
    result = score(model, "pppl_legacy", "WT")
    assert result.scores == pytest.approx([expected], abs=1e-5)
    assert model.masked_sites == [{(0, 0)}, {(0, 1)}, {(0, 2)}]


@pytest.mark.parametrize("plan", ["masked_marginal", "wildtype_marginal"])
def test_the_wild_type_scores_exactly_zero(model, plan):
    scores = score(model, plan, "", "A1G", "WT", "A1=").scores
    assert scores[[0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    assert scores[1] != 0


@pytest.mark.parametrize("plan", ["masked_marginal", "wildtype_marginal"])
def test_the_wild_type_alone_runs_nothing(model, plan):
    assert score(model, plan, "", "WT").scores.tolist() == [0.0, 0.0]
    assert model.contexts == []


def test_variants_named_twice_have_one_score_and_one_context(model):
    """A1G −0.25, F5Y −0.5, their double −0.75 however it is written; two sites, two contexts."""
    result = score(model, "masked_marginal", "A1G", "F5Y", "A1G", "F5Y:A1G", "A1G:F5Y")
    assert result.scores == pytest.approx([-0.25, -0.5, -0.25, -0.75, -0.75], abs=1e-5)
    assert sorted(model.contexts) == ["<cls><mask>CDEF<eos>", "<cls>ACDE<mask><eos>"]
    assert result.num_masked_contexts == 2


def test_a_list_of_variants_on_four_sites_costs_four_masked_contexts(model):
    texts = ["A1G", "A1W", "C2D:D3E", "D3K", "F5Y", "A1G:F5Y", "C2A"]
    result = score(model, "masked_marginal", *texts)
    assert model.masked_sites == [{(0, index)} for index in (0, 1, 2, 4)]
    assert model.read_sites == [[(0, index)] for index in (0, 1, 2, 4)]
    assert (result.num_contexts, result.num_masked_contexts) == (4, 4)


def test_all_singles_cost_one_masked_context_per_site(model):
    """Every letter but the named ones has logit 0, so A1K = 0 − 1.0 and F5K = 0 − 3.0; C and E give 0."""
    singles = dict(all_single_substitutions(WILD_TYPE))
    result = score_variants(
        model, plans.get("masked_marginal")(), as_record(WILD_TYPE), list(singles.values())
    )
    scores = dict(zip(singles, result.scores, strict=True))
    assert len(scores) == 95
    assert result.num_masked_contexts == 5
    expected = {"A1G": -0.25, "A1K": -1.0, "C2K": 0.0, "D3E": -0.5, "D3K": -2.0, "E4K": 0.0, "F5K": -3.0}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-5)


class TestLightChainBesideItsHeavyChain:
    """QVQ/DIV; the light chain is chain 1.

    Masked: I 1.0, L 0.75 at (1, 1); D 2.0, E 1.0 at (1, 0). Visible: I 4.0, L 1.0. L at (1, 1) gains
    0.5 where the heavy chain's second residue shows V. Tables of chain 0 are a trap: 100 everywhere.
    """

    @pytest.fixture
    def pair(self, table_model):
        trap = {(0, index): dict.fromkeys("ADEIKLQV", 100.0 * (index + 1)) for index in range(3)}
        return table_model(
            masked=trap | {(1, 1): {"I": 1.0, "L": 0.75}, (1, 0): {"D": 2.0, "E": 1.0}},
            visible=trap | {(1, 1): {"I": 4.0, "L": 1.0}},
            couplings=[Coupling(to=(1, 1), source=(0, 1), shows="V", adds={"L": 0.5})],
        )

    def test_masked_marginal_masks_the_light_chain_and_shows_the_heavy_one(self, pair):
        """I2L: 0.75 + 0.5 − 1.0 = 0.25; D1E: 1.0 − 2.0 = −1."""
        result = score(pair, "masked_marginal", "I2L", "D1E", wild_type="QVQ/DIV", chain=1)
        assert result.scores == pytest.approx([0.25, -1.0], abs=1e-5)
        assert sorted(pair.contexts) == [
            "<cls>QVQ<cls><cls><mask>IV<eos>",
            "<cls>QVQ<cls><cls>D<mask>V<eos>",
        ]

    def test_wildtype_marginal_reads_the_light_chain(self, pair):
        """I2L: 1.0 + 0.5 − 4.0 = −2.5."""
        result = score(pair, "wildtype_marginal", "I2L", wild_type="QVQ/DIV", chain=1)
        assert result.scores == pytest.approx([-2.5], abs=1e-5)
        assert pair.read_sites == [[(1, 1)]]

    def test_another_heavy_chain_changes_the_score(self, pair):
        """Without V in the heavy chain the gain of 0.5 is gone: 0.75 − 1.0 = −0.25."""
        result = score(pair, "masked_marginal", "I2L", wild_type="QKQ/DIV", chain=1)
        assert result.scores == pytest.approx([-0.25], abs=1e-5)


def test_scores_are_differences_of_natural_log_probabilities(table_model):
    """Logits ln 3 for A and 0 for the other 32: p(A) = 3/35, p(G) = 1/35, so A1G = ln(1/3)."""
    model = table_model(masked={(0, 0): {"A": float(np.log(3.0))}})
    assert score(model, "masked_marginal", "A1G").scores == pytest.approx([np.log(1 / 3)], abs=1e-6)


def test_a_context_that_two_terms_of_a_variant_share_counts_once():
    """Reads 0 and 1 are of one masked context, 2 of another, 3 of an unmasked one."""
    contexts = ContextList([as_record(WILD_TYPE)])
    first, second = contexts.context(0, [(0, 1, MASK), (0, 2, MASK)]), contexts.context(0, [(0, 3, MASK)])
    for context, index in ((first, 1), (first, 2), (second, 3), (contexts.context(0), 3)):
        contexts.read(context, 0, index)
    rows = {0: [0, 1, 1], 1: [0, 2], 3: [3]}
    terms = Terms.build([(variant, row, 0, 1.0) for variant in rows for row in rows[variant]], 4)
    assert terms.num_masked_contexts(contexts.runs()).tolist() == [1, 2, 0, 0]
