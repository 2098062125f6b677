"""Residue letters, and the stated policy for every letter that is not one of the twenty."""

import re
import string
from collections import Counter
from typing import Literal

from protlm.errors import DataError

STANDARD = "ACDEFGHIKLMNPQRSTVWY"
"""The twenty amino acids, alphabetical by letter. Masking draws replacements from these."""

UNUSUAL = "BJOUXZ"
"""Legal IUPAC letters outside the twenty: ambiguous (B J X Z) and rare (O U)."""

GAPS = "-."
STOP = "*"

_CLEAN = re.compile(f"[{STANDARD}{UNUSUAL}]+")
_KNOWN = frozenset(STANDARD + UNUSUAL)
_NUCLEOTIDES = re.compile("[ACGTUN]{20,}")
# not str.upper, which makes SS of the German sharp s and I of a dotless i
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)

GapPolicy = Literal["error", "remove"]


class ResidueError(DataError):
    """A sequence, or a string that goes along with one, that breaks the policy.

    Parameters
    ----------
    message, hint
        As for `DataError`.
    reason
        A few words, the same for all sequences with this fault, to count by.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


def clean_residues(text: str, *, gaps: GapPolicy = "error", counts: Counter[str] | None = None) -> str:
    """Apply the residue policy and return plain upper-case residues.

    Lower case becomes upper case, white space inside and one stop at the end are removed; each
    is counted. B, J, O, U, X and Z are kept as they are (a model's `TokenLayout` says what it
    does with them) and counted; so are 20 letters or more that are all of A, C, G, T, U and N, which
    are legal residues but look like nucleotides. Anything else is an error.

    Parameters
    ----------
    text
        A sequence as found in a file.
    gaps
        ``"error"`` refuses ``-`` and ``.``, which mean an aligned sequence; ``"remove"``
        deletes them.
    counts
        Where to add how many sequences each rule changed.

    Returns
    -------
    str
        Non-empty residues.

    Raises
    ------
    ResidueError
        For an empty sequence, a stop inside, a gap, or a letter that is no residue. The message
        has the 1-based position, white space not counted.

    Examples
    --------
    >>> seen = Counter()
    >>> clean_residues("mktAYx*", counts=seen), dict(seen)
    ('MKTAYX', {'lower case, made upper case': 1, 'stop at the end, removed': 1, 'X, kept': 1})
    """
    if _CLEAN.fullmatch(text):  # the common case, at the speed of one regular expression
        if counts is not None:
            _count_unusual(text, counts)
        return text
    notes: list[str] = []
    if re.search(r"\s", text):
        text = re.sub(r"\s+", "", text)
        notes.append("white space, removed")
    if text != text.translate(_UPPER):
        text = text.translate(_UPPER)
        notes.append("lower case, made upper case")
    if text.endswith(STOP):
        text = text[:-1]
        notes.append("stop at the end, removed")
    if gaps == "remove" and re.search(r"[-.]", text):
        text = re.sub(r"[-.]", "", text)
        notes.append("gaps, removed")
    _refuse_others(text)
    if counts is not None:
        counts.update(notes)
        _count_unusual(text, counts)
    return text


def _count_unusual(text: str, counts: Counter[str]) -> None:
    for letter in UNUSUAL:
        if letter in text:
            counts[f"{letter}, kept"] += 1
    if _NUCLEOTIDES.fullmatch(text):
        counts["only A C G T U N, kept (nucleotides? protlm reads proteins)"] += 1


def _refuse_others(text: str) -> None:
    if not text:
        raise ResidueError(
            "the sequence is empty", hint="remove the record, or pass --invalid drop", reason="empty sequence"
        )
    for index, letter in enumerate(text):
        if letter in _KNOWN:
            continue
        where = f"{letter!r} at position {index + 1}"
        if letter in GAPS:
            raise ResidueError(
                f"gap {where}: this looks like an aligned sequence",
                hint="pass --gaps remove to delete gaps",
                reason="gap in the sequence (--gaps remove deletes gaps)",
            )
        if letter == STOP:
            raise ResidueError(
                f"stop {where}, before the end",
                hint="cut the sequence there, or pass --invalid drop",
                reason="stop inside the sequence",
            )
        raise ResidueError(
            f"{where} is not a residue letter (expected {STANDARD} or {UNUSUAL})",
            hint="is this a protein sequence? pass --invalid drop to leave such records out",
            reason="letter that is no residue",
        )
