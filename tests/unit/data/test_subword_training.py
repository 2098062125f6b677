"""Sub-words that are learnt: the published layout, the most frequent pairs, whatever the order."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fixtures.builders import random_residues
from protlm.data import subword_training
from protlm.data.chain_sample import sample_chains
from protlm.data.subword_training import train_subwords
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD, UNUSUAL


@pytest.fixture(scope="module")
def chains():
    random = np.random.default_rng(0)
    return [random_residues(random, int(random.integers(20, 60)), "LLLAAKGSME") for _ in range(60)]


def slow_merges(chains, num_merges, min_frequency):
    """Merge the most frequent pair, of equal ones the one that was first among the ids."""
    words = [list(chain) for chain in chains]
    order = [*sorted(STANDARD + UNUSUAL)]
    merges = []
    while len(merges) < num_merges:
        counts = Counter()
        for word in words:
            counts.update(pairwise(word))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], *(order.index(part) for part in item[0])))
        if not ranked or ranked[0][1] < min_frequency:
            break
        (first, second), _ = ranked[0]
        merges.append(f"{first} {second}")
        order.append(first + second)
        for word in words:
            place = 0
            while place < len(word) - 1:
                if (word[place], word[place + 1]) == (first, second):
                    word[place : place + 2] = [first + second]
                place += 1
    return merges


def test_merges_are_the_most_frequent_pairs(chains):
    trained = train_subwords(chains, kind="bpe", num_merges=60)
    assert list(trained.layout.merges) == slow_merges(chains, 60, 2)


def test_the_published_layout():
    layout = train_subwords(["LLLLAALLAA", "LLAALL"], num_merges=3).layout
    assert layout.tokens[:5] == ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert len(layout.tokens) == 5 + 256 + 3
    assert len(set(layout.tokens[5:261])) == 256
    assert layout.tokens[5] == "!"
    assert layout.tokens[261] == "LL"
    assert all(len(token) == 1 for token in layout.tokens[5:261])
    assert layout.separator == ("</s>", "</s>")
    assert not layout.replaced_letters()
    assert layout.residues_per_token[:261].sum() == 26


def test_the_alphabet_of_residues():
    layout = train_subwords(["LLLLAALLAA", "LLAALL"], kind="bpe", num_merges=3).layout
    assert layout.tokens[5:31] == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    residue = train_subwords([], kind="residue").layout
    assert residue.is_residue_level
    assert set(residue.tokens[5:]) == set(STANDARD + UNUSUAL)


def test_neither_order_nor_repeats_in_the_input_matter(chains):
    def merges(supply):
        return train_subwords(sample_chains(supply, max_residues=1500).chains, num_merges=80).layout.merges

    shuffled = list(np.random.default_rng(1).permutation(chains)) + chains[:7]
    assert merges(chains) == merges(shuffled)
    # and the trainer itself does not look at the order
    assert train_subwords(chains, num_merges=80) == train_subwords(chains[::-1], num_merges=80)


def test_fewer_merges_where_no_pair_is_frequent_enough():
    assert train_subwords(["MKT", "ACD"], num_merges=5).num_merges == 0
    assert train_subwords(["MKT", "MKA"], num_merges=5).layout.merges == ("M K",)
    assert train_subwords(["MKT"], num_merges=5, min_frequency=1).num_merges == 2


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no chain to learn"):
        train_subwords([])


def test_long_chains_are_cut_for_training_and_counted(monkeypatch, chains):
    monkeypatch.setattr(subword_training, "LONGEST_PIECE", 4)
    trained = train_subwords(["ACDEACDE", "MKLY"], kind="bpe", num_merges=3)
    assert (trained.num_cut, trained.num_chains, trained.num_residues) == (1, 2, 12)
    assert trained.layout.merges == ("A C", "D E", "AC DE")


def test_a_sample_holds_the_lowest_hashes_up_to_a_limit(chains):
    whole = sample_chains(chains)
    assert whole.is_whole
    assert sorted(whole.chains) == sorted(set(chains))
    for limit in (1, 200, 1000):
        part = sample_chains(chains[::-1], max_residues=limit)
        sizes = np.cumsum([len(chain) for chain in whole.chains])
        assert part.chains == whole.chains[: int((sizes <= limit).sum())]
        assert not part.is_whole
    few = sample_chains(chains, max_chains=5)
    assert few.chains == whole.chains[:5]
    assert (few.num_seen, few.is_whole) == (len(chains), False)
