"""The section on `protlm evaluate variants`, from a Run written by hand."""

import json
import re
import shutil

import polars as pl
import pytest
from handmade import MODELS, VARIANT_METRICS, assays, intervals, scores, write_variants

from protlm.errors import RunError
from protlm.report.figures.assay_scatter import assay_scatter, representative
from protlm.report.figures.assays import MOST_LINES, assay_averages, assay_correlations
from protlm.report.figures.style import BASELINE_COLOURS, MODEL_COLOURS, VARIANT_BASELINES, model_colours
from protlm.report.page import write_report
from protlm.report.variants import MOST_SCATTERS
from protlm.statistics.bootstrap import bootstrap_metric
from protlm.statistics.metrics import spearman


def page(run, tmp_path):
    text = write_report([run], tmp_path / "r.html").read_text()
    body = text[text.rindex("<main>") :]
    return body, [json.loads(each) for each in re.findall(r'data-figure="[^"]+">(.*?)</script>', body)]


def test_the_section_has_averages_assays_scatters_and_what_is_missing(tmp_path):
    run = write_variants(tmp_path / "run")
    scores(2100).write_parquet(run / "scores" / "a.parquet")
    body, figures = page(run, tmp_path)
    assert "Variant effects: run" in body
    assert "(masked_marginal with fill joint) against measured effects of 3 assays" in body
    assert "At most 3,000 variants of an assay were scored, drawn with seed 4" in body
    assert len(figures) == 2 + 3
    assert "a: 2,000 of 2,100 variants drawn (seed 4); the correlations use all." in body
    assert "1 missing cells" in body
    assert "<td>all variants</td><td>Spearman</td><td>weak</td><td>c</td>" in body
    assert "Left out of the folder: msa (a folder)." in body
    assert "<dd>dms: 3 assays (1 files left out)</dd>" in body
    assert "Average Spearman by function" in body
    assert not [
        name for figure in figures for trace in figure["data"] if "<1" in (name := trace.get("name", ""))
    ]


def test_only_baselines_on_as_many_assays_are_held_against_a_model(tmp_path):
    body, _ = page(write_variants(tmp_path / "run"), tmp_path)
    _, red = re.findall(r'<p class="bad">(.*?)</p>', body)
    assert (
        red == "Below a baseline in average Spearman: weak (0.100) is below blosum62 (0.200) on all variants."
    )
    assert '<td class="bad">0.100 [0.050, 0.140]</td>' in body
    assert "<td>0.400 [0.350, 0.440]</td>" in body


def test_a_run_without_baselines_says_so(tmp_path):
    run = write_variants(tmp_path / "run")
    path = run / "tables" / "intervals.parquet"
    pl.read_parquet(path).filter(~pl.col("model").is_in(list(VARIANT_BASELINES))).write_parquet(path)
    assert "No baseline was evaluated" in page(run, tmp_path)[0]


def test_averages_are_drawn_with_intervals_and_counts():
    figure = assay_averages(intervals()).figure()
    assert len(figure.data) == len(VARIANT_METRICS) * len(MODELS)
    by_name = {trace.y[0]: trace for trace in figure.data[: len(MODELS)]}
    assert list(by_name) == ["site_independent (1 of 3)", "m&lt;1&gt;", "blosum62", "weak"]
    model = by_name["m&lt;1&gt;"]
    assert (model.x[0], model.error_x.array[0], model.error_x.arrayminus[0]) == pytest.approx(
        (0.4, 0.04, 0.05)
    )
    assert by_name["site_independent (1 of 3)"].error_x.array is None
    assert by_name["blosum62"].marker.color in BASELINE_COLOURS
    assert assay_averages(intervals(), "covered") is None


def test_few_assays_get_a_line_each():
    found = assay_correlations(assays())
    figure = found.figure()
    assert list(figure.layout.yaxis.ticktext) == ["c", "b", "a"], "by the best model's, best on top"
    traces = {trace.name: trace for trace in figure.data}
    assert dict(zip(traces["m&lt;1&gt;"].y, traces["m&lt;1&gt;"].x, strict=True)) == pytest.approx(
        {0: 0.42, 1: 0.41, 2: 0.4}
    )
    assert sorted(traces["weak"].y) == [1, 2], "a missing one is not drawn"


def test_many_assays_get_a_line_per_model():
    found = assay_correlations(assays([f"assay{n}" for n in range(MOST_LINES + 1)]))
    figure = found.figure()
    assert list(figure.layout.yaxis.ticktext) == ["m&lt;1&gt;", "weak", "blosum62", "site_independent"]
    *dots, medians = figure.data
    assert [len(trace.x) for trace in dots] == [41, 41, 41, 1]
    assert all(abs(y) <= 0.25 for y in dots[0].y)
    assert medians.x[0] == pytest.approx(0.4 + 0.01 * 20)


def test_a_scatter_draws_a_sample_and_correlates_all():
    table = scores(3000).with_columns(weak=pl.when(pl.col("value") > 0).then("weak"))
    found = assay_scatter(table, ["m<1>", "weak"], model_colours(MODELS), max_points=500, seed=1)
    expected = bootstrap_metric(spearman, table["m<1>"], table["value"], num_draws=1000, seed=1)
    interval = found.correlations["m<1>"]
    assert (interval.value, interval.low, interval.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.correlations["weak"].n == int((table["value"] > 0).sum())
    one, two = found.figure().data
    assert len(one.x) == 500 > len(two.x) > 100
    assert one.marker.color == MODEL_COLOURS[0]
    by_name = dict(table.select("mutant", "value").iter_rows())
    assert all(y == pytest.approx(by_name[name], rel=1e-3) for name, y in zip(one.text, one.y, strict=True))
    again = assay_scatter(table, ["m<1>"], max_points=500, seed=1)
    assert again.table["mutant"].to_list() == found.table["mutant"].to_list()


def test_a_model_whose_scores_are_alike_has_no_correlation():
    table = scores(20).with_columns(weak=pl.lit(1.0))
    (note,) = assay_scatter(table, ["weak"]).figure().layout.annotations
    assert note.text == "weak<br>no Spearman"


def test_of_many_assays_some_are_shown_and_named(tmp_path):
    names = [f"assay{n:02d}" for n in range(20)]
    body, figures = page(write_variants(tmp_path / "run", names, size=30), tmp_path)
    assert len(figures) == 2 + MOST_SCATTERS
    assert "6 of 20 assays, evenly by rank from the best to the worst of m&lt;1&gt;: assay19" in body
    assert "assay00: 30 variants." in body
    assert representative({name: -n for n, name in enumerate(names)}, 3) == ["assay00", "assay10", "assay19"]


def test_scores_that_are_gone_or_wrong(tmp_path):
    run = write_variants(tmp_path / "run")
    (run / "scores" / "a.parquet").write_bytes(b"no table")
    with pytest.raises(RunError, match=r"cannot read .*a\.parquet"):
        page(run, tmp_path)
    shutil.rmtree(run / "scores")
    body, figures = page(run, tmp_path)
    assert len(figures) == 2
    assert "Spearman by assay" in body


def test_baseline_names_are_those_of_the_evaluation():
    from protlm.recipes.evaluate_variants import BASELINES

    assert set(BASELINES) == set(VARIANT_BASELINES)
