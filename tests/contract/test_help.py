"""Help pages show what is written for them: square brackets are markup to what prints them, and vanish."""

import pytest
from rich.text import Text
from typer.main import get_command

from protlm.cli.main import app


def commands(command, path):
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{path} {name}")


ALL = dict(commands(get_command(app), "protlm"))


@pytest.mark.parametrize("path", ALL)
def test_no_word_of_a_help_page_is_taken_for_markup(path):
    command = ALL[path]
    texts = [command.help or "", *(getattr(each, "help", None) or "" for each in command.params)]
    assert [Text.from_markup(text).plain for text in texts] == texts
