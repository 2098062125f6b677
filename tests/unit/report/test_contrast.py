"""The section on two towers, from a Run written by hand: no torch."""

import json
import math

import pytest
from handmade import write_run

from protlm.report.contrast import batch_sizes
from protlm.report.figures.curves import training_curves
from protlm.report.page import write_report

CONFIG = """
data: {structures: b<1>.parquet, group: fold, crop_residues: 64}
sequence: {model: runs/lm, adapt: {kind: lora}, head: {kind: linear, dim: 8, last_activation: none}}
structure: {encoder: protein-mpnn, is_trained: false, head: {kind: mlp, dim: 8, last_activation: gelu}}
loss: {same_cluster: SAME}
training: {step_records: 20, max_steps: 4}
segments: 1
"""
FACTS = {
    "source": "b<1>.parquet",
    "pairs": {"train": 60, "valid": 27, "test": 13},
    "clusters": {"train": 6, "valid": 3, "test": 2},
    "left_out": {"of fewer than 64 residues": 5, "of more than None residues": 0},
}


def metric_lines(lowest):
    losses = [3.5, lowest, lowest + 0.25]
    lines = []
    for step, loss in zip((0, 2, 4), losses, strict=True):
        shares = {"sequence_to_structure": 0.1 + 0.01 * step, "structure_to_sequence": 0.2}
        if step:
            train = {"loss": loss - 0.5, **shares, "tokens": 100, "temperature": 0.07 + step}
            lines.append({"step": step, "split": "train", **train})
        lines.append({"step": step, "split": "eval", "loss": loss, **shares})
    return lines


def write_contrast(path, *, lowest=2.0, same="positive", has_lines=True):
    lines = "".join(json.dumps(line) + "\n" for line in metric_lines(lowest)) if has_lines else ""
    return write_run(
        path,
        "contrast",
        config__yaml=CONFIG.replace("SAME", same),
        data_manifest__json={"pairs": FACTS},
        metrics__jsonl=lines,
    )


def page_of(run, tmp_path):
    return write_report([run], tmp_path / "report.html").read_text()


def test_the_page_has_towers_sides_and_what_guessing_gives(tmp_path):
    page = page_of(write_contrast(tmp_path / "towers"), tmp_path)
    size = 27 / 1  # one batch of all held-out pairs
    for text in (
        "20 pairs are told apart in a step",
        "group are right answers too",
        "in windows of 64 residues",
        "Left out: 5 of fewer than 64 residues.",
        "one value of &#39;fold&#39;",
        "mlp to 8, gelu behind",
        "b&lt;1&gt;.parquet: 100 pairs",
        f"{math.log(size):.3f}",
        f"{math.log(20):.3f}",
        f"{1 / size:.1%}",
        "evaluation, lowest loss",
    ):
        assert text in page, text
    assert "of more than None" not in page
    assert "never below" not in page
    assert "masked residue" not in page  # the section on masked training is not for it
    assert ", at most" not in page


def test_a_run_that_is_not_above_guessing_is_told_in_red(tmp_path):
    page = page_of(write_contrast(tmp_path / "towers", lowest=3.4, same="ignore"), tmp_path)
    assert "never below that of guessing: 3.400 against 3.296" in page
    assert "on the former, at most." in page


def test_a_run_that_was_stopped_at_once_has_a_section(tmp_path):
    page = page_of(write_contrast(tmp_path / "towers", has_lines=False), tmp_path)
    assert "The towers and their heads" in page
    assert "Both hang on" not in page


def test_no_batch_is_larger_than_its_side():
    config = {"training": {"step_records": 64}}
    assert batch_sizes(config, {"train": 852, "valid": 122}) == {"train": 64, "eval": 61}
    assert batch_sizes(config, {"train": 40, "valid": 0}) == {"train": 40}


def test_the_line_of_chance_is_in_its_own_panel():
    curves = training_curves({"r": metric_lines(2.0)}, metrics=("loss", "temperature"), chance={"loss": 1.5})
    assert curves is not None
    lines = [shape for shape in curves.figure().layout.shapes if shape.type == "line"]
    assert [(line.y0, line.y1, line.yref) for line in lines] == [(1.5, 1.5, "y")]
    assert curves.metrics == ("loss", "temperature")
    assert curves.curves[-1].y == pytest.approx((2.07, 4.07))
