"""Sections and figures on segments, calibration, germline bias, sequences and partners."""

import json

import polars as pl
import pytest
from handmade import REGIONS, comparison_table, write_evaluation, write_run

from protlm.report.evaluation_lines import partner_lines
from protlm.report.figures import calibration, germline_bias, partner
from protlm.report.page import write_report
from protlm.report.tables import wide_table, with_interval

MODELS = ("cdr3", "position_mode")
SIZES = {"n_residues": 900, "n_records": 12, "n_groups": 11}


def bounds(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.07}


def segments() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "chain": "heavy",
            "region": region,
            "segment": segment,
            **SIZES,
            **bounds("accuracy", 0.5),
            **bounds("cross_entropy", 1.5),
            "perplexity": 4.48,
        }
        for region in ("all", "CDR3")
        for segment in "VNDJ"
        for model in MODELS
    )


def errors() -> pl.DataFrame:
    facts = {"confidence": 0.8, "accuracy": 0.75, "chance": 0.011}
    return pl.DataFrame(
        {"model": model, "chain": chain, "region": region, **SIZES, **facts, **bounds("error", 0.06)}
        for model in MODELS
        for chain in ("heavy", "light")
        for region in ("all", "CDR3")
    )


def bins() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "chain": chain,
            "region": region,
            "bin": number,
            "n_residues": 90,
            "confidence": 0.1 * number + 0.05,
            **bounds("accuracy", 0.1 * number),
        }
        for model in MODELS
        for chain in ("heavy", "light")
        for region in ("all", "CDR3", "framework")
        for number in range(10)
    )


def bias() -> pl.DataFrame:
    shares = {**bounds("right", 0.2), **bounds("germline", 0.7), **bounds("other", 0.1)}
    return pl.DataFrame(
        {"model": model, "chain": chain, "region": region, **SIZES, **shares, **bounds("log_odds", -1.2)}
        for model in MODELS
        for chain in ("heavy", "light")
        for region in ("CDR3", "all")
    )


def sequences() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "chain": "heavy",
            "region": region,
            "antibodies": "all",
            "n_records": 12,
            "n_groups": 11,
            **bounds("accuracy", 0.6),
            "accuracy_median": 0.61,
            **bounds("loss", 1.1),
            "loss_median": 1.0,
        }
        for region in REGIONS
        for model in MODELS
    )


def gains(models: tuple[str, ...] = ("cdr3", "uniform"), gain: float = 0.03) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "against": against,
            "chain": chain,
            "region": region,
            "metric": metric,
            "value": 1.0,
            "other_value": 1.0 + gain,
            **bounds("gain", gain),
            "p_value": 0.001,
            "p_adjusted": None if region == "all" else 0.014,
            "stars": "" if region == "all" else "*",
            **SIZES,
        }
        for model in models
        for against in ("random", "random_same_locus", "none")
        for chain in ("heavy", "light")
        for metric in ("accuracy", "cross_entropy")
        for region in (*REGIONS, "all")
    )


def masked() -> tuple[pl.DataFrame, pl.DataFrame]:
    shares = {**bounds("native", 0.1), **bounds("germline", 0.6), **bounds("cross_entropy", 2.0)}
    summary = pl.DataFrame(
        {"model": "cdr3", "partner": partner, "chain": chain, "region": "all", **SIZES, **shares}
        for chain in ("heavy", "light")
        for partner in ("native", "reverted")
    )
    lines = gains(("cdr3",)).filter((pl.col("against") == "none") & (pl.col("region") == "all"))
    renamed = [
        lines.filter(pl.col("metric") == "accuracy").with_columns(metric=pl.lit(name))
        for name in ("native", "germline", "cross_entropy")
    ]
    return summary, pl.concat(renamed).with_columns(against=pl.lit("reverted"))


@pytest.fixture
def runs(tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    tables = {"segments": segments(), "calibration": errors(), "calibration_bins": bins()}
    for name, frame in {**tables, "germline_bias": bias(), "sequences_summary": sequences()}.items():
        frame.write_parquet(evaluation / "tables" / f"{name}.parquet")
    other = write_run(tmp_path / "partner", "evaluate", config__yaml="models: [runs/cdr3]\n")
    gains().write_parquet(other / "tables" / "partner_gain.parquet")
    for name, frame in zip(("summary", "gain"), masked(), strict=True):
        frame.write_parquet(other / "tables" / f"mutation_masking_{name}.parquet")
    return [evaluation, other]


def figures_of(text: str) -> list[dict]:
    pieces = text.split('<script type="application/json"')[1:]
    return [json.loads(piece.partition(">")[2].partition("</script>")[0]) for piece in pieces]


def test_every_section_is_there_with_its_figure(runs, tmp_path):
    text = write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")
    for title in (
        "Gene segments: evaluation",
        "Germline bias: evaluation",
        "Calibration: evaluation",
        "By sequence, as published: evaluation",
        "What the partner tells: partner",
    ):
        assert f"<h2>{title}</h2>" in text
    names = [
        trace.get("name", "") for figure in figures_of(text) for trace in figure["data"] if "name" in trace
    ]
    assert "position_mode" in names


def test_a_run_without_the_tables_has_none_of_the_sections(tmp_path):
    text = write_report([write_evaluation(tmp_path / "e")], tmp_path / "r.html").read_text(encoding="utf-8")
    for word in ("Gene segments", "Germline bias", "Calibration", "By sequence", "What the partner tells"):
        assert f"<h2>{word}" not in text


def test_baselines_are_compared_in_a_table_and_models_in_a_figure(tmp_path):
    run = write_evaluation(tmp_path / "e")
    lines = [comparison_table("cdr3", "uniform"), comparison_table("cdr3", "position_mode")]
    pl.concat(lines).write_parquet(run / "tables" / "comparisons.parquet")
    text = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "cdr3 minus uniform" in text
    assert "cdr3 minus each baseline [95 % interval]; red: the baseline is better." in text
    assert "cdr3 minus position_mode" not in text
    # accuracy 0.1 higher is good, cross-entropy 0.1 higher is bad
    row = text.partition("cdr3 minus each baseline")[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert '<td class="bad">+0.100 [+0.050, +0.160]</td>' in row
    assert "<td>+0.100 [+0.050, +0.160]</td>" in row


def test_the_reliability_curve_has_its_points_and_a_diagonal():
    figure = calibration.reliability(bins()).figure()
    diagonals = [trace for trace in figure.data if trace.showlegend is False and list(trace.x) == [0, 1]]
    assert len(diagonals) == 4  # two chains, all residues and CDR3; framework is in the table alone
    curve = next(trace for trace in figure.data if trace.name == "cdr3")
    assert list(curve.y) == pytest.approx([0.1 * number for number in range(10)])
    assert list(curve.error_y.array) == pytest.approx([0.07] * 10)
    assert list(curve.error_y.arrayminus) == pytest.approx([0.05] * 10)


def test_the_bars_of_germline_bias_are_of_all_regions():
    figure = germline_bias.germline_bias(bias()).figure()
    assert len(figure.data) == 4  # two models, two chains
    assert list(figure.data[0].y) == [0.2, 0.7, 0.1]
    assert figure.data[1].marker.pattern.shape


def test_panels_with_some_partner_share_an_axis_and_zero_is_on_it():
    table = pl.concat([gains(("cdr3",), 0.02), gains(("uniform",), 0.04)])
    figure = partner.partner_gains(table).figure()
    ranges = [tuple(figure.layout[f"yaxis{number or ''}"].range) for number in ("", 2, 3)]
    assert ranges[0] == ranges[1]
    assert all(low < 0 < high for low, high in ranges)
    assert len([shape for shape in figure.layout.shapes if shape.y0 == shape.y1 == 0]) == 6


def test_partner_lines_name_condition_gain_and_stars():
    lines = partner_lines(gains(("cdr3",)))
    assert any("cdr3: random_same_locus" in line for line in lines)
    row = next(line for line in lines if line.startswith("CDR3"))
    assert "+0.030 [-0.020, +0.100] *" in row
    assert max(map(len, lines)) <= 100


def test_wide_tables_repeat_their_labels_within_the_width():
    columns = {f"model {number}": ["0.123 [0.100, 0.150]"] for number in range(7)}
    lines = wide_table({"region": ["CDR3"]}, columns, width=60)
    assert max(map(len, lines)) <= 60
    assert (
        sum(line.startswith("CDR3") for line in lines)
        == sum(line.startswith("region") for line in lines)
        == 4
    )
    assert all(any(f"model {number}" in line for line in lines) for number in range(7))


def test_a_column_wider_than_the_width_still_gets_its_table():
    assert wide_table({"a": ["x"]}, {"b" * 50: ["1"]}, width=10)[0].endswith("b" * 50)


def test_no_value_is_a_dash():
    assert with_interval(None, "gain") == "–"
    assert with_interval({"gain": float("nan"), "gain_low": 0.0, "gain_high": 0.0}, "gain") == "–"
