"""The section on a task, from a Run written by hand: no torch."""

import polars as pl
import pytest
from handmade import write_run

from protlm.report.figures.tasks import task_scores
from protlm.report.page import write_report
from protlm.report.task_lines import task_lines, verdict_lines

CARD = {
    "name": "own",
    "kind": "binary",
    "primary": "auroc",
    "version": 2,
    "title": "Own task",
    "about": "Whether a model knows.",
    "published": [
        {"model": "theirs", "data": "other", "metrics": {"auroc": 0.71}, "reference": "A & B 2025"}
    ],
}
VERDICT = {
    "threshold": 0.6,
    "by_construction": False,
    "is_confounded": True,
    "baseline": "ends",
    "auroc": {"value": 0.7, "low": 0.65, "high": 0.75},
}


def metrics(model_auroc: float = 0.8) -> pl.DataFrame:
    rows = []
    for method, kind, auroc in (("m<1>", "model", model_auroc), ("ends", "baseline", 0.7)):
        for metric, value in (("accuracy", 0.6), ("auroc", auroc), ("mcc", float("nan"))):
            rows.append(
                {
                    "task": "own",
                    "split": "clonotype",
                    "method": method,
                    "kind": kind,
                    "metric": metric,
                    "value": value,
                    "low": value - 0.05,
                    "high": value + 0.05,
                    "n": 1234,
                    "n_groups": 99,
                    "n_seeds": 3,
                    "fold_mean": value,
                    "fold_sem": 0.01,
                }
            )
    return pl.DataFrame(rows)


def differences() -> pl.DataFrame:
    row = {
        "task": "own",
        "split": "clonotype",
        "first": "m<1>",
        "second": "ends",
        "metric": "auroc",
        "first_value": 0.8,
    }
    row |= {"second_value": 0.7, "difference": 0.1, "low": 0.04, "high": 0.16, "n": 1234, "n_groups": 99}
    return pl.DataFrame([row])


def verdicts(model_auroc: float = 0.8) -> pl.DataFrame:
    row = {"task": "own", "split": "clonotype", "model": "m<1>", "metric": "auroc", "value": model_auroc}
    row |= {"low": model_auroc - 0.05, "high": model_auroc + 0.05, "n": 1234, "n_groups": 99}
    row |= {"baseline": "ends", "baseline_value": 0.7, "difference": model_auroc - 0.7}
    row |= {"difference_low": model_auroc - 0.76, "difference_high": model_auroc - 0.64}
    return pl.DataFrame([row | {"verdict": "above" if model_auroc > 0.76 else "below"}])


@pytest.fixture
def run(tmp_path):
    split = {"shared_groups": 0, "num_groups": 99, "shared_chains": 3, "num_chains": 200}
    split["shared_values"] = {"Sources": {"shared": 7, "distinct": 9}}
    facts = {"task": CARD, "confounded": {"clonotype": VERDICT}, "splits": {"clonotype": split}}
    manifest = {"num_records": 1234, "tasks": {"own": facts}}
    path = write_run(
        tmp_path / "judged", "evaluate", data_manifest__json=manifest, config__yaml="models: []\n"
    )
    metrics().write_parquet(path / "tables" / "metrics.parquet")
    differences().write_parquet(path / "tables" / "differences.parquet")
    verdicts().write_parquet(path / "tables" / "verdicts.parquet")
    return path


def test_the_page_has_verdict_leakage_and_published_numbers(run, tmp_path):
    page = write_report([run], tmp_path / "report.html").read_text()
    for text in (
        "CONFOUNDED: baseline &#39;ends&#39; alone has AUROC 0.700 [0.650, 0.750], above 0.6",
        "3 of 200 chains; 7 of 9 values of &#39;Sources&#39;",
        "theirs: other",
        "0.800 [0.750, 0.850]",
        "+0.100 [+0.040, +0.160]",
        "m&lt;1&gt;",
    ):
        assert text in page, text
    assert "is not better than" not in page


def test_a_model_below_its_baseline_is_said_in_red(run, tmp_path):
    metrics(model_auroc=0.69).write_parquet(run / "tables" / "metrics.parquet")
    verdicts(model_auroc=0.69).write_parquet(run / "tables" / "verdicts.parquet")
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "m&lt;1&gt; is not better than the baseline &#39;ends&#39; in AUROC (0.690 against 0.700)" in page


def test_the_figure_leaves_out_what_is_undefined_and_greys_baselines():
    figure = task_scores(metrics()).figure()
    points = {(trace.y[0], trace.x[0]): trace.marker.color for trace in figure.data}
    drawn = {("m&lt;1&gt;", 0.8), ("ends", 0.7), ("m&lt;1&gt;", 0.6), ("ends", 0.6)}
    assert set(points) == drawn  # AUROC and accuracy; MCC is undefined
    assert points["ends", 0.7] != points["m&lt;1&gt;", 0.8]


def test_lines_fit_a_terminal_and_say_the_verdict():
    facts = {"task": CARD, "confounded": {"clonotype": VERDICT}}
    lines = task_lines(metrics(), differences(), verdicts(0.69), {"own": facts})
    assert max(map(len, lines[:-4])) <= 100  # the summary has a column more
    assert any(line.startswith("CONFOUNDED") for line in lines)
    assert any("m<1> minus ends" in line and "+0.100" in line for line in lines)
    assert any("theirs" in line and "0.710" in line for line in lines)
    assert "BELOW OR EQUAL" in lines[-1]


def test_verdicts_in_words():
    fine = {**VERDICT, "is_confounded": False}
    assert verdict_lines(fine)[0].startswith("not confounded: baseline 'ends'")
    by_construction = {**VERDICT, "by_construction": True}
    assert "by construction" in verdict_lines(by_construction)[0]
    assert "not known" in verdict_lines({**fine, "baseline": None})[0]
    assert verdict_lines(None) == []
