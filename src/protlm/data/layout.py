"""A model's token layout: vocabulary, begin and end, separator, limits. Saved beside the weights."""

import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from protlm.errors import ConfigError, ModelError, did_you_mean
from protlm.types.alphabet import STANDARD, UNUSUAL

FILE_NAME = "token_layout.json"
FORMAT_VERSION = 1

CountT = TypeVar("CountT", int, np.ndarray)

SEPARATORS: dict[str, tuple[str, ...]] = {
    "cls-cls": ("<cls>", "<cls>"),
    "cls": ("<cls>",),
    "eos-eos": ("<eos>", "<eos>"),
    "eos": ("<eos>",),
}
"""Named ways of parting two chains. They are a property of the model that was trained with them."""


@dataclass(frozen=True)
class TokenLayout:
    """How records become token ids for one model.

    Examples
    --------
    >>> layout = esm_layout()
    >>> layout.residue_ids[ord("L")], layout.mask_id, layout.num_specials(num_chains=2)
    (np.int16(4), 32, 4)
    """

    tokens: tuple[str, ...]
    """The vocabulary, by id."""
    begin: tuple[str, ...] = ("<cls>",)
    """Tokens before the first chain."""
    end: tuple[str, ...] = ("<eos>",)
    """Tokens after the last chain."""
    separator: tuple[str, ...] = ("<cls>", "<cls>")
    """Tokens between two chains; the vocabulary may lack them if every record has one chain."""
    pad: str = "<pad>"
    mask: str = "<mask>"
    unknown: str = "X"
    """What stands for a residue letter that the vocabulary lacks; always one token per residue."""
    position_gap: int = 0
    """Added to the positions of each chain after the first."""
    max_tokens: int | None = None
    """Longest input with all special tokens; `None` where the model has no limit."""

    def __post_init__(self) -> None:
        needed = {*self.begin, *self.end, self.pad, self.mask, self.unknown, *STANDARD}
        if missing := sorted(needed - set(self.tokens)):
            raise ModelError(f"the vocabulary lacks {', '.join(missing)}", hint="check the tokenizer files")

    @cached_property
    def separator_ids(self) -> tuple[int, ...]:
        """Ids of the tokens between two chains.

        Raises
        ------
        ModelError
            If the vocabulary lacks one.
        """
        if missing := sorted(set(self.separator) - set(self.tokens)):
            raise ModelError(
                f"the vocabulary lacks the chain separator {', '.join(missing)}",
                hint=f"this model takes single chains; or set `separator` in its {FILE_NAME}",
            )
        return tuple(self.ids[token] for token in self.separator)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token to id."""
        return {token: index for index, token in enumerate(self.tokens)}

    @property
    def mask_id(self) -> int:
        """Id of the mask token."""
        return self.ids[self.mask]

    @property
    def pad_id(self) -> int:
        """Id of the pad token."""
        return self.ids[self.pad]

    @cached_property
    def residue_ids(self) -> np.ndarray:
        """Id for each byte of residue text, int16 of length 256; -1 where the byte is no residue."""
        table = np.full(256, -1, dtype=np.int16)
        for letter in STANDARD + UNUSUAL:
            table[ord(letter)] = self.ids.get(letter, self.ids[self.unknown])
        return table

    @cached_property
    def standard_ids(self) -> np.ndarray:
        """Ids of the twenty amino acids in the order of `STANDARD`, int64."""
        return np.array([self.ids[letter] for letter in STANDARD], dtype=np.int64)

    @cached_property
    def is_standard(self) -> np.ndarray:
        """Whether each id of the vocabulary is one of the twenty, bool."""
        flags = np.zeros(len(self.tokens), dtype=bool)
        flags[self.standard_ids] = True
        return flags

    def replaced_letters(self) -> str:
        """List the legal residue letters that this vocabulary replaces by `unknown`."""
        return "".join(letter for letter in UNUSUAL if letter not in self.ids)

    def num_specials(self, num_chains: int) -> int:
        """Count the special tokens of a record.

        Parameters
        ----------
        num_chains
            Chains in the record.
        """
        return len(self.begin) + len(self.end) + (num_chains - 1) * len(self.separator)

    def num_positions(self, num_residues: CountT, num_chains: CountT) -> CountT:
        """Count the positions a record takes up, gaps between chains included; `max_tokens` limits it.

        Parameters
        ----------
        num_residues
            Over all chains; a number or an array.
        num_chains
            Chains in the record; the same.
        """
        between = len(self.separator) + self.position_gap
        return num_residues + len(self.begin) + len(self.end) + (num_chains - 1) * between  # type: ignore[return-value]

    @property
    def max_residues(self) -> int | None:
        """Longest single chain that fits; `None` where the model has no limit."""
        return None if self.max_tokens is None else self.max_tokens - self.num_specials(1)

    def with_separator(self, name: str) -> Self:
        """Give the same layout with another named separator.

        Parameters
        ----------
        name
            One of `SEPARATORS`.

        Raises
        ------
        ConfigError
            If there is no such separator.
        ModelError
            If the vocabulary lacks its tokens.
        """
        if name not in SEPARATORS:
            raise ConfigError(f"unknown chain separator '{name}'", hint=did_you_mean(name, SEPARATORS))
        layout = replace(self, separator=SEPARATORS[name])
        _ = layout.separator_ids  # refuses what the vocabulary lacks
        return layout

    def decode(self, token_ids: np.ndarray) -> str:
        """Write token ids as text, special tokens in angle brackets.

        Parameters
        ----------
        token_ids
            Integer ids, ``[l]``.
        """
        return "".join(self.tokens[index] for index in token_ids)

    def save(self, folder: Path) -> None:
        """Write ``token_layout.json``.

        Parameters
        ----------
        folder
            Where the model's files are.
        """
        (folder / FILE_NAME).write_text(
            json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1) + "\n"
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``token_layout.json``.

        Parameters
        ----------
        folder
            Where the model's files are.

        Raises
        ------
        ModelError
            If it is damaged, lacks a value, or is of a later format.
        """
        path = folder / FILE_NAME
        try:
            values = dict(json.loads(path.read_text(encoding="utf-8")))
            version = int(values.pop("format_version"))
            if version > FORMAT_VERSION:
                raise ModelError(
                    f"{path} has format {version}; this protlm reads up to {FORMAT_VERSION}",
                    hint="upgrade protlm",
                )
            for name in ("tokens", "begin", "end", "separator"):
                values[name] = tuple(values[name])
            return cls(**{each.name: values.pop(each.name) for each in fields(cls)}, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is damaged ({type(error).__name__}: {error})",
                hint="copy it again from where the model came from",
            ) from None


ESM_TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO",
    *(".", "-", "<null_1>", "<mask>"),
)
"""The 33 tokens of ESM-1b, ESM-1v and ESM-2, by id (facebookresearch/esm, `esm/constants.py`)."""


def esm_layout(*, max_tokens: int | None = None, separator: str = "cls-cls") -> TokenLayout:
    """Give the layout of the ESM family: one begin token, one end token, 33 ids.

    Parameters
    ----------
    max_tokens
        Longest input with special tokens.
    separator
        One of `SEPARATORS`, for records of several chains.
    """
    return TokenLayout(tokens=ESM_TOKENS, max_tokens=max_tokens).with_separator(separator)
