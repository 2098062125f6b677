"""The pairwise model against explicit sums, finite differences, and a family with a planted coupling."""

import itertools

import numpy as np
import pytest
import torch

from protlm.data.alignment import Alignment
from protlm.data.sequence_weights import GAP
from protlm.errors import ConfigError, DataError
from protlm.scoring import potts
from protlm.scoring.potts import PottsModel, PseudoLikelihood
from protlm.scoring.site_independent import SiteIndependent
from protlm.types.alphabet import STANDARD
from protlm.types.variant import parse_variant

WILD_TYPE = "WACDE"
INDEX = np.arange(1, 5)
CPU = torch.device("cpu")


def family(rows, weights=None):
    rows = np.asarray(rows, dtype=np.uint8)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights)
    names = tuple(f"row {number}" for number in range(len(rows)))
    return Alignment(WILD_TYPE, rows, INDEX, names, np.arange(len(rows)), weights, {}, ())


def random_family(num=12, seed=0, letters=GAP + 1):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, letters, (num, len(INDEX)))
    rows[0] = [STANDARD.index(letter) for letter in WILD_TYPE[1:]]
    return family(rows, rng.uniform(0.2, 1.0, num))


def random_model(seed=1):
    """A model with symmetric couplings that nothing was fitted to."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(4, 21)).astype(np.float32)
    couplings = rng.normal(size=(4, 21, 4, 21)).astype(np.float32)
    couplings += couplings.transpose(2, 3, 0, 1)
    couplings[range(4), :, range(4)] = 0
    return PottsModel(random_family(), fields, couplings, (), True)


def energy(model, residues):
    """H of the covered part, term by term."""
    states = [STANDARD.index(letter) for letter in residues[1:]]
    total = sum(float(model.fields[i, a]) for i, a in enumerate(states))
    for (i, a), (j, b) in itertools.combinations(enumerate(states), 2):
        total += float(model.couplings[i, a, j, b])
    return total


def variants(*texts):
    return [parse_variant(text, WILD_TYPE) for text in texts]


def test_scores_are_differences_of_the_energy():
    model = random_model()
    given = variants("A2C", "E5Y", "A2C:D4E", "A2G:C3F:D4H:E5I", "WT", "C3A:E5D", "A2C")
    expected = [energy(model, each.apply(WILD_TYPE)) - energy(model, WILD_TYPE) for each in given]
    np.testing.assert_allclose(model.scores(given), expected, atol=1e-5)
    assert model.scores(given)[4] == 0


def test_pairs_matter():
    model = random_model()
    single, other, both = model.scores(variants("A2C", "D4E", "A2C:D4E"))
    assert abs(both - single - other) > 0.1


def test_sitewise_holds_every_single():
    model = random_model()
    table = model.sitewise()
    assert table.shape == (4, 20)
    for column, index in enumerate(INDEX):
        for state, letter in enumerate(STANDARD):
            mutant = WILD_TYPE[:index] + letter + WILD_TYPE[index + 1 :]
            expected = energy(model, mutant) - energy(model, WILD_TYPE)
            assert table[column, state] == pytest.approx(expected, abs=1e-5)


def test_an_uncovered_site_is_nan_also_in_a_multiple():
    model = random_model()
    found = model.scores(variants("W1A", "W1A:A2C", "W1A:A2C:D4E", "A2C"))
    assert np.isnan(found).tolist() == [True, True, True, False]
    assert model.is_covered.tolist() == [False, True, True, True, True]


def test_a_variant_of_another_wild_type_is_refused():
    with pytest.raises(DataError, match="does not belong"):
        random_model().scores([parse_variant("C2A", "WCCDE")])


def plain_objective(alignment, states, fields, couplings, l2_fields, l2_couplings):
    """The objective as the docstring of `fit` writes it, in loops."""
    total = l2_fields * (fields**2).sum()
    for i, j in itertools.combinations(range(4), 2):
        total += l2_couplings * (couplings[i, :, j] ** 2).sum()
    for row, weight in zip(alignment.rows, alignment.weights, strict=True):
        for i, state in enumerate(row):
            if state >= states:
                continue
            logits = fields[i].copy()
            for j, other in enumerate(row):
                if j != i and other < states:
                    logits += couplings[i, :, j, other]
            total -= weight * (logits[state] - np.log(np.exp(logits).sum()))
    return total


@pytest.mark.parametrize("states", [20, 21])
def test_objective_and_gradient_are_those_of_explicit_sums(states, monkeypatch):
    monkeypatch.setattr(potts, "_BATCH_FLOATS", 5 * 4 * states)  # twelve rows are batches of 5, 5 and 2
    alignment = random_family()
    assert (alignment.rows == GAP).any()
    likelihood = PseudoLikelihood(alignment, states, 0.3, 0.7, CPU)
    rng = np.random.default_rng(5)
    size = 4 * states
    matrix = rng.normal(scale=0.3, size=(4, states, 4, states))
    matrix += matrix.transpose(2, 3, 0, 1)
    matrix[range(4), :, range(4)] = 0
    fields = rng.normal(size=(4, states))
    plain = torch.from_numpy(np.concatenate([fields.ravel(), matrix.ravel()])).float()
    scale = likelihood.scale
    point = torch.where(scale > 0, plain / scale, 0.0)
    value, gradient = likelihood(point)
    expected = plain_objective(alignment, states, fields, matrix, 0.3, 0.7)
    assert value == pytest.approx(expected, rel=1e-5)
    for i, a, j, b in [(0, 3, 1, 5), (2, 0, 3, states - 1), (1, int(alignment.rows[0, 1]), 3, 2)]:
        shifted = []
        for change in (1e-4, -1e-4):
            moved = matrix.copy()
            moved[i, a, j, b] += change
            moved[j, b, i, a] += change
            shifted.append(plain_objective(alignment, states, fields, moved, 0.3, 0.7))
        # the vector holds either copy of a coupling, and both move
        copies = [
            size + (i * states + a) * size + j * states + b,
            size + (j * states + b) * size + i * states + a,
        ]
        found = sum(float(gradient[place] / scale[place]) for place in copies)
        assert found == pytest.approx((shifted[0] - shifted[1]) / 2e-4, rel=1e-3, abs=1e-4)
    for i, a in [(0, 3), (3, states - 1)]:
        shifted = []
        for change in (1e-4, -1e-4):
            moved = fields.copy()
            moved[i, a] += change
            shifted.append(plain_objective(alignment, states, moved, matrix, 0.3, 0.7))
        place = i * states + a
        found = float(gradient[place] / scale[place])
        assert found == pytest.approx((shifted[0] - shifted[1]) / 2e-4, rel=1e-3, abs=1e-4)


@pytest.fixture(scope="module")
def planted():
    """Columns 1 and 3 (of 0 to 3) agree nine times out of ten; the others are independent of them."""
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 4, (400, 4))
    rows[:, 3] = np.where(rng.random(400) < 0.9, rows[:, 1], rng.integers(0, 4, 400))
    rows[0] = [STANDARD.index(letter) for letter in WILD_TYPE[1:]]
    return family(rows)


def test_a_planted_coupling_is_found(planted):
    model = PottsModel.fit(planted, l2_couplings=1.0)
    strength = np.sqrt((model.couplings**2).sum(axis=(1, 3)))
    pairs = {pair: strength[pair] for pair in itertools.combinations(range(4), 2)}
    assert max(pairs, key=lambda pair: pairs[pair]) == (1, 3)
    assert pairs.pop((1, 3)) > 3 * max(pairs.values())


def test_a_coupling_shows_in_the_scores_of_a_double_and_not_without_couplings(planted):
    """The wild type has C and E at the coupled columns; A and A agree, A and C do not."""
    model = PottsModel.fit(planted, l2_couplings=1.0)
    agree, differ = model.scores(variants("C3A:E5A", "C3A:E5C"))
    assert agree > differ + 1
    flat = SiteIndependent.fit(planted).scores(variants("C3A:E5A", "C3A:E5C"))
    assert abs(flat[0] - flat[1]) < 0.5


def test_couplings_are_symmetric_and_none_joins_a_column_to_itself(planted):
    model = PottsModel.fit(planted)
    np.testing.assert_array_equal(model.couplings, model.couplings.transpose(2, 3, 0, 1))
    assert not model.couplings[range(4), :, range(4)].any()
    assert model.couplings.any()


def test_a_strong_penalty_leaves_the_frequencies(planted):
    """Without couplings the fields are the log frequencies, up to a constant per column."""
    model = PottsModel.fit(planted, l2_fields=1e-4, l2_couplings=1e7, tolerance=1e-9)
    assert abs(model.couplings).max() < 1e-3
    share = [(planted.rows[:, 0] == state).mean() for state in range(4)]
    fields = model.fields[0, :4].astype(np.float64)
    np.testing.assert_allclose(fields - fields[0], np.log(share) - np.log(share[0]), atol=0.01)


def test_a_row_counts_as_often_as_its_weight(planted):
    rows = planted.rows[:60]
    weights = np.where(np.arange(60) % 3 == 0, 2.0, 1.0)
    weighted = PottsModel.fit(family(rows, weights), tolerance=1e-8)
    repeated = PottsModel.fit(family(np.repeat(rows, weights.astype(int), axis=0)), tolerance=1e-8)
    np.testing.assert_allclose(weighted.sitewise(), repeated.sitewise(), atol=2e-3)
    unweighted = PottsModel.fit(family(rows), tolerance=1e-8)
    assert abs(weighted.sitewise() - unweighted.sitewise()).max() > 0.02


def test_gaps_are_a_state_or_nothing(planted):
    rows = planted.rows.copy()
    rows[100:200, 2] = GAP
    as_state = PottsModel.fit(family(rows))
    ignored = PottsModel.fit(family(rows), gaps="ignore")
    assert as_state.fields.shape == (4, 21)
    assert ignored.couplings.shape == (4, 20, 4, 20)
    given = variants("D4A", "C3A:D4A")
    assert np.isfinite(as_state.scores(given)).all()
    assert np.isfinite(ignored.scores(given)).all()


def test_ignored_gaps_leave_a_column_to_its_other_rows(planted):
    """A row of gaps only says nothing at all."""
    rows = planted.rows[:50]
    padded = np.concatenate([rows, np.full((30, 4), GAP, dtype=np.uint8)])
    first = PottsModel.fit(family(rows), gaps="ignore", tolerance=1e-8)
    second = PottsModel.fit(family(padded), gaps="ignore", tolerance=1e-8)
    np.testing.assert_allclose(first.sitewise(), second.sitewise(), atol=0.01)
    as_state = PottsModel.fit(family(padded), tolerance=1e-8)
    assert abs(first.sitewise() - as_state.sitewise()).max() > 0.03


def test_the_default_strength_is_that_of_evcouplings(planted):
    default = PottsModel.fit(planted)
    said = PottsModel.fit(planted, l2_fields=0.01, l2_couplings=0.01 * 20 * 3)
    other = PottsModel.fit(planted, l2_couplings=0.01 * 19 * 3)
    np.testing.assert_array_equal(default.couplings, said.couplings)
    assert (default.couplings != other.couplings).any()


def test_progress_the_fall_of_the_objective_and_the_same_fit_twice(planted):
    seen = []
    first = PottsModel.fit(planted, on_iteration=lambda number, value: seen.append((number, value)))
    second = PottsModel.fit(planted)
    assert [number for number, _ in seen] == list(range(1, len(first.objective)))
    assert [value for _, value in seen] == list(first.objective[1:])
    assert all(np.diff(first.objective) < 0)
    assert first.is_converged
    np.testing.assert_array_equal(first.couplings, second.couplings)


def test_a_cut_short_fit_says_so(planted):
    model = PottsModel.fit(planted, max_iterations=2)
    assert not model.is_converged
    assert len(model.objective) == 3


def test_the_minimum_has_no_gradient(planted):
    model = PottsModel.fit(planted, tolerance=1e-9, max_iterations=500)
    likelihood = PseudoLikelihood(planted, 21, 0.01, 0.6, CPU)
    plain = torch.from_numpy(np.concatenate([model.fields.ravel(), model.couplings.ravel()]))
    point = torch.where(likelihood.scale > 0, plain / likelihood.scale, 0.0)
    _, gradient = likelihood(point)
    _, at_start = likelihood(likelihood.start())
    assert gradient.norm() < 0.02 * at_start.norm()


@pytest.mark.parametrize("strengths", [{"l2_fields": 0.0}, {"l2_couplings": 0.0}, {"l2_couplings": -1.0}])
def test_without_a_penalty_there_is_no_model(planted, strengths):
    with pytest.raises(ConfigError, match="expected strengths above 0"):
        PottsModel.fit(planted, **strengths)
