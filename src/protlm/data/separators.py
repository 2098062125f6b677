"""Named ways of parting two chains in the input of a model."""

from protlm.errors import ConfigError, did_you_mean
from protlm.types.alphabet import STANDARD

SEPARATORS: dict[str, tuple[str, ...]] = {
    "cls-cls": ("cls", "cls"),
    "cls": ("cls",),
    "eos-eos": ("eos", "eos"),
    "eos": ("eos",),
    "sep": ("sep",),
    "pipe": ("|",),
    "linker": (*"GGGGS",) * 3,
}
"""Named ways of parting two chains. They are a property of the model that was trained with them.

`linker:RESIDUES` is a linker of one's own. `cls`, `eos` and `sep` are written as the vocabulary writes them.
"""

SPELLINGS = {
    "cls": ("<cls>", "<s>", "[CLS]"),
    "eos": ("<eos>", "</s>", "[SEP]"),
    "sep": ("<sep>", "</s>", "[SEP]"),
}
"""How vocabularies write a special token, the usual way first."""


def check_separator(name: str) -> str:
    """Give the name of a separator back if there is such a one.

    Parameters
    ----------
    name
        One of `SEPARATORS`, or ``linker:RESIDUES``.

    Raises
    ------
    ConfigError
        If there is no such separator.

    Examples
    --------
    >>> check_separator("linker:GGGGSGGGGS")
    'linker:GGGGSGGGGS'
    """
    kind, _, residues = name.partition(":")
    is_linker = kind == "linker" and bool(residues) and set(residues) <= set(STANDARD)
    if name not in SEPARATORS and not is_linker:
        raise ConfigError(
            f"unknown chain separator '{name}'",
            hint=did_you_mean(name, SEPARATORS)
            + ", or linker:RESIDUES with a linker of the twenty amino acids",
        )
    return name
