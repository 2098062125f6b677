"""Attention inside each sequence of a flat batch: the ways to compute it, and which one is taken.

Shapes: ``t`` tokens of the batch, ``d`` width, ``h`` heads, ``k`` head width, ``r`` rows that are read.

``grouped`` takes sequences of equal length together without a mask, ``padded`` lays all of them out as one
rectangle with a mask, ``varlen`` hands the flat tokens with their offsets to a kernel for them. With a
window, the first two cut the flat tokens into blocks, and a block of queries meets the blocks beside it:
memory grows with length times window. All give the same values to rounding.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protlm.models.mixers import Blocks, Grouped, Mixer, Padded
from protlm.models.varlen import Varlen, varlen_problem
from protlm.types.batch import Batch

Attention = Literal["grouped", "padded", "varlen"]

Rotary = tuple[Float[Tensor, "t 1 k"], Float[Tensor, "t 1 k"]]
"""Cosine and signed sine: out = q * cosine + halves_swapped(q) * sine."""


def attention_for(
    device: torch.device | str, *, head_width: int, window: int | None = None
) -> tuple[Attention, str]:
    """Choose the attention path for a device and say why.

    Parameters
    ----------
    device
        Where the model runs.
    head_width
        Of its attention heads.
    window
        As for `mixer_of`.
    """
    device = torch.device(device)
    if device.type == "cpu" and window is None:
        return "grouped", "on a CPU, equal lengths without a mask beat a padded rectangle"
    if device.type == "cpu":
        return "grouped", "memory grows with length times window"
    problem = varlen_problem(device, head_width)
    if problem is None:
        return "varlen", (
            "the kernel for offsets passed its check on this accelerator; in float32, or with dropout of "
            "attention, padded"
        )
    return "padded", f"no kernel for offsets: {problem}"


def mixer_of(batch: Batch, attention: Attention, *, window: int | None = None) -> Mixer:
    """Prepare attention over a batch.

    Parameters
    ----------
    batch
        On the model's device.
    attention
        How to compute it.
    window
        Tokens that a token sees on each side, itself aside, counted in tokens and not in positions; begin,
        end and separator tokens are tokens like any other. `None` is every token of the sequence.
    """
    if window is not None and (batch.num_sequences == 0 or int(batch.lengths.max()) <= window + 1):
        window = None  # every token sees its whole sequence
    if attention == "varlen":
        return Varlen(batch, window)
    if window is not None:
        return Blocks(batch, window)
    if attention == "padded" and len(torch.unique_consecutive(batch.lengths)) > 1:
        return Padded(batch)
    return Grouped(batch)


def attend(
    module: Any,
    x_td: Float[Tensor, "t d"],
    mixer: Mixer,
    rotary: Rotary | None,
    rows: Int[Tensor, " r"] | None,
) -> Float[Tensor, "r d"]:
    """Project, rotate and mix, up to the output projection.

    Parameters
    ----------
    module
        The self-attention of a Hugging Face layer.
    x_td
        Its input.
    mixer
        From `mixer_of`.
    rotary
        Of every token; `None` where positions are learned.
    rows
        As for `Mixer`.
    """
    # a Longformer names them as no other does
    num_heads = getattr(module, "num_attention_heads", None) or module.num_heads
    query_source = x_td if rows is None else x_td[rows]
    query = module.query(query_source).unflatten(-1, (num_heads, -1))
    key = module.key(x_td).unflatten(-1, (num_heads, -1))
    value = module.value(x_td).unflatten(-1, (num_heads, -1))
    if rotary is not None:
        query = rotate(query, rotary if rows is None else (rotary[0][rows], rotary[1][rows]))
        key = rotate(key, rotary)
    # ESM keeps a number there, RoBERTa a module
    dropout = getattr(module.dropout, "p", module.dropout) if module.training else 0.0
    if not len(query):  # nothing is read
        return query.flatten(1)
    dtype = query.dtype
    if dtype == torch.bfloat16 and query.device.type == "cpu":
        # the CPU's attention kernel is a tenth faster in float32, and more exact
        query, key, value = query.float(), key.float(), value.float()
    return mixer(query, key, value, rows, dropout).flatten(1).to(dtype)


def rotate(x_thk: Float[Tensor, "t h k"], table: Rotary) -> Float[Tensor, "t h k"]:
    """Turn queries or keys by their rotary angles.

    Parameters
    ----------
    x_thk
        Queries or keys.
    table
        Of the same tokens.
    """
    cosine, sine = table
    first, second = x_thk.chunk(2, dim=-1)
    return torch.addcmul(x_thk * cosine, torch.cat([second, first], dim=-1), sine)
