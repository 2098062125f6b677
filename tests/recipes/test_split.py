"""The verb split: tables, manifests, order, bad input."""

import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fixtures.builders import random_residues
from protlm.cli.main import app
from protlm.data.corpus import write_corpus
from protlm.data.numbering import number_records
from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, DataError, UserError
from protlm.recipes.split import split_file
from protlm.recipes.split_input import Clustering
from protlm.recipes.split_sides import SideSettings


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


@pytest.fixture
def pairs(tmp_path):
    """Pairs of 30 proteins, with a label, a date and two columns."""
    random = np.random.default_rng(8)
    proteins = [random_residues(random, 30) for _ in range(30)]
    ends = [random.choice(30, 2, replace=False) for _ in range(200)]
    rows = {
        "id": [f"x{number}" for number in range(200)],
        "heavy": [proteins[one] for one, _ in ends],
        "light": [proteins[other] for _, other in ends],
        "one": [f"a{one}" for one, _ in ends],
        "other": [f"b{other}" for _, other in ends],
        "label": [str(number % 2) for number in range(200)],
        "date": [f"20{number % 20:02}-03-01" if number else "" for number in range(200)],
    }
    path = tmp_path / "pairs.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


def test_pairs_of_unseen_proteins_are_split_and_classed(tmp_path, pairs):
    said = []
    command = {"holdout": 0.4, "receptor": "none", "stratify": "label", "say": said.append}
    table = split_file(
        pairs, tmp_path / "a.tsv", sides=SideSettings(pairs=("c2", "c3")), clusters=Clustering(0.9), **command
    )
    joined = table.join(pl.read_csv(pairs), on="id")
    train = joined.filter(pl.col("fold") == "train")
    seen = {*train["heavy"], *train["light"]}
    for row in joined.filter(pl.col("fold") == "holdout").iter_rows(named=True):
        assert row["class"] == f"c{3 - (row['heavy'] in seen) - (row['light'] in seen)}"
    assert any(line.startswith("test pairs by class: c2 ") for line in said)
    assert len(table) == 200
    strict = split_file(pairs, tmp_path / "b.tsv", sides=SideSettings(unseen=("one", "other")), **command)
    joined = strict.join(pl.read_csv(pairs), on="id").partition_by("fold", as_dict=True)
    for column in ("one", "other"):
        assert not {*joined["train",][column]} & {*joined["holdout",][column]}
    assert len(strict) < 200
    assert any(line.endswith("× left out: pairs of class c2, which was not asked for") for line in said)


def test_one_unseen_column_is_a_key_and_dates_part_the_records(tmp_path, pairs):
    unseen = split_file(
        pairs, tmp_path / "a.tsv", sides=SideSettings(unseen=("one",)), folds=3, receptor="none", say=quiet
    )
    joined = unseen.join(pl.read_csv(pairs), on="id")
    assert joined.group_by("one").agg(pl.col("fold").n_unique())["fold"].max() == 1
    command = ["split", str(pairs), "--receptor", "none", "--time", "date", "--out", str(tmp_path / "b.tsv")]
    result = CliRunner().invoke(app, [*command, "--after", "2014"])
    assert result.exit_code == 0, result.output
    assert "1 × left out: records without a date" in result.output
    late = pl.read_csv(tmp_path / "b.tsv", separator="\t").filter(pl.col("fold") == "holdout")
    assert len(late) == 50


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sides": SideSettings(pairs=("c3",)), "folds": 3}, "makes two sides, not 3 folds"),
        ({"sides": SideSettings(pairs=("c3",)), "by": ["chain"], "holdout": 0.2}, "are two ways to split"),
        ({"sides": SideSettings(time="date")}, "how much is held out"),
        ({"sides": SideSettings(time="date", pairs=("c1",)), "holdout": 0.2}, "does not go with --pairs"),
        ({"sides": SideSettings(after="2014"), "holdout": 0.2}, "--after needs the column"),
        (
            {"sides": SideSettings(time="date"), "clusters": Clustering(0.3), "holdout": 0.2},
            "does not use clusters",
        ),
        ({"clusters": Clustering(1.3), "folds": 2}, "cluster identity 1.3 is no share"),
        ({"sides": SideSettings(time="label"), "holdout": 0.2}, "'0' of record 1 is no date"),
        ({"clusters": Clustering(0.5, of="date"), "folds": 2}, "in column 'date' is no sequence"),
    ],
)
def test_bad_ways_to_split_are_refused(tmp_path, pairs, given, message):
    with pytest.raises(UserError, match=message):
        split_file(pairs, tmp_path / "a.tsv", receptor="none", **given, say=quiet)
    assert not (tmp_path / "a.tsv").exists()


def test_clusters_are_a_key_and_do_not_depend_on_the_order(tmp_path):
    """Ten founders, each with a copy that keeps nine tenths: the copy goes where its founder goes."""
    random = np.random.default_rng(2)
    founders = [random_residues(random, 80) for _ in range(10)]
    copies = ["A" * 4 + each[4:76] + "A" * 4 for each in founders]
    peptides = ["NLVPMVATV", "NLVPMVATA"]
    path, out = tmp_path / "x.fasta", tmp_path / "a.tsv"
    entries = [f">{number:02}\n{each}\n" for number, each in enumerate([*founders, *copies, *peptides])]
    tables = []
    for order in (entries, entries[::-1]):
        path.write_text("".join(order))
        said = []
        command = {"folds": 2, "force": True, "receptor": "none"}
        tables.append(split_file(path, out, clusters=Clustering(0.5), **command, say=said.append).sort("id"))
    assert tables[0].equals(tables[1])
    fold = tables[0]["fold"].to_list()
    assert fold[:10] == fold[10:20]
    assert fold[20] == fold[21]
    assert tables[0]["group"].n_unique() == 11
    assert any("2 of them have fewer than 20 residues" in line for line in said)


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
