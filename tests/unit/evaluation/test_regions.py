"""Per-residue tables, their summary and the paired comparison, with numbers worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest

from protlm.evaluation.regions import compare, region_cells, summarise
from protlm.evaluation.residues import SCHEMA, predict_residues
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Mutated, Region


def table(rows: list[tuple[str, str, str, str, str, float]]) -> pl.DataFrame:
    """Rows of id, group, model, region, predicted (the residue is always A), logprob."""
    return pl.DataFrame(
        [
            {
                "id": name,
                "group": group,
                "model": model,
                "chain": "heavy",
                "position": "1",
                "index": 0,
                "region": region,
                "segment": "",
                "residue": "A",
                "mutated": None,
                "logprob": logprob,
                "predicted": predicted,
                "predicted_logprob": logprob,
                "entropy": 0.0,
                "germline": None,
                "germline_logprob": None,
            }
            for name, group, model, region, predicted, logprob in rows
        ],
        schema=SCHEMA,
    )


def test_the_summary_weighs_residues_and_counts_groups():
    """CDR3: hits 1, 1, 0 of three residues in two groups; cross-entropy (0.1 + 0.3 + 0.5) / 3 = 0.3."""
    frame = table(
        [
            ("r1", "g1", "m", "CDR3", "A", -0.1),
            ("r1", "g1", "m", "CDR3", "A", -0.3),
            ("r2", "g2", "m", "CDR3", "C", -0.5),
            ("r2", "g2", "m", "FR1", "A", -0.7),
        ]
    )
    rows = {row["region"]: row for row in summarise(region_cells(frame)).iter_rows(named=True)}
    assert rows["CDR3"]["accuracy"] == pytest.approx(2 / 3)
    assert rows["CDR3"]["cross_entropy"] == pytest.approx(0.3)
    assert rows["CDR3"]["perplexity"] == pytest.approx(math.exp(0.3))
    assert (rows["CDR3"]["n_residues"], rows["CDR3"]["n_records"], rows["CDR3"]["n_groups"]) == (3, 2, 2)
    assert rows["framework"]["n_residues"] == 1
    assert rows["all"]["n_residues"] == 4
    assert rows["CDR3"]["accuracy_low"] <= 2 / 3 <= rows["CDR3"]["accuracy_high"]


def test_records_of_one_group_are_one_unit_of_the_test():
    """Ten copies of one clonotype are one observation, so nothing can be significant."""
    rows = []
    for number in range(10):
        rows += [(f"r{number}", "g", "one", "CDR3", "A", -0.1), (f"r{number}", "g", "two", "CDR3", "C", -2.0)]
    result = compare(region_cells(table(rows)), [("one", "two")]).filter(pl.col("metric") == "accuracy")
    assert result["n_groups"].to_list() == [1]
    assert not (result["p_value"] < 0.05).any()


def test_the_comparison_is_first_minus_second_and_corrects_over_its_regions():
    """Differences 1, 1, 0, 1 in CDR3 (mean 0.75) and none in FR1: two tests, so p is doubled."""
    rows = []
    for number, hit in enumerate("AACA"):
        rows += [
            (f"r{number}", f"g{number}", "one", "CDR3", "A" if hit == "A" else "C", -0.1),
            (f"r{number}", f"g{number}", "two", "CDR3", "C", -0.2),
            (f"r{number}", f"g{number}", "one", "FR1", "A", -0.1),
            (f"r{number}", f"g{number}", "two", "FR1", "A", -0.1),
        ]
    result = compare(region_cells(table(rows)), [("one", "two")]).filter(pl.col("metric") == "accuracy")
    by_region = {row["region"]: row for row in result.iter_rows(named=True)}
    assert by_region["CDR3"]["difference"] == pytest.approx(0.75)
    assert by_region["CDR3"]["p_adjusted"] == pytest.approx(min(1, 2 * by_region["CDR3"]["p_value"]))
    # t = 0.75 / (0.5 / sqrt 4) = 3 with 3 degrees of freedom: two-sided p = 0.0577
    assert by_region["CDR3"]["p_value"] == pytest.approx(0.0577, abs=1e-4)
    assert by_region["FR1"]["p_value"] == 1


def test_every_residue_is_predicted_once_with_its_own_context(table_model):
    """A model that knows the letter at each site only where it is masked must be right everywhere."""
    residues = "ACDE"
    region = np.array([Region.FR1, Region.FR1, Region.CDR1, Region.CDR1], dtype=np.uint8)
    mutated = np.array([Mutated.GERMLINE, Mutated.MUTATED, Mutated.NONE, Mutated.GERMLINE], dtype=np.uint8)
    chain = Chain(residues, role=Role.HEAVY, tracks={"region": region, "mutated": mutated})
    masked = {(0, index): {letter: 3.0} for index, letter in enumerate(residues)}
    model = table_model(masked=masked)
    frame = predict_residues(model, [Record("r", (chain,))])
    assert frame["predicted"].to_list() == list(residues)
    assert frame["index"].to_list() == [0, 1, 2, 3]
    assert frame["region"].to_list() == ["FR1", "FR1", "CDR1", "CDR1"]
    assert frame["mutated"].to_list() == [False, True, None, False]
    # over the twenty: one logit of 3, nineteen of 0
    assert frame["logprob"].to_list() == pytest.approx([3 - math.log(math.exp(3) + 19)] * 4, abs=1e-5)


def test_residues_outside_the_twenty_are_left_out(table_model):
    frame = predict_residues(table_model(masked={}), [Record("r", (Chain("AXC"),))])
    assert frame["residue"].to_list() == ["A", "C"]
    assert frame["index"].to_list() == [0, 2]
