"""Windows, galleries, baselines and verdicts of retrieval."""

import numpy as np
import pytest

from fixtures.backbones import HELIX, STRAND, backbone_of_angles
from protlm.data.backbones import open_backbones
from protlm.errors import DataError
from protlm.evaluation.angle_matcher import AngleMatcher
from protlm.evaluation.retrieval import Matcher, cosine_scores, judge_gallery, similarity_table
from protlm.evaluation.retrieval_baselines import CompositionMatcher, length_scores
from protlm.evaluation.retrieval_galleries import build_gallery
from protlm.evaluation.retrieval_pairs import crop_pairs, distinct_rows, pairs_of
from protlm.evaluation.secondary_shares import backbone_angles, secondary_shares
from protlm.statistics.retrieval import rank_relevant
from protlm.types.structure import Backbone


def plain(name, residues, missing=()):
    coordinates = np.random.default_rng(len(residues)).normal(size=(len(residues), 4, 3))
    coordinates[list(missing)] = np.nan
    return Backbone(name, residues, coordinates, np.zeros(len(residues), int), ("A",))


def some_pairs(count=20, seed=0):
    random = np.random.default_rng(seed)
    texts = [
        "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), random.integers(10, 40))) for _ in range(count)
    ]
    return pairs_of(
        [plain(f"p{row}", text) for row, text in enumerate(texts)], [f"c{row % 5}" for row in range(count)]
    )


def test_angles_and_shares_are_those_it_was_built_from():
    angles = [HELIX] * 10 + [(70.0, 20.0)] * 2 + [STRAND] * 6
    backbone = backbone_of_angles("a", "A" * 18, angles)
    phi, psi = backbone_angles(backbone)
    assert np.isnan([phi[0], psi[-1]]).all()
    np.testing.assert_allclose(phi[1:], [each[0] for each in angles[1:]], atol=1e-3)
    np.testing.assert_allclose(psi[:-1], [each[1] for each in angles[:-1]], atol=1e-3)
    # the first and the last residue lack an angle
    np.testing.assert_allclose(secondary_shares(backbone)[0], [9 / 18, 5 / 18, 4 / 18])


def test_a_break_ends_a_helix_and_unresolved_residues_are_not_counted():
    backbone = backbone_of_angles("a", "A" * 12, [HELIX] * 12)
    coordinates = backbone.coordinates.copy()
    coordinates[6] = np.nan
    broken = Backbone("a", "A" * 12, coordinates, np.zeros(12, int), ("A",))
    # residues 1 to 4 and 8 to 10 (0-based) have both angles; the second run is too short
    np.testing.assert_allclose(secondary_shares(broken)[0], [4 / 11, 0, 7 / 11])
    assert np.isnan(secondary_shares(plain("b", "AAA", missing=(0, 1, 2)))).all()


def test_windows_depend_on_nothing_but_the_pair_and_hold_the_same_residues_in_both_views():
    pairs = some_pairs()
    windows, rows, left_out = crop_pairs(pairs, 15, seed=3)
    assert left_out == {"short": int((pairs.lengths < 15).sum()), "unresolved": 0}
    assert (windows.lengths == 15).all()
    assert len(windows) + left_out["short"] == 20
    for record, window, row in zip(windows.records, windows.backbones, rows.tolist(), strict=True):
        start = pairs.sequences[row].index(window.residues)
        assert record.chains[0].residues == window.residues
        np.testing.assert_array_equal(
            window.coordinates, pairs.backbones[row].coordinates[start : start + 15]
        )
    few, _, _ = crop_pairs(pairs.take(rows[::-1][:4]), 15, seed=3)
    assert few.sequences == [windows.sequences[-1 - place] for place in range(4)]
    assert crop_pairs(pairs, 15, seed=4)[0].sequences != windows.sequences
    with pytest.raises(DataError, match="smaller --crop"):
        crop_pairs(pairs, 100)


def test_windows_stay_in_the_longest_chain_and_are_mostly_resolved():
    two = Backbone("t", "M" * 5 + "K" * 9, np.zeros((14, 4, 3)), np.repeat([0, 1], [5, 9]), ("A", "B"))
    gap = plain("g", "A" * 8, missing=range(5))
    windows, rows, left_out = crop_pairs(pairs_of([two, gap, two], ["a", "b", "c"]), 8)
    assert windows.sequences == ["K" * 8, "K" * 8]
    assert (rows.tolist(), left_out) == ([0, 2], {"short": 0, "unresolved": 1})


def test_repeats_are_counted_once_and_length_is_construct_against_resolved():
    pairs = pairs_of(
        [plain("a", "MKV"), plain("b", "MKVAA", missing=(0,)), plain("c", "MKV")], ["x", "y", "z"]
    )
    assert distinct_rows(pairs).tolist() == [0, 1]
    assert length_scores(pairs).tolist() == [[0, -1, 0], [-2, -1, -2], [0, -1, 0]]


def test_sampled_galleries_do_not_depend_on_order_and_hold_the_true_item():
    pairs = some_pairs(30)
    gallery = build_gallery("sampled", pairs, others=7, seed=1)
    assert gallery.candidates.diagonal().all()
    assert (gallery.candidates.sum(axis=1) == 8).all()
    order = np.random.default_rng(0).permutation(30)
    again = build_gallery("sampled", pairs.take(order), others=7, seed=1)
    np.testing.assert_array_equal(again.candidates, gallery.candidates[np.ix_(order, order)])
    assert (build_gallery("sampled", pairs, others=7, seed=2).candidates != gallery.candidates).any()
    assert (build_gallery("sampled", pairs, others=99).candidates).all()


def test_hard_and_cluster_galleries():
    pairs = some_pairs(30)
    near = build_gallery("hard-length", pairs, others=3)
    gaps = np.abs(pairs.lengths[:, None] - pairs.lengths[None])
    for row in range(30):
        chosen, rest = gaps[row][near.candidates[row]], gaps[row][~near.candidates[row]]
        assert near.candidates[row].sum() == 4
        assert chosen.max() <= rest.min()
    alone = pairs_of(pairs.backbones[:3], ["x", "x", "y"])
    inside = build_gallery("in-cluster", alone)
    assert inside.queries.tolist() == [0, 1]
    assert inside.candidates.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def helices_and_strands(count, seed):
    """Chains whose share of A is their share of helix, and V of strand."""
    random, backbones = np.random.default_rng(seed), []
    for row in range(count):
        size, helix = 40, int(random.integers(5, 36))
        residues = "A" * helix + "V" * (size - helix)
        backbones.append(
            backbone_of_angles(f"{seed}-{row}", residues, [HELIX] * helix + [STRAND] * (size - helix))
        )
    return pairs_of(backbones, [str(row) for row in range(count)])


def test_composition_matcher_finds_what_composition_tells():
    training, judged = helices_and_strands(60, 0), helices_and_strands(31, 1)
    scores = CompositionMatcher(training).scores(judged)
    helix = np.array([backbone.residues.count("A") for backbone in judged.backbones])
    best = scores.argmax(axis=1)
    assert (np.abs(helix[best] - helix) <= 1).all()
    with pytest.raises(DataError, match="too few"):
        CompositionMatcher(training.take(np.arange(10)))


def test_segments_tell_apart_what_is_made_of_the_same():
    training = helices_and_strands(60, 0)
    forth = backbone_of_angles("forth", "A" * 20 + "V" * 20, [HELIX] * 20 + [STRAND] * 20)
    back = backbone_of_angles("back", "V" * 20 + "A" * 20, [STRAND] * 20 + [HELIX] * 20)
    both = pairs_of([forth, back], ["forth", "back"])
    whole, apart = (CompositionMatcher(training, segments).scores(both) for segments in (1, 8))
    assert np.ptp(whole, axis=1).max() < 0.2 * np.ptp(apart, axis=1).min()
    assert (apart.argmax(axis=1) == [0, 1]).all()


WOUND, TURN = (-65.0, -40.0), (70.0, 20.0)
"""Inside a bin each; hardly any letter but glycine stands at the second."""


def turning(name, places):
    angles = [TURN if place in places else WOUND for place in range(30)]
    return backbone_of_angles(name, "".join("G" if place in places else "A" for place in range(30)), angles)


def test_angle_matcher_finds_letters_that_stand_at_odd_angles():
    random = np.random.default_rng(0)
    drawn = [turning(f"t{row}", random.choice(28, 4, replace=False) + 1) for row in range(60)]
    matcher = AngleMatcher(pairs_of(drawn[:40], [str(row) for row in range(40)]))
    pairs = pairs_of(drawn[40:], [str(row) for row in range(20)])
    scores = matcher.scores(pairs)
    assert (scores.argmax(axis=1) == np.arange(20)).all()
    assert (scores.argmax(axis=0) == np.arange(20)).all()
    # by hand: 28 residues with both angles, as often as both were counted in the 40, leaning on 20 residues
    counts = {letter: sum(each.residues[1:-1].count(letter) for each in drawn[:40]) for letter in "AG"}
    usual = {letter: (counts.get(letter, 0) + 1) / (40 * 28 + 20) for letter in "AG"}
    gain = {one: np.log((n + 20 * usual[one]) / (n + 20) / usual[one]) for one, n in counts.items()}
    assert scores[3, 3] == pytest.approx(24 * gain["A"] + 4 * gain["G"], abs=1e-6)
    with pytest.raises(DataError, match="too few"):
        AngleMatcher(pairs.take(np.arange(5)))


def test_angle_matcher_leaves_out_what_has_no_angle_or_letter():
    drawn = [turning(f"t{row}", {row % 20 + 2}) for row in range(40)]
    matcher = AngleMatcher(pairs_of(drawn, [str(row) for row in range(40)]))
    odd = Backbone("x", "X" * 30, drawn[0].coordinates, np.zeros(30, int), ("A",))
    short = Backbone("short", "AA", drawn[0].coordinates[:2], np.zeros(2, int), ("A",))
    bare = plain("bare", "G" * 30, missing=range(30))
    scores = matcher.scores(pairs_of([drawn[0], odd, short, bare], list("abcd")))
    assert scores.shape == (4, 4)
    np.testing.assert_array_equal(scores[1], 0)
    np.testing.assert_array_equal(scores[:, 2:], 0)  # two residues have one angle each


def judged(scores, pairs, **options):
    gallery = build_gallery("full", pairs)
    matchers = [
        Matcher("m", "model", scores),
        Matcher("length", "baseline", [length_scores(pairs)], **options),
    ]
    codes = [pairs.sequence_codes, pairs.structure_codes]
    return judge_gallery(gallery, matchers, pairs.clusters, pairs.ids, codes, num_draws=50)


def of(table, **where):
    for name, value in where.items():
        table = table.filter(table[name] == value)
    return table


def test_a_perfect_model_is_above_and_a_constant_one_is_chance():
    pairs = some_pairs()
    found = judged([np.eye(20)], pairs)
    assert of(found.metrics, model="m")["value"].to_list() == [1.0] * 10
    constant = judged([np.full((20, 20), 0.3)], pairs).metrics
    assert of(constant, model="m")["value"].to_list() == of(constant, model="chance")["value"].to_list()
    assert of(constant, model="chance", metric="recall_1")["value"].to_list() == pytest.approx([0.05, 0.05])
    assert set(found.differences["verdict"]) <= {"above", "below"}  # R@10 of length is 1 too
    first = of(found.differences, metric="recall_1").row(0, named=True)
    assert (first["baseline"], first["verdict"], first["n_groups"]) == ("length", "above", 5)


def test_seeds_are_averaged_and_directions_are_told_apart():
    pairs = some_pairs(2)
    one_way = np.array([[0.5, 0.9], [0.1, 0.95]])  # sequence 0 prefers structure 1; structures are both right
    found = judged([one_way, np.eye(2)], pairs).metrics
    own = of(found, model="m", metric="recall_1")
    assert own["value"].to_list() == [0.75, 1.0]
    assert own["n_seeds"].to_list() == [2, 2]
    assert own["seed_deviation"].to_list() == pytest.approx([0.5 / 2**0.5, 0.0])


def test_what_sees_more_is_set_apart():
    pairs = some_pairs()
    table = judged([np.eye(20)], pairs, sees_more=True).differences
    assert set(of(table, beside="any baseline")["baseline"]) == {"length"}
    assert set(of(table, beside="baselines of the same input")["baseline"]) == {"chance"}


def test_cosines_that_differ_by_rounding_tie():
    one = np.array([[1.0, 0.0], [1.0, 1e-8]])
    assert len(np.unique(cosine_scores(one, one))) == 1


@pytest.mark.real_data
def test_length_alone_finds_half_or_more_of_held_out_domains(shared_data):
    backbones = open_backbones(shared_data / "structures" / "cath_domains_backbone.parquet")
    sizes, resolved = backbones.lengths, np.array([int(each.is_resolved.sum()) for each in backbones])
    drawn = np.random.default_rng(0).permutation(len(sizes))

    def recall(count):
        rows = drawn[:count]
        scores = -np.abs(sizes[rows][:, None] - resolved[rows][None]).astype(float)
        return rank_relevant(scores, np.eye(count)).hits(1).mean()

    assert 0.6 < recall(100) < 0.9
    assert 0.5 < recall(260) < 0.7
    assert 0.2 < recall(len(sizes)) < 0.3  # 1,307 domains have 380 lengths or so


def test_the_map_shows_a_few_pairs_of_the_largest_clusters():
    clusters = np.array(["b", "a", "b", "c", "b", "a"])
    scores = np.arange(36.0).reshape(6, 6)
    table = similarity_table("m", scores, clusters, list("uvwxyz"), most=4, per_cluster=2)
    assert table["sequence"].unique(maintain_order=True).to_list() == ["u", "w", "v", "z"]
    assert table["similarity"].to_list()[:4] == [0.0, 2.0, 1.0, 5.0]
