"""The verb audit, against copies, groups and identities that are planted."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fixtures.builders import random_residues
from protlm.cli.main import app
from protlm.data.audit import leakage_report
from protlm.errors import ConfigError, DataError
from protlm.recipes.audit import audit
from protlm.types.record import Chain, Record

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def quiet(_: str) -> None:
    pass


def changed(residues, places):
    """Put the next letter at each place: never the same one."""
    text = list(residues)
    for place in places:
        text[place] = LETTERS[(LETTERS.index(text[place]) + 1) % 20]
    return "".join(text)


@pytest.fixture
def table(tmp_path):
    """Training: five proteins of 100. Test: a copy, one with 90 of 100 kept, one unlike all."""
    random = np.random.default_rng(3)
    train = [random_residues(random, 100) for _ in range(5)]
    test = [train[0], changed(train[1], range(5, 95, 9)), random_residues(random, 100)]
    path = tmp_path / "x.tsv"
    pl.DataFrame(
        {
            "id": [f"p{number}" for number in range(8)],
            "sequence": [*train, *test],
            "part": ["train"] * 5 + ["test"] * 3,
            "donor": ["a", "a", "b", "b", "c", "a", "d", "d"],
            "label": ["1", "0", "1", "0", "1", "1", "1", "0"],
        }
    ).write_csv(path, separator="\t")
    return path


def test_what_is_planted_is_found(table, tmp_path):
    out = tmp_path / "nearest.parquet"
    report = audit(table, split="part", by=["donor"], label="label", out=out, say=quiet)["test"]
    assert report.sizes == {"train": 5, "test": 3}
    assert report.copies == {"records": 1, "chains": 1, "distinct": 3}
    assert report.shared_values["donor"] == {"shared": 1, "distinct": 2, "records": 1}
    assert report.labels == {"train": {"0": 2, "1": 3}, "test": {"0": 1, "1": 2}}
    near = pl.read_parquet(out).sort("id")
    assert near["train_id"].to_list() == ["p0", "p1", None]
    # the ends may be left out of a local alignment, no more than the five residues before a change
    assert near["identity"].to_list() == pytest.approx([1.0, 0.9, 0.0], abs=0.01)
    assert near["coverage"][1] > 0.9
    facts = report.identities["chain1"]
    assert (facts["from_1"], facts["from_0.5"], facts["none"]) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        1,
    )


def test_two_files_are_compared_and_json_is_printed(table, tmp_path):
    rows = pl.read_csv(table, separator="\t")
    for name in ("train", "test"):
        rows.filter(pl.col("part") == name).write_csv(tmp_path / f"{name}.csv")
    command = ["audit", str(tmp_path / "train.csv"), str(tmp_path / "test.csv"), "--no-identity", "--json"]
    result = CliRunner().invoke(app, [*command, "--by", "donor"])
    facts = json.loads(result.stdout)["test"]
    assert facts["copies"]["records"] == 1
    assert facts["shared_values"]["donor"]["shared"] == 1
    assert facts["identities"] == {}


def test_parts_without_a_training_part_are_each_compared_with_the_rest(table):
    reports = audit(table, split="donor", identity=False, say=quiet)
    assert {name: report.sizes["test"] for name, report in reports.items()} == {
        "a": 3,
        "b": 2,
        "c": 1,
        "d": 2,
    }
    assert all(report.sizes["train"] + report.sizes["test"] == 8 for report in reports.values())


def test_peptides_are_compared_by_edits_without_the_program(monkeypatch):
    monkeypatch.setenv("MMSEQS2_PATH", "/nowhere")
    train = [Record("t", (Chain("NLVPMVATV"),)), Record("u", (Chain("GILGFVFTL"),))]
    test = [Record("x", (Chain("NLVPMVATA"),)), Record("y", (Chain("ILGFVFTL"),))]
    report = leakage_report(train, test)
    assert report.nearest is not None
    assert report.nearest["train_id"].to_list() == ["t", "u"]
    assert report.nearest["identity"].to_list() == pytest.approx([8 / 9, 8 / 9])
    assert report.num_short == 2
    assert any("compared by edits" in line for line in report.lines())


def test_bad_input_is_refused(table, tmp_path):
    for given, message in (
        ({}, "say what is compared"),
        ({"test": table, "split": "part"}, "say what is compared"),
        ({"split": "part", "identity": False, "out": tmp_path / "x.csv"}, "--out is for the nearest"),
    ):
        with pytest.raises(ConfigError, match=message):
            audit(table, say=quiet, **given)
    rows = pl.read_csv(table, separator="\t").with_columns(one=pl.lit("all"))
    rows.write_csv(tmp_path / "one.csv")
    for given, message in (
        ({"split": "one"}, "column 'one' has one value, 'all': one side is empty"),
        ({"split": "prat"}, "no column 'prat'"),
        ({"split": "part", "min_coverage": 2}, "coverage 2 is no share"),
        ({"split": "part", "sensitivity": 9}, "sensitivity 9 is out of range"),
    ):
        with pytest.raises(DataError, match=message):
            audit(tmp_path / "one.csv", say=quiet, **given)
    with pytest.raises(DataError, match="the test side has no records"):
        leakage_report([Record("t", (Chain("MKT"),))], [])
