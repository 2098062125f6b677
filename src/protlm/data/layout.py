"""A model's token layout: vocabulary, begin and end, separator, limits. Saved beside the weights."""

import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from protlm.data.separators import SEPARATORS, SPELLINGS, check_separator
from protlm.data.vocabularies import ESM_TOKENS, LAYOUTS, VOCABULARIES, SingleChain
from protlm.errors import ConfigError, ModelError, did_you_mean
from protlm.types.alphabet import STANDARD, UNUSUAL

FILE_NAME = "token_layout.json"
FORMAT_VERSION = 3
"""2 added `single_chain`, 3 `merges`; earlier files are read without them."""

CountT = TypeVar("CountT", int, np.ndarray)

_LETTERS = frozenset(STANDARD + UNUSUAL)


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
    single_chain: SingleChain = "bare"
    """A heavy or light chain alone: without a separator, or with it in the place it has in a pair."""
    max_tokens: int | None = None
    """Longest input with all special tokens; `None` where the model has no limit."""
    merges: tuple[str, ...] = ()
    """How sub-words are put together, as ``"A B"``, the first to be done first; none at residue level."""

    def __post_init__(self) -> None:
        needed = {*self.begin, *self.end, self.pad, self.mask, self.unknown, *STANDARD}
        if missing := sorted(needed - set(self.tokens)):
            raise ModelError(f"the vocabulary lacks {', '.join(missing)}", hint="check the tokenizer files")
        if self.position_gap < 0:
            raise ModelError(f"position_gap {self.position_gap} is negative", hint="0 puts chains end to end")
        if self.single_chain not in ("bare", "keep-separator"):
            raise ModelError(
                f"single_chain '{self.single_chain}' is no choice", hint="known: bare, keep-separator"
            )
        for merge in self.merges:
            parts = merge.split(" ")
            if len(parts) != 2 or not {*parts, "".join(parts)} <= self.ids.keys():
                raise ModelError(
                    f"merge '{merge}' joins what the vocabulary lacks, or is not two tokens with a space",
                    hint="check the tokenizer files",
                )

    @property
    def is_residue_level(self) -> bool:
        """Whether each residue has a token of its own."""
        return not self.merges

    @cached_property
    def of_residues(self) -> Self:
        """The same layout with a token for each residue and without a limit."""
        return replace(self, merges=(), max_tokens=None)

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
        """Id for each byte of residue text, int16 of length 256; -1 where the byte is no residue.

        Sub-word vocabularies have them as well, for what they write letter by letter; int32 where they have
        over 32,767 tokens.
        """
        table = np.full(256, -1, dtype=np.int16 if len(self.tokens) < 1 << 15 else np.int32)
        for letter in STANDARD + UNUSUAL:
            table[ord(letter)] = self.ids.get(letter, self.ids[self.unknown])
        return table

    @cached_property
    def standard_ids(self) -> np.ndarray:
        """Ids of the twenty amino acids in the order of `STANDARD`, int64."""
        return np.array([self.ids[letter] for letter in STANDARD], dtype=np.int64)

    @cached_property
    def residues_per_token(self) -> np.ndarray:
        """Residues under each id, int64; 0 for special tokens and for bytes that are no residue letter."""
        sizes = [len(token) if set(token) <= _LETTERS else 0 for token in self.tokens]
        return np.array(sizes, dtype=np.int64)

    @cached_property
    def is_standard(self) -> np.ndarray:
        """Whether each id stands for residues, all of them of the twenty, bool."""
        twenty = set(STANDARD)
        return np.array([bool(token) and set(token) <= twenty for token in self.tokens])

    @cached_property
    def replacement_ids(self) -> np.ndarray:
        """Ids that may stand in for a token at random: the twenty, and the sub-words made of them, int64."""
        return self.standard_ids if self.is_residue_level else np.flatnonzero(self.is_standard)

    def replaced_letters(self) -> str:
        """List the legal residue letters that this vocabulary replaces by `unknown`."""
        return "".join(letter for letter in UNUSUAL if letter not in self.ids)

    def num_separators(self, num_chains: CountT) -> CountT:
        """Count the separators of a record.

        Parameters
        ----------
        num_chains
            Chains in the record; a number or an array.
        """
        kept = (num_chains == 1) if self.single_chain == "keep-separator" else 0
        return num_chains - 1 + kept  # type: ignore[return-value]

    def num_specials(self, num_chains: CountT) -> CountT:
        """Count the tokens of a record that are no residues of its chains.

        Parameters
        ----------
        num_chains
            Chains in the record; a number or an array.
        """
        fixed = len(self.begin) + len(self.end)
        return fixed + self.num_separators(num_chains) * len(self.separator)  # type: ignore[return-value]

    def num_positions(self, num_residues: CountT, num_chains: CountT) -> CountT:
        """Count the positions a record takes up, gaps between chains included; `max_tokens` limits it.

        Parameters
        ----------
        num_residues
            Over all chains; a number or an array.
        num_chains
            Chains in the record; the same.
        """
        gaps = self.num_separators(num_chains) * self.position_gap
        return num_residues + self.num_specials(num_chains) + gaps  # type: ignore[return-value]

    @property
    def max_residues(self) -> int | None:
        """Longest single chain that fits; `None` where the model has no limit."""
        return None if self.max_tokens is None else self.max_tokens - self.num_specials(1)

    def with_separator(self, name: str) -> Self:
        """Give the same layout with another named separator.

        Parameters
        ----------
        name
            One of `SEPARATORS`, or ``linker:RESIDUES``.

        Raises
        ------
        ConfigError
            If there is no such separator.
        ModelError
            If the vocabulary lacks its tokens.
        """
        _, _, residues = check_separator(name).partition(":")
        layout = replace(self, separator=tuple(map(self._spelling, residues or SEPARATORS[name])))
        _ = layout.separator_ids  # refuses what the vocabulary lacks
        return layout

    def _spelling(self, token: str) -> str:
        ways = SPELLINGS.get(token, (token,))
        return next((way for way in ways if way in self.ids), ways[0])

    @property
    def separator_text(self) -> str:
        """What stands between two chains, as text."""
        return "".join(self.separator)

    def decode(self, token_ids: np.ndarray) -> str:
        """Write token ids as text, special tokens in angle brackets, sub-words parted by ``·``.

        Parameters
        ----------
        token_ids
            Integer ids, ``[l]``.
        """
        return self.joint.join(self.tokens[index] for index in token_ids)

    @property
    def joint(self) -> str:
        """What stands between two tokens in text for people."""
        return "" if self.is_residue_level else "·"

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
            if version == 1:  # before single chains could keep their separator
                values.setdefault("single_chain", "bare")
            if version < 3:
                values.setdefault("merges", [])
            for name in ("tokens", "begin", "end", "separator", "merges"):
                values[name] = tuple(values[name])
            return cls(**{each.name: values.pop(each.name) for each in fields(cls)}, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is damaged ({type(error).__name__}: {error})",
                hint="copy it again from where the model came from",
            ) from None


def layout_of_vocabulary(
    vocabulary: str,
    *,
    separator: str = "cls-cls",
    max_tokens: int | None = None,
    position_gap: int = 0,
    single_chain: SingleChain = "bare",
) -> TokenLayout:
    """Give the layout of a published vocabulary.

    Parameters
    ----------
    vocabulary
        A name in `protlm.data.vocabularies.VOCABULARIES`.
    separator
        A name in `SEPARATORS`, or ``linker:RESIDUES``.
    max_tokens
        Longest input with special tokens.
    position_gap
        Added to the positions of each chain after the first.
    single_chain
        How a chain alone is written.

    Raises
    ------
    ConfigError
        If a name is not known.
    ModelError
        If the vocabulary lacks the separator's tokens.

    Examples
    --------
    >>> layout_of_vocabulary("balm", separator="eos").separator
    ('</s>',)
    """
    if vocabulary not in VOCABULARIES:
        raise ConfigError(f"unknown vocabulary '{vocabulary}'", hint=did_you_mean(vocabulary, VOCABULARIES))
    words = VOCABULARIES[vocabulary]
    return TokenLayout(
        tokens=words.tokens,
        begin=(words.begin,),
        end=(words.end,),
        pad=words.pad,
        mask=words.mask,
        unknown=words.unknown,
        max_tokens=max_tokens,
        position_gap=position_gap,
        single_chain=single_chain,
    ).with_separator(separator)


def published_layout(name: str, *, max_tokens: int | None = None) -> TokenLayout:
    """Give the layout of a published model.

    Parameters
    ----------
    name
        In `protlm.data.vocabularies.LAYOUTS`.
    max_tokens
        Longest input with special tokens.

    Raises
    ------
    ConfigError
        If there is no such layout.

    Examples
    --------
    >>> layout = published_layout("currab")
    >>> layout.separator, layout.single_chain
    (('<cls>',), 'keep-separator')
    """
    if name not in LAYOUTS:
        raise ConfigError(f"unknown layout '{name}'", hint=did_you_mean(name, LAYOUTS))
    facts = LAYOUTS[name]
    return layout_of_vocabulary(
        facts.vocabulary,
        separator=facts.separator,
        single_chain=facts.single_chain,
        max_tokens=max_tokens,
    )


def esm_layout(*, max_tokens: int | None = None, separator: str = "cls-cls") -> TokenLayout:
    """Give the layout of the ESM family: one begin token, one end token, 33 ids.

    Parameters
    ----------
    max_tokens
        Longest input with special tokens.
    separator
        One of `SEPARATORS`, for records of several chains.
    """
    return layout_of_vocabulary("esm", max_tokens=max_tokens, separator=separator)


__all__ = [
    "ESM_TOKENS",
    "FILE_NAME",
    "SEPARATORS",
    "TokenLayout",
    "check_separator",
    "esm_layout",
    "layout_of_vocabulary",
    "published_layout",
]
