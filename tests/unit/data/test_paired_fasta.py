"""FASTA whose records are chains of one name."""

import pytest

from fixtures.antibodies import VH, VL
from protlm.data.readers import InputPolicy, ReadReport, iterate_records
from protlm.data.readers.paired_fasta import split_name
from protlm.errors import DataError
from protlm.types.record import Role

PAIRED = InputPolicy(paired_ids=True)
DROP = InputPolicy(paired_ids=True, invalid="drop")


@pytest.fixture
def read(tmp_path):
    def read(text, policy=PAIRED):
        path = tmp_path / "x.fasta"
        path.write_text(text)
        report = ReadReport()
        return list(iterate_records(path, policy=policy, report=report)), report

    return read


@pytest.mark.parametrize(
    ("header", "name", "role"),
    [
        ("a_H", "a", Role.HEAVY),
        ("a.L", "a", Role.LIGHT),
        ("a|heavy", "a", Role.HEAVY),
        ("a_b_VL", "a_b", Role.LIGHT),
        ("a-kappa", "a", Role.LIGHT),
        ("a_light_chain", "a", Role.LIGHT),
        ("a_TRB", "a", Role.BETA),
        ("8659_seq2", "8659", Role.OTHER),
        ("a light chain of b", "a", Role.LIGHT),
        ("a_VL\tsome words", "a", Role.LIGHT),
        ("a\theavy chain", "a", Role.HEAVY),
        ("a", "a", Role.OTHER),
        ("", "", Role.OTHER),
        ("a_1", "a_1", Role.OTHER),  # two numbered records may well be two antibodies
        ("fresh", "fresh", Role.OTHER),
        ("_H", "_H", Role.OTHER),
    ],
)
def test_a_name_and_its_chain(header, name, role):
    assert split_name(header) == (name, role)


@pytest.mark.parametrize(
    "names", [("a_H", "a_L"), ("a_L", "a_H"), ("a|light", "a|heavy"), ("a VL", "a VH"), ("a.hc", "a.lc")]
)
def test_two_chains_of_one_name_are_a_record_heavy_first(read, names):
    residues = [VL if "l" in name.lower() else VH for name in names]
    text = "".join(f">{name}\n{each}\n" for name, each in zip(names, residues, strict=True))
    records, report = read(text + ">b_H\nMKT\n")
    assert [record.id for record in records] == ["a", "b"]
    assert [(chain.role, chain.residues) for chain in records[0].chains] == [
        (Role.HEAVY, VH),
        (Role.LIGHT, VL),
    ]
    assert report.changed == {"one chain of its name, kept alone": 1}
    assert "record 'b'" in report.examples["one chain of its name, kept alone"][0]


def test_chains_far_apart_and_of_no_named_kind_keep_the_order_of_the_file(read):
    records, _ = read(">a_seq1\nMK\n>b_seq1\nGG\n>b_seq2\nGW\n>a_seq2\nMV\n")
    assert [record.id for record in records] == ["a", "b"]
    assert [[chain.residues for chain in record.chains] for record in records] == [["MK", "MV"], ["GG", "GW"]]


@pytest.mark.parametrize(
    ("text", "message", "reason"),
    [
        (
            ">a_seq1\nM\n>a_seq2\nM\n>a_seq3\nM\n",
            "3 chains of one name (lines 1, 3, 5)",
            "more than two chains",
        ),
        (">a_H\nM\n>a_VH\nK\n", "two heavy chains of one name (lines 1 and 3)", "two chains of one kind"),
        (">a_H\nM1\n>a_L\nK\n", "'1' at position 2", "letter that is no residue"),
    ],
)
def test_what_is_no_pair_is_named_or_dropped_whole(read, text, message, reason):
    with pytest.raises(DataError) as caught:
        read(text)
    assert message in caught.value.message
    assert "line 1, record 'a'" in caught.value.message
    records, report = read(text, DROP)
    assert not records
    assert next(iter(report.dropped)).startswith(reason)


def test_without_the_option_it_is_proposed(read):
    with pytest.raises(DataError) as caught:
        read(">a\nMK\n>a\nGG\n", InputPolicy())
    assert "pass --paired-ids" in caught.value.hint
    records, report = read(">a_H\nMK\n>a_L\nGG\n", InputPolicy())
    assert len(records) == 2
    assert "names look like those of pairs ('a_H' …): pass --paired-ids" in report.lines()[0]
    _, report = read(">a_H\tx\nMK\n>a_L\tx\nGG\n", InputPolicy())
    assert "names look like those of pairs ('a_H' …)" in report.lines()[0]
    _, report = read(">a_1\nMK\n>a_2\nGG\n", InputPolicy())
    assert not report.lines()
