"""Which settings of an interrupted Run count as changed."""

import pytest

from protlm.config import BaseConfig
from protlm.errors import RunError
from protlm.recipes.resuming import changed_settings, refuse_changes
from protlm.runs import Run


class Settings(BaseConfig):
    steps: int = 3
    newer: bool = False


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", verb="pretrain")


def test_a_run_without_settings_may_go_on(run):
    assert changed_settings(run, Settings(steps=9)) == []


def test_what_differs_is_named_and_refused(run):
    run.write_config(Settings(steps=2).dump())
    assert changed_settings(run, Settings(steps=2)) == []
    changed = changed_settings(run, Settings(steps=4, newer=True))
    assert changed == ["newer (false, now true)", "steps (2, now 4)"]
    with pytest.raises(RunError, match=r"newer \(false, now true\), steps \(2, now 4\) changed"):
        refuse_changes(run, changed)
    refuse_changes(run, [])


def test_settings_newer_than_the_run_had_their_defaults(run):
    run.write_config("steps: 2\n")
    assert changed_settings(run, Settings(steps=2)) == []
    assert changed_settings(run, Settings(steps=2, newer=True)) == ["newer (false, now true)"]


def test_settings_that_are_no_more_are_named(run):
    run.write_config("steps: 2\nolder: 1\n")
    assert changed_settings(run, Settings(steps=2)) == ["newer (null, now false)", "older (1, now null)"]
