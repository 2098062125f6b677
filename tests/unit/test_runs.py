"""The Run folder: what may be written where, and what survives an interruption."""

import pytest

from protlm.errors import RunError
from protlm.runs import Run


def test_a_finished_run_is_not_overwritten_unless_forced(tmp_path):
    run = Run.create(tmp_path / "a", verb="pretrain")
    run.log(step=1, loss=2.0)
    run.finish()
    with pytest.raises(RunError, match="finished 'pretrain' Run") as caught:
        Run.create(tmp_path / "a", verb="pretrain")
    assert "--force" in str(caught.value)
    again = Run.create(tmp_path / "a", verb="pretrain", force=True)
    assert not again.is_done
    assert list(again.metrics()) == []


def test_a_folder_that_is_no_run_is_never_touched_even_by_force(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(RunError, match="not a Run folder"):
        Run.create(tmp_path, verb="pretrain", force=True)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_force_leaves_files_that_are_not_the_runs_own(tmp_path):
    run = Run.create(tmp_path / "a", verb="pretrain")
    (run.path / "notes.txt").write_text("mine")
    run.finish()
    Run.create(run.path, verb="pretrain", force=True)
    assert (run.path / "notes.txt").read_text() == "mine"


def test_force_removes_all_that_a_model_is_made_of(tmp_path):
    run = Run.create(tmp_path / "a", verb="contrast")
    for folder in ("model", "heads", "structure_encoder", "adapter"):
        (run.path / folder).mkdir()
        (run.path / folder / "name.json").write_text("{}")
    Run.create(run.path, verb="contrast", force=True)
    assert sorted(each.name for each in run.path.iterdir()) == ["environment.json", "tables"]


def test_a_run_of_another_verb_is_refused(tmp_path):
    Run.create(tmp_path / "a", verb="pretrain")
    with pytest.raises(RunError, match="'pretrain' Run, not a 'evaluate' one"):
        Run.create(tmp_path / "a", verb="evaluate")


def test_a_last_metric_line_cut_short_is_left_out(tmp_path):
    run = Run.create(tmp_path / "a", verb="pretrain")
    run.log(step=1, loss=2.0)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [line["step"] for line in run.metrics()] == [1]


def test_rewinding_drops_later_steps(tmp_path):
    run = Run.create(tmp_path / "a", verb="pretrain")
    for step in range(1, 6):
        run.log(step=step)
    run.rewind_log(3)
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]


def test_a_run_of_a_later_format_says_so(tmp_path):
    run = Run.create(tmp_path / "a", verb="pretrain")
    run.write_json("environment.json", {"format_version": 99, "verb": "pretrain"})
    with pytest.raises(RunError, match="upgrade protlm"):
        Run.open(run.path)


def test_the_environment_names_versions_and_the_command(tmp_path):
    facts = Run.create(tmp_path / "a", verb="pretrain").read_json("environment.json")
    assert facts["verb"] == "pretrain"
    assert "protlm" in facts["versions"]
    assert facts["arguments"]
