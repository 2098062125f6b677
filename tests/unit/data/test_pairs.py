"""Shuffled pairs: what must hold so that nothing but the pairing tells the classes apart."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.gene_names import gene_family
from protlm.data.pairs import distinct_pairs, heavy_and_light, shuffle_pairs, shuffled_records
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record, Role

FAMILIES = ("IGKV1", "IGKV3", "IGLV2")


def pair(name: str, heavy: str, light: str, family: str = "IGKV1") -> Record:
    chains = (Chain(heavy, role=Role.HEAVY), Chain(light, role=Role.LIGHT, v_call=f"{family}-5*01"))
    return Record(name, chains)


@st.composite
def pools(draw):
    """Distinct pairs in which chains repeat, with folds and organisms."""
    letters = st.sampled_from(STANDARD[:8])
    chosen = draw(st.lists(st.tuples(letters, letters), min_size=4, max_size=30, unique=True))
    records = [
        pair(f"p{n}", "Q" + heavy, "D" + light, FAMILIES[STANDARD.index(light) % 3])
        for n, (heavy, light) in enumerate(chosen)
    ]
    folds = np.array([draw(st.integers(0, 1)) for _ in records])
    organisms = [draw(st.sampled_from(["human", "mouse"])) for _ in records]
    return records, folds, organisms


@settings(deadline=None, max_examples=150)
@given(pools(), st.sampled_from(["random", "v-gene-mismatch"]), st.integers(0, 3))
def test_every_chain_is_as_often_native_as_shuffled_in_each_fold_and_organism(pool, negatives, seed):
    records, folds, organisms = pool
    try:
        shuffle = shuffle_pairs(records, folds, within=organisms, negatives=negatives, seed=seed)
    except DataError as error:
        if "can be shuffled" in str(error):
            return
        raise
    kept = np.flatnonzero(shuffle.partners >= 0)
    partners = shuffle.partners[kept]
    assert sorted(partners) == sorted(kept)  # a permutation of those that are kept
    assert all(partners != kept)
    assert all(folds[partners] == folds[kept])
    assert all(organisms[row] == organisms[partner] for row, partner in zip(kept, partners, strict=True))
    contents = [tuple(chain.residues for chain in record.chains) for record in records]
    made = [tuple(chain.residues for chain in record.chains) for record in shuffled_records(records, shuffle)]
    assert not set(made) & set(contents)
    assert len(set(made)) == len(made)
    for chain in (0, 1):
        assert Counter(each[chain] for each in made) == Counter(contents[row][chain] for row in kept)
    if negatives == "v-gene-mismatch":
        families = [gene_family(record.chains[1].v_call) for record in records]
        assert all(families[row] != families[partner] for row, partner in zip(kept, partners, strict=True))
    assert sum(shuffle.counts.values()) == len(records) - len(kept)


def test_the_order_of_the_records_does_not_matter_and_the_seed_does():
    records = [pair(f"p{n}", "Q" + STANDARD[n], "D" + STANDARD[n]) for n in range(20)]
    folds = np.arange(20) % 2
    first = shuffled_records(records, shuffle_pairs(records, folds, seed=1))
    turned = shuffled_records(records[::-1], shuffle_pairs(records[::-1], folds[::-1], seed=1))
    assert {record.id for record in first} == {record.id for record in turned}
    other = shuffled_records(records, shuffle_pairs(records, folds, seed=2))
    assert {record.id for record in first} != {record.id for record in other}
    assert first[0].id.startswith("p0+")
    assert first[0].chains[0].residues == records[0].chains[0].residues


def test_a_family_of_more_than_half_is_cut_down_to_what_can_be_exchanged():
    records = [pair(f"p{n}", "Q" + STANDARD[n], "D" + STANDARD[n], "IGKV1") for n in range(12)]
    records += [pair(f"q{n}", "S" + STANDARD[n], "E" + STANDARD[n], "IGLV2") for n in range(4)]
    shuffle = shuffle_pairs(records, np.zeros(16, dtype=np.int64), negatives="v-gene-mismatch")
    assert (shuffle.partners >= 0).sum() == 8  # 4 of each
    assert shuffle.counts == {"no other light chain fits": 8}


def test_one_light_chain_for_all_cannot_be_shuffled():
    records = [pair(f"p{n}", "Q" + STANDARD[n], "DI") for n in range(5)]
    with pytest.raises(DataError, match="none of 5 pairs"):
        shuffle_pairs(records, np.zeros(5, dtype=np.int64))


def test_a_pool_with_repeats_is_refused_and_can_be_cleaned():
    records = [pair("a", "QV", "DI"), pair("b", "QV", "DI"), pair("c", "QL", "DM")]
    with pytest.raises(DataError, match="1 of 3 pairs are there twice"):
        shuffle_pairs(records, np.zeros(3, dtype=np.int64))
    single = Record("d", (Chain("QV", role=Role.HEAVY),))
    turned = Record("e", (Chain("DL", role=Role.LIGHT), Chain("QW", role=Role.HEAVY)))
    kept, counts = distinct_pairs([*records, single, turned])
    assert [record.id for record in kept] == ["a", "c", "e"]
    assert [chain.residues for chain in kept[-1].chains] == ["QW", "DL"]
    assert counts == {"a pair that was there before": 1, "not one heavy and one light chain": 1}
    assert heavy_and_light(single) is None


def test_without_a_v_call_there_is_no_mismatch_to_ask_for():
    records = [pair(f"p{n}", "Q" + STANDARD[n], "D" + STANDARD[n], FAMILIES[n % 3]) for n in range(9)]
    bare = Record("bare", (Chain("QQ", role=Role.HEAVY), Chain("DD", role=Role.LIGHT)))
    shuffle = shuffle_pairs([*records, bare], np.zeros(10, dtype=np.int64), negatives="v-gene-mismatch")
    assert shuffle.partners[-1] == -1
    assert shuffle.counts == {"no V call of the light chain": 1}
