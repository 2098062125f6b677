"""Hugging Face tokenizers for a layout, so that plain `AutoTokenizer` reads what we save."""

import tempfile
from pathlib import Path
from typing import Any

from transformers import EsmForMaskedLM, EsmTokenizer, RobertaForMaskedLM, RobertaTokenizer

from protlm.data.layout import TokenLayout


def tokenizer_of(module: Any, layout: TokenLayout) -> Any:
    """Give a tokenizer with the ids of a layout, or `None` for an architecture that we make none for.

    It writes records of one chain as the layout does, save for letters that the vocabulary lacks: where
    several follow each other, Hugging Face makes one unknown token of them, and the layout one each.

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
    if isinstance(module, RobertaForMaskedLM):
        return RobertaTokenizer(vocab=dict(layout.ids), merges=[])
    return None


def _further_specials(layout: TokenLayout) -> list[str]:
    known = {*layout.begin, *layout.end, layout.pad, layout.mask}
    return [
        token for token in dict.fromkeys(layout.separator) if token.startswith("<") and token not in known
    ]
