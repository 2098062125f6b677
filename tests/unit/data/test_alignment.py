"""Alignments written here, letter by letter, and every trap a user has been seen to fall into."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from protlm.data import sequence_weights as weights_module
from protlm.data.alignment import read_alignment
from protlm.data.sequence_weights import GAP, sequence_weights
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD
from protlm.types.variant import parse_variant

WILD_TYPE = "MKTAYIAKQR"
EVERYTHING = {"min_coverage": 0.0, "min_column_occupancy": 0.0}


def fasta(path, *rows):
    path.write_text("".join(f">{name}\n{text}\n" for name, text in rows))
    return path


def letters(alignment):
    return ["".join((STANDARD + "-")[state] for state in row) for row in alignment.rows]


def test_an_a3m_loses_its_insertions_and_keeps_its_deletions(tmp_path):
    path = fasta(
        tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MKTaaAYIA--R"), ("b extra words", "M-TAYIAKQRgg")
    )
    found = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    assert letters(found) == [WILD_TYPE, "MKTAYIA--R", "M-TAYIAKQR"]
    assert found.names == ("q", "a", "b")
    assert found.index.tolist() == list(range(10))
    assert found.is_covered.all()


def test_an_a2m_with_dots_and_lower_case_gives_the_same_as_its_a3m(tmp_path):
    a2m = fasta(tmp_path / "x.a2m", ("q", "MKT..AYIAKQR"), ("a", "MKTaaAYIA--R"), ("b", "M-T.cAYIAKQR"))
    a3m = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MKTaaAYIA--R"), ("b", "M-TcAYIAKQR"))
    first, second = (read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING) for path in (a2m, a3m))
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.weights, second.weights)


def test_aligned_fasta_with_lower_case_in_the_columns_of_capitals(tmp_path):
    path = fasta(tmp_path / "x.fasta", ("q", WILD_TYPE), ("a", ".KTAyiAKQ."), ("b", "M-TAYIAKrr"))
    found = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    assert letters(found) == [WILD_TYPE, "-KTAYIAKQ-", "M-TAYIAKRR"]
    assert any("read as aligned residues" in note for note in found.notes)


def test_the_layout_can_be_said(tmp_path):
    path = fasta(tmp_path / "x.fasta", ("q", "MKTAyIAKQR"), ("a", "MKTCyIAKQR"), ("b", "MKTA.IAKQR"))
    told = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    said = read_alignment(path, wild_type=WILD_TYPE, layout="aligned", **EVERYTHING)
    assert told.is_covered.sum() == 9
    assert said.is_covered.all()
    assert letters(said)[2] == "MKTA-IAKQR"


def test_stockholm_in_blocks(tmp_path):
    path = tmp_path / "x.sto"
    path.write_text(
        "# STOCKHOLM 1.0\n#=GF ID test\n\nq   MKTAY\na   MK-AY\n#=GC RF xxxxx\n\n"
        "q   IAKQR\na   IACQR\n//\nb   MKTAY\n"
    )
    found = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    assert letters(found) == [WILD_TYPE, "MK-AYIACQR"]


def test_gzip_is_told_from_the_bytes(tmp_path):
    path = tmp_path / "x.a3m"
    path.write_bytes(gzip.compress(b">q\nMKTAYIAKQR\n>a\nMKTAYIAKQC\n"))
    assert letters(read_alignment(path, wild_type=WILD_TYPE)) == [WILD_TYPE, "MKTAYIAKQC"]


def test_lower_case_of_the_query_is_not_covered_and_shifts_nothing(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q", "mkTAY.IAKqR"), ("a", "..TAYcIAC.R"))
    found = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    assert found.index.tolist() == [2, 3, 4, 5, 6, 7, 9]
    assert letters(found) == ["TAYIAKR", "TAYIACR"]
    assert found.is_covered.tolist() == [False, False, True, True, True, True, True, True, False, True]
    assert any(note.startswith("3 residues of the query are in lower case") for note in found.notes)
    assert any("3 of 10 positions" in note and note.endswith(": 1–2, 9") for note in found.notes)


def test_columns_where_the_query_has_a_gap_are_left_out(tmp_path):
    path = fasta(tmp_path / "x.fasta", ("q", "MKTA--YIAKQR"), ("a", "MKTACCYIAKQR"), ("b", "MKTA-CYIAKQC"))
    found = read_alignment(path, wild_type=WILD_TYPE)
    assert found.counts["columns without a residue of the wild type, left out"] == 2
    assert letters(found) == [WILD_TYPE, "MKTAYIAKQC"]


def test_the_range_in_the_name_gives_the_offset(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q/4-8", "AYIAK"), ("a", "AYIAC"))
    found = read_alignment(path, wild_type=WILD_TYPE)
    assert found.index.tolist() == [3, 4, 5, 6, 7]
    assert found.column.tolist() == [-1, -1, -1, 0, 1, 2, 3, 4, -1, -1]


def test_the_range_decides_where_the_query_fits_twice(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q/7-9", "MKT"), ("a", "MKC"))
    assert read_alignment(path, wild_type="MKTAYIMKTC").index.tolist() == [6, 7, 8]
    with pytest.raises(DataError, match="fit at 2 places") as caught:
        read_alignment(fasta(tmp_path / "y.a2m", ("q", "MKT"), ("a", "MKC")), wild_type="AMKTAYIMKTC")
    assert "offset = one of -1, -7" in str(caught.value)


def test_a_range_that_does_not_fit_the_residues_is_not_used(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q/24-99", WILD_TYPE), ("a", "MKTAYIAKQC"))
    found = read_alignment(path, wild_type=WILD_TYPE)
    assert found.is_covered.all()
    assert any("states 76 residues, but it has 10" in note for note in found.notes)


def test_a_mature_wild_type_inside_the_query_is_found_without_an_offset(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q/1-10", WILD_TYPE), ("a", "MKTAYIAKQC"))
    found = read_alignment(path, wild_type=WILD_TYPE[3:])
    assert found.index.tolist() == list(range(7))
    assert letters(found) == [WILD_TYPE[3:], "AYIAKQC"]
    assert any("offset 3" in note and "3 of its residues lie outside" in note for note in found.notes)


def test_a_wrong_offset_is_refused_and_the_right_one_proposed(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q/24-33", WILD_TYPE), ("a", "MKTAYIAKQC"))
    with pytest.raises(DataError, match="with offset 22, 9 of 9 residues differ, at position 2") as caught:
        read_alignment(path, wild_type=WILD_TYPE, offset=22)
    assert "with offset=23 all residues agree" in str(caught.value)
    assert read_alignment(path, wild_type=WILD_TYPE, offset=23).is_covered.all()


def test_an_offset_far_off_lies_outside(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q", WILD_TYPE), ("a", "MKTAYIAKQC"))
    with pytest.raises(DataError, match="lies outside the wild type"):
        read_alignment(path, wild_type=WILD_TYPE, offset=-200)


def test_a_query_that_is_not_the_wild_type_names_what_differs(tmp_path):
    wild_type = "MKTAYIAKQRQISFVKSHFSRQ"
    path = fasta(tmp_path / "x.a3m", ("q", "MATAYIAKQRQISFVKSHFSRC"), ("a", "MATAYIAKQRQISFVKSHFSRW"))
    with pytest.raises(DataError, match="2 of 22 residues differ") as caught:
        read_alignment(path, wild_type=wild_type)
    assert "position 2 (wild type K, query A), 22 (wild type Q, query C)" in str(caught.value)
    assert "max_differences=2 accepts that" in str(caught.value)
    found = read_alignment(path, wild_type=wild_type, max_differences=2)
    assert found.is_covered.all()
    assert found.wild_type_states[1] == STANDARD.index("K")
    assert any(note.startswith("the query differs from the wild type at position 2") for note in found.notes)


def test_another_protein_is_refused(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", "WWWWWWWWWW"), ("a", "WWWWWWWWWC"))
    with pytest.raises(DataError, match="10 of 10 residues differ") as caught:
        read_alignment(path, wild_type=WILD_TYPE, max_differences=1)
    assert "another protein" in str(caught.value)


def test_a_wild_type_further_down_is_proposed_and_then_comes_first(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("a", "MKTAYWWWQR"), ("wild/1-10", WILD_TYPE), ("b", "MKTAYIAKQC"))
    with pytest.raises(DataError, match="3 of 10 residues differ") as caught:
        read_alignment(path, wild_type=WILD_TYPE)
    assert "pass query='wild/1-10'" in str(caught.value)
    for name in ("wild/1-10", "wild"):
        found = read_alignment(path, wild_type=WILD_TYPE, query=name)
        assert found.names == ("wild/1-10", "a", "b")
        assert letters(found)[0] == WILD_TYPE


def test_no_row_of_the_name(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("blat", WILD_TYPE), ("a", "MKTAYIAKQC"))
    with pytest.raises(DataError, match="none of 2 rows is named 'blatt'") as caught:
        read_alignment(path, wild_type=WILD_TYPE, query="blatt")
    assert "did you mean 'blat'?" in str(caught.value)


def test_two_rows_of_the_name(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q/1-10", WILD_TYPE), ("q/31-40", "MKTAYIAKQC"))
    with pytest.raises(DataError, match="2 rows are named 'q'"):
        read_alignment(path, wild_type=WILD_TYPE, query="q")


def test_rows_of_unequal_length(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MKTAYIAKQC"), ("b", "MKTAYIaaA"), ("c", "M"))
    with pytest.raises(
        DataError, match=r"line 5, row 'b': 7 match columns .* 'q' has 10; 2 of 4 rows differ"
    ):
        read_alignment(path, wild_type=WILD_TYPE)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file(tmp_path, text):
    path = tmp_path / "x.a3m"
    path.write_text(text)
    with pytest.raises(DataError, match="no aligned sequences"):
        read_alignment(path, wild_type=WILD_TYPE)


def test_a_table_is_no_alignment(tmp_path):
    path = tmp_path / "x.a3m"
    path.write_text("id,sequence\n")
    with pytest.raises(DataError, match="line 1: expected a header"):
        read_alignment(path, wild_type=WILD_TYPE)


def test_rows_with_illegal_letters_are_left_out_and_counted(tmp_path):
    path = fasta(
        tmp_path / "x.a3m",
        ("q", WILD_TYPE + "*"),
        ("a", "MKT4YIAKQR"),
        ("b", "MK*AYIAKQR"),
        ("c", "MKTAYIAKQC"),
    )
    found = read_alignment(path, wild_type=WILD_TYPE)
    assert found.names == ("q", "c")
    assert found.counts["rows with a letter that is no residue, left out"] == 2
    assert any("row 'a' has '4' at column 4" in note for note in found.notes)


def test_an_illegal_letter_in_the_query_is_an_error(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", "MKT4YIAKQR"), ("a", WILD_TYPE))
    with pytest.raises(DataError, match="row 'q': the query has '4' at column 4"):
        read_alignment(path, wild_type=WILD_TYPE)


def test_unusual_letters_are_gaps_and_counted(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MXTAYIAKQB"), ("b", "MKTAYZAKQR"))
    found = read_alignment(path, wild_type=WILD_TYPE, **EVERYTHING)
    assert letters(found) == [WILD_TYPE, "M-TAYIAKQ-", "MKTAY-AKQR"]
    assert found.counts["letters B J O U X Z, taken as gaps"] == 3
    assert found.counts["rows with such letters"] == 2


def test_short_rows_then_empty_columns_then_duplicates_are_left_out(tmp_path):
    path = fasta(
        tmp_path / "x.a3m",
        ("q", WILD_TYPE),
        ("short", "MKTA------"),
        ("half", "MKTAC-----"),
        ("a", "MKTAYIAC--"),
        ("again", "MKTAYIAC--"),
        ("once more", "MKTAYIACQ-"),
    )
    found = read_alignment(path, wild_type=WILD_TYPE)
    assert found.counts["rows with residues in less than 50% of the columns, left out"] == 1
    assert found.counts["columns with residues in less than 70% of the rows, left out"] == 2
    assert found.counts["duplicated rows, left out"] == 2
    assert found.names == ("q", "half", "a")
    assert letters(found) == ["MKTAYIAK", "MKTAC---", "MKTAYIAC"]
    assert found.counts["rows kept"] == 3
    assert found.counts["rows in the file"] == 6


def test_a_duplicate_of_the_query_goes_and_the_query_stays(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("copy", WILD_TYPE), ("q", WILD_TYPE), ("a", "MKTAYIAKQC"))
    assert read_alignment(path, wild_type=WILD_TYPE, query="q").names == ("q", "a")


def test_nothing_left_besides_the_query(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "M---------"))
    with pytest.raises(DataError, match=r"1 rows and 10 columns are left.*left out: 1"):
        read_alignment(path, wild_type=WILD_TYPE)


@pytest.mark.parametrize("name", ["min_coverage", "min_column_occupancy"])
def test_a_share_in_per_cent_is_refused(tmp_path, name):
    path = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MKTAYIAKQC"))
    with pytest.raises(DataError, match=f"{name} is 50"):
        read_alignment(path, wild_type=WILD_TYPE, **{name: 50})


def test_variants_are_located_and_checked(tmp_path):
    path = fasta(tmp_path / "x.a2m", ("q", "mKTAYIAKQR"), ("a", ".KTAYIAKQC"))
    found = read_alignment(path, wild_type=WILD_TYPE)
    variants = [parse_variant(text, WILD_TYPE) for text in ("WT", "K2A", "M1A:K2A", "R10C:A4G")]
    assert found.covers(variants).tolist() == [True, True, False, True]
    sites = found.locate(variants)
    assert sites.variant.tolist() == [1, 2, 2, 3, 3]
    assert sites.column.tolist() == [0, -1, 0, 2, 8]
    np.testing.assert_array_equal(sites.sum(np.arange(5.0)), [0, 0, np.nan, 7])
    with pytest.raises(DataError, match="variant A1G does not belong to the alignment's wild type"):
        found.locate([parse_variant("A1G", "A" + WILD_TYPE[1:])])


def brute_force(rows, identity):
    result = []
    for row in rows:
        present = row != GAP
        similar = sum(int((row == other)[present].sum() >= identity * present.sum() - 1e-9) for other in rows)
        result.append(1 / similar if present.any() else 0.0)
    return result


@pytest.mark.parametrize("identity", [0.8, 0.62, 1.0])
def test_weights_are_those_of_a_double_loop_in_one_block_and_in_many(monkeypatch, identity):
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 21, (6, 15))
    rows = centres[rng.integers(0, 6, 60)]
    rows = np.where(rng.random(rows.shape) < 0.15, rng.integers(0, 21, rows.shape), rows).astype(np.uint8)
    rows[7] = GAP
    expected = brute_force(rows, identity)
    assert len(set(expected)) > 3 or identity == 1.0
    np.testing.assert_allclose(sequence_weights(rows, identity=identity), expected)
    monkeypatch.setattr(weights_module, "_FLOATS_PER_BLOCK", 15 * 20 * 7)
    np.testing.assert_allclose(sequence_weights(rows, identity=identity), expected)


def test_identity_counts_only_the_residues_of_the_row_itself():
    """All five of the short row's are in the long one, but only half of the long one's in the short."""
    long = np.arange(10, dtype=np.uint8)
    short = np.where(np.arange(10) < 5, long, GAP).astype(np.uint8)
    assert sequence_weights(np.stack([long, short])).tolist() == [1.0, 0.5]


def test_the_threshold_itself_is_similar_and_none_weighs_all_alike(tmp_path):
    path = fasta(tmp_path / "x.a3m", ("q", WILD_TYPE), ("a", "MKTAYIAKCC"), ("b", "MKTAYIACCC"))
    assert read_alignment(path, wild_type=WILD_TYPE).weights.tolist() == [1 / 2, 1 / 3, 1 / 2]
    assert read_alignment(path, wild_type=WILD_TYPE).effective_size == pytest.approx(4 / 3)
    assert read_alignment(path, wild_type=WILD_TYPE, identity=None).effective_size == 3


def test_an_identity_in_per_cent_is_refused():
    with pytest.raises(DataError, match="identity is 80"):
        sequence_weights(np.zeros((2, 3), dtype=np.uint8), identity=80)


def test_it_needs_no_torch():
    code = "import sys, protlm.data.alignment; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
