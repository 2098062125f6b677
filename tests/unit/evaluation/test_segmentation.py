"""What the bench of tokenizers measures, against counts by hand."""

import numpy as np
import pytest

from fixtures.builders import random_residues
from fixtures.subwords import SUBWORDS, slow_pairs
from protlm.data.layout import esm_layout
from protlm.errors import DataError
from protlm.evaluation.segmentation import _flat, _mutated, measure, substitute
from protlm.types.alphabet import STANDARD


@pytest.fixture(scope="module")
def chains():
    random = np.random.default_rng(0)
    return [random_residues(random, int(random.integers(5, 40)), "LLAKMGSX") + "L" for _ in range(80)]


def spans(words):
    stops = np.cumsum([1 if word.startswith("<") else len(word) for word in words]).tolist()
    return set(zip([0, *stops[:-1]], stops, strict=True))


def test_lengths_are_counted(chains):
    facts = measure(chains, SUBWORDS)
    words = [slow_pairs(chain, SUBWORDS) for chain in chains]
    residues, tokens = sum(map(len, chains)), sum(map(len, words))
    assert (facts["n"], facts["n_residues"], facts["n_tokens"]) == (80, residues, tokens)
    assert facts["residues_per_token"] == pytest.approx(residues / tokens)
    assert facts["compression"] == pytest.approx(1 - tokens / residues)
    assert facts["compression_low"] < facts["compression"] < facts["compression_high"]
    assert facts["vocabulary"] == len(SUBWORDS.tokens)
    assert facts["longest_token"] == 3
    assert facts["sequences_per_second"] > 0


def test_sequences_over_a_limit_count_special_tokens():
    facts = measure(["LLA" * 510, "LLA" * 511, "L" * 2045 + "A"], SUBWORDS)
    assert facts["over_512"] == pytest.approx(2 / 3)  # 512, 513 and 1024 tokens
    assert facts["over_1000"] == pytest.approx(1 / 3)
    assert facts["over_2048"] == 0
    assert facts["over_2048_low"] == 0 < facts["over_2048_high"] < 0.6
    facts = measure(["A" * 2046, "A" * 2047], esm_layout())
    assert (facts["over_1000"], facts["over_2048"]) == (1.0, 0.5)


def test_letters_outside_the_vocabulary_are_counted():
    assert measure(["LBLZ", "ACD"], SUBWORDS)["n_unknown"] == 2
    assert measure(["LBLZ", "ACD"], esm_layout())["n_unknown"] == 0


def test_a_substitution_is_of_one_residue_of_the_twenty_by_another(chains):
    flat = _flat(chains)
    site, after = _mutated(flat, chains, 3)
    assert np.flatnonzero(flat.residues != after.residues).tolist() == site.tolist()
    starts = np.cumsum(flat.chain_lengths) - flat.chain_lengths
    assert ((starts <= site) & (site < starts + flat.chain_lengths)).all()
    letters = STANDARD.encode()
    assert set(flat.residues[site].tolist()) <= set(letters)
    assert set(after.residues[site].tolist()) <= set(letters)


def test_sites_and_letters_are_drawn_evenly():
    random = np.random.default_rng(1)
    many = [random_residues(random, 10) for _ in range(4000)]
    flat = _flat(many)
    site, after = _mutated(flat, many, 0)
    assert np.abs(np.bincount(site % 10, minlength=10) / 400 - 1).max() < 0.2
    counts = np.bincount(after.residues[site], minlength=91)[list(STANDARD.encode())]
    assert np.abs(counts / 200 - 1).max() < 0.35


def test_a_changed_segmentation_is_what_the_slow_way_gives(chains):
    got = substitute(chains, SUBWORDS, seed=7)
    flat = _flat(chains)
    site, after = _mutated(flat, chains, 7)
    text, starts = after.residues.tobytes().decode(), np.cumsum(flat.chain_lengths) - flat.chain_lengths
    for number, chain in enumerate(chains):
        before = spans(slow_pairs(chain, SUBWORDS))
        gone = before - spans(slow_pairs(text[starts[number] : starts[number] + len(chain)], SUBWORDS))
        place = int(site[number] - starts[number])
        beside = [span for span in gone if not span[0] <= place < span[1]]
        assert got.num_gone[number] == len(gone)
        assert got.is_beside[number] == bool(beside)
    assert 0 < got.is_beside.mean() < (got.num_gone > 0).mean() < 1


def test_residue_level_never_changes_and_order_does_not_matter(chains):
    assert not substitute(chains, esm_layout()).num_gone.any()
    ahead, back = (substitute(each, SUBWORDS, seed=2).num_gone for each in (chains, chains[::-1]))
    assert ahead.tolist() == back[::-1].tolist()
    assert measure(["XXX", "XLX"], SUBWORDS)["n_substituted"] == 1


def test_nothing_to_measure():
    with pytest.raises(DataError, match="no chain to cut"):
        measure([], SUBWORDS)
    assert "resegmented" not in measure(["XX"], SUBWORDS)
