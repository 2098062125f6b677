"""Germline and mutated antibodies, segments, germline bias, calibration, the published aggregation."""

import math

import numpy as np
import polars as pl
import pytest
from builders import antibody, residue_rows

from protlm.evaluation.by_sequence import compare_sequences, sequence_values, summarise_sequences
from protlm.evaluation.calibration import calibrate
from protlm.evaluation.germline_bias import germline_bias
from protlm.evaluation.regions import (
    antibody_status,
    compare,
    region_cells,
    summarise,
    summarise_segments,
)
from protlm.evaluation.residues import predict_residues, residue_facts


def test_an_antibody_is_germline_only_if_no_v_residue_of_any_chain_is_mutated():
    germline = {"segment": "V", "mutated": False}
    mutated = {"segment": "V", "mutated": True}
    table = residue_rows(
        *({"id": "clean", "chain": chain, **germline} for chain in ("heavy", "light")),
        {"id": "light only", "chain": "heavy", **germline},
        {"id": "light only", "chain": "light", **mutated},
        # a mutation in J is none in V
        *({"id": "in J", "chain": chain, **germline} for chain in ("heavy", "light")),
        {"id": "in J", "chain": "heavy", "segment": "J", "mutated": True},
        # nothing is known of the light chain
        {"id": "half known", "chain": "heavy", **germline},
        {"id": "half known", "chain": "light"},
        # without segments, V is FR1 to FR3
        *(
            {"id": "no segments", "chain": chain, "region": "FR3", "mutated": True}
            for chain in ("heavy", "light")
        ),
        *({"id": "CDR3 only", "chain": chain, "mutated": False} for chain in ("heavy", "light")),
        {"id": "CDR3 only", "chain": "heavy", "region": "CDR3", "mutated": True},
    )
    status = dict(antibody_status(region_cells(table)).iter_rows())
    assert status == {
        "clean": "germline",
        "light only": "mutated",
        "in J": "germline",
        "no segments": "mutated",
        "CDR3 only": "germline",
    }


def test_the_summary_parts_residues_and_antibodies():
    """Record a is germline (2 of 2 right); b has one mutated residue, wrong, and one germline one, right."""
    known = {"segment": "V"}
    table = residue_rows(
        {"id": "a", "mutated": False, **known},
        {"id": "a", "mutated": False, **known},
        {"id": "b", "mutated": False, **known},
        {"id": "b", "mutated": True, "predicted": "C", **known},
    )
    lines = summarise(region_cells(table)).filter(pl.col("region") == "FR1")
    accuracy = dict(lines.select("residues", "accuracy").iter_rows())
    assert accuracy == {
        "all": 0.75,
        "germline": 1.0,
        "mutated": 0.0,
        "germline_antibodies": 1.0,
        "mutated_antibodies": 0.5,
    }
    sizes = dict(lines.select("residues", "n_residues").iter_rows())
    assert sizes["mutated_antibodies"] == 2


def pairs(table_model, number: int = 6):
    """Predictions of two table models on pairs: one knows the heavy chain, the other nothing."""
    records = [antibody(f"r{i}", "ACDEFGH", "KLMNPQR") for i in range(number)]
    knows = table_model(masked={(0, i): {letter: 5.0} for i, letter in enumerate("ACDEFGH")}, name="knows")
    blank = table_model(name="blank")
    return pl.concat([predict_residues(model, records) for model in (knows, blank)])


def test_a_pair_gives_fourteen_regions_and_a_correction_for_fourteen(table_model):
    cells = region_cells(pairs(table_model))
    summary = summarise(cells).filter((pl.col("model") == "knows") & (pl.col("residues") == "all"))
    regions = summary.filter(~pl.col("region").is_in(["framework", "CDRs", "all"]))
    assert len(regions) == 14
    assert regions["n_residues"].to_list() == [6] * 14
    result = compare(cells, [("knows", "blank")])
    lines = result.filter(pl.col("metric") == "cross_entropy")
    assert len(lines) == 14
    heavy = lines.filter(pl.col("chain") == "heavy")
    # ln 20 − ln((e⁵ + 19) / e⁵) = 2.9957 − 0.1205
    assert heavy["difference"].to_list() == pytest.approx(
        [-(math.log(20) - math.log1p(19 * math.exp(-5)))] * 7
    )
    # the differences are all equal, so p is 0 on the heavy chain, and 1 on the light one
    assert heavy["p_adjusted"].to_list() == [0.0] * 7


def test_bonferroni_multiplies_by_fourteen():
    random = np.random.default_rng(0)
    regions = ("FR1", "CDR1", "FR2", "CDR2", "FR3", "CDR3", "FR4")
    rows = [
        {"id": f"r{i}", "chain": chain, "region": region, "model": model, "logprob": -random.random()}
        for i in range(5)
        for chain in ("heavy", "light")
        for region in regions
        for model in ("one", "two")
    ]
    lines = compare(region_cells(residue_rows(*rows)), [("one", "two")])
    tested = lines.filter(pl.col("metric") == "cross_entropy")
    expected = (tested["p_value"] * 14).clip(0, 1)
    assert tested["p_adjusted"].to_list() == pytest.approx(expected.to_list())
    assert tested["n_tests"].to_list() == [14] * 14


def test_summary_and_comparison_of_a_lazy_table_are_the_same(table_model, tmp_path):
    table = pairs(table_model)
    table.write_parquet(tmp_path / "t.parquet")
    lazy = pl.scan_parquet(tmp_path / "t.parquet")
    one, two = (summarise(region_cells(each)) for each in (table, lazy))
    assert one.drop("cross_entropy", "perplexity").columns == two.drop("cross_entropy", "perplexity").columns
    assert one["accuracy"].to_list() == two["accuracy"].to_list()
    assert one["cross_entropy"].to_list() == pytest.approx(two["cross_entropy"].to_list())


def test_segments_of_the_chain_and_of_its_cdr3():
    table = residue_rows(
        {"id": "a", "segment": "V"},
        {"id": "a", "segment": "V", "region": "CDR3", "predicted": "C"},
        {"id": "a", "segment": "N", "region": "CDR3", "logprob": -3.0},
    )
    lines = summarise_segments(region_cells(table))
    by_line = {(row["region"], row["segment"]): row for row in lines.iter_rows(named=True)}
    assert set(by_line) == {("all", "V"), ("all", "N"), ("CDR3", "V"), ("CDR3", "N")}
    assert by_line["all", "V"]["accuracy"] == 0.5
    assert by_line["CDR3", "V"]["accuracy"] == 0.0
    assert by_line["CDR3", "N"]["cross_entropy"] == 3.0


def test_without_segments_there_are_no_lines():
    assert summarise_segments(region_cells(residue_rows({"id": "a"}))).is_empty()


def test_germline_bias_by_hand():
    """Four mutated residues: one right, two germline, one other; log-odds −1, −1, −1 and 1."""
    mutated = {"mutated": True, "germline": "G", "logprob": -2.0, "germline_logprob": -1.0}
    table = residue_rows(
        {"id": "a", **mutated, "logprob": -1.0, "germline_logprob": -2.0},
        {"id": "a", **mutated, "predicted": "G"},
        {"id": "b", **mutated, "predicted": "G"},
        {"id": "c", **mutated, "predicted": "W"},
        {"id": "c", "mutated": False, "germline": "A", "germline_logprob": -1.0},  # not mutated
        {"id": "c", "mutated": True},  # its germline is not known
    )
    row = germline_bias(table).filter(pl.col("region") == "all").row(0, named=True)
    assert (row["right"], row["germline"], row["other"]) == (0.25, 0.5, 0.25)
    assert row["log_odds"] == pytest.approx(-0.5)
    assert (row["n_residues"], row["n_records"], row["n_groups"]) == (4, 3, 3)
    assert row["germline_low"] <= 0.5 <= row["germline_high"]


def test_no_mutated_residue_no_germline_bias():
    assert germline_bias(residue_rows({"id": "a", "mutated": False, "germline": "A"})).is_empty()


def test_the_germline_track_becomes_a_column_with_its_probability(table_model):
    record = antibody("r", "ACDEFGH", heavy_germline="ACWEFGH")
    model = table_model(masked={(0, 2): {"W": 2.0}})
    table = predict_residues(model, [record])
    site = table.row(2, named=True)
    assert (site["residue"], site["germline"], site["predicted"], site["mutated"]) == ("D", "W", "W", True)
    # one logit of 2, nineteen of 0
    assert site["germline_logprob"] == pytest.approx(2 - math.log(math.exp(2) + 19), abs=1e-5)
    assert residue_facts([record])["germline"].to_list() == list("ACWEFGH")


def test_calibration_of_a_model_that_is_right_as_often_as_it_says():
    """At 0.5, half are right: no error; at 0.9 none are: an error of 0.9 on half of the residues."""
    sure, unsure = math.log(0.9), math.log(0.5)
    table = residue_rows(
        *(
            {"id": f"r{i}", "predicted_logprob": unsure, "predicted": "A" if i % 2 else "C"}
            for i in range(10)
        ),
        *({"id": f"r{i}", "predicted_logprob": sure, "predicted": "C"} for i in range(10)),
    )
    errors, bins = calibrate(table)
    row = errors.filter(pl.col("region") == "all").row(0, named=True)
    assert row["error"] == pytest.approx(0.45, abs=1e-6)
    assert (row["confidence"], row["accuracy"]) == (pytest.approx(0.7), pytest.approx(0.25))
    assert (row["n_residues"], row["n_groups"]) == (20, 10)
    curve = bins.filter(pl.col("region") == "all")
    assert curve["accuracy"].to_list() == [0.5, 0.0]
    assert curve["n_residues"].to_list() == [10, 10]
    assert "CDR3" not in errors["region"].to_list()


def test_the_published_aggregation_weighs_sequences_and_takes_the_median_loss():
    """a: 1 of 2 right, losses 1 and 3; b: 1 of 1, loss 5. Accuracy (0.5 + 1) / 2, loss (2 + 5) / 2."""
    table = residue_rows(
        {"id": "a", "logprob": -1.0},
        {"id": "a", "logprob": -3.0, "predicted": "C"},
        {"id": "b", "logprob": -5.0},
    )
    row = summarise_sequences(sequence_values(table)).row(0, named=True)
    assert row["accuracy"] == pytest.approx(0.75)
    assert row["loss"] == pytest.approx(3.5)
    assert row["n_records"] == 2


def test_the_published_test_runs_over_sequences_whatever_their_group():
    """Differences 1, 0, 1, 1 over four sequences of one clonotype: t = 3, three degrees of freedom."""
    rows = [
        {"id": f"r{i}", "group": "g", "model": model, "predicted": letter}
        for i, hit in enumerate("ACAA")
        for model, letter in (("one", hit), ("two", "C"))
    ]
    values = sequence_values(residue_rows(*rows))
    line = (
        compare_sequences(values, [("one", "two")]).filter(pl.col("metric") == "accuracy").row(0, named=True)
    )
    assert line["difference"] == pytest.approx(0.75)
    assert line["statistic"] == pytest.approx(3)
    assert line["p_value"] == pytest.approx(0.0577, abs=1e-4)
    assert line["n_records"] == 4
