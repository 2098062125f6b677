"""Draw the masked positions of a batch and corrupt its tokens, the same for any batching."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from protlm.config import BaseConfig, Rate
from protlm.data.hashing import combine, mix, uniform
from protlm.data.layout import TokenLayout
from protlm.types.batch import Batch, Corrupted

_SELECT, _ACTION, _LETTER = 1, 2, 3


class CorruptionConfig(BaseConfig):
    """What happens to a selected token."""

    mask_share: Rate = 0.8
    """Share of selected tokens that become the mask token."""
    random_share: Rate = 0.1
    """Share that becomes one of the twenty amino acids at random; the rest stays as it is."""


def corrupt(
    batch: Batch,
    probabilities: Float[Tensor, " t"],
    layout: TokenLayout,
    *,
    seed: int,
    epoch: int,
    settings: CorruptionConfig | None = None,
) -> Corrupted:
    """Select tokens with the given probabilities and hide them.

    Each draw is a hash of seed, epoch, record, chain, residue and purpose, compared with the
    probability. The same residue of the same record is therefore drawn alike in any batch, any
    process and any order of the input, and two policies with the same seed share their draws.

    Parameters
    ----------
    batch
        On the CPU.
    probabilities
        Per token, in [0, 1].
    layout
        For the mask token and the twenty amino acids.
    seed, epoch
        Which draw.
    settings
        Shares of mask, random and unchanged tokens.

    Notes
    -----
    DISCREPANCY: the code of Ng & Briney draws random replacements from all ids, special tokens
    included; here they come from the twenty amino acids.
    """
    settings = settings or CorruptionConfig()
    base = _residue_hashes(batch, seed, epoch)
    chosen = uniform(_stream(base, _SELECT)) < probabilities.numpy()
    rows = np.flatnonzero(chosen)
    action = uniform(_stream(base[rows], _ACTION))
    letter = _stream(base[rows], _LETTER) % np.uint64(len(layout.standard_ids))
    tokens = batch.tokens.clone()
    targets = tokens[torch.from_numpy(rows)]
    replacement = np.where(
        action < settings.mask_share,
        layout.mask_id,
        np.where(
            action < settings.mask_share + settings.random_share,
            layout.standard_ids[letter.astype(np.int64)],
            targets.numpy(),
        ),
    )
    tokens[torch.from_numpy(rows)] = torch.from_numpy(replacement)
    return Corrupted(replace(batch, tokens=tokens), torch.from_numpy(rows), targets)


def _residue_hashes(batch: Batch, seed: int, epoch: int) -> np.ndarray:
    per_record = combine(seed, epoch, batch.record_keys.numpy().view(np.uint64))
    place = batch.chain_index.numpy().astype(np.int64) << 32 | batch.residue_start.numpy().astype(np.int64)
    return mix(per_record[batch.sequence_index.numpy()] ^ place.view(np.uint64))


def _stream(base: np.ndarray, stream: int) -> np.ndarray:
    return mix(base ^ mix(np.full(1, stream, dtype=np.uint64)))
