"""Fixtures of the report's tests; puts this folder on the path, so that tests write `from handmade…`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from handmade import write_evaluation, write_pretrain, write_scan


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Two trainings, an evaluation of both, and a scan."""
    return [
        write_pretrain(tmp_path / "cdr3"),
        write_pretrain(tmp_path / "uniform", slope=0.25),
        write_evaluation(tmp_path / "evaluation"),
        write_scan(tmp_path / "scan.csv"),
    ]
