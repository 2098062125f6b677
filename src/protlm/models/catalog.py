"""The catalogue of published models, read without torch."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class CatalogEntry:
    """Facts about one published model."""

    name: str
    source: str
    """Repository on the Hugging Face hub."""
    parameters: str
    licence: str
    citation: str
    max_tokens: int | None = None
    """Longest input with begin and end tokens; `None` where there is no limit."""


@cache
def catalog() -> dict[str, CatalogEntry]:
    """Give the entries of ``catalog.toml`` by short name.

    Examples
    --------
    >>> catalog()["esm1v-1"].max_tokens
    1024
    """
    text = resources.files("protlm.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    return {name: CatalogEntry(name=name, **facts) for name, facts in tomllib.loads(text).items()}
