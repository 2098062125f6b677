"""protlm VERB: parse, call the recipe, turn a user's mistake into one message."""

import sys
from importlib import import_module

import typer

from protlm.errors import UserError

app = typer.Typer(
    name="protlm",
    help="Train, adapt, score and honestly judge protein and antibody language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS = ("demo", "simulate", "prepare", "pretrain", "evaluate", "score", "embed", "report", "models")

for _verb in VERBS:
    import_module(f"protlm.cli.{_verb}").add_to(app)


def main() -> None:
    """Run the command line; exit 1 with one message for a user's mistake."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
