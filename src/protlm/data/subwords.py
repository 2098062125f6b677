"""Chains as sub-words: byte-pair encoding by the merges of a layout, and layouts of tokenizer files."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models

from protlm.data.flat import FlatRecords
from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.data.vocabularies import SingleChain
from protlm.errors import ModelError

TOKENIZER_FILE = "tokenizer.json"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""The special tokens of RoBERTa, by id."""


@lru_cache(maxsize=8)
def encoder(layout: TokenLayout) -> Tokenizer:
    """Give the tokenizer that cuts a chain as a layout does; made once in each process.

    Parameters
    ----------
    layout
        With or without merges; without, each residue is a token.
    """
    merges = [(first, second) for first, _, second in (merge.partition(" ") for merge in layout.merges)]
    return Tokenizer(models.BPE(vocab=dict(layout.ids), merges=merges, unk_token=layout.unknown))


def encode_chains(records: FlatRecords, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray]:
    """Cut the chains of some records into sub-words.

    Parameters
    ----------
    records
        Flat residues.
    layout
        With merges.

    Returns
    -------
    ids : numpy.ndarray
        Token ids of all chains, one behind the other, int64.
    counts : numpy.ndarray
        Tokens per chain, int64 ``[c]``.

    Examples
    --------
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.types.record import Chain, Record
    >>> layout = TokenLayout(
    ...     tokens=(*SPECIALS, *"ACDEFGHIKLMNPQRSTVWY", "LL", "LLA"),
    ...     begin=("<s>",), end=("</s>",), separator=("</s>", "</s>"), unknown="<unk>",
    ...     merges=("L L", "LL A"),
    ... )
    >>> ids, counts = encode_chains(flatten_records([Record("a", (Chain("MLLA"), Chain("LLL")))]), layout)
    >>> layout.decode(ids), counts.tolist()
    ('M·LLA·LL·L', [2, 2])
    """
    encoded = encoder(layout).encode_batch_fast(chain_texts(records), add_special_tokens=False)
    lists = [each.ids for each in encoded]
    counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    ids = np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64, count=int(counts.sum()))
    return ids, counts


def chain_texts(records: FlatRecords) -> list[str]:
    """Give the residues of each chain as text.

    Parameters
    ----------
    records
        Flat residues.
    """
    text = records.residues.tobytes().decode("ascii")
    stops = np.cumsum(records.chain_lengths).tolist()
    return [text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def layout_of_tokenizer(
    path: Path | str,
    *,
    separator: str | None = None,
    max_tokens: int | None = None,
    position_gap: int = 0,
    single_chain: SingleChain = "bare",
) -> TokenLayout:
    """Give the layout of a tokenizer folder, for a model of one's own.

    Parameters
    ----------
    path
        Folder of ``protlm tokenizer train``, or one with a ``tokenizer.json`` of byte-pair encoding.
    separator
        A name in `protlm.data.layout.SEPARATORS`; `None` keeps that of the folder, which is ``eos-eos`` where
        it has none.
    max_tokens
        Longest input with special tokens.
    position_gap
        Added to the positions of each chain after the first.
    single_chain
        How a chain alone is written.

    Raises
    ------
    ModelError
        If there is no such tokenizer, it lacks one of the twenty amino acids or a special token, or the
        separator's tokens.
    """
    folder = Path(path)
    if (folder / FILE_NAME).is_file():
        layout = TokenLayout.load(folder)
    elif (folder / TOKENIZER_FILE).is_file():
        layout = layout_of_file(_read(folder / TOKENIZER_FILE))
    else:
        raise ModelError(
            f"{folder} is no tokenizer folder: it has neither {FILE_NAME} nor {TOKENIZER_FILE}",
            hint="make one with: protlm tokenizer train INPUT --out FOLDER",
        )
    layout = replace(layout, max_tokens=max_tokens, position_gap=position_gap, single_chain=single_chain)
    return layout if separator is None else layout.with_separator(separator)


def layout_of_file(content: Mapping[str, Any]) -> TokenLayout:
    """Make the layout of a byte-pair encoding with RoBERTa's special tokens.

    Parameters
    ----------
    content
        What a ``tokenizer.json`` holds.

    Raises
    ------
    ModelError
        If it is another kind of tokenizer, or lacks a token that is needed.
    """
    model = content.get("model") or {}
    if model.get("type") != "BPE":
        raise ModelError(
            f"{TOKENIZER_FILE} holds a tokenizer of kind {model.get('type')}; byte-pair encoding is read",
            hint="make one with: protlm tokenizer train INPUT --out FOLDER",
        )
    ids = {**model["vocab"], **{each["content"]: each["id"] for each in content.get("added_tokens") or ()}}
    tokens = tuple(sorted(ids, key=lambda token: ids[token]))
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ModelError(f"{TOKENIZER_FILE} leaves out ids", hint="check the tokenizer files")
    return TokenLayout(
        tokens=tokens,
        begin=("<s>",),
        end=("</s>",),
        separator=("</s>", "</s>"),
        unknown="<unk>",
        merges=merges_of_file(content),
    )


def merges_of_file(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the merges that a ``tokenizer.json`` holds, none for other kinds than byte-pair encoding.

    Parameters
    ----------
    content
        Of the file.
    """
    merges = (content.get("model") or {}).get("merges") or ()
    return tuple(each if isinstance(each, str) else " ".join(each) for each in merges)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error})", hint="copy it again") from None
