"""What a masking policy is called with and what it gives back."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protlm.data.hashing import combine, mix, uniform
from protlm.types.batch import Batch

SELECT, ACTION, LETTER, BOUNDARY, CHOICE = 1, 2, 3, 4, 5
"""What a number is drawn for; numbers for different purposes are independent."""


@dataclass(frozen=True)
class Draw:
    """Which draw of the masks is asked for; together with the records it fixes every number."""

    seed: int = 0
    epoch: int | Int[np.ndarray, " s"] = 0
    """How often the record was seen before; one number, or one for each sequence of the batch."""
    progress: float = 0.0
    """Share of the training that is done, in [0, 1], for schedules."""
    branch: int = 0
    """Which policy inside other policies is asked, so that nested choices are independent."""

    def inside(self, number: int) -> "Draw":
        """Give the draw for the policy `number` inside this one.

        Parameters
        ----------
        number
            0-based.
        """
        return replace(self, branch=int(combine(self.branch, number + 1)[0]))


@dataclass(frozen=True)
class Selection:
    """How likely each token of a batch is selected, and which number decides."""

    probabilities: Float[Tensor, " t"]
    """In [0, 1], float64; 0 where nothing may be selected."""
    draw_from: Int[Tensor, " t"] | None = None
    """Flat index of the token whose uniform number decides; `None` is each token's own."""
    fell_back: Bool[Tensor, " s"] | None = None
    """Sequences that lack what the policy needs and were treated as its docstring says."""


class MaskingPolicy(Protocol):
    """From a batch to a `Selection`; the same for a record in any batch."""

    def __call__(self, batch: Batch, draw: Draw) -> Selection:
        """Give the selection probabilities of a batch."""
        ...


def select(policy: MaskingPolicy, batch: Batch, draw: Draw) -> Selection:
    """Ask a policy about a batch, of sub-words too: policies only ever see residues.

    A sub-word gets the mean over its residues, 0 where one of them is not of the twenty, and the number
    that decides for it is that of its first residue.

    Parameters
    ----------
    policy
        Any policy.
    batch
        On the CPU.
    draw
        Which draw.
    """
    fine, under = batch.by_residue, batch.residue_tokens
    if fine is None or under is None:
        return policy(batch, draw)
    selection = policy(fine, draw)
    places = under.numpy()
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    sizes = np.diff(starts, append=len(places))
    means = np.add.reduceat(selection.probabilities.numpy(), starts) / sizes
    draw_from = selection.draw_from
    return replace(
        selection,
        probabilities=torch.from_numpy(means) * maskable(batch),
        draw_from=None if draw_from is None else under[draw_from[torch.from_numpy(starts)]],
    )


def of_residues(values: Tensor, batch: Batch) -> Tensor:
    """Give each token at residue level the value of the token that it is under.

    Parameters
    ----------
    values
        ``[t]``.
    batch
        Of sub-words; otherwise the values stay as they are.

    Returns
    -------
    torch.Tensor
        As the tokens of `Batch.by_residue`.
    """
    return values if batch.residue_tokens is None else values[batch.residue_tokens]


def maskable(batch: Batch) -> Bool[Tensor, " t"]:
    """Tell which tokens may be selected: the twenty amino acids, never special tokens or X.

    Parameters
    ----------
    batch
        Any batch.
    """
    return batch.is_residue if batch.standard is None else batch.standard


def per_sequence(values: Tensor, batch: Batch) -> Float[Tensor, " s"]:
    """Sum a number per token over each sequence.

    Parameters
    ----------
    values
        ``[t]``, on the CPU.
    batch
        For which token belongs to which sequence.
    """
    # a segment is summed by its own values alone, so company cannot change a probability by a bit
    return torch.from_numpy(np.add.reduceat(values.double().numpy(), batch.offsets[:-1].numpy()))


def per_token(values: Tensor, batch: Batch) -> Tensor:
    """Give each token the value of its sequence.

    Parameters
    ----------
    values
        ``[s]``.
    batch
        For which token belongs to which sequence.
    """
    return torch.from_numpy(np.repeat(values.numpy(), batch.lengths.numpy()))


def look_up(table: Float[Tensor, " codes"], codes: Tensor) -> Float[Tensor, " t"]:
    """Give each token the number that a table has for its code.

    Parameters
    ----------
    table
        By code.
    codes
        A track ``[t]``.
    """
    return torch.from_numpy(np.take(table.numpy(), codes.numpy()))


def residue_hashes(batch: Batch, draw: Draw) -> np.ndarray:
    """Give a hash for each token that depends on seed, epoch, record, chain and residue alone.

    Parameters
    ----------
    batch
        On the CPU.
    draw
        Which draw.

    Returns
    -------
    numpy.ndarray
        uint64 ``[t]``; `numbers_for` makes uniform numbers of it.
    """
    per_record = combine(draw.seed, draw.epoch, batch.record_keys.numpy().view(np.uint64))
    place = batch.chain_index.numpy().astype(np.int64) << 32 | batch.residue_start.numpy().astype(np.int64)
    return mix(np.repeat(per_record, batch.lengths.numpy()) ^ place.view(np.uint64))


def record_numbers(batch: Batch, draw: Draw, purpose: int) -> Float[np.ndarray, " s"]:
    """Give a uniform number in [0, 1) for each sequence.

    Parameters
    ----------
    batch
        On the CPU.
    draw
        Which draw; its branch counts too.
    purpose
        Such as `CHOICE`.
    """
    keys = batch.record_keys.numpy().view(np.uint64)
    return uniform(combine(draw.seed, draw.epoch, keys, draw.branch, purpose))


def stream(hashes: np.ndarray, purpose: int) -> np.ndarray:
    """Turn hashes into others that are independent of those for any other purpose.

    Parameters
    ----------
    hashes
        From `residue_hashes`.
    purpose
        Such as `SELECT`.
    """
    return mix(hashes ^ mix(np.full(1, purpose, dtype=np.uint64)))


def numbers_for(hashes: np.ndarray, purpose: int) -> np.ndarray:
    """Give uniform numbers in [0, 1) for a purpose.

    Parameters
    ----------
    hashes
        From `residue_hashes`.
    purpose
        Such as `SELECT`.
    """
    return uniform(stream(hashes, purpose))
