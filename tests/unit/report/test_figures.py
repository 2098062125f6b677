import math

import numpy as np
import polars as pl
import pytest
from handmade import (
    REGIONS,
    VALUES,
    WILD_TYPE,
    comparison_table,
    masking_table,
    metric_lines,
    scan_table,
    summary_table,
)

from protlm.errors import DataError
from protlm.report.figures.comparisons import comparisons
from protlm.report.figures.curves import REGION_LOSSES, training_curves
from protlm.report.figures.masking import masking_rates
from protlm.report.figures.regions import region_scores, shortfalls
from protlm.report.figures.style import BASELINE_COLOURS, BASELINES, MODEL_COLOURS, QUIET, model_colours
from protlm.report.figures.substitutions import ORDER, substitution_scan
from protlm.types.alphabet import STANDARD


def test_curves_run_over_the_tokens_seen():
    curves = training_curves({"a": metric_lines(0.3)}, metrics=("loss",)).curves
    found = {curve.split: (curve.x, curve.y) for curve in curves}
    assert found["train"][0] == (100, 200, 300, 400)
    assert found["eval"][0] == (0, 200, 400)
    assert found["eval"][1] == pytest.approx((3.0, 2.5, 1.9))


def test_curves_run_over_steps_where_one_run_logged_no_tokens():
    silent = [{name: value for name, value in line.items() if name != "tokens"} for line in metric_lines(0.3)]
    curves = training_curves({"a": metric_lines(0.3), "b": silent})
    assert curves.unit == "steps"
    assert {curve.x for curve in curves.curves if curve.split == "eval"} == {(0, 2, 4)}
    assert curves.figure().layout.xaxis.title.text == "training steps"


def test_curves_have_one_legend_entry_for_each_run():
    figure = training_curves({"a": metric_lines(0.3), "b": metric_lines(0.2)}).figure()
    assert len(figure.data) == 2 * 2 * 2
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == ["a", "b"]
    modes = {trace.mode for trace in figure.data if trace.showlegend}
    assert modes == {"lines+markers"}, "the entry shows the marker of the evaluation curve"


def test_only_regions_with_a_loss_get_a_panel():
    curves = training_curves({"a": metric_lines(0.3)}, metrics=REGION_LOSSES, splits=("eval",))
    assert curves.metrics == ("loss_CDR3",)
    assert curves.figure().layout.annotations[0].text == "CDR3"


def test_no_curves_without_metrics():
    assert training_curves({"a": [{"step": 1, "split": "train"}]}) is None


def test_masking_bars_are_the_table():
    figure = masking_rates({"a": masking_table(), "b": masking_table()}).figure()
    asked, observed = figure.data[:2]
    assert (asked.name, list(asked.y)) == ("asked", [0.14, 0.25, 0.15])
    assert (observed.name, list(observed.y)) == ("observed", [0.1391, 0.2513, 0.1502])
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False]
    assert masking_rates({}) is None


def test_region_points_have_value_interval_and_count():
    figure = region_scores(summary_table(VALUES)).figure()
    trace = next(trace for trace in figure.data if trace.name == "uniform" and trace.visible)
    assert trace.y[REGIONS.index("CDR3")] == pytest.approx(0.4)
    assert trace.error_y.array[0] == pytest.approx(0.04)
    assert trace.error_y.arrayminus[0] == pytest.approx(0.05)
    assert trace.customdata[5] == "CDR3: 0.400 [0.350, 0.440], n = 1,234"


def test_region_points_of_one_region_stand_side_by_side():
    figure = region_scores(summary_table(VALUES)).figure()
    first = sorted(trace.x[0] for trace in figure.data if trace.visible)
    assert len(set(first)) == len(VALUES)
    assert first[0] > -0.5
    assert first[-1] < 0.5


def test_the_switch_shows_cross_entropy_and_hides_accuracy():
    both = pl.concat([summary_table(VALUES), summary_table(VALUES, chain="light")])
    figure = region_scores(both, ("germline", "mutated")).figure()
    accuracy, entropy = figure.layout.updatemenus[0].buttons
    seen = np.array(entropy.args[0]["visible"])
    assert not np.any(seen & np.array(accuracy.args[0]["visible"]))
    shown = [trace for trace, is_seen in zip(figure.data, seen, strict=True) if is_seen]
    assert len(shown) == 4 * len(VALUES)
    assert shown[0].y[0] == pytest.approx(3 * (1 - 0.81))
    titles = {name for name in entropy.args[1] if name.endswith("title.text")}
    assert titles == {"yaxis.title.text", "yaxis3.title.text"}, "left column of two"


def test_germline_panels_need_their_lines():
    assert region_scores(summary_table(VALUES).filter(pl.col("residues") == "all"), ("germline",)) is None


def test_an_interval_that_is_not_a_number_can_be_drawn():
    table = summary_table(VALUES).with_columns(accuracy_low=math.nan, accuracy_high=math.nan)
    assert "NaN" not in region_scores(table).figure().to_json()


def test_shortfalls_are_against_the_best_baseline():
    table = summary_table(VALUES).filter(pl.col("residues") == "all")
    found = shortfalls(table)
    assert [(each.model, each.region) for each in found] == [("cdr3", "CDR3")]
    assert (found[0].baseline, found[0].value) == ("v_gene_majority", pytest.approx(0.2))
    assert [(each.model, each.region) for each in shortfalls(table, "cross_entropy")] == [("cdr3", "CDR3")]


def test_shortfalls_of_cross_entropy_go_the_other_way():
    table = summary_table({"m": {"other": 0.9}, "position_mode": {"other": 0.5}})
    assert shortfalls(table, "cross_entropy") == []
    swapped = summary_table({"m": {"other": 0.5}, "position_mode": {"other": 0.9}})
    assert len(shortfalls(swapped, "cross_entropy")) == len(swapped) / 2


def test_no_shortfall_without_baseline():
    assert shortfalls(summary_table({"a": {"other": 0.1}, "b": {"other": 0.9}})) == []


def test_a_significant_point_has_the_colour_of_the_better_model():
    colours = {"a": "#000001", "b": "#000002"}
    (comparison,) = comparisons(comparison_table("a", "b"), colours)
    accuracy, entropy = (trace for trace in comparison.figure().data)
    assert set(accuracy.marker.color) == {"#000001"}
    assert set(entropy.marker.color) == {"#000002"}, "a positive difference in loss favours the second"
    (doubtful,) = comparisons(comparison_table("a", "b", p_adjusted=0.3), colours)
    assert {colour for trace in doubtful.figure().data for colour in trace.marker.color} == {QUIET}


def test_comparisons_take_all_residues_and_show_interval_and_p():
    (comparison,) = comparisons(comparison_table("a", "b"))
    figure = comparison.figure()
    assert list(figure.data[0].y) == list(REGIONS)
    assert figure.data[0].error_x.array[0] == pytest.approx(0.06)
    assert figure.data[0].error_x.arrayminus[0] == pytest.approx(0.05)
    assert [note.text for note in figure.layout.annotations].count("p = 0.003 **") == 2 * len(REGIONS)


def test_each_pair_gets_its_comparison():
    table = pl.concat([comparison_table("a", "b"), comparison_table("a", "c")])
    assert [(each.first, each.second) for each in comparisons(table)] == [("a", "b"), ("a", "c")]


def test_the_order_of_rows_has_each_amino_acid_once():
    assert sorted(ORDER) == sorted(STANDARD)


def test_scan_puts_scores_where_they_belong():
    scan = substitution_scan(scan_table(), WILD_TYPE, offset=10)
    assert scan.scores[ORDER.index("A"), 4] == pytest.approx(-1.0)
    assert scan.scores[ORDER.index("W"), 4] == pytest.approx(1.0)
    assert np.isnan(scan.scores[ORDER.index("V"), 4]), "the wild type has no score"
    assert scan.means[4] == pytest.approx((18 * -1.0 + 1.0) / 19)
    assert scan.regions == ("FR1",) * 6 + ("CDR1",) * 4
    assert scan.num_left_out == 0


def test_scan_hover_names_mutant_position_and_score():
    heat_map, marks, means = substitution_scan(scan_table(), WILD_TYPE, offset=10).figure().data
    assert heat_map.text[ORDER.index("A")][4] == "V15A<br>IMGT 5, FR1<br>score -1.000"
    assert heat_map.zmid == 0
    assert heat_map.zmin == -heat_map.zmax
    assert list(zip(marks.x, (ORDER[row] for row in marks.y), strict=True)) == list(enumerate(WILD_TYPE))
    assert means.text[4] == "V15<br>IMGT 5, FR1"


def test_scan_has_letters_along_the_axis_and_a_strip_of_regions():
    figure = substitution_scan(scan_table(), WILD_TYPE, offset=10).figure()
    assert "".join(figure.layout.xaxis.ticktext) == WILD_TYPE
    strips = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shape.x0, shape.x1) for shape in strips] == [(-0.5, 5.5), (5.5, 9.5)]
    assert {"FR1", "CDR1"} <= {note.text for note in figure.layout.annotations}


def test_scan_without_antibody_columns():
    scan = substitution_scan(scan_table().drop("imgt_position", "region"), WILD_TYPE, offset=10)
    assert scan.regions == ()
    assert scan.figure().data[0].text[ORDER.index("A")][4] == "V15A<br>score -1.000"


def test_scan_leaves_out_and_counts_what_is_no_scored_single_substitution():
    table = pl.DataFrame({"mutant": ["A1C", "A1C:K2R", "WT", "K2E", "A1C"], "score": [1.0, 9, 9, None, 2]})
    scan = substitution_scan(table, "AK")
    assert scan.num_left_out == 3
    assert scan.scores[ORDER.index("C"), 0] == pytest.approx(1.5)
    assert np.isnan(scan.means[1])


def test_scan_reads_the_column_that_it_is_told():
    table = pl.DataFrame({"mutant": ["A1C", "K2E"], "change": ["A1D", "K2D"], "score": [1.0, 2.0]})
    scan = substitution_scan(table, "AK", column="change")
    assert scan.scores[ORDER.index("D")].tolist() == [1.0, 2.0]
    assert np.isnan(scan.scores[ORDER.index("C")]).all()


def test_scan_finds_variants_under_an_unusual_name():
    table = pl.DataFrame({"id": ["x", "y"], "change": ["A1C", "K2E"], "score": [1.0, 2.0]})
    assert substitution_scan(table, "AK").means.tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="no column holds variants"):
        substitution_scan(table.drop("change"), "AK")


def test_no_scan_without_single_substitutions():
    assert substitution_scan(pl.DataFrame({"mutant": ["A1C:K2R"], "score": [1.0]}), "AK") is None
    assert substitution_scan(pl.DataFrame({"mutant": ["A1C"], "score": [None]}), "AK") is None


def test_wider_sequences_get_wider_figures():
    wild = "A" * 500
    scan = substitution_scan(pl.DataFrame({"mutant": ["A7C"], "score": [-1.0]}), wild)
    assert scan.figure().layout.width == scan.width > 500 * 10


def test_baselines_are_grey_and_models_are_not():
    colours = model_colours(["a", *BASELINES, "b"])
    assert {colours[name] for name in BASELINES} <= set(BASELINE_COLOURS)
    assert (colours["a"], colours["b"]) == MODEL_COLOURS[:2]


def test_baseline_names_are_those_of_evaluate():
    from protlm.evaluation.frequencies import FrequencyBaseline

    counts = pl.DataFrame(
        {"locus": ["H"], "v_gene": ["V"], "position": [256], "residue": ["A"], "count": [1]},
        schema_overrides={"position": pl.UInt16},
    )
    names = {FrequencyBaseline(counts, use_v_gene=use_v_gene).name for use_v_gene in (False, True)}
    assert names <= set(BASELINES)
