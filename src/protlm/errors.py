"""Errors meant for users: one message with what is wrong, the value, and how to mend it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend.

    The command line prints it without a traceback and exits with status 1.

    Parameters
    ----------
    message
        What is wrong, with the offending value and what was expected.
    hint
        How to mend it. Printed on a line of its own.

    Examples
    --------
    >>> print(UserError("wt.fasta: no records", hint="is the file empty?"))
    wt.fasta: no records
    hint: is the file empty?
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class ConfigError(UserError):
    """A configuration file or override is wrong."""


class DataError(UserError):
    """An input file, record, or variant is wrong."""


class ModelError(UserError):
    """A model cannot be found, loaded, or used as asked."""


class RunError(UserError):
    """A Run folder is missing, unfinished, or would be overwritten."""


class Interrupted(UserError):
    """The user or the cluster stopped the work; what was done is saved."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give a hint that names the closest known name and lists them all.

    Parameters
    ----------
    name
        What the user wrote.
    known
        What would have been accepted.

    Returns
    -------
    str
        One sentence.

    Examples
    --------
    >>> did_you_mean("regoin", ["uniform", "region"])
    "did you mean 'region'? known: region, uniform"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listing = "known: " + ", ".join(names)
    return f"did you mean '{close[0]}'? {listing}" if close else listing
