"""Hugging Face tokenizers for a layout, so that plain `AutoTokenizer` reads what we save."""

import json
import tempfile
from pathlib import Path
from typing import Any, cast

from transformers import (
    EsmForMaskedLM,
    EsmTokenizer,
    LongformerForMaskedLM,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

from protlm.data.layout import TokenLayout
from protlm.data.subwords import encoder, merges_of_file
from protlm.errors import ModelError

_PROBE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWWCC"


def tokenizer_of(module: Any, layout: TokenLayout) -> Any:
    """Give a tokenizer with the ids of a layout, or `None` for an architecture that we make none for.

    It writes records of one chain as the layout does, save for letters that the vocabulary lacks, which the
    layout makes one unknown token each: where several follow each other, ESM's makes one of them, and
    RoBERTa's leaves them out.

    Parameters
    ----------
    module
        The Hugging Face model.
    layout
        Its tokens.
    """
    if isinstance(module, EsmForMaskedLM):
        with tempfile.TemporaryDirectory() as folder:
            vocabulary = Path(folder) / "vocab.txt"
            vocabulary.write_text("\n".join(layout.tokens), encoding="utf-8")
            # otherwise others' collators would mask a separator as if it were a residue
            return EsmTokenizer(str(vocabulary), extra_special_tokens=_further_specials(layout))
    if isinstance(module, RobertaForMaskedLM | LongformerForMaskedLM):
        return roberta_tokenizer(layout)
    return None


def roberta_tokenizer(layout: TokenLayout) -> Any:
    """Give RoBERTa's tokenizer with the ids and the merges of a layout.

    Parameters
    ----------
    layout
        With RoBERTa's special tokens.
    """
    merges = [tuple(merge.split(" ")) for merge in layout.merges]
    return RobertaTokenizer(vocab=dict(layout.ids), merges=cast("Any", merges))


def merges_of(tokenizer: Any) -> tuple[str, ...]:
    """Give the merges of a Hugging Face tokenizer; none where it is no byte-pair encoding.

    Parameters
    ----------
    tokenizer
        As `AutoTokenizer` gives it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return () if backend is None else merges_of_file(json.loads(backend.to_str()))


def check_same_ids(tokenizer: Any, layout: TokenLayout, shown: str) -> None:
    """Refuse a tokenizer of sub-words that writes a chain in another way than its merges alone say.

    Parameters
    ----------
    tokenizer
        As `AutoTokenizer` gives it.
    layout
        With its merges.
    shown
        Name of the model.

    Raises
    ------
    ModelError
        If it puts a space before a chain, changes letters, or cuts before it merges.
    """
    theirs = tokenizer.tokenize(_PROBE)
    ours = encoder(layout).encode(_PROBE, add_special_tokens=False).tokens
    if theirs != ours:
        raise ModelError(
            f"the tokenizer of model '{shown}' writes {_PROBE[:8]}… as {' '.join(theirs[:4])} …, and by its "
            f"merges alone it is {' '.join(ours[:4])} …",
            hint="tokenizers that put a space before a chain or change its letters are not read; save it "
            "with add_prefix_space=False",
        )


def _further_specials(layout: TokenLayout) -> list[str]:
    known = {*layout.begin, *layout.end, layout.pad, layout.mask}
    return [
        token for token in dict.fromkeys(layout.separator) if token.startswith("<") and token not in known
    ]
