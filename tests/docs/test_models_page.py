"""docs/models.md names every layout as it is written, and its commands parse."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from protlm.cli.main import app
from protlm.data.layout import SEPARATORS, published_layout
from protlm.data.vocabularies import LAYOUTS
from protlm.models.architectures import EsmArchitecture
from protlm.models.catalog import catalog

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = {match[1]: match[0] for match in re.finditer(r"^\| `([\w-]+)` \| \d.*$", PAGE, flags=re.MULTILINE)}


def test_every_layout_has_a_row_and_no_other():
    assert set(ROWS) == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_row_shows_the_ids_the_pair_and_a_command(name):
    layout = published_layout(name)
    assert f"| {len(layout.tokens)}" in ROWS[name]
    if "|" not in layout.separator:
        assert f"`{layout.begin[0]}H{layout.separator_text}L{layout.end[0]}`" in ROWS[name]
    assert "protlm convert DOWNLOAD" in ROWS[name]
    asked = re.findall(r"--layout ([\w-]+)", ROWS[name])
    assert asked == ([] if name == "esm" else [name])


def test_its_configuration_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    config = EsmArchitecture.Config.from_dict(yaml.safe_load(text)["model"])
    assert config.layer_norm_eps == 1e-12
    for name in SEPARATORS:
        assert name in text


def test_its_options_are_those_of_the_command():
    answer = CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    for option in ("--out", "--layout", "--inside"):
        assert option in answer.stdout
        assert option in PAGE


@pytest.mark.parametrize("name", [name for name, entry in catalog().items() if entry.convert_command])
def test_the_catalogues_own_commands_name_known_layouts(name):
    command = catalog()[name].convert_command
    assert command is not None
    assert command.startswith(f"protlm convert DOWNLOAD --out {name} --layout ")
    assert command.rpartition(" ")[2] in LAYOUTS
