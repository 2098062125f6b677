"""Germline sets: the package's table and FASTA files, to residues at IMGT positions."""

import gzip

import numpy as np
import pytest

from protlm.data.gene_names import call_name
from protlm.data.germline_set import ABSENT, GermlineSet, open_germline
from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

V_3_23 = "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK"
# IMGT positions without a residue: 10; 31 to 34 of CDR1; 60 and 61 of CDR2; 73
GAPPED = {10, 31, 32, 33, 34, 60, 61, 73}
COLUMNS = iter(V_3_23)
V_GAPPED = "".join("." if place in GAPPED else next(COLUMNS) for place in range(1, 107))
J_4 = "ACTACTTTGACTACTGGGGCCAAGGAACCCTGGTCACCGTCTCCTCAG"
D_6_19 = "GGGTATAGCAGTGGCTGGTAC"


def written(path, **sequences):
    path.write_text("".join(f">{name.replace('__', '*')}\n{text}\n" for name, text in sequences.items()))
    return path


def text(codes):
    return "".join("." if code == ABSENT else STANDARD[code] for code in codes)


def by_name(germline):
    return {gene.name: gene for gene in germline.genes}


def test_the_package_has_v_d_and_j_genes_of_every_locus():
    germline = open_germline()
    assert not germline.left_out
    assert {(gene.locus, gene.kind) for gene in germline.genes} == {
        *(("H", kind) for kind in "VDJ"),
        *((locus, kind) for locus in "KL" for kind in "VJ"),
    }
    assert text(by_name(germline)["IGHV3-23*01"].framework) == V_GAPPED[:104]
    assert by_name(germline)["IGHV3-23*01"].cdr3 == "AK"


def test_gaps_and_numbering_give_the_same_positions(tmp_path):
    gapped = open_germline(written(tmp_path / "gapped.fasta", **{"IGHV3-23__01": V_GAPPED}))
    plain = open_germline(written(tmp_path / "plain.fasta", **{"IGHV3-23__01": V_3_23}))
    first, second = by_name(gapped)["IGHV3-23*01"], by_name(plain)["IGHV3-23*01"]
    np.testing.assert_array_equal(first.framework, second.framework)
    assert first.cdr3 == second.cdr3 == "AK"


def test_a_j_gene_is_read_in_the_frame_of_its_motif(tmp_path):
    path = written(tmp_path / "genes.fasta", **{"IGHV3-23__01": V_3_23, "IGHJ4__02": J_4})
    gene = by_name(open_germline(path))["IGHJ4*02"]
    assert (gene.cdr3, text(gene.framework)) == ("YFDY", "WGQGTLVTVSS")


def test_residues_and_nucleotides_of_a_j_gene_are_the_same(tmp_path):
    path = written(tmp_path / "genes.fasta", **{"IGHV3-23__01": V_3_23, "IGHJ4__02": "YFDYWGQGTLVTVSS"})
    gene = by_name(open_germline(path))["IGHJ4*02"]
    assert (gene.cdr3, text(gene.framework)) == ("YFDY", "WGQGTLVTVSS")


def test_a_d_gene_has_three_readings(tmp_path):
    path = written(tmp_path / "genes.fasta", **{"IGHV3-23__01": V_3_23, "IGHD6-19__01": D_6_19})
    assert by_name(open_germline(path))["IGHD6-19*01"].readings == ("GYSSGWY", "GIAVAG", "V*QWLV")


def test_two_nucleotides_at_the_end_count_where_they_decide_the_residue():
    """IGKV1-39 ends in AGT-ACC-CCT-CC: S T P and, whatever follows CC, P."""
    genes = by_name(open_germline())
    assert genes["IGKV1-39*01"].cdr3 == "QQSYSTPP"
    assert genes["IGHV3-23*01"].cdr3 == "AK"  # ends in GA, which is D or E


def test_pseudogenes_are_left_out_and_counted(tmp_path):
    broken = V_3_23[:50] + "*" + V_3_23[51:]
    path = written(tmp_path / "v.fasta", **{"IGHV3-23__01": V_3_23, "IGHV3-23__02": broken})
    germline = open_germline(path)
    assert dict(germline.left_out) == {"a stop before position 104": 1}
    assert any("IGHV3-23*02" in line for line in germline.lines())


def test_a_stop_in_the_cdr3_takes_nothing_from_the_rest(tmp_path):
    path = written(tmp_path / "v.fasta", **{"IGHV3-23__01": V_3_23 + "*"})
    assert by_name(open_germline(path))["IGHV3-23*01"].cdr3 == "AK"


def test_headers_of_other_tools_and_compressed_files_are_read(tmp_path):
    path = tmp_path / "v.fasta.gz"
    path.write_bytes(gzip.compress(f">IGHV3-23*01__homo_sapiens\n{V_3_23[:40]}\n{V_3_23[40:]}\n".encode()))
    assert [gene.name for gene in open_germline([path]).genes] == ["IGHV3-23*01"]
    assert call_name("X62106|IGHV1-2*02|Homo sapiens|F|V-REGION") == "IGHV1-2*02"
    assert call_name(">IGLV4-60*03_c259t__homo_sapiens") == "IGLV4-60*03_c259t"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (">one\nEVQL\n", "no germline gene is named"),
        ("EVQL\n", "expected a FASTA header"),
        ("", "no FASTA records"),
        (f">IGHJ4*02\n{J_4}\n", "no usable V gene"),
        (f">IGHV3-23*01\n{V_3_23}\n>IGHV3-23*01\n{V_3_23[1:]}\n", "two different sequences"),
    ],
)
def test_wrong_files_are_refused_with_what_is_wrong(tmp_path, content, words):
    path = tmp_path / "genes.fasta"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as error:
        open_germline(path)
    assert error.value.hint


def test_a_table_of_genes_gives_the_same_set():
    germline = open_germline()
    again = GermlineSet.from_table(germline.to_table().sample(fraction=1, shuffle=True, seed=1))
    for locus in "HKL":
        for kind in "VJ":
            before, after = germline.table(locus, kind), again.table(locus, kind)
            assert before is not None
            assert after is not None
            assert before.names == after.names
            np.testing.assert_array_equal(before.framework, after.framework)
            np.testing.assert_array_equal(before.cdr3, after.cdr3)
