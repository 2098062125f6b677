"""Assay tables and their reference: what is read, what is left out and counted, what is refused."""

import gzip

import numpy as np
import polars as pl
import pytest

from protlm.data.readers.assay_reference import AssayFacts, alignment_coverage, find_assays, read_reference
from protlm.data.readers.assays import read_assay
from protlm.errors import DataError

WILD_TYPE = "MKTAY"
FACTS = AssayFacts(id="A1", wild_type=WILD_TYPE)
PROTEINGYM = """mutant,mutated_sequence,DMS_score,DMS_score_bin
M1L,LKTAY,0.5,1
K2R:T3S,MRSAY,-1.5,0
A4G,MKTGY,0.25,1
"""
REFERENCE = """DMS_id,DMS_filename,UniProt_ID,taxon,target_seq,DMS_binarization_cutoff,MSA_start,MSA_end,\
MSA_Neff_L_category,coarse_selection_type
A1,A1.csv,P1_HUMAN,Human,MKTAY,0.3,2,4,medium,Activity
A2,A2.csv,P2_HUMAN,Virus,MKTAY,,,,,
"""


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def test_a_proteingym_table_is_read_as_it_is(write):
    assay = read_assay(write("A1.csv", PROTEINGYM), FACTS)
    assert assay.mutants == ["M1L", "K2R:T3S", "A4G"]
    assert [variant.label() for variant in assay.variants] == assay.mutants
    assert assay.values.tolist() == [0.5, -1.5, 0.25]
    assert (assay.is_fit.tolist(), assay.fit_by) == ([True, False, True], "column")
    assert assay.depths.tolist() == [1, 2, 1]
    assert not assay.report.dropped


def test_without_facts_the_sequences_tell_the_wild_type(write):
    """Undoing K2R and T3S in MRSAY gives MKTAY, as do the other rows."""
    assay = read_assay(write("own.csv", PROTEINGYM))
    assert (assay.facts.id, assay.facts.wild_type) == ("own", WILD_TYPE)


def test_two_wild_types_in_one_file_are_refused(write):
    path = write("x.csv", PROTEINGYM + "A4G,MKTGW,1,1\n")
    with pytest.raises(DataError, match=r"2 wild types in one file; rows 1 and 4 .* first at position 5"):
        read_assay(path)
    with pytest.raises(DataError, match="2 wild types"):
        read_assay(path, invalid="drop")
    with pytest.raises(DataError, match=r"row 4: .*has W at position 5, expected Y"):
        read_assay(path, FACTS)


def test_a_file_without_sequences_needs_facts(write):
    with pytest.raises(DataError, match="nothing tells the wild type"):
        read_assay(write("x.csv", "mutant,score\nM1L,1\n"))


@pytest.mark.parametrize(
    ("row", "message", "reason"),
    [
        ("K1R,1", "position 1 is K, but the wild type has M", "no variant of the wild type"),
        ("A9G,1", "position 9", "no variant of the wild type"),
        ("p.Lys2Arg,1", "cannot read", "no variant of the wild type"),
        ("Y5F,0.4", "'Y5F' stands in row 2 already .2 rows", "stands twice"),
        ("y5f,9", "'y5f' stands in row 2 already", "stands twice"),
    ],
)
def test_wrong_rows_are_refused_or_counted(write, row, message, reason):
    path = write("x.csv", f"mutant,score\nM1L,1\nY5F,2\n{row}\n")
    with pytest.raises(DataError, match=f"row 3: .*{message}"):
        read_assay(path, FACTS)
    assay = read_assay(path, FACTS, invalid="drop")
    repeated = reason == "stands twice"
    assert assay.mutants == (["M1L"] if repeated else ["M1L", "Y5F"])
    assert assay.report.dropped == {reason: 2 if repeated else 1}


def test_a_sequence_that_disagrees_is_refused_or_counted(write):
    path = write("x.csv", "mutant,mutated_sequence,score\nM1L,LKTAY,1\nM1V,VKTA,2\n")
    with pytest.raises(DataError, match=r"row 2: .*'M1V' has 4 residues, the wild type 5"):
        read_assay(path, FACTS)
    assert read_assay(path, FACTS, invalid="drop").report.dropped == {"disagrees with its sequence": 1}


def test_positions_counted_from_elsewhere_get_the_offset_that_fits(write):
    with pytest.raises(DataError) as caught:
        read_assay(write("x.csv", "mutant,score\nM24L,1\nK25R,2\nT26S,3\n"), FACTS)
    assert "subtract 23" in str(caught.value.hint)


def test_stops_wild_types_and_missing_values_are_left_out_and_counted(write):
    assay = read_assay(
        write("x.tsv", "mutant\tscore\nM1L\t1\nK2*\t-3\n\t0\nA4A\t0\nY5F\tNaN\nA4G\t\nA4S\t3\n"), FACTS
    )
    assert assay.mutants == ["M1L", "A4S"]
    assert assay.report.dropped == {"has a stop": 1, "the wild type itself": 2, "no measured value": 2}
    assert assay.report.num_read == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mutant,score\nM1L,high\n", "row 1: score: expected a number, found 'high'"),
        ("mutant,score\nM1L,inf\n", "expected a number, found 'inf'"),
        ("mutant,score,DMS_score_bin\nM1L,1,2\n", "row 1: DMS_score_bin is 2"),
        ("mutant,score,DMS_score_bin\nM1L,1,\n", "row 1: DMS_score_bin is nothing"),
        ("mutant,value\nM1L,1\n", "no column DMS_score or score"),
        ("variant,score\nM1L,1\n", "no column mutant"),
        ("mutant,score\nM1*,1\n", "no variant is left of 1 rows .1 × has a stop"),
    ],
)
def test_broken_tables_are_refused(write, content, message):
    with pytest.raises(DataError, match=message):
        read_assay(write("x.csv", content), FACTS)


@pytest.mark.parametrize(
    ("cutoff", "is_fit", "fit_by"), [(2.0, [0, 1, 1, 1], "cutoff"), (None, [0, 0, 1, 1], "median")]
)
def test_without_labels_the_cutoff_or_the_median_divides(write, cutoff, is_fit, fit_by):
    """The median of 1, 2, 3, 4 is 2.5; the value at the cutoff 2 is fit."""
    path = write("x.csv", "mutant,fitness\nM1L,1\nM1V,2\nM1I,3\nM1A,4\n")
    assay = read_assay(path, AssayFacts("x", WILD_TYPE, cutoff=cutoff, value_column="fitness"))
    assert (assay.is_fit.tolist(), assay.fit_by) == ([bool(each) for each in is_fit], fit_by)


def test_a_reference_is_read(write):
    facts = read_reference(write("reference.csv", REFERENCE))
    assert facts["A1"] == AssayFacts(
        "A1",
        WILD_TYPE,
        "A1.csv",
        "P1_HUMAN",
        "Activity",
        "Human",
        "Medium",
        msa_start=1,
        msa_stop=4,
        cutoff=0.3,
    )
    assert facts["A2"] == AssayFacts("A2", WILD_TYPE, "A2.csv", "P2_HUMAN", taxon="Virus")


def test_a_reference_with_a_repeated_id_or_no_wild_type_is_refused(write):
    with pytest.raises(DataError, match="row 3: the assay 'A1' was named before"):
        read_reference(write("twice.csv", REFERENCE + "A1,A3.csv,P,Human,MKTAY,,,,,\n"))
    with pytest.raises(DataError, match="row 1: no wild type"):
        read_reference(write("empty.csv", "assay,wt_sequence\nA1,\n"))
    with pytest.raises(DataError, match="no column is called target_seq or wt_sequence"):
        read_reference(write("none.csv", "DMS_id,sequence\nA1,MK\n"))


def test_coverage_is_the_range_of_the_reference_or_given_sites(write):
    """Sites 2 to 4: M1L is outside, and a double with one site outside is not covered."""
    content = "mutant,score\nM1L,1\nK2R,2\nA4G,3\nK2R:Y5F,4\n"
    assay = read_assay(write("A1.csv", content), read_reference(write("reference.csv", REFERENCE))["A1"])
    covered = assay.covered()
    assert covered is not None
    assert covered.tolist() == [False, True, True, False]
    assert assay.covered([True, False, True, True, True]).tolist() == [True, False, True, False]
    assert read_assay(write("A2.csv", content), FACTS).covered() is None
    with pytest.raises(DataError, match="coverage of 3 sites, but the wild type has 5"):
        assay.covered([True] * 3)


def test_an_alignment_covers_the_capitals_of_its_first_record(write):
    """kT-A. without gaps is KTA at positions 2 to 4; its k is no match column."""
    path = write("x.a2m", ">query/2-4\nkT-\nA.\n>other\nKTVA.\n")
    assert alignment_coverage(path, WILD_TYPE).tolist() == [False, False, True, True, False]
    with pytest.raises(DataError, match=r"3 residues. is in the wild type 0 times"):
        alignment_coverage(path, "MKYAT")
    with pytest.raises(DataError, match="in the wild type 2 times"):
        alignment_coverage(path, "KTAKTA")
    with pytest.raises(DataError, match="first record is empty"):
        alignment_coverage(write("none.a2m", ""), WILD_TYPE)


def test_a_folder_says_of_every_file_what_it_is(write, tmp_path):
    for name, content in {
        "reference.csv": REFERENCE,
        "A1.csv": PROTEINGYM,
        "own.csv": PROTEINGYM,
        "plain.csv": "mutant,score\nM1L,1\n",
        "other.tsv": "a\tb\n1\t2\n",
        "broken.tsv": "a,b\n1,2\n",
        "notes.md": "hello",
    }.items():
        write(name, content)
    (tmp_path / "msa").mkdir()
    folder, reference = find_assays(tmp_path)
    assert [(path.name, facts and facts.id) for path, facts in folder.assays] == [
        ("A1.csv", "A1"),
        ("own.csv", None),
    ]
    assert folder.absent == ["A2"]
    assert list(reference) == ["A1", "A2"]
    assert {name: why.split(":")[0] for name, why in folder.left_out.items()} == {
        "reference.csv": "a reference table",
        "plain.csv": "not in the reference, and no column mutated_sequence tells its wild type",
        "other.tsv": "no column mutant",
        "broken.tsv": "cannot be read",
        "notes.md": "no table (.csv, .tsv, .txt, .parquet)",
        "msa": "a folder",
    }


def test_a_file_is_matched_by_its_name_without_endings(write, tmp_path):
    (tmp_path / "A2.csv.gz").write_bytes(gzip.compress(PROTEINGYM.encode()))
    pl.read_csv(PROTEINGYM.encode()).write_parquet(tmp_path / "A1.parquet")
    reference = read_reference(write("elsewhere.csv", REFERENCE))
    folder, _ = find_assays(tmp_path, reference)
    assert {path.name: facts.id for path, facts in folder.assays} == {"A1.parquet": "A1", "A2.csv.gz": "A2"}
    packed, columnar = (read_assay(path, facts) for path, facts in folder.assays)
    assert packed.mutants == columnar.mutants
    assert packed.values.tolist() == columnar.values.tolist()
    assert packed.is_fit.tolist() == columnar.is_fit.tolist()


def test_folders_that_cannot_be_used_are_refused(write, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_assays(tmp_path / "none")
    with pytest.raises(DataError, match="has no assay"):
        find_assays(tmp_path)
    write("reference.csv", REFERENCE)
    write("A1.csv", PROTEINGYM)
    write("A1.tsv", PROTEINGYM.replace(",", "\t"))
    with pytest.raises(DataError, match=r"A1.csv and A1.tsv are both of the assay 'A1'"):
        find_assays(tmp_path)
    write("second.csv", REFERENCE)
    with pytest.raises(DataError, match=r"2 reference tables: reference.csv, second.csv"):
        find_assays(tmp_path)


@pytest.fixture(scope="module")
def dms(shared_data):
    return find_assays(shared_data / "dms")


def test_all_real_assays_are_found_with_their_wild_types(dms):
    folder, reference = dms
    assert len(folder.assays) == len(reference) == 14
    assert not folder.absent
    assert folder.left_out == {"dms_reference.tsv": "a reference table", "msa": "a folder"}
    assert reference["BLAT_ECOLX_Ranganathan2015"].uniprot == reference["tem-1"].uniprot == "BLAT_ECOLX"
    assert reference["bgl3"].uniprot == "beta-glucosidase Bgl3 (Streptomyces), construct with His-tag"


@pytest.mark.parametrize(
    ("name", "num_variants", "dropped"),
    [
        ("BLAT_ECOLX_Ranganathan2015", 4996, {}),
        ("amyloid_beta_nucleation", 16066 - 1583, {"has a stop": 1583}),
        ("bgl3", 26653 - 916, {"has a stop": 916}),
        ("sars2_rbd_binding", 3802, {}),
    ],
)
def test_real_assays_are_read_whole(dms, name, num_variants, dropped):
    path, facts = next(each for each in dms[0].assays if each[1].id == name)
    assay = read_assay(path, facts)
    assert len(assay.variants) == len(assay.values) == num_variants
    assert assay.report.dropped == dropped


def test_the_published_cutoff_gives_the_published_labels(shared_data, dms):
    """ProteinGym's copy of Jacquier 2013 has 989 labels, cut at the median -0.666667."""
    path, facts = next(each for each in dms[0].assays if each[1].id == "BLAT_ECOLX_Jacquier2013")
    published = read_assay(path, facts)
    reference = read_reference(shared_data / "proteingym" / "DMS_substitutions_reference.csv.gz")
    assert len(reference) == 217
    cutoff = reference["BLAT_ECOLX_Jacquier_2013"].cutoff
    assert published.fit_by == "column"
    assert np.array_equal(published.values >= cutoff, published.is_fit)
    assert published.is_fit.sum() == 501
    assert reference["BLAT_ECOLX_Jacquier_2013"].wild_type == facts.wild_type


def test_a_real_alignment_covers_253_of_263_sites(shared_data, dms):
    wild_type = dms[1]["BLAT_ECOLX_Ranganathan2015"].wild_type
    covered = alignment_coverage(shared_data / "dms" / "msa" / "BLAT_ECOLX.a2m.gz", wild_type)
    outside = [24, 25, 26, 27, 28, 56, 238, 284, 285, 286]
    assert (np.flatnonzero(~covered) + 24).tolist() == outside
