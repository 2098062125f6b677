"""Bad input through the real command line: one message with place and remedy, or a counted policy."""

import contextlib
import gzip
import io
import json
import re
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer

from protlm.cli.main import app, main
from protlm.cli.prepare import _Count
from protlm.data.corpus import Corpus
from protlm.models.architectures import EsmArchitecture
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.recipes import embed as embed_recipe
from protlm.recipes import score as score_recipe
from protlm.recipes import score_run
from protlm.types import variant as variant_types

V_GENE = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
VH = V_GENE + "SRWGGDGFYAMDYWGQGTLVTVSS"
VL = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYC"
VL += "QQHYTTPPTFGQGTKVEIK"
MANY = "".join(f">s{number}\nMKT{number % 7 * 'A'}\n" for number in range(3000)).encode()


@dataclass
class Answer:
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        return self.err.partition("error: ")[2]

    @property
    def hint(self) -> str:
        return self.err.partition("hint: ")[2]


def protlm(*arguments) -> Answer:
    """Run the command in this process; anything but a clean exit fails the test with its traceback."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    status = 0
    old, sys.argv = sys.argv, ["protlm", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leave:
        status = leave.code
    finally:
        sys.argv = old
        signal.signal(signal.SIGTERM, before)
    return Answer(status, out.getvalue(), err.getvalue())


def options_of(verb: str) -> set[str]:
    parameters = typer.main.get_command(app).commands[verb].params
    return {name for parameter in parameters for name in parameter.opts}


def refused(answer: Answer, verb: str, *, says: str, hint: str = "") -> None:
    """One message and no data; each option that the hint names is one of the verb's."""
    assert answer.status == 1, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert says in answer.error, answer.err
    assert hint in answer.hint, answer.err
    own = answer.hint.replace("iconv -f", "").partition("protlm prepare")[0]
    assert set(re.findall(r"--[a-z-]+", own)) <= options_of(verb), answer.hint


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2}
    EsmArchitecture.Config(**sizes).build(seed=0).save(folder / "tiny")
    limited = EsmArchitecture.Config(**sizes, positions="learned", max_tokens=64)
    limited.build(seed=0).save(folder / "limited")
    return folder


@pytest.fixture
def tiny(models):
    return models / "tiny"


@pytest.fixture
def limited(models):
    return models / "limited"


# --- every verb that reads a file -------------------------------------------------------------------


@pytest.fixture(params=["prepare", "embed"])
def reads(request, tmp_path, tiny):
    """Call a verb on a file, with `--invalid error`; gives the answer, the verb and what it left."""

    def reads(path, *arguments):
        if request.param == "prepare":
            out = tmp_path / "out" / "corpus"
            answer = protlm("prepare", path, "--out", out, "--invalid", "error", *arguments)
        else:
            out = tmp_path / "out" / "x.parquet"
            answer = protlm("embed", "--model", tiny, "--input", path, "--out", out, *arguments)
        left = sorted(each.name for each in out.parent.glob("*")) if out.parent.exists() else []
        return answer, request.param, left

    return reads


FILES = [
    ("x.fasta", ">a\nMK*T\n", "line 1, record 'a': stop '*' at position 3", "--invalid drop"),
    ("x.fasta", ">a\nMK-T\n", "line 1, record 'a': gap '-' at position 3", "--gaps remove"),
    ("x.fasta", ">a\nMK1T\n", "line 1, record 'a': '1' at position 3 is not a residue", "--invalid drop"),
    ("x.fasta", ">b\nMK\n>a\n", "line 3, record 'a': the sequence is empty", "--invalid drop"),
    (
        "x.fasta",
        ">a\nMK\n>a\nMV\n",
        "line 3, record 'a': the id 'a' was used before",
        "--duplicate-ids rename",
    ),
    ("x.fasta", "", "no FASTA records", "empty"),
    ("x.fasta", "id,sequence\na,MK\n", "line 1: expected a FASTA header", "is this file FASTA"),
    ("x.fasta", b">caf\xe9\nMK\n", "line 1: not UTF-8 text (byte 0xe9", "iconv"),
    ("x.fasta.gz", gzip.compress(MANY, mtime=0)[:-9], "ends too early, after line", "cut short"),
    ("x.csv.gz", gzip.compress(b"id,sequence\n" + b"a,MK\n" * 9000, mtime=0)[:-9], "", ""),
    ("x.csv", "id,sequence\na,MKT\nb,\n", "row 2, record 'b': column 'sequence' is empty", "--invalid drop"),
    ("x.csv", "id,foo\na,MKT\n", "no column looks like a sequence (found: id, foo)", "--sequence COL"),
    ("x.csv", "id,VL\na,DIQ\n", "'VL' looks like a light chain", "--heavy COL --light VL"),
    ("x.csv", "id,sequence\na,MKT,G\n", "row 1 (line 2): 3 values for 2 columns", "cut short"),
    ("x.csv", "id,sequence\n", "no row under the column names", "complete"),
    ("x.csv", "id,sequence,sequence\na,M,K\n", "column names appear twice", "rename"),
    ("x.tsv", "id,sequence\na,MKT\n", "separated by commas, but tabs were expected", ".csv"),
    ("x.csv", "id,sequence,gene_segment_mask_aa\na,MKT,VQV\n", "has 'Q' at position 2", "--invalid drop"),
    ("x.parquet", "PAR1", "as Parquet", "cut short"),
    ("x", ">a\nMK\n", "cannot tell what kind of file", "rename it"),
]


@pytest.mark.parametrize(("name", "content", "says", "hint"), FILES, ids=range(len(FILES)))
def test_a_bad_file_is_one_message_with_place_and_remedy_and_leaves_nothing(
    write, reads, name, content, says, hint
):
    path = write(name, content)
    answer, verb, left = reads(path)
    refused(answer, verb, says=says, hint=hint)
    assert str(path) in answer.error
    assert left == []


def test_a_path_that_is_no_file_says_so(reads, tmp_path):
    answer, verb, _ = reads(tmp_path / "absent.fasta")
    refused(answer, verb, says="no such file", hint="check the path")
    answer, verb, _ = reads(tmp_path)
    refused(answer, verb, says="is a folder, not a file", hint="give a FASTA")


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("x.fasta", ">a\nMK*T\n>b\nMK\n", ["--invalid", "drop"]),
        ("x.fasta", ">a\nMK1T\n>b\nMK\n", ["--invalid", "drop"]),
        ("x.fasta", ">a\nMK-T\n>b\nM.K\n", ["--gaps", "remove"]),
        ("x.fasta", ">a\nMK\n>a\nMV\n", ["--duplicate-ids", "rename"]),
        ("x.csv", "id,foo\na,MKT\n", ["--sequence", "foo"]),
        ("x.csv", "id,VL\na,DIQ\n", ["--light", "VL"]),
        ("x.csv", "id,sequence,gene_segment_mask_aa\na,MKT,VQV\nb,MKT,VVV\n", ["--invalid", "drop"]),
    ],
)
def test_following_the_hint_mends_the_case(write, reads, name, content, arguments):
    path = write(name, content)
    answer, verb, _ = reads(path)
    assert answer.status == 1
    assert all(word in answer.hint for word in arguments if word.startswith("--"))
    answer, verb, left = reads(path, *arguments)
    assert answer.status == 0, answer.err
    assert left == ["corpus" if verb == "prepare" else "x.parquet"]
    assert answer.out.strip().endswith(left[0])


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf>a x\r\nmkt\r\n>b\r\nGG W*\r\n",
        b">a x\rMKT\r>b\rGGW\r",
        gzip.compress(b">a\nMKT\n>b\nGGW\n", mtime=0),
    ],
    ids=["bom, crlf, lower case, space, stop", "old mac", "gzip under another name"],
)
def test_what_can_be_read_safely_is_read(write, tmp_path, content):
    answer = protlm("prepare", write("x.fasta", content), "--out", tmp_path / "c")
    assert answer.status == 0, answer.err
    corpus = Corpus(tmp_path / "c")
    assert [corpus.record(row).id for row in range(2)] == ["a", "b"]
    assert [corpus.record(row).chains[0].residues for row in range(2)] == ["MKT", "GGW"]


def test_odd_letters_are_kept_and_counted(write, tmp_path):
    answer = protlm("prepare", write("x.fasta", ">a\nMBZUOXJ\n>b\nMX\n"), "--out", tmp_path / "c")
    assert "2 × X, kept" in answer.err
    assert "1 × J, kept" in answer.err
    assert Corpus(tmp_path / "c").record(0).chains[0].residues == "MBZUOXJ"
    assert Corpus(tmp_path / "c").manifest["changed"]["X, kept"] == 2


# --- prepare ----------------------------------------------------------------------------------------


def test_prepare_drops_and_counts_by_default(write, tmp_path):
    path = write("x.fasta", ">a\nMK1\n>b\n\n>c\nM-K\n>d\nMKV\n")
    answer = protlm("prepare", path, "--out", tmp_path / "c")
    assert answer.status == 0
    assert answer.out == f"{tmp_path / 'c'}\n"
    assert f"1 dropped: letter that is no residue (first: {path}, line 1, record 'a')" in answer.err
    assert "1 dropped: empty sequence" in answer.err
    assert "--gaps remove" in answer.err
    manifest = Corpus(tmp_path / "c").manifest
    assert manifest["num_records"] == 1
    assert sum(manifest["dropped"].values()) == 3


def test_prepare_refuses_to_make_an_empty_corpus(write, tmp_path):
    path = write("x.fasta", ">a\nMK1\n")
    answer = protlm("prepare", path, "--out", tmp_path / "c")
    refused(
        answer,
        "prepare",
        says="no record is left; 1 dropped: letter that is no residue",
        hint="--invalid error",
    )
    path = write("y.fasta", f">a\n{VH[::-1]}\n")
    answer = protlm(
        "prepare", path, "--out", tmp_path / "c", "--unnumbered", "drop", "--receptor", "antibody"
    )
    refused(answer, "prepare", says="cannot be numbered", hint="--unnumbered keep")
    assert not (tmp_path / "c").exists()


def test_prepare_refuses_a_place_that_is_taken_or_cannot_be_written(write, tmp_path):
    path = write("x.fasta", ">a\nMK\n")
    refused(protlm("prepare", path, "--out", path), "prepare", says="is a file", hint="another --out")
    refused(
        protlm("prepare", path, "--out", path / "c"), "prepare", says="cannot write", hint="another --out"
    )
    refused(
        protlm("prepare", path, "--out", tmp_path), "prepare", says="is not a corpus", hint="another --out"
    )
    assert protlm("prepare", path, "--out", tmp_path / "new" / "folder" / "c").status == 0
    answer = protlm("prepare", path, "--out", tmp_path / "new" / "folder" / "c")
    refused(answer, "prepare", says="holds a corpus", hint="--force")
    assert protlm("prepare", path, "--out", tmp_path / "new" / "folder" / "c", "--force").status == 0


def test_prepare_says_now_and_then_how_far_it_is(monkeypatch, write, tmp_path):
    monkeypatch.setattr(_Count, "seconds_between_lines", 0.0)
    answer = protlm("prepare", write("x.fasta", ">a\nMKT\n>b\nMKV\n"), "--out", tmp_path / "c")
    assert answer.status == 0
    assert "1 records ·" in answer.err
    assert "2 records ·" in answer.err


def test_simulate_checks_its_place_before_any_work(write, tmp_path):
    for out, says, hint in [
        (tmp_path, "is a folder", "name a file"),
        (tmp_path / "x.fasta", "its name must end in .parquet or .tsv or .csv", "rename"),
        (write("x.csv", "x\n"), "exists", "--force"),
        (tmp_path / "x.csv" / "y.csv", "cannot write", "another --out"),
    ]:
        refused(protlm("simulate", "--records", 10**9, "--out", out), "simulate", says=says, hint=hint)


def test_a_failing_prepare_leaves_an_older_corpus_alone(write, tmp_path):
    assert protlm("prepare", write("x.fasta", ">a\nMK\n"), "--out", tmp_path / "c").status == 0
    bad = write("y.fasta.gz", gzip.compress(MANY, mtime=0)[:-9])
    assert protlm("prepare", bad, "--out", tmp_path / "c", "--force").status == 1
    assert Corpus(tmp_path / "c").record(0).id == "a"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c", "x.fasta", "y.fasta.gz"]


def test_pairs_with_swapped_or_missing_chains_are_put_right_and_counted(write, tmp_path):
    rows = f"id,heavy,light\na,{VH},{VL}\nb,{VL},{VH}\nc,{VH},na\nd,,{VL}\ne,,\n"
    answer = protlm("prepare", write("x.csv", rows), "--out", tmp_path / "c")
    assert answer.status == 0
    corpus = Corpus(tmp_path / "c")
    found = [[chain.residues for chain in corpus.record(row).chains] for row in range(len(corpus))]
    assert found == [[VH, VL], [VH, VL], [VH], [VL]]
    for line in (
        "wrong way round in 1 pairs",
        "1 × no light chain",
        "1 × no heavy chain",
        "1 dropped: empty",
    ):
        assert line in answer.err


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["--invalid", "dorp"], "--invalid 'dorp' is not a choice", "did you mean 'drop'"),
        (["--receptor", "bcr"], "--receptor 'bcr' is not a choice", "known: antibody, any, auto, none, tcr"),
        (["--holdout", "1.5"], "--holdout 1.5 is not a share", "below 1"),
        (["--heavy", "VH"], "is FASTA and has no columns", "leave out"),
    ],
)
def test_wrong_options_of_prepare(write, tmp_path, arguments, says, hint):
    answer = protlm("prepare", write("x.fasta", ">a\nMK\n"), "--out", tmp_path / "c", *arguments)
    refused(answer, "prepare", says=says, hint=hint)


# --- verbs that make a corpus on the way ------------------------------------------------------------


def _config(write, source, **model):
    lines = "\n".join(
        f"  {key}: {value}" for key, value in {"num_layers": 1, "hidden_size": 16, **model}.items()
    )
    text = f"data: {{train: {source}}}\nmodel:\n  kind: esm\n  num_heads: 2\n{lines}\n"
    return write("config.yaml", text + "masking: uniform\ntraining: {max_steps: 1, step_tokens: 64}\n")


@pytest.mark.parametrize("content", [f">a\nMK1T\n>b\n{VH}\n", f">a\nMK-T\n>b\n{VH}\n"])
def test_pretrain_sends_a_bad_file_to_prepare_and_that_mends_it(write, tmp_path, content):
    path = write("x.fasta", content)
    config = _config(write, path)
    answer = protlm("pretrain", "--config", config, "--out", tmp_path / "run")
    refused(
        answer, "pretrain", says=f"{path}, line 1, record 'a'", hint=f"protlm prepare {path} --out CORPUS"
    )
    assert protlm("prepare", path, "--out", tmp_path / "c").status == 0
    arguments = ["--config", config, "--set", f"data.train={tmp_path / 'c'}", "--dry-run"]
    answer = protlm("pretrain", *arguments, "--out", tmp_path / "other")
    assert answer.status == 0, answer.err


def test_pretrain_and_evaluate_name_records_over_the_limit(write, tmp_path, limited):
    path = write("x.fasta", f">short\n{'MKTAY' * 12}\n>long\n{'MKTAY' * 20}\n")
    config = _config(write, path, positions="learned", max_tokens=64)
    answer = protlm("pretrain", "--config", config, "--out", tmp_path / "run", "--dry-run")
    refused(answer, "pretrain", says="the first is 'long' with 102", hint="data.long_records=drop")
    answer = protlm(
        "pretrain",
        "--config",
        config,
        "--out",
        tmp_path / "run",
        "--dry-run",
        "--set",
        "data.long_records=drop",
    )
    assert answer.status == 0, answer.err
    source = write("vh.fasta", f">long\n{VH}\n")
    answer = protlm(
        "evaluate", "regions", "--model", limited, "--input", source, "--out", tmp_path / "judged"
    )
    assert answer.status == 1
    assert "at most 64" in answer.error


def test_a_corpus_made_on_the_way_is_made_again_for_another_file(write, tmp_path):
    from protlm.recipes.prepare import open_source

    lines = []
    one, two = write("one.fasta", ">a\nMK\n"), write("two.fasta", ">b\nMV\n")
    assert open_source(one, tmp_path / "data", say=lines.append).record(0).id == "a"
    told = len(lines)
    assert open_source(one, tmp_path / "data", say=lines.append).record(0).id == "a"
    assert len(lines) == told  # taken up as it is
    assert open_source(two, tmp_path / "data", say=lines.append).record(0).id == "b"


# --- score ------------------------------------------------------------------------------------------

WILD_TYPE = "HPETLVKVKDAEDQLGARVGYIELDLNSGKIL"


@pytest.fixture
def score(tmp_path, tiny):
    def score(*arguments, wild_type=WILD_TYPE, model=tiny, out=None):
        out = out or tmp_path / "scores.csv"
        return protlm("score", "--model", model, "--wild-type", wild_type, "--out", out, *arguments)

    return score


VARIANTS = [
    (
        "mutant\nH24A\nP25A\n",
        "row 1: variant 'H24A' says position 24 is H, but the wild type has L",
        "--offset 23 ",
    ),
    (
        "mutant\nH1A\nH99A\n",
        "row 2: variant 'H99A' names position 99, but positions run from 1 to 32",
        "--invalid drop",
    ),
    ("mutant\nH0A\n", "names position 0", "--offset -1"),
    ("mutant\nW1A\nW2A\n", "row 1: variant 'W1A' says position 1 is W", "does it belong to this wild type"),
    ("mutant\nH1*\n", "which is a stop", "--invalid drop"),
    ("mutant\nH1A:H1G\n", "changes the same position twice", "once"),
    ("mutant\np.His1Ala\n", "cannot read 'p.His1Ala'", "write it as H1A"),
    ("mutant\nnan\n", "row 1: cannot read 'nan'", "as in A42G"),
    ("mutants,y\nH1A,2\n", "no column is called mutant", "--mutant-column COL; did you mean 'mutants'"),
    ("mutant\ty\nH1A\t2\n", "separated by tabs, but commas", ".tsv"),
    ("mutant,y\nH1A\n", "row 1 (line 2): 1 values for 2 columns", "cut short"),
    ("mutant,y,y\nH1A,1,2\n", "column names appear twice", "rename"),
    ("mutant\n", "no row under the column names", "complete"),
    ("", "the file is empty", "column names"),
    (b"mutant,y\nH1A,caf\xe9\n", "line 2: not UTF-8", "iconv"),
    (gzip.compress(b"mutant\n" + b"H1A\n" * 9000, mtime=0)[:-9], "ends too early", "cut short"),
]


@pytest.mark.parametrize(("content", "says", "hint"), VARIANTS, ids=range(len(VARIANTS)))
def test_a_bad_table_of_variants_is_one_message_with_row_and_remedy(
    write, score, tmp_path, content, says, hint
):
    path = write("v.csv", content)
    answer = score("--variants", path)
    refused(answer, "score", says=says, hint=hint)
    assert str(path) in answer.error
    assert not (tmp_path / "scores.csv").exists()


def test_the_offset_that_is_proposed_mends_the_case(write, score, tmp_path):
    path = write("v.csv", "mutant\nH24A\nP25A\n")
    (offset,) = re.findall(r"--offset (-?\d+)", score("--variants", path).hint)
    assert score("--variants", path, "--offset", offset).status == 0
    path = write("w.csv", "mutant\nH0A\n")
    (offset,) = re.findall(r"--offset (-?\d+)", score("--variants", path, "--force").hint)
    assert score("--variants", path, "--offset", offset, "--force").status == 0


def test_wrong_rows_are_left_without_a_score_where_that_is_asked_for(write, score, tmp_path):
    path = write("v.csv", "mutant,y\nH1*,0.10\nH1A,1e-3\nfoo,\n,x\nWT,x\nh1h,x\n p2g : e3a ,x\n")
    answer = score("--variants", path, "--invalid", "drop")
    assert answer.status == 0
    assert "2 of 7 rows get no score" in answer.err
    scores = pl.read_csv(tmp_path / "scores.csv", infer_schema=False)
    assert scores["y"].to_list() == ["0.10", "1e-3", None, "x", "x", "x", "x"]  # untouched
    assert [value is None for value in scores["score"]] == [True, False, True, False, False, False, False]
    assert scores["score"].to_list()[3:6] == ["0.0"] * 3
    assert scores["note"].to_list()[3:] == ["wild type", "wild type", "wild type", None]
    assert "which is a stop" in scores["note"][0]


def test_numbers_are_read_as_such_for_parquet_only_where_nothing_is_lost(write, score, tmp_path):
    columns = {
        "code": ["007", "012", "1"],
        "mask": ["1" * 120, "0" * 120, "01" * 60],
        "whole": ["1", "-20", ""],
        "long": ["12345678901234567890", "1", "2"],
        "real": ["0.10", "1e-3", "2"],
        "mixed": ["1", "NA", "2"],
        "blank": ["", "", ""],
    }
    rows = zip(["H1A", "P2G", "E3A"], *columns.values(), strict=True)
    content = "\n".join(map(",".join, [("mutant", *columns), *rows]))
    answer = score("--variants", write("v.csv", content + "\n"), out=tmp_path / "s.parquet")
    assert answer.status == 0, answer.err
    read = pl.read_parquet(tmp_path / "s.parquet").select(*columns).to_dict(as_series=False)
    expected = columns | {"whole": [1, -20, None], "real": [0.1, 0.001, 2.0], "blank": [None] * 3}
    assert read == expected


def test_scores_say_which_column_they_are_of_when_they_were_made_and_what_each_model_gave(
    write, score, tmp_path
):
    path = write("v.csv", "score_change,y\nH1A,1\nH1A:P2G,2\n,3\n")
    answer = score("--variants", path, "--mutant-column", "score_change")
    assert answer.status == 0, answer.err
    scores = pl.read_csv(tmp_path / "scores.csv")
    names = ["input_score_change", "y", "score", "score_tiny", "num_masked_contexts", "note"]
    assert scores.columns == names
    assert scores["score"].equals(scores["score_tiny"])
    assert scores["num_masked_contexts"].to_list() == [1, 2, 0]
    facts = json.loads((tmp_path / "scores.csv.meta.json").read_text())
    assert facts["mutant_column"] == "input_score_change"
    assert facts["date"] > "2020"


@pytest.mark.parametrize(
    ("plan", "own"),
    [("wildtype_marginal", 0), ("masked_marginal", 1), ("protlm.scoring.marginals:MaskedMarginal", 1)],
)
def test_the_contexts_are_counted_once_and_said_before_they_run(monkeypatch, score, tmp_path, plan, own):
    planned = []
    real = score_run.plan_contexts

    def counted(*given, **options):
        planned.append(1)
        return real(*given, **options)

    monkeypatch.setattr(score_run, "plan_contexts", counted)
    answer = score("--all-single", "--plan", plan, wild_type="MK")
    assert answer.status == 0, answer.err
    assert len(planned) == 1
    assert answer.err.count(" contexts") == 1
    assert f"tiny: {plan}, {2 * own} masked contexts ({2 if own else 1} in all)" in answer.err
    assert set(pl.read_csv(tmp_path / "scores.csv")["num_masked_contexts"]) == {own}


def test_the_device_gives_the_token_budget_where_none_is_asked_for(monkeypatch, write, score, tiny, tmp_path):
    budgets = []

    def noting(real):
        def run(*given, max_tokens, **options):
            budgets.append(max_tokens)
            return real(*given, max_tokens=max_tokens, **options)

        return run

    monkeypatch.setattr(LanguageModel, "token_budget", 17)
    monkeypatch.setattr(score_run, "run_contexts", noting(score_run.run_contexts))
    monkeypatch.setattr(embed_recipe, "embed_records", noting(embed_recipe.embed_records))
    path = write("x.fasta", ">a\nMKT\n")
    for arguments in ([], ["--max-tokens", "99"]):
        assert score("--all-single", "--force", *arguments, wild_type="MK").status == 0
        out = ("--out", tmp_path / "x.parquet", "--force")
        assert protlm("embed", "--model", tiny, "--input", path, *out, *arguments).status == 0
    score_recipe.score(str(tiny), "MK")
    embed_recipe.embed(str(tiny), path)
    assert budgets == [17, 17, 99, 99, 17, 17]


def test_a_plan_that_is_not_there_is_refused_before_any_work(score, tmp_path):
    answer = score("--all-single", "--plan", "masked_marginl", model=tmp_path / "absent")
    refused(answer, "score", says="unknown plan 'masked_marginl'", hint="did you mean 'masked_marginal'")


def test_the_offset_is_searched_for_once_a_table(monkeypatch, write, score):
    calls = []
    real = variant_types.fitting_offsets
    monkeypatch.setattr(variant_types, "fitting_offsets", lambda *given: calls.append(1) or real(*given))
    path = write("v.csv", "mutant\nH1A\n" + "".join(f"W{site}A\n" for site in range(1, 15)))
    assert score("--variants", path, "--invalid", "drop").status == 0
    assert not calls
    refused(score("--variants", path, "--force"), "score", says="14 of 15 rows are wrong", hint="--offset")
    assert len(calls) == 1


def test_nulls_in_parquet_are_the_wild_type_and_columns_of_our_names_move_aside(score, tmp_path):
    table = pa.table({"mutant": ["H1A", None, ""], "score": [1.0, None, 2.0], "input_score": [1, 2, 3]})
    pq.write_table(table, tmp_path / "v.parquet")
    answer = score("--variants", tmp_path / "v.parquet", out=tmp_path / "s.parquet")
    assert answer.status == 0, answer.err
    assert "input column 'score' is written as 'input_input_score'" in answer.err
    scores = pl.read_parquet(tmp_path / "s.parquet")
    assert scores.columns[:3] == ["mutant", "input_input_score", "input_score"]
    assert scores["score"].to_list()[1:] == [0.0, 0.0]


WILD_TYPES = [
    ("wt.fast", "no such file: wt.fast", "check the path"),
    ("data/wt", "no such file: data/wt", "check the path"),
    ("wt_fasta", "'wt_fasta' is no file, and as a sequence: '_' at position 3", "check the path"),
    ("MK1T", "is no file, and as a sequence: '1' at position 3", "check the path"),
    ("MK-T", "gap '-' at position 3", "--gaps remove"),
    ("", "the wild type is empty", "FASTA"),
]


@pytest.mark.parametrize(("wild_type", "says", "hint"), WILD_TYPES)
def test_a_wild_type_that_is_neither_a_file_nor_a_sequence(score, wild_type, says, hint):
    refused(score("--all-single", wild_type=wild_type), "score", says=says, hint=hint)


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        (">a\nMKT\n>b\nMKV\n", "has several records ('a', 'b' …)", "in a file of its own"),
        (">a\nMK*T\n", "stop '*' at position 3", "correct the wild type"),
        (">a\nMK-T\n", "gap '-' at position 3", "--gaps remove"),
        ("", "no FASTA records", "empty"),
    ],
)
def test_a_bad_file_for_the_wild_type(write, score, content, says, hint):
    answer = score("--all-single", wild_type=write("wt.fasta", content))
    refused(answer, "score", says=says, hint=hint)


def test_gaps_in_a_wild_type_are_removed_where_that_is_asked_for(write, score, tmp_path):
    for wild_type in ("MK-T", write("wt.fasta", ">a\nMK-T\n")):
        assert score("--all-single", "--gaps", "remove", "--force", wild_type=wild_type).status == 0
        assert len(pl.read_csv(tmp_path / "scores.csv")) == 3 * 19


def test_a_wild_type_longer_than_a_file_name_may_be_is_a_sequence(write, score):
    sequence = "MKTAYIAKQR" * 30
    path = write("v.csv", "mutant\nM1A\n")
    answer = score("--variants", path, wild_type=sequence)
    assert answer.status == 0, answer.err
    assert "300 residues" in answer.err


def test_a_wild_type_over_the_limit_is_named(write, score, limited):
    answer = score("--all-single", wild_type=write("wt.fasta", f">long\n{'M' * 70}\n"), model=limited)
    refused(answer, "score", says="'long' has 70 residues and needs 72 tokens", hint="esm2-650m")


def test_a_place_for_scores_is_checked_before_any_work(write, score, tmp_path):
    path = write("x.txt", "")
    absent = tmp_path / "no_model"  # never looked for
    cases = [
        (tmp_path / "x.xlsx", "must end in .csv or .tsv or .parquet", "rename"),
        (path, "must end in", "rename"),
        (path / "x.csv", "cannot write", "another --out"),
        (tmp_path, "is a folder", "name a file"),
    ]
    for out, says, hint in cases:
        refused(score("--all-single", model=absent, out=out), "score", says=says, hint=hint)
    assert score("--all-single", wild_type="MK", out=tmp_path / "new" / "x.csv").status == 0
    answer = score("--all-single", wild_type="MK", model=absent, out=tmp_path / "new" / "x.csv")
    refused(answer, "score", says="exists", hint="--force")
    assert score("--all-single", "--force", wild_type="MK", out=tmp_path / "new" / "x.csv").status == 0


def test_score_wants_exactly_one_of_variants_and_all_single(score, tmp_path):
    refused(score(), "score", says="say what to score", hint="--all-single")
    refused(score("--all-single", "--variants", tmp_path / "v.csv"), "score", says="say what to score")


# --- embed ------------------------------------------------------------------------------------------


def test_records_over_the_limit_are_an_error_before_any_work_or_dropped_and_counted(write, tmp_path, limited):
    path = write("x.fasta", f">a\nMKT\n>long\n{'M' * 63}\n>fits\n{'M' * 62}\n")
    arguments = ["--model", limited, "--input", path, "--out", tmp_path / "x.parquet"]
    answer = protlm("embed", *arguments)
    refused(answer, "embed", says="record 'long': 63 residues need 65 tokens", hint="--long-records drop")
    assert not (tmp_path / "x.parquet.parts").exists()
    answer = protlm("embed", *arguments, "--long-records", "drop")
    assert answer.status == 0, answer.err
    assert "1 dropped: over the model's limit of 64 tokens" in answer.err
    assert pl.read_parquet(tmp_path / "x.parquet")["id"].to_list() == ["a", "fits"]


def test_embed_refuses_a_place_that_cannot_be_written_and_an_input_of_which_nothing_is_left(
    write, tmp_path, tiny
):
    path = write("x.fasta", ">a\nMK1\n")
    arguments = ["--model", tiny, "--input", path, "--out"]
    refused(protlm("embed", *arguments, tmp_path / "x.csv"), "embed", says="must end in .parquet")
    refused(
        protlm("embed", *arguments, path / "x.parquet"), "embed", says="cannot write", hint="another --out"
    )
    answer = protlm("embed", *arguments, tmp_path / "x.parquet", "--invalid", "drop")
    refused(answer, "embed", says="no record is left; 1 dropped", hint="--invalid error")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.fasta"]


@pytest.fixture
def chunked(monkeypatch, write, tmp_path, tiny):
    """Embed ten records in chunks of two; `stop_after` raises Ctrl-C in the middle."""
    monkeypatch.setattr(embed_recipe, "_CHUNK_RECORDS", 2)
    path = write("x.fasta", "".join(f">r{n}\nMKTAY{'ACDEFGHIKL'[n] * (n + 1)}\n" for n in range(10)))
    hidden = LanguageModel.hidden

    def run(out, *arguments, stop_after=None, source=path):
        calls = []

        def counted(self, batch):
            if stop_after is not None and len(calls) == stop_after:
                raise KeyboardInterrupt
            calls.append(batch)
            return hidden(self, batch)

        monkeypatch.setattr(LanguageModel, "hidden", counted)
        answer = protlm("embed", "--model", tiny, "--input", source, "--out", tmp_path / out, *arguments)
        return answer, len(calls)

    return run


@pytest.mark.parametrize("arguments", [[], ["--per-residue"]])
def test_an_interrupted_embed_resumes_to_the_very_file_of_an_uninterrupted_one(
    chunked, monkeypatch, tmp_path, arguments
):
    monkeypatch.setattr(embed_recipe, "CHUNK_BYTES", 4 * 16 * 20)  # 20 residues
    answer, whole = chunked("whole.parquet", *arguments)
    assert answer.status == 0
    answer, _ = chunked("x.parquet", *arguments, stop_after=3)
    assert answer.status == 130
    assert "the same command resumes" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "x.parquet").exists()
    answer, calls = chunked("x.parquet", *arguments)
    assert answer.status == 0
    assert "resuming after" in answer.err
    assert 0 < calls < whole
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "x.parquet.parts").exists()


def test_parts_of_another_input_or_setting_are_refused(chunked, write, tmp_path):
    assert chunked("x.parquet", stop_after=3)[0].status == 130
    parts = tmp_path / "x.parquet.parts"
    before = sorted(each.name for each in parts.iterdir())
    other = write("x2.fasta", "".join(f">r{n}\nMKTAY\n" for n in range(10)))
    for answer, _ in (chunked("x.parquet", "--per-residue"), chunked("x.parquet", source=other)):
        refused(answer, "embed", says="holds chunks of another input, model or setting", hint="another --out")
    assert sorted(each.name for each in parts.iterdir()) == before
    answer, _ = chunked("x.parquet", "--per-residue", "--force")
    assert answer.status == 0
    assert "index" in pl.read_parquet(tmp_path / "x.parquet").columns


def test_parts_know_a_model_that_differs_far_inside_a_tensor_or_in_its_layout(tiny, monkeypatch):
    model = load_model(tiny, device="cpu")
    facts = [embed_recipe._facts(model, Path(__file__), per_residue=False)]
    big = torch.zeros(20_000)
    monkeypatch.setattr(model.module, "state_dict", lambda: {"x": big})
    facts.append(embed_recipe._facts(model, Path(__file__), per_residue=False))
    big[-1] = 1
    facts.append(embed_recipe._facts(model, Path(__file__), per_residue=False))
    model.layout = replace(model.layout, position_gap=7)
    facts.append(embed_recipe._facts(model, Path(__file__), per_residue=False))
    assert len({each["weights"] for each in facts}) == 4


def test_chunks_made_under_another_policy_are_refused(chunked, write):
    source = write("g.fasta", "".join(f">r{n}\nMK{'-' * (n == 1)}TAY{'A' * n}\n" for n in range(10)))
    assert chunked("x.parquet", "--invalid", "drop", stop_after=3, source=source)[0].status == 130
    answer, _ = chunked("x.parquet", "--gaps", "remove", source=source)
    refused(answer, "embed", says="holds chunks of another input, model or setting")
    answer, _ = chunked("x.parquet", "--invalid", "drop", source=source)
    assert answer.status == 0


def test_a_mended_input_starts_afresh_where_nothing_was_finished(chunked, write, tmp_path):
    assert chunked("x.parquet", stop_after=0)[0].status == 130
    mended = write("x.fasta", ">a\nMKT\n")
    assert chunked("x.parquet", source=mended)[0].status == 0
    assert pl.read_parquet(tmp_path / "x.parquet")["id"].to_list() == ["a"]


# --- models -----------------------------------------------------------------------------------------


def test_a_model_that_is_not_there_proposes_one(score, tmp_path):
    answer = score("--all-single", wild_type="MK", model="esm2-8b")
    refused(answer, "score", says="there is no model 'esm2-8b'", hint="did you mean 'esm2-8m'")
    (tmp_path / "empty").mkdir()
    answer = score("--all-single", wild_type="MK", model=tmp_path / "empty")
    refused(answer, "score", says="has no config.json", hint="expected a Run")


def test_one_model_twice_is_refused_before_it_runs(score, tiny):
    answer = score("--all-single", "--model", tiny, wild_type="MK")
    refused(answer, "score", says="two models are called 'tiny'", hint="rename")
    assert "masked contexts" not in answer.err


# --- real files -------------------------------------------------------------------------------------

REAL = [
    ("antibody_pretrain/oas_heavy_regions.tsv.gz", [], 10_122, {"H": 10_122}),
    (
        "antibody_pairs/tenx_pbmc_bcr_pairs.tsv.gz",
        [],
        482,
        {"H": 482, "K": 301, "L": 181},
    ),
    ("antibody_pairs/imgt_mab_db_variable.fa.gz", [], 1_148, {"H": 576, "K": 502, "L": 70}),
    (
        "antibody_pairs/therasabdab_2025-02.tsv.gz",
        [],
        1_133,
        {"H": 1_131, "K": 975, "L": 131},
    ),
    ("general_sequences/nr_10k.fasta.gz", [], 10_000, {}),
    ("general_sequences/prodigal_938293.fasta.gz", [], 2_100, {}),
    ("general_sequences/mmseqs2_query.fasta.gz", [], 500, {}),
]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "arguments", "num_records", "numbered"), REAL, ids=[each[0] for each in REAL]
)
def test_real_files_are_prepared_whole(shared_data, tmp_path, name, arguments, num_records, numbered):
    answer = protlm("prepare", shared_data / name, "--out", tmp_path / "c", *arguments)
    assert answer.status == 0, answer.err
    manifest = Corpus(tmp_path / "c").manifest
    assert manifest["num_records"] == num_records
    assert manifest["dropped"] == {}
    assert manifest["numbering"]["numbered"] == numbered
    if "tenx" in name:
        assert "with v_gene_heavy, d_gene_heavy, j_gene_heavy" in answer.err
        assert Corpus(tmp_path / "c").record(0).chains[0].v_call.startswith("IGHV")


@pytest.mark.real_data
def test_real_files_with_bad_input_name_it(shared_data, tmp_path):
    source = shared_data / "antibody_pretrain" / "srr_hkl_10k.tsv.gz"
    answer = protlm("prepare", source, "--out", tmp_path / "c")
    refused(answer, "prepare", says="row 939, record 'seq_94645': the id", hint="--duplicate-ids rename")
    source = shared_data / "antibody_specificity" / "cov_abdab_2022-03-04.tsv.gz"
    answer = protlm("prepare", source, "--out", tmp_path / "c", "--regions", "columns")
    assert answer.status == 0, answer.err
    assert "dropped: column 'CDRH3' does not fit the sequence" in answer.err


@pytest.mark.real_data
def test_a_real_assay_is_scored_and_a_shifted_one_proposes_the_offset(shared_data, score, write, tmp_path):
    assay = shared_data / "dms" / "BLAT_ECOLX_Ranganathan2015.tsv.gz"
    reference = pl.read_csv(shared_data / "dms" / "dms_reference.tsv", separator="\t")
    row = reference.filter(pl.col("file").str.contains("BLAT_ECOLX_Ranganathan2015"))
    wild_type = write("wt.fasta", f">BLAT\n{row['wt_sequence'][0]}\n")
    plan = ["--plan", "wildtype_marginal"]
    answer = score("--variants", assay, *plan, wild_type=wild_type, out=tmp_path / "s.tsv")
    assert answer.status == 0, answer.err
    scores = pl.read_csv(tmp_path / "s.tsv", separator="\t", infer_schema=False)
    given = pl.read_csv(assay, separator="\t", infer_schema=False)
    kept = scores.select(f"input_{name}" if name == "score" else name for name in given.columns)
    assert kept.rows() == given.rows()
    assert scores["score"].null_count() == 0
    mature = write("mature.fasta", f">BLAT\n{row['wt_sequence'][0][23:]}\n")
    answer = score("--variants", assay, *plan, wild_type=mature)
    refused(answer, "score", says="4,806 of 4,996 rows are wrong", hint="--offset 23 ")


# --- the page docs/input-policy.md ------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "input-policy.md"
HEAVY_ONLY = f"id,heavy,light\na,{VH},\n"
# first cell of the row: file, its content, a text of the second cell, options that mend it
ROWS = {
    "lower case": ("x.fasta", ">a\nmkt\n", "lower case, made upper case", None),
    "white space inside a sequence": ("x.fasta", ">a\nM KT\n", "white space, removed", None),
    "`*` at the end": ("x.fasta", ">a\nMKT*\n", "stop at the end, removed", None),
    "`*` inside": (
        "x.fasta",
        ">a\nMK*T\n>b\nM\n",
        "stop '*' at position 3, before the end",
        "--invalid drop",
    ),
    "`-` or `.`": ("x.fasta", ">a\nMK-T\n", "gap '-' at position 3", "--gaps remove"),
    "`B` `Z` `U` `O` `X` `J`": ("x.fasta", ">a\nMXJ\n", "X, kept", None),
    "an id that was there before": (
        *("x.fasta", ">a\nM\n>a\nK\n"),
        *("the id 'a' was used before", "--duplicate-ids rename"),
    ),
    "not UTF-8, such as Latin-1": ("x.fasta", b">\xe9\nM\n", "not UTF-8 text", None),
    "two columns of one name": ("x.csv", "sequence,y,y\nM,1,2\n", "column names appear twice", None),
    "a row with more or fewer values than columns": (
        *("x.csv", "sequence,y\nM\n"),
        *("1 values for 2 columns", None),
    ),
    "`nongermline_mask_aa` without `gene_segment_mask_aa`": (
        *("x.csv", "sequence,nongermline_mask_aa\nMK,01\n"),
        *("left out, as no gene segments tell which residues are N", None),
    ),
    "a pair with one chain missing": (
        *("x.csv", HEAVY_ONLY, "no light chain, kept with the other one alone"),
        None,
    ),
    "which kind of table it is": (
        *("x.tsv", f"Therapeutic\tHC\tLC\na\t{VH}\t{VL}\n", "layout: "),
        None,
    ),
    "nucleotides where residues are wanted (an AIRR table with `sequence` and no `sequence_aa`)": (
        *("x.tsv", "sequence_id\tsequence\trev_comp\tv_call\na\tGAG\tF\t\n", "without residues"),
        "--sequence sequence",
    ),
    "an AIRR row without `sequence_aa`": (
        *("x.tsv", f"v_call\tlocus\tsequence_aa\tvdj_aa\n\tIGH\t\t{VH}\n", "read instead"),
        None,
    ),
    "a row whose `productive` says no": (
        *("x.csv", f"v_call,sequence_aa,productive\n,{VH},T\n,{VH},F\n", "not productive"),
        "--unproductive keep",
    ),
    "a locus that is none, such as `IGX`": (
        *("x.csv", f"v_call,sequence_aa,locus\n,{VH},IGX\n", "which is no locus such as IGH"),
        None,
    ),
    "a second variable domain pair in a row (Thera-SAbDab)": (
        "x.csv",
        f"Therapeutic,HC,LC,HeavySequence(ifbispec),LightSequence(ifbispec)\na,{VH},{VL},{VH},{VL}\n",
        *("second variable domain pair", "--bispecific both"),
    ),
    "a first line of JSON (OAS)": (
        *("x.csv", f'{{"Run": \nsequence_alignment_aa,Redundancy\n{VH},1\n', "is no JSON", None),
    ),
    "regions that are no part of the sequence, have another length, other labels or another order, "
    "or contradict each other": (
        *("x.csv", f"sequence,cdr3\n{VH},WWWWW\n", "left out, to be numbered instead"),
        None,
    ),
    "`germline_alignment_aa` that does not align with the sequence letter by letter, or agrees in fewer "
    "than half of its letters": (
        *("x.csv", f"sequence,germline_alignment_aa\n{VH},EVQ\n", "does not align with the sequence"),
        None,
    ),
    "one column with both chains and marks between them (`EVQ…<cls><cls>DIQ…`)": (
        *("x.csv", f"text,cdr_mask\n{VH}<cls>{VL},01\n{VH}<cls>{VL},\n", "marks between chains"),
        "--invalid drop",
    ),
    "calls, regions and other columns of one chain beside such a column": (
        *("x.csv", f"text,cdr_mask,v_call\n{VH}<cls>{VL},,IGHV3-66*01\n", "not read: "),
        None,
    ),
    "`nongermline_mask_aa` with `germline_alignment_aa`, without `gene_segment_mask_aa`": (
        "x.csv",
        "sequence,germline_alignment_aa,nongermline_mask_aa\nMK,MK,01\n",
        *("tells which residues are mutated", None),
    ),
    "names that look like that, without the option": (
        *("x.fasta", f">a_H\n{VH}\n>a_L\n{VL}\n", "names look like those of pairs"),
        "--paired-ids",
    ),
    "a chain that is not what its column says": (
        *("x.csv", f"heavy,light\n{VH},{VH}\n", "not as expected"),
        None,
    ),
    "regions of columns that the numbering contradicts": (
        *("x.csv", f"sequence,cdr3\n{VH},RWGGDGFYAMDY\n", "the numbering differs"),
        "--regions immunum",
    ),
    "two variable domains in one chain, as in an scFv": (
        *("x.fasta", f">a\n{VH}GGGGSGGGGSGGGGS{VL}\n", "more than one variable domain"),
        "--two-domains split",
    ),
    "no variable domain among the first 200 records": ("x.fasta", ">a\nMKT\n", "numbering left out", None),
    "a variable domain in fewer than 2 % of the chains of the first 200 records": (
        *("x.fasta", f">a\n{VH}\n" + "".join(f">p{n}\nMKT\n" for n in range(60)), "numbering left out: only"),
        "--receptor any",
    ),
    "heavy and light columns swapped": ("x.csv", f"heavy,light\n{VL},{VH}\n", "the wrong way round", None),
}


def page_rows() -> dict[str, list[str]]:
    lines = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_page_is_what_happens(write, tmp_path, row):
    name, content, text, option = ROWS[row]
    what, remedy = page_rows()[row]
    assert f"`{text}`" in what
    path, out = write(name, content), tmp_path / "c"
    answer = protlm("prepare", path, "--out", out, "--invalid", "error")
    assert text in answer.err
    assert answer.status == (1 if "invalid" in what or "error" in what else 0)
    if option is not None:
        assert option in remedy
        assert protlm("prepare", path, "--out", out, "--force", *option.split()).status == 0


def test_each_row_of_the_page_has_three_cells_and_each_option_on_it_exists():
    assert all(len(cells) == 2 for cells in page_rows().values())
    known = set().union(*(options_of(verb) for verb in ("prepare", "embed", "score", "pretrain")))
    assert set(re.findall(r"`(--[a-z-]+)", PAGE.read_text())) <= known
