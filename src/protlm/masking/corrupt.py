"""Draw the masked positions of a batch and corrupt its tokens, the same for any batching."""

from dataclasses import replace
from typing import Self

import numpy as np
import torch
from pydantic import model_validator

from protlm.config import BaseConfig, Rate
from protlm.data.layout import TokenLayout
from protlm.masking.selection import (
    ACTION,
    LETTER,
    SELECT,
    Draw,
    Selection,
    numbers_for,
    residue_hashes,
    stream,
)
from protlm.types.batch import Batch, Corrupted


class CorruptionConfig(BaseConfig):
    """What happens to a selected token."""

    mask_share: Rate = 0.8
    """Share of selected tokens that become the mask token."""
    random_share: Rate = 0.1
    """Share that becomes one of the twenty amino acids, or of the sub-words made of them, at random; the
    rest stays as it is."""
    compat: bool = False
    """Draw the random ones from all ids of the vocabulary, special tokens included, as the published code
    of preferential masking does (and Hugging Face's collator)."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share {self.mask_share:g} and random_share {self.random_share:g} are over 1 together"
            )
        return self


def corrupt(
    batch: Batch,
    selection: Selection,
    layout: TokenLayout,
    *,
    draw: Draw,
    settings: CorruptionConfig | None = None,
) -> Corrupted:
    """Select tokens with the given probabilities and hide them.

    Each number is a hash of seed, epoch, record, chain, first residue and purpose, compared with the
    probability. The same residue of the same record is therefore drawn alike in any batch, any
    process and any order of the input, and two policies with the same seed share their numbers.

    Parameters
    ----------
    batch
        On the CPU.
    selection
        What a policy gave for this batch and this draw.
    layout
        For the mask token and the tokens made of the twenty amino acids.
    draw
        Seed and epoch.
    settings
        Shares of mask, random and unchanged tokens.

    Notes
    -----
    DISCREPANCY: the code of Ng & Briney draws random replacements from all ids, special tokens
    included (5 of 26 in its vocabulary, and X); here they come from the twenty amino acids unless
    ``compat`` is set. Its collator may also select X; here X is never selected.
    """
    settings = settings or CorruptionConfig()
    hashes = residue_hashes(batch, draw)
    numbers = numbers_for(hashes, SELECT)
    if selection.draw_from is not None:
        numbers = numbers[selection.draw_from.numpy()]
    rows = np.flatnonzero(numbers < selection.probabilities.numpy())
    tokens = batch.tokens.clone()
    chosen = torch.from_numpy(rows)
    targets = tokens[chosen]
    tokens[chosen] = torch.from_numpy(_replacements(targets.numpy(), hashes[rows], layout, settings))
    hidden = replace(batch, tokens=tokens, by_residue=None, residue_tokens=None)  # they tell what is hidden
    return Corrupted(hidden, chosen, targets)


def _replacements(
    targets: np.ndarray, hashes: np.ndarray, layout: TokenLayout, settings: CorruptionConfig
) -> np.ndarray:
    action = numbers_for(hashes, ACTION)
    letters = np.arange(len(layout.tokens)) if settings.compat else layout.replacement_ids
    letter = letters[(stream(hashes, LETTER) % np.uint64(len(letters))).astype(np.int64)]
    is_random = action < settings.mask_share + settings.random_share
    return np.where(action < settings.mask_share, layout.mask_id, np.where(is_random, letter, targets))
