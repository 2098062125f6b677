import json
import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest
from handmade import provenance, scan_table, write_pretrain, write_scan

from protlm.errors import DataError, RunError
from protlm.report.sources import read_sources, read_table
from protlm.runs import Run


def write_parquet_scan(path, facts):
    arrow = scan_table().to_arrow()
    metadata = {b"protlm": json.dumps(facts).encode()} if facts is not None else {}
    pq.write_table(arrow.replace_schema_metadata(metadata), path)
    return path


def test_runs_and_score_tables_are_told_apart(sources):
    read = read_sources(sources)
    assert [source.label for source in read.runs] == ["cdr3", "uniform", "evaluation"]
    assert [source.label for source in read.scores] == ["scan"]
    assert read.scores[0].facts["plan"] == "masked_marginal"


@pytest.mark.parametrize("name", ["scan.csv", "scan.tsv"])
def test_text_tables_come_with_their_provenance(tmp_path, name):
    (score,) = read_sources([write_scan(tmp_path / name)]).scores
    assert score.frame["mutant"].to_list() == scan_table()["mutant"].to_list()
    assert score.facts == provenance()


def test_a_text_table_with_a_mask_column_is_read_as_the_text_it_is(tmp_path):
    path = write_scan(tmp_path / "scan.csv")
    frame = pl.read_csv(path, infer_schema=False).with_columns(
        mask=pl.lit("0" + "1" * 119), code=pl.lit("007")
    )
    frame.write_csv(path)
    (score,) = read_sources([path]).scores
    assert score.frame.equals(frame)


def test_the_column_of_the_variants_comes_from_the_provenance(tmp_path):
    (score,) = read_sources([write_scan(tmp_path / "old.csv")]).scores
    assert score.mutant_column is None
    facts = provenance() | {"mutant_column": "mutant"}
    (score,) = read_sources([write_scan(tmp_path / "new.csv", facts)]).scores
    assert score.mutant_column == "mutant"
    path = write_scan(tmp_path / "cut.csv", provenance() | {"mutant_column": "change"})
    with pytest.raises(DataError, match="no column 'change'"):
        read_sources([path])


def test_parquet_holds_its_provenance(tmp_path):
    (score,) = read_sources([write_parquet_scan(tmp_path / "scan.parquet", provenance())]).scores
    assert score.facts == provenance()
    assert score.frame.equals(scan_table())


def test_a_path_given_twice_counts_once(sources):
    assert len(read_sources([sources[0], sources[0] / ".." / "cdr3"]).runs) == 1


def test_like_named_folders_are_told_apart_by_the_folder_above(tmp_path):
    paths = [write_pretrain(tmp_path / parent / "model") for parent in ("one", "two")]
    assert read_sources(paths).labels == ["one/model", "two/model"]


def test_nothing_is_refused():
    with pytest.raises(RunError, match="nothing to report on"):
        read_sources([])


def test_wrong_arguments_are_refused_by_name(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "plain.csv").write_text("mutant,score\nA1G,0\n")
    (tmp_path / "broken.parquet").write_text("not parquet")
    cases = {
        "missing": "no such file or folder",
        "corpus": "is not a Run folder",
        "notes.txt": "neither a Run folder nor a score table",
        "plain.csv": "no plain.csv.meta.json beside it",
        "broken.parquet": "cannot read",
    }
    for name, message in cases.items():
        with pytest.raises((DataError, RunError), match=message) as caught:
            read_sources([tmp_path / name])
        assert name in str(caught.value)
        assert caught.value.hint


@pytest.mark.parametrize("facts", [None, {"verb": "embed"}])
def test_parquet_of_another_origin_is_refused(tmp_path, facts):
    path = write_parquet_scan(tmp_path / "other.parquet", facts)
    with pytest.raises(DataError, match=r"other\.parquet was not written by protlm score"):
        read_sources([path])


def test_a_table_is_none_where_missing_or_empty(sources):
    run = Run(sources[0])
    assert read_table(run, "regions_summary", ["model"]) is None
    pl.DataFrame().write_parquet(run.table_path("comparisons"))
    assert read_table(run, "comparisons", ["first"]) is None


def test_a_table_without_a_column_is_refused(sources):
    run = Run(sources[0])
    with pytest.raises(RunError, match=r"masking_rates\.parquet has no column share, unit"):
        read_table(run, "masking_rates", ["region", "share", "unit"])


def test_a_broken_table_is_refused(sources):
    run = Run(sources[0])
    run.tables()["masking_rates"].write_bytes(b"PAR1 nothing")
    with pytest.raises(RunError, match=r"cannot read .*masking_rates\.parquet"):
        read_table(run, "masking_rates", ["region"])


def test_reading_leaves_the_run_as_it_was(sources):
    shutil.rmtree(sources[0] / "tables")
    assert read_table(read_sources(sources).runs[0].run, "masking_rates", ["region"]) is None
    assert not (sources[0] / "tables").exists()
