"""The catalogue of published models, read without torch."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True)
class CatalogEntry:
    """Facts about one published model."""

    name: str
    source: str
    """Repository on the hub, the page of a download that `protlm convert` reads, ``package``, ``members``."""
    parameters: str
    licence: str
    """As the source states it for the weights; ``not stated`` where it does not."""
    citation: str
    molecule: Literal["protein", "antibody"] = "protein"
    """What the model was trained on."""
    layout: str | None = None
    """A name in `protlm.data.vocabularies.LAYOUTS`; `None` where the model's own files say."""
    max_tokens: int | None = None
    """Longest input with begin and end tokens; `None` where there is no limit."""
    trained_tokens: int | None = None
    """Longest input in training, where that is shorter than what the model takes."""
    note: str = ""
    members: tuple[str, ...] = ()
    """Names of other entries, where this one stands for several models."""

    @property
    def is_on_hub(self) -> bool:
        """Whether the weights come from the Hugging Face hub."""
        return "://" not in self.source and not self.is_packaged and not self.members

    @property
    def is_packaged(self) -> bool:
        """Whether the weights come with protlm."""
        return self.source == "package"

    @property
    def convert_command(self) -> str | None:
        """The command that makes a loadable folder of a download; `None` where the name loads as it is."""
        if self.is_on_hub or self.is_packaged or self.members:
            return None
        option = f" --layout {self.layout}" if self.layout else ""
        return f"protlm convert DOWNLOAD --out {self.name}{option}"


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Give the entries of ``catalog.toml`` by short name.

    Examples
    --------
    >>> catalog()["esm1v-1"].max_tokens
    1024
    """
    text = resources.files("protlm.models").joinpath("catalog.toml").read_text(encoding="utf-8")
    entries = {name: _entry(name, **facts) for name, facts in tomllib.loads(text).items()}
    return MappingProxyType(entries)


def _entry(name: str, *, members: Iterable[str] = (), **facts: Any) -> CatalogEntry:
    return CatalogEntry(name=name, members=tuple(members), **facts)


def layout_in_catalog(source: str) -> str | None:
    """Give the published layout of a source that the catalogue lists.

    Parameters
    ----------
    source
        A repository on the hub.

    Examples
    --------
    >>> layout_in_catalog("brineylab/CurrAb")
    'currab'
    """
    return next((entry.layout for entry in catalog().values() if entry.source == source), None)
