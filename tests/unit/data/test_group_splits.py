"""Groups, folds, clonotypes and the leakage report."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.clonotypes import chain_keys, clonotype_keys
from protlm.data.gene_names import gene_family
from protlm.data.numbering import number_records
from protlm.data.split_report import nearest_identity, report_split
from protlm.data.splits import assign_folds, connected_groups, random_groups
from protlm.errors import ConfigError, DataError
from protlm.types.record import Chain, Record, Role

VH = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
FR4 = "WGQGTLVTVSS"


def antibody(name: str, cdr3: str, v: str = "IGHV3-66*01", j: str = "IGHJ4*02") -> Record:
    return Record(name, (Chain(VH + cdr3 + FR4, role=Role.HEAVY, v_call=v, j_call=j),))


def numbered(*records: Record) -> list[Record]:
    return list(number_records(list(records), receptor="antibody"))


many_values = st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=2), min_size=1, max_size=25)


@settings(deadline=None)
@given(many_values)
def test_groups_are_the_connected_components(values):
    names = [f"r{number:02d}" for number in range(len(values))]
    groups = connected_groups(values, names=names)
    for first in range(len(values)):
        for second in range(len(values)):
            if set(values[first]) & set(values[second]):
                assert groups.codes[first] == groups.codes[second]
    # nothing is joined without a chain of shared values: merge by hand until it rests
    label = list(range(len(values)))
    for _ in values:
        for first in range(len(values)):
            for second in range(len(values)):
                if set(values[first]) & set(values[second]):
                    label[first] = label[second] = min(label[first], label[second])
    assert len(set(label)) == len(groups.names)
    assert [groups.names[code] for code in groups.codes] == [names[each] for each in label]


@settings(deadline=None)
@given(many_values, st.integers(0, 5), st.randoms(use_true_random=False))
def test_folds_follow_groups_whatever_the_order(values, seed, random):
    names = [f"r{number:02d}" for number in range(len(values))]
    groups = connected_groups(values, names=names)
    if len(groups.names) < 2:
        with pytest.raises(DataError, match="cannot fill"):
            assign_folds(groups, [0.5, 0.5], seed=seed)
        return
    folds = dict(zip(names, assign_folds(groups, [0.5, 0.5], seed=seed).tolist(), strict=True))
    for code in range(len(groups.names)):
        assert len({folds[name] for name, own in zip(names, groups.codes, strict=True) if own == code}) == 1
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = connected_groups([values[row] for row in order], names=[names[row] for row in order])
    again = assign_folds(shuffled, [0.5, 0.5], seed=seed).tolist()
    assert {names[row]: fold for row, fold in zip(order, again, strict=True)} == folds


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=10, max_size=40), st.integers(2, 5))
def test_folds_differ_by_no_more_than_the_largest_group(sizes, folds):
    values = [[f"g{group}"] for group, size in enumerate(sizes) for _ in range(size)]
    groups = connected_groups(values, names=[f"r{number:03d}" for number in range(len(values))])
    counts = np.bincount(assign_folds(groups, [1 / folds] * folds), minlength=folds)
    assert counts.max() - counts.min() <= max(sizes)


def test_shares_and_strata_are_kept():
    groups = random_groups([f"r{number:03d}" for number in range(200)])
    labels = ["rare" if number < 20 else "common" for number in range(200)]
    folds = assign_folds(groups, [0.8, 0.2], strata=labels)
    assert (folds == 1).sum() == 40
    assert sum(label == "rare" and fold == 1 for label, fold in zip(labels, folds, strict=True)) == 4
    assert (folds != assign_folds(groups, [0.8, 0.2], strata=labels, seed=1)).any()
    with pytest.raises(DataError, match="sum 1"):
        assign_folds(groups, [0.5, 0.6])


def test_no_fold_stays_empty_however_small_its_share():
    groups = random_groups([f"r{number}" for number in range(10)])
    folds = assign_folds(groups, [0.95, 0.05])
    assert sorted(folds.tolist()) == [0] * 9 + [1]
    values = [["big"]] * 6 + [["middle"]] * 3 + [["small"]]
    groups = connected_groups(values, names=[f"r{number}" for number in range(10)])
    assert assign_folds(groups, [0.998, 0.001, 0.001]).tolist() in (
        [0] * 6 + [2] * 3 + [1],
        [0] * 6 + [1] * 3 + [2],
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=20),
    st.floats(0.001, 0.5),
    st.integers(0, 3),
    st.booleans(),
)
def test_every_fold_has_a_group_whatever_the_shares_and_sizes(sizes, share, seed, is_stratified):
    values = [[f"g{group}"] for group, size in enumerate(sizes) for _ in range(size)]
    groups = connected_groups(values, names=[f"r{number:03d}" for number in range(len(values))])
    strata = [str(row % 2) for row in range(len(values))] if is_stratified else None
    folds = assign_folds(groups, [1 - share, share], strata=strata, seed=seed)
    assert set(folds.tolist()) == {0, 1}


def test_an_empty_fold_is_counted_and_said():
    records = [Record("a", (Chain("MKT"),)), Record("b", (Chain("MKV"),))]
    groups = random_groups(["a", "b"])
    report = report_split(
        records, ["train", "train"], groups, names=["train", "holdout"], labels=["x", "y"], identity=True
    )
    assert report.sizes == {"holdout": 0, "train": 2}
    assert report.labels["holdout"] == {"x": 0, "y": 0}
    assert "EMPTY: fold holdout has no records" in report.lines()


def test_a_clonotype_is_v_and_j_gene_and_a_cdr3_within_the_identity():
    records = numbered(
        antibody("a", "ARDYGGSFDY"),
        antibody("one residue off", "ARDYGGSFDV"),
        antibody("two off, by way of one", "ARDYGGTFDV"),
        antibody("other V", "ARDYGGSFDY", v="IGHV1-2*02"),
        antibody("other J", "ARDYGGSFDY", j="IGHJ6*02"),
        antibody("longer", "ARDYGGSSFDY"),
        antibody("other allele", "ARDYGGSFDY", v="IGHV3-66*03"),
    )
    exact = clonotype_keys(records)
    assert exact[0] == ("IGHV3-66|IGHJ4|ARDYGGSFDY",)
    assert [key == exact[0] for key in exact] == [True, False, False, False, False, False, True]
    linked = clonotype_keys(records, identity=0.9)
    assert [key == linked[0] for key in linked] == [True, True, True, False, False, False, True]
    with pytest.raises(ConfigError, match="out of range"):
        clonotype_keys(records, identity=0)


def test_without_a_cdr3_only_copies_go_together():
    counts: Counter[str] = Counter()
    records = [
        Record(name, (Chain(residues),)) for name, residues in (("a", "MKT"), ("b", "MKT"), ("c", "MKV"))
    ]
    keys = clonotype_keys(records, counts=counts)
    assert keys[0] == keys[1] != keys[2]
    assert counts["no CDR3, so grouped by their residues"] == 3


def test_families_of_genes():
    names = ("IGKV1D-39*01", "Homsap IGHV3-23*01 F", "TRBV7-2", "IGHV1S22*01", "unknown")
    assert [gene_family(name) for name in names] == ["IGKV1", "IGHV3", "TRBV7", "IGHV1", ""]


def test_the_report_sees_what_a_bad_split_leaks():
    records = [Record("a", (Chain("MKT"), Chain("GGW"))), Record("b", (Chain("MKT"), Chain("AAA")))]
    groups = connected_groups(chain_keys(records), names=["a", "b"])
    report = report_split(records, ["0", "1"], groups, labels=["x", "y"], keys={"donor": [("d",), ("d",)]})
    assert (report.shared_groups, report.num_groups) == (1, 1)
    assert (report.shared_chains, report.num_chains) == (1, 3)
    assert report.labels == {"0": {"x": 1, "y": 0}, "1": {"x": 0, "y": 1}}
    assert report.shared_values == {"donor": {"shared": 1, "distinct": 1}}
    assert any("1 of 1 groups and 1 of 3 distinct chains" in line for line in report.lines())
    assert any(line.startswith("UNBALANCED") for line in report.lines())


def test_identity_is_over_imgt_positions_and_of_the_nearest():
    first, near, far = numbered(
        antibody("a", "ARDYGGSFDY"), antibody("b", "ARDYGGSFDV"), antibody("c", "ARDYGGSSFDV")
    )
    length = len(first.chains[0])
    assert nearest_identity([first], [first]).tolist() == [1.0]
    assert nearest_identity([first], [near])[0] == pytest.approx((length - 1) / length)
    # IMGT fills a loop from both ends: ARDYG–GSFDY against ARDYGGSSFDV differs at 110, 113 and 117
    assert nearest_identity([first], [far])[0] == pytest.approx((length - 2) / (length + 1))
    assert nearest_identity([first], [far, near])[0] == pytest.approx((length - 1) / length)
    assert nearest_identity([Record("x", (Chain("MKTW"),))], [Record("y", (Chain("MKT"),))])[0] == 0
    assert nearest_identity([Record("x", (Chain("MKTW"),))], [Record("y", (Chain("MKTV"),))])[0] == 0.75


def test_identity_is_of_the_heavy_chain_though_a_light_one_is_the_same():
    def paired(name, heavy):
        return Record(name, (Chain("GGGG", role=Role.LIGHT), Chain(heavy, role=Role.HEAVY)))

    first, second = paired("a", "MKTW"), paired("b", "MKAA")
    assert nearest_identity([first], [second]).tolist() == [0.5]
    report = report_split([first, second], ["0", "1"], random_groups(["a", "b"]), identity=True)
    assert report.identities["0"] == {"median": 0.5, "maximum": 0.5}
