"""Bad variants and assays through the real command line: one message that fits the mistake, no traceback."""

import contextlib
import gzip
import io
import re
import sys

import polars as pl
import pytest
import typer

from protlm.cli.main import app, main
from protlm.models.architectures import EsmArchitecture
from protlm.report.variant_lines import below_baselines

WILD_TYPE = "MKTAYIAKQR"
REFERENCE = """DMS_id,DMS_filename,target_seq,UniProt_ID,coarse_selection_type
X_1,X_1.csv,MKTAYIAKQR,X_HUMAN,Activity
"""
ASSAY = "mutant,DMS_score,DMS_score_bin\nA4G,1.0,1\nK2R,0.5,1\nM1L,0.1,0\nY5F,-1,0\nI6L,2,1\n"


def protlm(*arguments):
    """Give exit status, standard output, and what stands behind ``error:`` and ``hint:``."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    old, sys.argv = sys.argv, ["protlm", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leave:
        status = leave.code
    finally:
        sys.argv = old
    error, _, hint = err.getvalue().partition("error: ")[2].partition("hint: ")
    return status, out.getvalue(), error, hint, err.getvalue()


def refused(answer, verb, says, hint):
    status, out, error, given, err = answer
    assert (status, out) == (1, ""), err
    assert "Traceback" not in err
    assert len(error) < 600, "no one reads a page"
    assert says in error, err
    assert hint in given, err
    command = typer.main.get_command(app)
    for word in verb:
        command = command.commands[word]
    options = {name for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", given)) <= options, given


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    EsmArchitecture.Config(num_layers=1, hidden_size=16, num_heads=2).build(seed=0).save(folder)
    return folder


@pytest.fixture
def score(tiny, tmp_path):
    def score(name, content, *options, wild_type=WILD_TYPE):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "scores.parquet"
        return protlm(
            *("score", "--model", tiny, "--wild-type", wild_type),
            *("--variants", path, "--out", out, "--force", *options),
        )

    return score


@pytest.fixture
def evaluate(tiny, tmp_path):
    def evaluate(files, *options):
        folder = tmp_path / "assays"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return protlm("evaluate", "variants", folder, "--model", tiny, "--out", tmp_path / "run", *options)

    return evaluate


class TestScore:
    @pytest.mark.parametrize(
        ("text", "says", "hint"),
        [
            ("A12", "row 2: cannot read 'A12'", "as in A42G"),
            ("4C", "row 2: cannot read '4C'", "as in A42G"),
            ("p.Ala4Cys", "row 2: cannot read 'p.Ala4Cys'", "write it as A4C"),
            ('"A4C,K2R"', "row 2: cannot read 'A4C,K2R'", "write it as A4C:K2R"),
            ("A4C;K2R", "row 2: cannot read 'A4C;K2R'", "write it as A4C:K2R"),
            ("A4C / K2R", "row 2: cannot read 'A4C / K2R'", "write it as A4C:K2R"),
            ("A4C K2R", "row 2: cannot read 'A4C K2R'", "write it as A4C:K2R"),
            ("A4*", "position 4 to '*', which is a stop", "twenty amino acids"),
            ("A4C:A4G", "changes the same position twice", "name each position once"),
            ("MKTGYIAKQR", "row 2: cannot read 'MKTGYIAKQR'", "is it a whole sequence?"),
            (":".join(["A4G"] * 9999), "row 2: variant 'A4G:A4G:", "name each position once"),
            ("L4C", "position 4 is L, but the wild type has A", "does it belong to this wild type?"),
            ("A40C", "positions run from 1 to 10", "--offset N is subtracted"),
        ],
    )
    def test_one_wrong_row_of_many_says_how_to_write_it_and_how_to_leave_it_out(
        self, score, text, says, hint
    ):
        answer = score("v.csv", f"mutant\nK2R\n{text}\nM1L\n")
        refused(answer, ["score"], says, hint)
        assert "or --invalid drop leaves such rows without a score, 1 here" in answer[3]

    def test_no_offset_is_proposed_where_positions_are_right(self, score):
        answer = score("v.csv", "mutant\nA4G:A4C\n")
        refused(answer, ["score"], "twice", "name each position once")
        assert "--offset" not in answer[3]

    @pytest.mark.parametrize(
        ("name", "content", "says", "hint"),
        [
            ("v.csv", "mutated_sequence\nMKT-YIAKQR\n", "gap '-' at position 4", "--gaps remove"),
            ("v.csv", "mutated_sequence\nMXTGYIAKQR\n", "position 2 from K to X", "twenty amino acids"),
            ("v.fasta", ">a\nMKTGYIAKQR\n>a\nMKTWYIAKQR\n", "id 'a' was used before", "a name of its own"),
            ("v.fasta", ">a\nMXTWYIAKQR\n", "record 'a': a variant changes position 2", "--invalid drop"),
        ],
    )
    def test_whole_sequences(self, score, name, content, says, hint):
        refused(score(name, content), ["score"], says, hint)

    def test_a_fasta_record_that_does_not_fit_is_left_without_a_score_and_not_left_out(self, score, tmp_path):
        status, *_, err = score("v.fasta", ">x\nMXTWYIAKQR\n>good\nMKTWYIAKQR\n", "--invalid", "drop")
        assert status == 0, err
        table = pl.read_parquet(tmp_path / "scores.parquet")
        assert table["id"].to_list() == ["x", "good"]
        assert [value is None for value in table["score"]] == [True, False]
        assert "from K to X" in table["note"][0]

    @pytest.mark.parametrize(
        ("name", "content"),
        [("v.csv", "mutant\nfoo\nL4G\n"), ("v.fasta", ">a\nMXTWYIAKQR\n")],
    )
    def test_where_all_rows_are_dropped_nothing_is_scored(self, score, tmp_path, name, content):
        refused(score(name, content, "--invalid", "drop"), ["score"], "left", "")
        assert not (tmp_path / "scores.parquet").exists()

    @pytest.mark.parametrize(
        ("option", "text", "says", "hint"),
        [
            (
                "--sites",
                "4:A",
                "--sites 4:A names no other letter than the wild type has there",
                "name others",
            ),
            ("--sites", "0", "'0' is not inside the positions of the wild type, 1 to 10", "--offset"),
            ("--library", "0", "'0' is not inside the positions of the wild type, 1 to 10", "--offset"),
            ("--library", "1-8", "25,600,000,000 variants, over 5,000,000", "name the letters"),
            ("--library", "1-2500", "over 10^3252 variants, over 5,000,000", "name the letters"),
        ],
    )
    def test_sites_and_libraries(self, tiny, tmp_path, option, text, says, hint):
        wild_type = WILD_TYPE * (250 if "2500" in text else 1)
        answer = protlm(
            *("score", "--model", tiny, "--wild-type", wild_type, option, text, "--out", tmp_path / "x.csv")
        )
        refused(answer, ["score"], says, hint)

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("wt.txt", "MKTAYIAKQR\n", "no column looks like a sequence"),
            ("wt.csv", "id,sequence\na,MKT\na,MKT\n", "the id 'a' was used before"),
        ],
    )
    def test_a_file_for_the_wild_type_names_no_option_of_another_verb(
        self, score, tmp_path, name, content, says
    ):
        (tmp_path / name).write_text(content)
        answer = score("v.csv", "mutant\nM1L\n", wild_type=tmp_path / name)
        refused(answer, ["score"], says, "or pass the sequence itself")

    @pytest.mark.parametrize(
        ("content", "says", "hint"),
        [
            (
                ">q\nMKTAWIAKQR\n>r\nMKTAYIAKQK\n",
                "1 of 10 residues differ, at position 5",
                "correct that row",
            ),
            (">q\nWWWWWWWW\n>r\nWWWWWWWV\n", "the query 'q' is not the wild type", "whose first row is this"),
            (">q\nMKTAYIAKQR\n", "1 rows and 10 columns are left", "more sequences"),
            (">q\nMKTAYIAKQR\n>r\nMKT\n", "3 match columns", "aligned"),
            ("", "no aligned sequences", "empty"),
        ],
    )
    def test_an_alignment_of_something_else(self, score, tmp_path, content, says, hint):
        path = tmp_path / "family.a2m"
        path.write_text(content)
        answer = score("v.csv", "mutant\nM1L\n", "--alignment", path)
        refused(answer, ["score"], says, hint)
        assert str(path) in answer[2]
        assert "=" not in answer[3]


class TestAssays:
    @pytest.mark.parametrize(
        ("content", "says", "hint"),
        [
            (
                ASSAY + "A12,3,1\n",
                "row 6: cannot read 'A12'",
                "as in A42G; several joined by ':'; --invalid drop",
            ),
            (ASSAY + "A4C;K2R,3,1\n", "row 6: cannot read", "write it as A4C:K2R"),
            (ASSAY + "A40C,3,1\n", "positions run from 1 to 10", "is it the wild type of 'X_1'?"),
            (ASSAY + "a4g,3,1\n", "row 6: variant 'a4g' stands in row 1 already", "--invalid drop"),
            (ASSAY + "Q9A,inf,1\n", "row 6: DMS_score: expected a number, found 'inf'", "leave it empty"),
            (ASSAY + 'Q9A,"1,5",1\n', "found '1,5'", "decimals need a point"),
            ("mutant,DMS_score\nA4G,1\nK2R,1\n", "all 2 variants have the value 1", "measured values"),
            ("mutant,DMS_score\nA4G,0.5\n", "its only variant has the value 0.5", "out of the folder"),
            (
                "mutant,DMS_score\nA4G,NaN\n",
                "no variant is left of 1 rows (1 × no measured value)",
                "'DMS_score'",
            ),
            ("", "the assay 'X_1' cannot be read", "mend the file"),
            (ASSAY.replace(",", ";"), "separated by semicolons", "mend the file"),
            (ASSAY.encode() + b"\xe9\n", "not UTF-8 text", "mend the file"),
        ],
    )
    def test_an_assay_of_the_reference_stops_with_its_place(self, evaluate, content, says, hint):
        answer = evaluate({"r.csv": REFERENCE, "X_1.csv": content})
        refused(answer, ["evaluate", "variants"], says, hint)
        assert "X_1" in answer[2]

    def test_a_file_that_the_reference_names_is_not_left_out_beside_a_good_one(self, evaluate):
        reference = REFERENCE + "X_2,X_2.csv,MKTAYIAKQR,Y_HUMAN,Binding\n"
        damaged = gzip.compress(ASSAY.encode())[:12]
        answer = evaluate({"r.csv": reference, "X_1.csv": ASSAY, "X_2.csv": damaged})
        refused(answer, ["evaluate", "variants"], "the assay 'X_2' cannot be read", "mend the file")

    def test_two_reference_tables_name_the_option(self, evaluate):
        answer = evaluate({"r.csv": REFERENCE, "s.csv": REFERENCE, "X_1.csv": ASSAY})
        refused(answer, ["evaluate", "variants"], "2 reference tables: r.csv, s.csv", "--reference")

    def test_marks_and_line_ends_of_windows_change_nothing(self, evaluate):
        files = {"r.csv": REFERENCE, "X_1.csv": ASSAY}
        files = {name: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() for name, text in files.items()}
        status, out, *_, err = evaluate(files)
        assert status == 0, err
        assert re.search(r"X_1 +5 ", out)

    def test_scores_that_are_all_the_same_have_no_rank_correlation(self, evaluate):
        """BLOSUM62 gives 0 to each."""
        status, out, *_, err = evaluate(
            {"r.csv": REFERENCE, "X_1.csv": "mutant,DMS_score\nA4G,1\nA4T,2\nA4V,3\n"}
        )
        assert status == 0, err
        assert re.search(r"\(blosum62\) +0 +–", out)

    def test_where_neither_has_one_none_is_below_the_other(self):
        columns = {"subset": "all", "metric": "spearman", "model": ["m", "blosum62"], "n_assays": 0}
        table = pl.DataFrame({**columns, "average": pl.Series([None, None], dtype=pl.Float64)})
        assert below_baselines(table, ["blosum62"]) == []
