"""The verb split: tables, manifests, order, bad input."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, DataError
from protlm.recipes.split import split_file


def quiet(_: str) -> None:
    pass


@pytest.fixture
def frame():
    table = repertoire_frame(simulate_repertoire(40, seed=5))
    return table.with_columns(donor=pl.Series([f"d{number % 8}" for number in range(40)]))


@pytest.fixture
def source(tmp_path, frame):
    path = tmp_path / "pairs.tsv"
    frame.write_csv(path, separator="\t")
    return path


def test_a_donor_is_on_one_side_and_every_record_has_a_fold(tmp_path, frame, source):
    table = split_file(source, tmp_path / "folds.tsv", by=["donor"], folds=4, say=quiet)
    joined = table.join(frame, left_on="id", right_on="sequence_id")
    assert len(joined) == 40
    assert joined.group_by("donor").agg(pl.col("fold").n_unique())["fold"].to_list() == [1] * 8
    assert set(joined.group_by("fold").len()["len"]) == {10}
    assert pl.read_csv(tmp_path / "folds.tsv", separator="\t", infer_schema=False).equals(table)
    manifest = json.loads((tmp_path / "folds.tsv.meta.json").read_text())
    assert manifest["by"] == ["donor"]
    assert manifest["report"]["shared_values"]["donor"] == {"shared": 0, "distinct": 8}


def test_keys_are_joined_and_the_order_of_the_rows_does_not_matter(tmp_path, frame, source):
    first = split_file(source, tmp_path / "a.parquet", by=["clonotype", "chain", "donor"], folds=3, say=quiet)
    turned = tmp_path / "turned.tsv"
    frame.reverse().write_csv(turned, separator="\t")
    again = split_file(turned, tmp_path / "b.parquet", by=["clonotype", "chain", "donor"], folds=3, say=quiet)
    assert first.sort("id").equals(again.sort("id"))
    facts = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"protlm"])
    assert facts["report"]["shared_groups"] == facts["report"]["shared_chains"] == 0


def test_a_holdout_has_its_share_and_strata_are_alike(tmp_path, source):
    table = split_file(source, tmp_path / "a.csv", at_random=True, holdout=0.25, stratify="donor", say=quiet)
    assert dict(table.group_by("fold").len().iter_rows()) == {"train": 30, "holdout": 10}
    by_donor = table.filter(pl.col("fold") == "holdout").group_by("stratum").len()["len"]
    assert set(by_donor) <= {1, 2}
    assert len(by_donor) == 8


def test_a_small_holdout_has_a_group_all_the_same(tmp_path, source):
    said = []
    table = split_file(source, tmp_path / "a.tsv", by=["donor"], holdout=0.05, say=said.append)
    assert dict(table.group_by("fold").len().iter_rows()) == {"train": 35, "holdout": 5}
    assert "records by fold: holdout 5, train 35" in said


def test_a_corpus_is_split_too(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", number_records(simulate_repertoire(20, seed=1)))
    table = split_file(corpus.path, tmp_path / "a.parquet", by=["group"], folds=2, say=quiet)
    assert table["id"].to_list() == corpus.column("id")
    with pytest.raises(DataError, match="no label 'donor'"):
        split_file(corpus.path, tmp_path / "b.parquet", by=["donor"], folds=2, say=quiet)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (["--heavy", "vh"], "--heavy"),
        (["--light", "vl"], "--light"),
        (["--sequence", "s"], "--sequence"),
        (["--layout", "airr"], "--layout"),
        (["--paired-ids"], "--paired-ids"),
        (["--invalid", "drop"], "--invalid"),
        (["--gaps", "remove"], "--gaps"),
        (["--duplicate-ids", "rename"], "--duplicate-ids"),
        (["--receptor", "none"], "--receptor"),
    ],
)
def test_what_says_how_to_read_a_file_is_refused_for_a_corpus(tmp_path, given, name):
    corpus = write_corpus(tmp_path / "corpus", number_records(simulate_repertoire(4, seed=1)))
    out = tmp_path / "a.tsv"
    command = ["split", str(corpus.path), "--random", "--folds", "2", "--out", str(out)]
    result = CliRunner().invoke(app, [*command, *given])
    assert isinstance(result.exception, ConfigError)
    assert f"is a corpus, and {name} would say how to read a file" in str(result.exception)
    assert not out.exists()
    assert CliRunner().invoke(app, command).exit_code == 0


def test_a_fasta_of_pairs_is_split_by_antibody(tmp_path):
    source = tmp_path / "x.fasta"
    source.write_text(">a_H\nMKT\n>a_L\nGG\n>b_H\nMKV\n>b_L\nGW\n")
    out = tmp_path / "a.tsv"
    command = ["split", str(source), "--random", "--folds", "2", "--out", str(out)]
    assert CliRunner().invoke(app, [*command, "--paired-ids"]).exit_code == 0
    assert sorted(pl.read_csv(out, separator="\t")["id"]) == ["a", "b"]


def test_the_layout_and_the_receptor_are_chosen_on_the_command_line(tmp_path, source):
    out = tmp_path / "a.tsv"
    command = ["split", str(source), "--random", "--folds", "2", "--force", "--out", str(out)]
    numbered = CliRunner().invoke(app, command)
    assert "numbered by IMGT" in numbered.output
    assert "numbered by IMGT" not in CliRunner().invoke(app, [*command, "--receptor", "none"]).output
    refused = CliRunner().invoke(app, [*command, "--layout", "cov-abdab"])
    assert "a table of layout 'cov-abdab'" in str(refused.exception)


def test_what_contradicts_itself_is_refused(tmp_path, source):
    out = tmp_path / "a.tsv"
    for settings, message in (
        ({"folds": 3}, "say what to split by"),
        ({"folds": 3, "by": ["chain"], "at_random": True}, "either by keys or at random"),
        ({"by": ["chain"]}, "say how to split"),
        ({"by": ["chain"], "folds": 3, "holdout": 0.1}, "say how to split"),
        ({"by": ["chain"], "folds": 1}, "too few"),
        ({"by": ["chain"], "holdout": 1.0}, "not a share"),
    ):
        with pytest.raises(ConfigError, match=message):
            split_file(source, out, **settings, say=quiet)
    with pytest.raises(DataError, match="no column 'doner'"):
        split_file(source, out, by=["doner"], folds=2, say=quiet)
    with pytest.raises(DataError, match="8 groups cannot fill 9 folds"):
        split_file(source, out, by=["donor"], folds=9, say=quiet)
    assert not out.exists()


def test_the_command_line_prints_the_leakage_and_does_not_overwrite(tmp_path, source):
    command = ["split", str(source), "--by", "chain,donor", "--folds", "2", "--out", str(tmp_path / "a.tsv")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "leakage: 0 of" in result.output
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "exists" in str(again.exception)
