"""The trivial antibody baselines, counted by hand."""

import numpy as np
import pytest

from protlm.data.corpus import write_corpus
from protlm.evaluation.frequencies import FrequencyBaseline, count_residues
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.regions import encode_position

ONE, TWO = encode_position("1"), encode_position("2")


def heavy(name: str, residues: str, v_call: str, positions: list[int]) -> Record:
    track = {"position": np.array(positions, dtype=np.uint16)}
    return Record(name, (Chain(residues, locus="H", v_call=v_call, tracks=track),))


@pytest.fixture
def corpus(tmp_path):
    """Position 1: A A A C; position 2: D D E X (X is not counted); one unnumbered residue G."""
    return write_corpus(
        tmp_path / "corpus",
        [
            heavy("a", "AD", "IGHV1-2*01", [ONE, TWO]),
            heavy("b", "AD", "IGHV1-2*02", [ONE, TWO]),
            heavy("c", "AEG", "IGHV3-23*01", [ONE, TWO, 0]),
            heavy("d", "CX", "IGHV3-23*01", [ONE, TWO]),
        ],
    )


def test_counts_leave_out_what_is_not_numbered_or_not_one_of_the_twenty(corpus):
    counts = count_residues(corpus)
    rows = {(r["v_gene"], r["position"], r["residue"]): r["count"] for r in counts.iter_rows(named=True)}
    assert rows == {
        ("IGHV1-2", ONE, "A"): 2,
        ("IGHV1-2", TWO, "D"): 2,
        ("IGHV3-23", ONE, "A"): 1,
        ("IGHV3-23", ONE, "C"): 1,
        ("IGHV3-23", TWO, "E"): 1,
    }


def test_only_the_named_rows_are_counted(corpus):
    assert count_residues(corpus, np.array([3]))["count"].sum() == 1


def test_position_frequencies_with_the_pseudo_count_of_a_tenth(corpus):
    """Position 1: p(A) = (3 + 0.1) / (4 + 20 · 0.1) = 3.1 / 6; an unseen residue gets 0.1 / 6."""
    baseline = FrequencyBaseline(count_residues(corpus), use_v_gene=False)
    row = np.exp(baseline.logprobs("H", "IGHV3-23", np.array([ONE]))[0])
    assert row[STANDARD.index("A")] == pytest.approx(3.1 / 6)
    assert row[STANDARD.index("W")] == pytest.approx(0.1 / 6)
    assert row.sum() == pytest.approx(1)


def test_the_v_gene_baseline_uses_its_gene_and_falls_back_to_the_position(corpus):
    """IGHV3-23 at 1: p(C) = 1.1 / 4. An unknown gene has only the position: 1.1 / 6."""
    baseline = FrequencyBaseline(count_residues(corpus), use_v_gene=True)
    known = np.exp(baseline.logprobs("H", "IGHV3-23", np.array([ONE]))[0])
    unknown = np.exp(baseline.logprobs("H", "IGHV9-9", np.array([ONE]))[0])
    assert known[STANDARD.index("C")] == pytest.approx(1.1 / 4)
    assert unknown[STANDARD.index("C")] == pytest.approx(1.1 / 6)


def test_a_place_never_seen_gives_equal_probabilities(corpus):
    baseline = FrequencyBaseline(count_residues(corpus), use_v_gene=True)
    rows = baseline.logprobs("K", "", np.array([ONE, 0]))
    np.testing.assert_allclose(np.exp(rows), 1 / 20)
