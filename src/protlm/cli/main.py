"""protlm VERB: parse, call the recipe, turn a user's mistake into one message."""

import signal
import sys
from importlib import import_module
from typing import NoReturn

import typer

from protlm.cli.options import is_main_process
from protlm.errors import Interrupted, UserError

app = typer.Typer(
    name="protlm",
    help="Train, adapt, score and honestly judge protein and antibody language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS = (
    "simulate",
    "prepare",
    "tokenizer",
    "pretrain",
    "contrast",
    "finetune",
    "predict",
    "mask",
    "split",
    "audit",
    "evaluate",
    "fetch",
    "explain",
    "score",
    "embed",
    "report",
    "models",
    "convert",
    "demo",
)

INTERRUPTED = 130
"""Exit status after Ctrl-C or a cluster's SIGTERM."""

for _verb in VERBS:
    import_module(f"protlm.cli.{_verb}").add_to(app)


def main() -> None:
    """Run the command line.

    Exit status 1 and one message for a user's mistake, 2 for wrong usage, 130 when interrupted. An
    error of our own keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run()
    except SystemExit as leave:
        processes = sys.modules.get("protlm.training.processes")
        if processes is not None and processes.num_launched() > 1:
            processes.end_process(leave.code if isinstance(leave.code, int) else int(leave.code is not None))
        raise


def _run() -> None:
    try:
        app()
    except Interrupted as error:
        _tell(f"{error}\n")
        sys.exit(INTERRUPTED)
    except UserError as error:
        _tell(f"error: {error}\n")
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        sys.stderr.write(f"error: {error.filename or 'file system'}: {error.strerror}\n")
        sys.exit(1)
    except SystemExit as leave:
        if leave.code == INTERRUPTED:
            sys.stderr.write("interrupted\n")
        raise


def _tell(text: str) -> None:
    """Write to standard error, once for all processes that train together."""
    if is_main_process():
        sys.stderr.write(text)


def _interrupt(signal_number: int, frame: object) -> NoReturn:
    """Treat a cluster's SIGTERM like Ctrl-C, so that state is saved."""
    del signal_number, frame
    raise KeyboardInterrupt
