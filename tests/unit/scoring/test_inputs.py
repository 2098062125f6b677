"""What can be scored: whole sequences, sites, libraries, one chain of several."""

import polars as pl
import pytest

from fixtures.table_model import EchoModel
from protlm.errors import DataError
from protlm.scoring.chunks import cut
from protlm.scoring.inputs import read_variants
from protlm.scoring.libraries import combinations, parse_sites, single_substitutions
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import plan_contexts
from protlm.scoring.wild_type import WildType, read_wild_type
from protlm.types.record import Chain, Record, Role

TRASTUZUMAB = {
    "H": "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS",
    "L": "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTF"
    "GQGTKVEIK",
}


@pytest.fixture
def wild_type():
    return WildType(Record("w", (Chain("MKTA"),)))


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_whole_sequences_become_substitutions_where_they_are_as_long(write, wild_type):
    path = write("v.fasta", ">a\nMKTA\n>b\nLKTW\n>c\nMKKTA\n>d\nMTA\n")
    table = read_variants(path, wild_type, offset=10)
    assert table.frame["id"].to_list() == ["a", "b", "c", "d"]
    assert table.frame["mutant"].to_list() == ["WT", "M11L:A14W", None, None]
    assert [variant.is_indel for variant in table.variants] == [False, False, True, True]
    assert table.notes == ["wild type", "", "+1 residues", "-1 residues"]


def test_gaps_of_an_alignment_are_refused_or_removed_and_counted(write, wild_type):
    path = write("v.fasta", ">a\nMK-A\n>b\nMKTA\n")
    with pytest.raises(DataError, match="'-'"):
        read_variants(path, wild_type)
    table = read_variants(path, wild_type, gaps="remove")
    assert table.variants[0].residues == "MKA"
    assert any("gap" in line for line in table.said)


@pytest.mark.parametrize("column", ["mutated_sequence", "sequence_of_variant"])
def test_a_table_may_hold_whole_sequences(write, wild_type, column):
    path = write("v.csv", f"{column},y\nLKTA,1\nMKTAA,2\n")
    table = read_variants(path, wild_type, column=column)
    assert [variant.label() for variant in table.variants] == ["M1L", "MKTAA"]
    assert table.frame.columns == [column, "y"]


def test_a_column_of_mutations_goes_before_whole_sequences(write, wild_type):
    """ProteinGym's files have both."""
    path = write("v.csv", "mutant,mutated_sequence\nM1L,LKTA\n")
    assert read_variants(path, wild_type).column == "mutant"


def test_a_wrong_letter_in_a_whole_sequence_names_record_and_position(write, wild_type):
    with pytest.raises(DataError, match=r"record 'b'.*position 3 from T to X"):
        read_variants(write("v.fasta", ">a\nMKTA\n>b\nMKXA\n"), wild_type)


def test_sites_limit_the_single_substitutions(wild_type):
    table = single_substitutions(wild_type, sites="12-13:AV,14", offset=10)
    names = table.frame["mutant"].to_list()
    assert names[:4] == ["K12A", "K12V", "T13A", "T13V"]
    assert len(names) == 4 + 19


def test_a_library_has_every_combination_once_and_the_wild_type(wild_type):
    table = combinations(wild_type, "1:LM,3:AV")
    assert table.frame["mutant"].to_list() == ["WT", "T3A", "T3V", "M1L", "M1L:T3A", "M1L:T3V"]
    assert table.notes[0] == "wild type"


def test_a_library_that_is_too_large_says_how_large(write):
    long = WildType(Record("w", (Chain("MKTAYIAK"),)))
    with pytest.raises(DataError, match="3,840,000,000"):
        combinations(long, "1-7,8:AC")


@pytest.mark.parametrize(
    ("sites", "says"),
    [
        ("0", "not inside the positions"),
        ("5", "not inside the positions"),
        ("3-2", "not inside the positions"),
        ("1,1", "named twice"),
        ("a", "cannot read 'a'"),
        ("1:J", "cannot read '1:J'"),
        ("", "cannot read ''"),
    ],
)
def test_wrong_sites_are_named(sites, says):
    with pytest.raises(DataError, match=says):
        parse_sites(sites, "MKTA")


def test_a_chain_of_a_complex_is_named_by_its_id_and_heavy_goes_first(write):
    path = write("her.fasta", "".join(f">{name}\n{TRASTUZUMAB[name]}\n" for name in "LH"))
    with pytest.raises(DataError, match="several records") as error:
        read_wild_type(path)
    assert "--chain L" in (error.value.hint or "")
    light = read_wild_type(path, chain="L")
    assert light.residues == TRASTUZUMAB["L"]
    assert [chain.role for chain in light.record.chains] == [Role.HEAVY, Role.LIGHT]
    assert light.describe() == "wild type: 'her', 107 residues of its light chain; 1 other chain is context"
    with pytest.raises(DataError, match="no chain 'K'"):
        read_wild_type(path, chain="K")


def test_a_pair_in_a_table_is_scored_by_the_name_of_a_chain(write):
    pair = pl.DataFrame({"heavy": [TRASTUZUMAB["H"]], "light": [TRASTUZUMAB["L"]]})
    path = write("pair.csv", pair.write_csv())
    assert read_wild_type(path).residues == TRASTUZUMAB["H"]
    assert read_wild_type(path, chain="light").residues == TRASTUZUMAB["L"]
    with pytest.raises(DataError, match="no chain 'beta'") as error:
        read_wild_type(path, chain="beta")
    assert "heavy, light" in (error.value.hint or "")


def test_a_library_of_four_sites_under_joint_needs_fifteen_contexts_however_small_a_chunk():
    wild_type = WildType(Record("w", (Chain("MKTAYIAKQR"),)))
    table = combinations(wild_type, "2:KR,4:ALV,6:IV,9:QE", offset=0)
    known = [variant for variant in table.variants if variant is not None]
    assert len(known) == 2 * 3 * 2 * 2
    assert table.frame["mutant"].to_list() == [variant.label() for variant in known]
    plan = make_plan("masked_marginal", fill="joint")
    chunks = cut(plan, known, 10, most=3)
    assert len(chunks) > 5
    contexts = sum(
        plan_contexts(EchoModel(), plan, wild_type.record, [known[row] for row in rows])[0].num_contexts
        for rows in chunks
    )
    assert contexts == 15
