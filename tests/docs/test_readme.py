"""The README's commands run as they are printed, but for the two of make."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_its_two_commands_are_make_demo_and_make_test():
    first = BLOCKS[0][1]
    assert [line.split("#")[0].split() for line in first.splitlines()] == [["make", "demo"], ["make", "test"]]


def test_its_links_lead_somewhere():
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (root / link).exists(), link


@pytest.mark.slow
def test_the_complete_example_runs_and_then_the_python_one(tmp_path):
    bash = [text for kind, text in BLOCKS if kind == "bash" and "make " not in text]
    python = [text for kind, text in BLOCKS if kind == "python"]
    assert len(bash) == 1
    assert len(python) == 1
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    script = "set -euo pipefail\n" + bash[0]
    answer = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "report.html").stat().st_size > 100_000
    check = python[0] + "\nassert scores.height == 2\nassert embeddings.height == 20\n"
    answer = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
