"""The kernel for flat tokens with their offsets, and the check that it passes before it is used."""

from collections.abc import Callable
from functools import cache, cached_property
from typing import cast

import torch
from torch import Tensor

from protlm.models.mixers import Blocks, Mixer, Padded
from protlm.types.batch import Batch

VARLEN_BOUND = 0.05
"""Largest difference from float32 at which the kernel for offsets is trusted, for inputs of sd 1."""


@cache
def varlen_problem(device: torch.device, head_width: int) -> str | None:
    """Say why the kernel for flat tokens with offsets is not to be had, `None` where it is.

    It is tried on a small random batch, at first use on a device.

    Parameters
    ----------
    device
        An accelerator.
    head_width
        Of the attention heads.
    """
    if device.type != "cuda":
        return f"it needs CUDA, not {device.type}"
    if _varlen_kernel() is None:
        return f"torch {torch.__version__} does not have it"
    try:
        difference = varlen_difference(device, head_width)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        return f"it failed on a small batch with {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if not difference <= VARLEN_BOUND:
        return (
            f"it differs from a padded rectangle in float32 by {difference:.2g} on a small batch, more than "
            f"{VARLEN_BOUND:g}"
        )
    return None


def varlen_difference(device: torch.device, head_width: int) -> float:
    """Give the largest difference of the kernel for offsets from the other paths, in values and gradients.

    Over a random batch of four sequences in bfloat16, with and without a window and pruned rows, against
    float32.

    Parameters
    ----------
    device
        An accelerator.
    head_width
        Of the attention heads.
    """
    lengths = torch.tensor([5, 40, 1, 17])
    batch = _lengths_only(lengths).to(device)
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn((4, int(lengths.sum()), 2, head_width), generator=random).to(device, torch.bfloat16)
    some = torch.tensor([1, 2, 20, 46, 60], device=device)
    worst = 0.0
    for window, rows in ((None, None), (None, some), (3, None)):
        given = []
        for mixer, dtype in (
            (Varlen(batch, window), torch.bfloat16),
            (Padded(batch) if window is None else Blocks(batch, window), torch.float32),
        ):
            query, key, value = (each.to(dtype).requires_grad_() for each in inputs[:3])
            picked = query if rows is None else query[rows]
            mixed = mixer(picked, key, value, rows, 0.0)
            upstream = inputs[3] if rows is None else inputs[3][rows]
            gradients = torch.autograd.grad((mixed * upstream.to(dtype)).sum(), (query, key, value))
            given.append([mixed.detach().float(), *(each.float() for each in gradients)])
        differences = [float((a - b).abs().max()) for a, b in zip(*given, strict=True)]
        worst = max([worst, *differences]) if all(each == each for each in differences) else float("nan")
    return worst


class Varlen:
    """A kernel that takes flat tokens with their offsets, in half precision.

    Where values are in float32, where attention has dropout, and for pruned rows under a window, which the
    kernel would count from the end, the other paths step in.

    Parameters
    ----------
    batch
        Flat.
    window
        Tokens on each side; `None` is all.
    """

    def __init__(self, batch: Batch, window: int | None) -> None:
        self._batch, self._window = batch, window
        self._kernel = _varlen_kernel()
        self._offsets = batch.offsets.to(torch.int32)
        self._longest = int(batch.lengths.max()) if batch.num_sequences else 0

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, dropout: float
    ) -> Tensor:
        """Mix values.

        Parameters
        ----------
        query, key, value, rows, dropout
            As for `Mixer`.
        """
        is_half = value.dtype in (torch.bfloat16, torch.float16)
        if self._kernel is None or not is_half or dropout or (rows is not None and self._window is not None):
            return self._other(query, key, value, rows, dropout)
        offsets, longest = self._offsets, self._longest
        if rows is not None:
            offsets = torch.searchsorted(rows, self._batch.offsets.to(rows.dtype)).to(torch.int32)
            longest = int((offsets[1:] - offsets[:-1]).max())
        window = -1 if self._window is None else self._window
        # under autocast, rotation leaves queries and keys in float32
        query, key = query.to(value.dtype), key.to(value.dtype)
        return self._kernel(
            query, key, value, offsets, self._offsets, longest, self._longest, window_size=(window, window)
        )

    @cached_property
    def _other(self) -> Mixer:
        return Padded(self._batch) if self._window is None else Blocks(self._batch, self._window)


def _varlen_kernel() -> Callable[..., Tensor] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return cast(Callable[..., Tensor], varlen_attn)


def _lengths_only(lengths: Tensor) -> Batch:
    """A batch of which only the lengths mean anything."""
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    zeros = torch.zeros(int(offsets[-1]), dtype=torch.int64)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return Batch(
        tokens=zeros,
        offsets=offsets,
        sequence_index=sequence,
        chain_index=zeros,
        residue_start=zeros,
        residue_stop=zeros,
        positions=zeros,
        record_keys=torch.zeros(len(lengths), dtype=torch.int64),
    )
