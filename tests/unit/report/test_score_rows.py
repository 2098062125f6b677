"""Rows of a score table told apart, their distribution, and the sensitivity of each position."""

import numpy as np
import polars as pl
import pytest
from handmade import WILD_TYPE, scan_table

from protlm.report.figures.distribution import score_distribution
from protlm.report.figures.sensitivity import SCALE, sensitivity
from protlm.report.figures.substitutions import substitution_scan
from protlm.report.score_rows import INDEL, score_rows
from protlm.report.score_rows import WILD_TYPE as ITSELF


def kinds(texts, wild_type="MKTAYIAK", **columns):
    table = pl.DataFrame({"mutant": texts, "score": [0.5] * len(texts), **columns})
    return score_rows(table, wild_type, column="mutant")["kind"].to_list()


def test_rows_go_by_what_they_change():
    texts = ["M1L", " k2r : t3s ", "M1L:K2R:T3S:A4G", "M1L:K2R:T3S:A4G:Y5F:I6V", "WT", "", None]
    assert kinds(texts) == ["1", "2", "4", "5+", ITSELF, ITSELF, ITSELF]
    assert kinds(["M1M", "M1=:K2R", "M1L:K2K"]) == [ITSELF, "1", "1"]


def test_whole_sequences_are_compared_with_the_wild_type():
    texts = ["MKTAYIAK", "LKTAYIAK", "mktayiaw*", "MKT--AYIAK", "MKTAYIAKK", "LRSAYIAK"]
    assert kinds(texts) == [ITSELF, "1", "1", ITSELF, INDEL, "3"]
    scan = substitution_scan(
        pl.DataFrame({"mutated": texts, "score": [1.0] * 6}), "MKTAYIAK", column="mutated"
    )
    assert np.argwhere(~np.isnan(scan.scores))[:, 1].tolist() == [0, 7]


def test_a_sequence_of_another_length_is_known_by_its_note():
    assert kinds([None, "M1L", None], note=["+1 residues", "", "wild type"]) == [INDEL, "1", ITSELF]


def test_rows_without_a_score_are_kept_and_stops_marked():
    table = pl.DataFrame({"mutant": ["M1*", "K2R:T3*", "M1L"], "score": ["", "nan", "0.25"]})
    rows = score_rows(table, "MKT")
    assert rows["score"].to_list() == [None, None, 0.25]
    assert rows["has_stop"].to_list() == [True, True, False]


def test_each_kind_has_its_counts_on_the_same_bins():
    scores = [-1.0, -0.5, 0.0, 1.0, -3.0, None]
    rows = pl.DataFrame({"kind": ["1", "1", "1", "1", "2", "2"], "score": scores})
    found = score_distribution(rows, num_bins=4)
    assert found.edges.tolist() == [-3, -2, -1, 0, 1]
    assert {kind: counts.tolist() for kind, counts in found.counts.items()} == {
        "1": [0, 0, 2, 2],
        "2": [1, 0, 0, 0],
    }
    assert found.medians == {"1": -0.25, "2": -3.0}
    one, two = found.figure().data
    assert list(one.y) == [0, 0, 0.5, 0.5, 0], "shares of each kind, which the number of variants would hide"
    assert list(two.y) == [1, 0, 0, 0, 0]
    assert one.text[2] == "1 substitution<br>-1.00 to 0.00: 2 of 4"
    (alone,) = score_distribution(rows.head(4), num_bins=2).figure().data
    assert list(alone.y) == [2, 2, 0], "counts where there is one kind"


def test_the_size_of_a_distribution_does_not_grow_with_the_table():
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"kind": ["1", "2"] * 100_000, "score": rng.normal(size=200_000)})
    assert len(score_distribution(rows).figure().to_json()) < 30_000


def test_no_distribution_of_the_wild_type_alone():
    assert score_distribution(pl.DataFrame({"kind": [ITSELF], "score": [0.0]})) is None


def test_all_scores_alike_still_draw():
    found = score_distribution(pl.DataFrame({"kind": ["1", "1"], "score": [2.0, 2.0]}))
    assert sum(found.counts["1"]) == 2


def test_sensitivity_is_the_mean_at_the_printed_position():
    found = sensitivity(substitution_scan(scan_table(), WILD_TYPE, offset=10))
    own = scan_table().with_columns(position=pl.col("mutant").str.extract(r"(\d+)").cast(pl.Int64))
    expected = own.group_by("position").agg(pl.col("score").mean()).sort("position")
    figure = found.figure()
    (bars,) = figure.data
    assert list(bars.x) == expected["position"].to_list() == list(range(11, 21))
    assert list(bars.y) == pytest.approx(expected["score"].to_list(), abs=1e-4)
    assert bars.hovertext[0].startswith("E11<br>FR1<br>mean score +0.053 of 19")
    lowest, highest = int(np.argmin(bars.y)), int(np.argmax(bars.y))
    ends = [f"rgb({','.join(map(str, bytes.fromhex(colour[1:])))})" for _, colour in (SCALE[0], SCALE[-1])]
    assert [bars.marker.color[lowest], bars.marker.color[highest]] == ends
    strips = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert strips == [(10.5, 16.5), (16.5, 20.5)]


def test_the_most_sensitive_have_enough_substitutions():
    texts, scores = ["M1L", "M1V", "M1A", "K2R", "T3S", "T3A"], [-1.0, -2.0, -3.0, -9.0, -4.0, -4.0]
    found = sensitivity(substitution_scan(pl.DataFrame({"mutant": texts, "score": scores}), "MKTA"))
    assert found.most_sensitive() == [2, 0], "one substitution at 2 is no mean, and 4 has none"
    assert found.worst(0) == ("M1A", -3.0)
