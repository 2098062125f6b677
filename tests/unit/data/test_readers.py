"""Readers: every file gives records, or an error that names the place and the remedy."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, iterate_records, read_records, rows
from protlm.errors import DataError
from protlm.types.record import Role
from protlm.types.regions import Mutated, Segment


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, *, policy=None, **columns):
    report = ReadReport()
    records = list(iterate_records(path, columns=ColumnNames(**columns), policy=policy, report=report))
    return records, report


def residues(records):
    return [[chain.residues for chain in record.chains] for record in records]


# --- text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b">a\nMKT\nAA\n>b x\nGG\n",
        b"\xef\xbb\xbf>a\r\nMKT\r\nAA\r\n>b x\r\nGG\r\n",
        b">a\rMKT\rAA\r>b x\rGG\r",
        b"\n\n>a\nMKT\n\nAA\n>b x\nGG",
        b"; an old comment\n>a\nMKT AA*\n>b x\ngg\n",
    ],
    ids=["unix", "bom and crlf", "old mac", "blank lines", "comment, stop, lower case"],
)
def test_line_ends_byte_order_marks_and_blank_lines_do_not_matter(write, content):
    records, _ = read(write("x.fasta", content))
    assert [record.id for record in records] == ["a", "b"]
    assert residues(records) == [["MKTAA"], ["GG"]]


def test_gzip_is_told_from_the_content_and_not_from_the_name(write):
    packed = gzip.compress(b">a\nMK\n") + gzip.compress(b">b\nGG\n")
    assert len(read_records(write("x.fasta.gz", packed))) == 2
    assert len(read_records(write("x.fasta", packed))) == 2
    assert len(read_records(write("plain.fasta.gz", b">a\nMK\n"))) == 1


def _many():
    return "".join(f">s{number}\nMKT{number % 7 * 'A'}\n" for number in range(4000)).encode()


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (gzip.compress(_many(), mtime=0)[:4000], "ends too early, after line", "cut short"),
        (gzip.compress(_many(), mtime=0)[:-4], "ends too early, after line 8,000", "cut short"),
        (gzip.compress(_many(), mtime=0)[:5], "ends too early, after line 0", "cut short"),
        (gzip.compress(_many(), mtime=0)[:-8] + bytes(8), "the compressed data is damaged", "fetch it again"),
        (gzip.compress(_many(), mtime=0) + b"junk", "the compressed data is damaged", "fetch it again"),
        (b">a\nMK\n>caf\xe9\nMK\n", "line 3: not UTF-8 text (byte 0xe9", "iconv -f LATIN1"),
        (_many() + b">caf\xe9\nMK\n", "line 8,001: not UTF-8 text (byte 0xe9", "iconv -f LATIN1"),
        (">a\nMK\n".encode("utf-16"), "is UTF-16 text", "iconv -f UTF-16"),
        (b"PK\x03\x04rest", "is a zip archive or an Excel workbook", "unpack"),
        (b"BZh91AY", "is bzip2-compressed", "bunzip2"),
        (b"\xfd7zXZ\0", "is xz-compressed", "unxz"),
        (b"\x28\xb5\x2f\xfd\0", "is zstd-compressed", "unzstd"),
        (b"", "no FASTA records", "empty"),
        (b"\n  \n", "no FASTA records", "empty"),
        (
            b"MKTAYI\n",
            "line 1: expected a FASTA header starting with '>', got 'MKTAYI'",
            "is this file FASTA",
        ),
        (b">a\nMK-T\n", "line 1, record 'a': gap '-' at position 3", "--gaps remove"),
        (b">a\nMK\n>b\n", "line 3, record 'b': the sequence is empty", "--invalid drop"),
        (b">\nMK1\n", "line 1, record 'x:1': '1' at position 3", "--invalid drop"),
        (b">a\nMK\n>a z\nMKV\n", "line 3, record 'a': the id 'a' was used before", "--duplicate-ids rename"),
    ],
)
def test_a_broken_fasta_file_is_named_with_place_and_remedy(write, content, message, hint):
    path = write("x.fasta", content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_latin_1_file_reads_once_it_is_converted_as_the_hint_says(write):
    content = b">caf\xe9\nMKT\n"
    assert read_records(write("x.fasta", content.decode("latin-1").encode("utf-8")))[0].id == "café"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("absent.fasta", "no such file", "working directory"),
        ("folder.fasta", "is a folder, not a file", "give a FASTA"),
        ("no_suffix", "cannot tell what kind of file", "rename it to end in one of .fasta"),
        ("x.docx", "cannot tell what kind of file", ".parquet"),
    ],
)
def test_what_is_no_readable_file_says_so(tmp_path, name, message, hint):
    (tmp_path / "folder.fasta").mkdir()
    for each in ("no_suffix", "x.docx"):
        (tmp_path / each).write_text(">a\nMK\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_may_not_be_read_says_why(write, monkeypatch):
    path = write("x.fasta", ">a\nMK\n")

    def refuse(self, *args, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*x\.fasta: Permission denied"):
        read(path)


# --- policy -----------------------------------------------------------------------------------------


def test_invalid_records_are_dropped_counted_and_the_first_places_kept(write):
    path = write("x.fasta", ">a\nMK\n>b\nM*K\n>c\n\n" + "".join(f">d{n}\nM{n}K\n" for n in range(5)))
    records, report = read(path, policy=InputPolicy(invalid="drop"))
    assert [record.id for record in records] == ["a"]
    assert report.num_read == 1
    assert report.dropped == {
        "letter that is no residue": 5,
        "stop inside the sequence": 1,
        "empty sequence": 1,
    }
    assert len(report.examples["letter that is no residue"]) == 3
    assert report.examples["stop inside the sequence"] == [f"{path}, line 3, record 'b'"]
    assert any("5 dropped: letter that is no residue" in line for line in report.lines())


def test_gaps_are_dropped_by_default_with_the_option_that_keeps_them(write):
    path = write("x.fasta", ">a\nM-K\n>b\nMK\n")
    records, report = read(path, policy=InputPolicy(invalid="drop"))
    assert residues(records) == [["MK"]]
    assert "--gaps remove" in report.lines()[0]
    records, _ = read(path, policy=InputPolicy(invalid="drop", gaps="remove"))
    assert residues(records) == [["MK"], ["MK"]]


def test_repeated_ids_are_renamed_past_names_that_are_taken(write):
    path = write("x.fasta", ">a#2\nMK\n>a\nMK\n>a\nMK\n>a\nMK\n>a#2\nMK\n")
    records, report = read(path, policy=InputPolicy(duplicate_ids="rename"))
    ids = [record.id for record in records]
    assert ids == ["a#2", "a", "a#3", "a#4", "a#2#2"]
    assert sum(report.changed.values()) == 3


def test_one_id_for_a_whole_file_does_not_take_quadratic_time(write):
    path = write("x.fasta", ">a\nMK\n" * 30_000)
    records, _ = read(path, policy=InputPolicy(duplicate_ids="rename"))
    assert records[-1].id == "a#30000"


# --- tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"id,sequence\na,MKT\n"),
        ("x.csv", b"\xef\xbb\xbfid,sequence\r\na,MKT\r\n"),
        ("x.csv", b"id,sequence\ra,MKT\r"),
        ("x.csv", b'\n"id", Sequence \n\na,mkt*\n\n'),
        ("x.tsv", b"id\tsequence\na\tMKT\n"),
        ("x.txt", b"id\tsequence\na\tMKT\n"),
        ("x.csv.gz", gzip.compress(b"id,sequence\na,MKT\n", mtime=0)),
    ],
)
def test_tables_of_every_dress_give_the_same_record(write, name, content):
    records, _ = read(write(name, content))
    assert [record.id for record in records] == ["a"]
    assert residues(records) == [["MKT"]]


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("x.csv", "", "the file is empty", "column names"),
        ("x.csv", "id,sequence\n", "no row under the column names", "complete"),
        ("x.csv", "id,foo\na,MKT\n", "no column looks like a sequence (found: id, foo)", "--sequence COL"),
        (
            "x.csv",
            "id,VL\na,MKT\n",
            "'VL' looks like a light chain, but none looks like the heavy",
            "--light VL",
        ),
        ("x.csv", "id,sequence,sequence\na,M,K\n", "column names appear twice: 'sequence'", "rename"),
        ("x.csv", "id\tsequence\na\tMKT\n", "separated by tabs, but commas were expected", ".tsv"),
        ("x.tsv", "id,sequence\na,MKT\n", "separated by commas, but tabs were expected", ".csv"),
        ("x.csv", "id;sequence\na;MKT\n", "separated by semicolons", "by commas"),
        ("x.csv", "id,sequence\na,MKT\nb\n", "row 2 (line 3): 1 values for 2 columns", "cut short"),
        ("x.csv", 'id,sequence\n\n"a\nb",MKT\nc,d,e\n', "row 2 (line 5): 3 values for 2 columns", "quotes"),
        ("x.csv", 'id,sequence\na,"MKT\nb,MKV\n', "line 3: not readable as a table", "quote"),
        ("x.csv", "id,sequence\na,\n", "row 1, record 'a': column 'sequence' is empty", "--invalid drop"),
        (
            "x.csv",
            "id,sequence\n,MK1\n",
            "row 1, record 'x:1': column 'sequence': '1' at position 3",
            "--invalid",
        ),
        ("x.csv", "id,heavy,light\na,,\n", "columns 'heavy' and 'light' are empty", "--invalid drop"),
        (
            "x.csv",
            "id,sequence\na,M\na,K\n",
            "row 2, record 'a': the id 'a' was used before",
            "--duplicate-ids",
        ),
        ("x.csv", b"PAR1rest", "is Parquet, not", ".parquet"),
        ("x.parquet", "id,sequence\na,MKT\n", "as Parquet", "another kind"),
        ("x.parquet", "", "as Parquet", "cut short"),
    ],
)
def test_a_broken_table_is_named_with_place_and_remedy(write, name, content, message, hint):
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        ({"sequence": "Sequnce"}, "there is no column 'Sequnce'", "did you mean 'sequence'"),
        ({"heavy": "vh"}, "there is no column 'vh'", "known: heavy, id, light, sequence"),
        ({"group": ("id", "donor")}, "there is no column 'donor'", "known:"),
        ({"labels": ("y",)}, "there is no column 'y'", "known:"),
        ({"id": "name"}, "there is no column 'name'", "known:"),
        ({"heavy": "heavy", "light": "heavy"}, "name the same column 'heavy'", "--sequence COL"),
        ({"heavy": "heavy", "sequence": "sequence"}, "for tables of single chains", "either --sequence"),
    ],
)
def test_wrong_column_names_propose_the_right_ones(write, columns, message, hint):
    path = write("x.csv", "id,sequence,heavy,light\na,MKT,EVQ,DIQ\n")
    with pytest.raises(DataError) as caught:
        read(path, **columns)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_columns_taken_and_those_left_are_reported(write):
    path = write("x.csv", "id,heavy,light,v_call_heavy,sequence\na,EVQ,DIQ,IGHV1-2*01,MKT\n")
    records, report = read(path)
    assert residues(records) == [["EVQ", "DIQ"]]
    line = "columns: heavy 'heavy' (with v_call_heavy); light 'light'; id 'id'; not read: sequence"
    assert report.lines() == ["layout: heavy and light columns", line]


def test_naming_one_chain_column_ends_the_guessing(write):
    path = write("x.csv", "id,heavy,light,sequence\na,EVQ,DIQ,MKT\n")
    for column, role in (("heavy", Role.HEAVY), ("light", Role.LIGHT), ("sequence", Role.OTHER)):
        (record,), _ = read(path, **{column: column})
        assert [chain.role for chain in record.chains] == [role]


def test_residues_are_preferred_to_the_nucleotides_of_airr(write):
    records, report = read(write("x.tsv", "sequence_id\tsequence\tsequence_aa\nq\tATGAAAACC\tMKT\n"))
    assert records[0].id == "q"
    assert residues(records) == [["MKT"]]
    assert "not read: sequence" in report.lines()[1]


def test_a_pair_may_lack_a_chain_and_words_for_nothing_are_read_as_such(write):
    content = "id,heavy,light\na,EVQ,na\nb,NA,DIQ\nc,nan,None\nd,EVQ,DIQ\ne,EVQ,\n"
    records, report = read(write("x.csv", content), policy=InputPolicy(invalid="drop"))
    assert residues(records) == [["EVQ"], ["DIQ"], ["EVQ", "DIQ"], ["EVQ"]]
    assert [record.chains[0].role for record in records] == [Role.HEAVY, Role.LIGHT, Role.HEAVY, Role.HEAVY]
    assert report.changed["no light chain, kept with the other one alone"] == 2
    assert report.changed["no heavy chain, kept with the other one alone"] == 1
    assert report.changed["'na', read as no value"] == 1
    assert report.dropped == {"empty sequence": 1}


def test_a_dropped_row_counts_no_change(write):
    _, report = read(write("x.csv", "id,heavy,light\na,evq,D1Q\n"), policy=InputPolicy(invalid="drop"))
    assert not report.changed
    assert report.dropped == {"letter that is no residue": 1}


def test_quoted_fields_keep_separators_quotes_and_line_ends(write):
    path = write("x.csv", 'id,note,sequence\na,"x, ""y""\nz",MKT\nb,,MKV\n')
    records, _ = read(path, labels=("note",))
    assert records[0].labels == {"note": 'x, "y"\nz'}
    assert [record.id for record in records] == ["a", "b"]


def test_a_field_over_the_limit_is_an_error_and_not_a_crash(write, monkeypatch):
    monkeypatch.setattr(rows, "_MAX_FIELD", 100)
    with pytest.raises(DataError, match="line 2: not readable as a table"):
        read(write("x.csv", "id,sequence\na," + "M" * 200 + "\n"))


def test_parquet_cells_of_every_kind_are_read_or_dropped(tmp_path):
    table = pa.table(
        {
            "id": [0, 1, None, 3],
            "sequence": pa.array([b"MKT", None, b"", b"MKV"]),
            "donor": [None, "x", "y", "z"],
            "y": [float("nan"), 1.0, 2.0, None],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    records, report = read(
        tmp_path / "x.parquet", policy=InputPolicy(invalid="drop"), group=("donor",), labels=("y",)
    )
    assert [record.id for record in records] == ["0", "3"]
    assert residues(records) == [["MKT"], ["MKV"]]
    assert [record.group for record in records] == ["", "z"]
    assert [record.labels for record in records] == [{"y": None}, {"y": None}]
    assert report.dropped == {"empty sequence": 2}
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    assert len(read(tmp_path / "x.parquet.gz", policy=InputPolicy(invalid="drop"))[0]) == 2


def test_a_damaged_or_empty_parquet_file_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"] * 500, "sequence": ["MKT"] * 500}), path)
    whole = path.read_bytes()
    for broken in (whole[:-20], whole[:4] + b"\xff" * 60 + whole[64:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"cannot read .*x\.parquet as Parquet"):
            read(path)
    pq.write_table(pa.table({"sequence": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match="the table has no row"):
        read(path)
    pq.write_table(pa.table([["M"], ["K"]], names=["sequence", "sequence"]), path)
    with pytest.raises(DataError, match="column names appear twice"):
        read(path)


def test_several_empty_group_columns_are_no_group(write):
    records, _ = read(write("x.csv", "sequence,g,h\nMKT,,\nMKV,1,\n"), group=("g", "h"))
    assert [record.group for record in records] == ["", "1|"]


@pytest.mark.parametrize(
    ("call", "gene"),
    [
        ("IGHV3-23*01,IGHV3-23D*01", "IGHV3-23*01"),
        ("Homsap IGHV3-23*01 F, or Homsap IGHV3-23D*01 F", "IGHV3-23*01"),
        ("IGHV1-18 (Human)", "IGHV1-18"),
        ("IGHV1-18*01_S2(Human)", "IGHV1-18*01_S2"),
        ("IGHV(II)-26-2*01 P", "IGHV(II)-26-2*01"),
        ("na", ""),
        ("", ""),
        ("VH3", "VH3"),
    ],
)
def test_the_first_gene_of_a_call_is_read(write, call, gene):
    (record,), _ = read(write("x.tsv", f"heavy\tv_call\nEVQ\t{call}\n"))
    assert record.chains[0].v_call == gene


# --- mask columns -----------------------------------------------------------------------------------


def test_mask_columns_become_tracks(write):
    content = "sequence,gene_segment_mask_aa,nongermline_mask_aa\nMKTA,VVnJ,0110\n"
    (record,), _ = read(write("x.csv", content))
    tracks = record.chains[0].tracks
    assert tracks["segment"].tolist() == [Segment.V, Segment.V, Segment.N, Segment.J]
    expected = [Mutated.GERMLINE, Mutated.MUTATED, Mutated.NONE, Mutated.GERMLINE]
    assert tracks["mutated"].tolist() == expected


def test_a_mask_follows_the_residues_where_a_stop_or_gaps_are_removed(write):
    header = "sequence,gene_segment_mask_aa,nongermline_mask_aa"
    path = write("x.csv", f"{header}\nM-kT*,VVVVV,01011\nMK-T,VVV,011\n")
    records, _ = read(path, policy=InputPolicy(gaps="remove"))
    assert records[0].chains[0].residues == "MKT"
    for record, digits in zip(records, ["001", "011"], strict=True):
        mutated = record.chains[0].tracks["mutated"] == Mutated.MUTATED
        assert np.array_equal(mutated, [digit == "1" for digit in digits])


@pytest.mark.parametrize("header", ["sequence", "sequence,gene_segment_mask_aa"])
def test_mutations_are_left_out_where_no_segments_tell_which_residues_are_n(write, header):
    row = "MKT" + "," * header.count(",")
    (record,), report = read(write("x.csv", f"{header},nongermline_mask_aa\n{row},011\n"))
    assert "mutated" not in record.chains[0].tracks
    assert any("'nongermline_mask_aa' left out" in line for line in report.lines())


def test_a_mask_of_mutations_beside_a_germline_is_left_out_and_counted(write):
    content = "sequence,germline_alignment_aa,nongermline_mask_aa\nMKTA,MKTW,1111\nMKTA,MKTW,\n"
    (record, _), report = read(write("x.csv", content))
    mutated = [Mutated.GERMLINE, Mutated.GERMLINE, Mutated.GERMLINE, Mutated.MUTATED]
    assert record.chains[0].tracks["mutated"].tolist() == mutated
    rule = "'nongermline_mask_aa' left out, as 'germline_alignment_aa' tells which residues are mutated"
    assert report.changed == {rule: 1}


@pytest.mark.parametrize(
    ("mask", "message", "reason"),
    [
        ("VV", "has 2 letters for 3 residues", "does not have one letter per residue"),
        ("VVQ", "has 'Q' at position 3", "has other letters than V, N, D, J"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_or_dropped_by_one_reason(write, mask, message, reason):
    path = write("x.csv", f"id,sequence,gene_segment_mask_aa\na,MKT,{mask}\nb,MKT,VVV\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert f"row 1, record 'a': column 'gene_segment_mask_aa' {message}" in caught.value.message
    records, report = read(path, policy=InputPolicy(invalid="drop"))
    assert len(records) == 1
    assert report.dropped == {f"column 'gene_segment_mask_aa' {reason}": 1}


# --- anything ---------------------------------------------------------------------------------------

_SEEDS = {
    "x.fasta": b">a b\nMKTA\nYIA\n>b\nmkt*\n",
    "x.csv": b'id,sequence,note\na,MKT,"x\ny"\nb,MKV,"""q"""\n',
    "x.tsv": b"id\theavy\tlight\na\tEVQ\tDIQ\nb\t\tDIQ\n",
    "x.fasta.gz": gzip.compress(b">a b\nMKTA\nYIA\n>b\nmkt*\n" * 50, mtime=0),
}


@pytest.mark.parametrize("name", _SEEDS)
def test_a_file_damaged_at_random_gives_records_or_a_stated_error(write, name):
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        content = bytearray(_SEEDS[name])
        for place in random.integers(0, len(content), 3):
            content[place : place + 1] = random.choice([b"", b'"', b"\n", b"\xff", b"\0", b",", b">"])
        try:
            read(write(name, bytes(content)), policy=InputPolicy(invalid="drop", duplicate_ids="rename"))
        except DataError as error:
            outcomes.add(bool(error.hint))
        else:
            outcomes.add("read")
    assert True in outcomes  # damage was noticed
    assert False not in outcomes  # and each message had a hint
