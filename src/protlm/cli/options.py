"""Options that several verbs share, and where talk goes."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from protlm.data.readers import InputPolicy
    from protlm.models.language_model import Precision

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
PrecisionName = Annotated[str, typer.Option("--precision", help="float32 or bfloat16")]
Force = Annotated[bool, typer.Option("--force", help="replace a finished result")]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", help="token budget of a batch; bounds memory; by the device if not said", min=1
    ),
]
Long = Annotated[
    str,
    typer.Option(
        help="a chain that a model does not take: error, window (a piece around each residue read) or tile "
        "(fixed overlapping pieces)"
    ),
]
Window = Annotated[
    int | None, typer.Option(help="--long: residues of a piece  (default: what the model takes)")
]
Heavy = Annotated[str | None, typer.Option(help="column with the heavy chain")]
Light = Annotated[str | None, typer.Option(help="column with the light chain")]
Sequence = Annotated[str | None, typer.Option(help="column with a single chain")]
Invalid = Annotated[str, typer.Option(help="records that are not plain residues: error, or drop and count")]
Gaps = Annotated[str, typer.Option(help="- and . inside a sequence: error, or remove and count")]
DuplicateIds = Annotated[str, typer.Option(help="ids seen before: error, or rename with #2, #3 …")]
LayoutName = Annotated[
    str, typer.Option("--layout", help="what kind of table it is; auto tells it from its columns")
]
PairedIds = Annotated[
    bool, typer.Option("--paired-ids", help="FASTA: join heavy and light records of one name, as a_H and a_L")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. training.max_steps=100")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; see configs/")]


def as_settings(values: Mapping[str, Any]) -> list[str]:
    """Write options that were given as ``KEY=VALUE``, as `Set` has them.

    Parameters
    ----------
    values
        By key; `None` is an option that was not given.

    Examples
    --------
    >>> as_settings({"data.group": "fold", "seed": None, "seeds": [0, 1]})
    ['data.group="fold"', 'seeds=[0, 1]']
    """
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def say(text: str) -> None:
    """Write talk to standard error, so that data can go to standard output.

    Parameters
    ----------
    text
        One line.
    """
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def is_main_process() -> bool:
    """Tell whether this process talks: the only one, or the first that `accelerate launch` started."""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def precision_of(value: str) -> "Precision":
    """Check what ``--precision`` was given.

    Parameters
    ----------
    value
        What the user wrote.
    """
    return cast("Precision", choice("--precision", value, ("float32", "bfloat16")))


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """Check a value that must be one of a few words.

    Parameters
    ----------
    name
        Of the option.
    value
        What the user wrote.
    known
        What is allowed.
    """
    from protlm.errors import ConfigError, did_you_mean

    if value not in known:
        raise ConfigError(f"{name} {value!r} is not a choice", hint=did_you_mean(value, known))
    return value


def input_policy(invalid: str, gaps: str, duplicate_ids: str, *, paired_ids: bool) -> "InputPolicy":
    """Put together what is done with records that are not plain.

    Parameters
    ----------
    invalid, gaps, duplicate_ids, paired_ids
        The options of these names.
    """
    from protlm.data.readers import InputPolicy

    return InputPolicy(
        invalid=choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
        duplicate_ids=choice("--duplicate-ids", duplicate_ids, ("error", "rename")),  # type: ignore[arg-type]
        paired_ids=paired_ids,
    )
