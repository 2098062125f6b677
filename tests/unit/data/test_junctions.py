"""V, N, D and J in the CDR3, against all ways to lay them on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protlm.data.germline_alignment import CHANCE, Junctions
from protlm.data.germline_set import ABSENT, CODE, GermlineGene, open_germline
from protlm.data.junctions import MAX_D_CHANCE, MIN_D_MATCHES, best_d, ends_of_v_and_j
from protlm.types.alphabet import STANDARD

LETTERS = "GYSWD"  # few, so that there is much to match


def codes(text, width=None):
    return CODE[np.frombuffer(text.ljust(width or len(text), ".").encode(), dtype=np.uint8)]


def d_gene(name, *readings):
    return GermlineGene(name, "D", np.zeros(0, dtype=np.int8), "", readings)


def odds(own, germline, rate):
    if germline not in STANDARD:
        return -1e6
    return np.log((1 - rate) / CHANCE[STANDARD.index(own)]) if own == germline else np.log(rate)


def junctions(texts):
    lengths = np.array([len(text) for text in texts])
    chain = np.repeat(np.arange(len(texts)), lengths)
    offset = np.concatenate([np.arange(length) for length in lengths])
    width = max(1, lengths.max())
    table = np.stack([codes(text, width) for text in texts])
    return Junctions(np.arange(lengths.sum()), chain, offset, lengths, table)


def found(text, genes, rate=0.05):
    start, stop, names, germline = best_d(codes(text)[None], np.array([rate]), genes)
    return int(start[0]), int(stop[0]), names[0], germline[0]


def test_chance_is_the_genetic_code_under_the_composition_of_n_additions():
    """Tryptophan is TGG alone: 0.19 · 0.31 · 0.31; the stops are 0.19³ (TAA) and twice 0.19² · 0.31."""
    stops = 0.19**3 + 2 * 0.19**2 * 0.31
    assert CHANCE.sum() == pytest.approx(1)
    assert CHANCE[STANDARD.index("W")] == pytest.approx(0.19 * 0.31**2 / (1 - stops))


def test_a_d_segment_is_found_where_it_is():
    start, stop, name, germline = found("PRYSSGWL", [d_gene("IGHD6-19*01", "GYSSGWY")])
    assert (start, stop, name) == (2, 7, "IGHD6-19*01")
    np.testing.assert_array_equal(germline[2:7], codes("YSSGW"))


def test_a_mutated_residue_inside_is_kept_and_the_germline_residue_known():
    start, stop, _, germline = found("PGYSTGWYL", [d_gene("IGHD6-19*01", "GYSSGWY")])
    assert (start, stop) == (1, 8)
    assert germline[4] == STANDARD.index("S")


def test_the_first_gene_by_name_is_taken_where_several_have_the_reading():
    genes = [d_gene("IGHD5-18*01", "GYSYGY"), d_gene("IGHD5-5*01", "GYSYGY")]
    assert found("AGYSYGYA", genes)[2] == "IGHD5-18*01"


def test_two_residues_are_no_d_segment_and_a_stop_ends_one():
    assert found("WW", [d_gene("IGHD1-1*01", "WWWW")])[2] == ""
    assert found("WWPWW", [d_gene("IGHD1-1*01", "WW*WW")])[2] == ""


def test_random_residues_hold_a_d_segment_no_oftener_than_said():
    rng = np.random.default_rng(5)
    random = rng.choice(len(STANDARD), size=(3000, 12), p=CHANCE).astype(np.int8)
    _, stop, _, _ = best_d(random, np.full(3000, 0.05), open_germline().d_genes("H"))
    share = (stop > 0).mean()
    assert 0 < share <= MAX_D_CHANCE
    assert share < 0.15


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(LETTERS, min_size=1, max_size=14), min_size=1, max_size=5),
    st.lists(st.text(LETTERS + "*", min_size=3, max_size=7), min_size=1, max_size=3),
    st.floats(0.01, 0.4),
)
def test_the_score_is_the_best_of_all_ungapped_matches(texts, readings, rate):
    width = max(map(len, texts))
    table = np.stack([codes(text, width) for text in texts])
    genes = [d_gene(f"IGHD{number}*01", reading) for number, reading in enumerate(readings)]
    start, stop, names, germline = best_d(table, np.full(len(texts), rate), genes)
    parts = [part for reading in readings for part in reading.split("*") if len(part) >= MIN_D_MATCHES]
    num_searched = sum(map(len, dict.fromkeys(parts)))
    for text, first, last, name, letters in zip(texts, start, stop, names, germline, strict=True):
        best = max(
            (
                sum(odds(text[i + k], part[j + k], rate) for k in range(length))
                for part in parts
                for i in range(len(text))
                for j in range(len(part))
                for length in range(1, min(len(text) - i, len(part) - j) + 1)
            ),
            default=0.0,
        )
        is_rare = num_searched * len(text) * np.exp(-best) <= MAX_D_CHANCE
        if not name:
            assert last == 0
            continue
        assert is_rare
        own = text[first:last]
        laid_on = "".join(STANDARD[code] for code in letters[first:last])
        assert any(laid_on in part for part in parts)
        assert sum(map(odds, own, laid_on, [rate] * len(own))) == pytest.approx(best, abs=1e-3)
        assert sum(a == b for a, b in zip(own, laid_on, strict=True)) >= MIN_D_MATCHES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(LETTERS, min_size=1, max_size=9),
            st.text(LETTERS, max_size=5),
            st.text(LETTERS, max_size=5),
        ),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.01, 0.4),
)
def test_v_and_j_end_where_the_sum_of_log_odds_is_highest(cases, rate):
    texts = [case[0] for case in cases]
    v_cdr3 = np.stack([codes(case[1], 6) for case in cases])
    j_cdr3 = np.stack([codes(case[2][::-1], 6) for case in cases])
    of_v, of_j = ends_of_v_and_j(junctions(texts), v_cdr3, j_cdr3, np.full(len(cases), rate))
    for (text, v, j), left, right in zip(cases, of_v, of_j, strict=True):
        totals = {
            (a, b): sum(map(odds, text[:a], v[:a], [rate] * a))
            + sum(map(odds, text[::-1][:b], j[::-1][:b], [rate] * b))
            for a in range(len(v) + 1)
            for b in range(len(j) + 1)
            if a + b <= len(text)
        }
        assert totals[left, right] == pytest.approx(max(totals.values()))


def test_an_unknown_residue_neither_matches_nor_differs():
    table = np.where(codes("PGYXSGWY") == ABSENT, np.int8(-2), codes("PGYXSGWY"))
    start, stop, _, _ = best_d(table[None], np.array([0.05]), [d_gene("IGHD6-19*01", "GYSSGWY")])
    assert (int(start[0]), int(stop[0])) == (1, 8)
