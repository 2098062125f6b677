"""Metrics, splits, partners, baselines and a planted head, against calculations by hand."""

from itertools import permutations

import numpy as np
import pytest

from protlm.errors import DataError
from protlm.explain import head_analysis
from protlm.explain.complexes import Complex
from protlm.explain.contact_metrics import LEVELS, METRICS, judge, precision_at, scores_of, truth_of
from protlm.explain.head_analysis import (
    BEST_HEAD,
    RANDOM,
    REGRESSION,
    SHUFFLED,
    TRUE,
    judge_baselines,
    judge_model,
    read_heads,
)
from protlm.explain.head_methods import BASELINES, HeadSplit, baseline_scores, draw_partners, head_splits
from protlm.explain.head_tables import BASELINE, case_table, difference_table, head_table, summary_table
from protlm.statistics.metrics import auroc
from protlm.types.record import Chain, Record


def toy(name: str, contacts, *, antibody: str = "", antigen: str = "", is_known=None) -> Complex:
    contacts = np.asarray(contacts, dtype=bool)
    rows, columns = contacts.shape
    record = Record(name, (Chain(antibody or "A" * rows), Chain(antigen or "G" * columns)))
    known = np.ones_like(contacts) if is_known is None else np.asarray(is_known, dtype=bool)
    return Complex(record, 1, contacts, known)


def random_complexes(count: int, *, seed: int = 0, shape=(9, 12)) -> list[Complex]:
    random = np.random.default_rng(seed)
    complexes = []
    for number in range(count):
        texts = ["".join(random.choice(list("ACDEFGHIKL"), size)) for size in shape]
        contacts = random.random(shape) < 0.1
        contacts[0, 0], contacts[1, 1] = True, False
        complexes.append(toy(f"c{number}", contacts, antibody=texts[0], antigen=texts[1]))
    return complexes


def test_metrics_by_hand():
    one = toy("a", [[1, 0, 0], [0, 1, 0]], is_known=[[1, 1, 1], [1, 1, 0]])
    block = np.array([[[5.0, 4.0, 1.0], [0.0, 3.0, 9.0]]])
    truth = truth_of(one, "pairs")
    found = judge(scores_of(block, "pairs"), truth)[0]
    # judged: 5 true, 4, 1, 0, 3 true; the 9 is not known. L = 2, L/2 = 1, K = 2
    assert dict(zip(METRICS, found, strict=True)) == {
        "auroc": pytest.approx(5 / 6),
        "precision_l": 0.5,
        "precision_half_l": 1.0,
        "precision_k": 0.5,
    }
    assert truth.base_rate == 2 / 5
    assert scores_of(block, "antibody").tolist() == [[10.0, 12.0]]
    assert scores_of(block, "antigen").tolist() == [[5.0, 7.0, 10.0]]
    of_antigen = truth_of(one, "antigen")
    assert of_antigen.labels.tolist() == [True, True, False]
    assert of_antigen.is_judged.all()
    assert judge(scores_of(block, "antigen"), of_antigen)[0, 0] == 0.0
    assert np.isnan(judge(scores_of(block, "antibody"), truth_of(one, "antibody"))[0, 0])  # all touch


def test_areas_are_those_of_the_usual_function_with_ties():
    random = np.random.default_rng(1)
    one = toy("a", random.random((8, 9)) < 0.3)
    block = random.integers(0, 5, (4, 8, 9)).astype(np.float32)
    for level in LEVELS:
        truth = truth_of(one, level)
        for scores, values in zip(
            scores_of(block, level), judge(scores_of(block, level), truth), strict=True
        ):
            assert values[0] == pytest.approx(auroc(scores, truth.labels), nan_ok=True)


def test_precision_with_ties_is_the_mean_over_all_orders():
    values, labels = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1, 1], dtype=bool)
    for cut in range(1, 6):
        shares = [labels[[0, *order, 4][:cut]].mean() for order in permutations([1, 2, 3])]
        assert precision_at(values, labels, cut) == pytest.approx(np.mean(shares))
    assert precision_at(values, labels, 50) == pytest.approx(0.6)


def test_splits_keep_groups_apart_and_judge_every_complex():
    complexes = random_complexes(12)
    groups = np.array([0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8])
    splits = head_splits(complexes, groups, num_training=6, num_repeats=3, seed=0)
    assert len(splits) == 6
    for split in splits:
        assert not set(groups[split.train]) & set(groups[split.test])
        assert sorted([*split.train, *split.test]) == list(range(12))
        assert 6 <= len(split.train) <= 8
    assert {index for split in splits for index in split.test.tolist()} == set(range(12))
    shuffled = [3, 1, 0, 2, *range(4, 12)]
    again = head_splits(
        [complexes[index] for index in shuffled], groups[shuffled], num_training=6, num_repeats=3, seed=0
    )
    names = [{complexes[index].record.id for index in split.train} for split in splits]
    assert names == [{complexes[shuffled[index]].record.id for index in split.train} for split in again]
    with pytest.raises(DataError, match="fitting on 12 of 12 complexes leaves none"):
        head_splits(complexes, groups, num_training=12, num_repeats=1, seed=0)


def test_partners_are_of_another_group_and_each_is_used_once():
    complexes = random_complexes(9)
    groups = np.array([0, 0, 0, 0, 1, 2, 3, 4, 4])
    partners = draw_partners(complexes, groups, np.ones((9, 9), dtype=bool), seed=0)
    assert sorted(partners) == list(range(9))
    assert (groups[partners] != groups).all()
    fits = np.ones((9, 9), dtype=bool)
    fits[:, 5] = False  # too long for all
    partners = draw_partners(complexes, groups, fits, seed=0)
    assert 5 not in partners
    assert (partners == -1).sum() == 1
    assert (draw_partners(complexes[:4], groups[:4], fits[:4, :4], seed=0) == -1).all()


def test_amino_acid_log_odds_by_hand():
    train = toy("a", [[1, 0], [0, 0]], antibody="WA", antigen="KG")
    test = toy("b", [[1, 0], [0, 0]], antibody="AW", antigen="GK")
    split = HeadSplit(np.array([0]), np.array([1]))
    found = baseline_scores("amino acids", "pairs", [train, test], split, seed=0)[1][0]
    # one pair in four touches: each kind is expected 0.25 times; WK was seen once, the others never
    seen, never = np.log((1 + 5) / (0.25 + 5)), np.log(5 / (0.25 + 5))
    assert found == pytest.approx([never, never, never, seen])  # AG, AK, WG, WK
    of_antibody = baseline_scores("amino acids", "antibody", [train, test], split, seed=0)[1][0]
    assert of_antibody == pytest.approx([np.log(5 / 5.5), np.log(6 / 5.5)])  # A, W


def test_every_baseline_is_judged_on_others_only():
    complexes = random_complexes(8)
    groups = np.arange(8)
    splits = head_splits(complexes, groups, num_training=4, num_repeats=4, seed=0)
    values = judge_baselines(complexes, splits, seed=0)
    assert set(values) == {(name, TRUE, level) for name, levels in BASELINES.items() for level in levels}
    # a baseline that saw the answer would change with the labels of the complex that is judged
    changed = [
        *complexes[:7],
        toy(
            "c7",
            ~complexes[7].contacts,
            antibody=complexes[7].antibody[0].residues,
            antigen=complexes[7].antigen[0].residues,
        ),
    ]
    split = HeadSplit(np.arange(4), np.arange(4, 8))
    for name, levels in BASELINES.items():
        for level in levels:
            before, after = (
                baseline_scores(name, level, each, split, seed=0)[7] for each in (complexes, changed)
            )
            assert np.array_equal(before, after)


@pytest.fixture
def planted(monkeypatch):
    """Heads of noise, and a fourth one that sees contacts where the antigen is the true one as it is."""
    complexes = random_complexes(10, seed=3)
    truth = {tuple(chain.residues for chain in one.record.chains): one.contacts for one in complexes}

    def block(model, record, num_antibody_chains):
        del model, num_antibody_chains
        chains = tuple(chain.residues for chain in record.chains)
        shape = tuple(len(chain) for chain in chains)
        seed = sum(map(ord, "".join(chains[0]))) * 1000 + sum(n * ord(c) for n, c in enumerate(chains[1]))
        noise = np.random.default_rng(seed).normal(size=(2, 3, *shape)).astype(np.float32)
        if chains in truth:
            noise[1, 0] = noise[1, 0] * 0.01 + truth[chains]
        return noise

    monkeypatch.setattr(head_analysis, "attention_block", block)
    return complexes


def test_a_planted_head_is_found_and_the_controls_are_at_chance(planted):
    groups = np.arange(10)
    partners = draw_partners(planted, groups, np.ones((10, 10), dtype=bool), seed=0)
    splits = head_splits(planted, groups, num_training=5, num_repeats=3, seed=0)
    passes = []
    readings = read_heads(None, planted, partners, seed=0, on_pass=lambda: passes.append(1))
    judged = judge_model(None, planted, readings, splits, seed=0, on_pass=lambda: passes.append(1))
    assert len(passes) == head_analysis.num_passes(partners) == 50
    assert judged.heads["pairs"] == {3: 6}  # layer 2, head 1
    for level in LEVELS:
        for method in (BEST_HEAD, REGRESSION):
            assert np.nanmean(judged.values[method, TRUE, level][:, 0]) > 0.95
            for control in (RANDOM, SHUFFLED):
                if (method, control, level) in judged.values:
                    assert abs(np.nanmean(judged.values[method, control, level][:, 0]) - 0.5) < 0.2
    assert (BEST_HEAD, RANDOM, "pairs") not in judged.values

    values = {BASELINE: judge_baselines(planted, splits, seed=0), "m": judged.values}
    heads = head_table("m", readings, groups)
    best = (
        heads.filter((heads["level"] == "pairs") & (heads["condition"] == TRUE))
        .sort("auroc")
        .row(-1, named=True)
    )
    assert (best["layer"], best["head"], best["n_cases"], best["n_groups"]) == (2, 1, 10, 10)
    assert len(heads) == 6 * 8
    cases = case_table(values, planted, groups)
    own = cases.filter(
        (cases["method"] == BEST_HEAD) & (cases["level"] == "pairs") & (cases["condition"] == TRUE)
    )
    summary = summary_table(values, groups)
    line = summary.row(0, named=True)
    assert (line["model"], line["method"], line["condition"]) == ("m", BEST_HEAD, TRUE)
    assert line["auroc"] == pytest.approx(own["auroc"].mean())
    assert line["auroc_low"] <= line["auroc"]
    assert summary["model"].to_list()[-1] == BASELINE
    differences = difference_table(values, groups)
    over = differences.filter(
        (differences["against"] == SHUFFLED)
        & (differences["method"] == BEST_HEAD)
        & (differences["metric"] == "auroc")
    )
    assert len(over) == 3
    assert (over["low"] > 0).all()
    assert set(differences["kind"]) == {"control", "baseline"}


def test_a_shuffled_antigen_is_read_back_in_its_own_order(monkeypatch):
    """A head that looks only at letters says the same of the shuffled antigen as of the true one."""
    complexes = random_complexes(6, seed=5)

    def block(model, record, num_antibody_chains):
        del model, num_antibody_chains
        codes = [np.array([ord(letter) for letter in chain.residues]) for chain in record.chains]
        return np.sin(codes[0][:, None] * 7.0 + codes[1] * 3.0)[None, None].astype(np.float32)

    monkeypatch.setattr(head_analysis, "attention_block", block)
    readings = read_heads(None, complexes, np.full(6, -1), seed=0, on_pass=lambda: None)
    for level in LEVELS:
        assert np.array_equal(
            readings.metrics[TRUE, level], readings.metrics[SHUFFLED, level], equal_nan=True
        )
    assert np.isnan(readings.metrics[RANDOM, "antibody"]).all()
