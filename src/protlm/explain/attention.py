"""Attention maps of a model, and what of them is between the chains of a complex.

Shapes: ``l`` tokens of one sequence, ``r`` residues of one record, ``h`` heads, ``a`` and ``b`` residues of
two sets of chains.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protlm.errors import ModelError
from protlm.models.forward import window_of
from protlm.models.language_model import LanguageModel
from protlm.models.padded import padded_inputs
from protlm.types.batch import NOT_A_RESIDUE, Batch

ReadLayer = Callable[[int, list[Tensor]], None]
"""Takes the 0-based number of a layer and, for each sequence, its map ``[h, l, l]``."""


@torch.inference_mode()
def attention_maps(model: LanguageModel, batch: Batch) -> list[Float[Tensor, "layers h l l"]]:
    """Give the attention of every layer and head, for each sequence of a batch.

    Parameters
    ----------
    model
        Any. Of what has a flat path (ESM, RoBERTa, Longformer) queries and keys are caught on their way;
        others are asked.
    batch
        On any device.

    Returns
    -------
    list of Tensor
        For each sequence float32 ``[layers, h, l, l]`` on the model's device: row i holds what token i takes
        from each token, and sums to 1. Special tokens are in it.

    Raises
    ------
    ModelError
        If the model gives no map of tokens by tokens.

    Examples
    --------
    >>> from protlm.data.collate import collate
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.models.architectures import EsmArchitecture
    >>> from protlm.types.record import Chain, Record
    >>> model = EsmArchitecture.Config(num_layers=2, hidden_size=16, num_heads=4).build(seed=0).eval()
    >>> pair = Record("ab", (Chain("QVQ"), Chain("DI")))
    >>> (map_,) = attention_maps(model, collate(flatten_records([pair]), model.layout))
    >>> tuple(map_.shape)
    (2, 4, 9, 9)
    """
    layers: list[list[Tensor]] = []
    read_attention(model, batch, lambda _, maps: layers.append(maps))
    return [torch.stack(maps) for maps in zip(*layers, strict=True)]


@torch.inference_mode()
def read_attention(model: LanguageModel, batch: Batch, read: ReadLayer) -> None:
    """Run a model once and hand over the attention of one layer after the other, so that few are held.

    Parameters
    ----------
    model, batch
        As for `attention_maps`.
    read
        Called for each layer in order.
    """
    batch = batch.to(model.device)
    if model.is_flat:
        with _listening(model, batch, read):
            model.hidden(batch)
        return
    _ask(model, batch, read)


@contextmanager
def _listening(model: LanguageModel, batch: Batch, read: ReadLayer) -> Iterator[None]:
    """Catch queries and keys on their way, and turn them into maps."""
    hooks = []
    rotary = getattr(model.module.base_model, "rotary_embeddings", None)
    angles = None if rotary is None else batch.positions[:, None].float() * rotary.inv_freq.float()
    window = window_of(model.module.config)
    for number, layer in enumerate(model.module.base_model.encoder.layer):
        attention = layer.attention.self
        caught: dict[str, Tensor] = {}
        # a Longformer names them as no other does
        num_heads = getattr(attention, "num_attention_heads", None) or attention.num_heads

        def catch(
            module: Any,
            inputs: Any,
            output: Tensor,
            *,
            name: str,
            number: int = number,
            num_heads: int = num_heads,
            caught: dict[str, Tensor] = caught,
        ) -> None:
            del module, inputs
            caught[name] = output.float().unflatten(-1, (num_heads, -1))
            if len(caught) == 2:
                read(number, _maps(caught.pop("query"), caught.pop("key"), batch, angles, window))

        for name in ("query", "key"):
            projection = getattr(attention, name)
            hooks.append(
                projection.register_forward_hook(
                    lambda *given, name=name, catch=catch: catch(*given, name=name)
                )
            )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _maps(
    query_thk: Tensor, key_thk: Tensor, batch: Batch, angles: Tensor | None, window: int | None
) -> list[Tensor]:
    if angles is not None:
        query_thk, key_thk = _rotate(query_thk, angles), _rotate(key_thk, angles)
    maps = []
    for start, stop in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        query_hlk, key_hlk = (each[start:stop].transpose(0, 1) for each in (query_thk, key_thk))
        scores = query_hlk @ key_hlk.transpose(1, 2) / query_thk.shape[-1] ** 0.5
        if window is not None:
            place = torch.arange(stop - start, device=scores.device)
            scores = scores.masked_fill((place[:, None] - place).abs() > window, float("-inf"))
        maps.append(scores.softmax(dim=-1))
    return maps


def _rotate(x_thk: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs (first half, second half) by their angle."""
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x_thk.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _ask(model: LanguageModel, batch: Batch, read: ReadLayer) -> None:
    """Have the Hugging Face model give its attention, which only its plain implementation does."""
    module = model.module
    kind = type(module).__name__
    before = module.config._attn_implementation
    inputs = padded_inputs(module, model.layout, batch, name=model.name)
    try:
        module.set_attn_implementation("eager")
        layers = module(**inputs, output_attentions=True).attentions
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        raise _no_maps(model.name, kind, str(error)) from error
    finally:
        module.set_attn_implementation(before)
    lengths = batch.lengths.tolist()
    for number, maps in enumerate(layers or ()):
        if maps is None or maps.ndim != 4 or maps.shape[-1] != maps.shape[-2]:
            shape = None if maps is None else tuple(maps.shape)
            raise _no_maps(model.name, kind, f"layer {number + 1} gives {shape}")
        read(number, [each[:, :length, :length].float() for each, length in zip(maps, lengths, strict=True)])
    if not layers:
        raise _no_maps(model.name, kind, "its call gives none")


def _no_maps(name: str, kind: str, why: str) -> ModelError:
    return ModelError(
        f"model '{name}' ({kind}) gives no attention map of tokens by tokens: {why}",
        hint="use an ESM or RoBERTa model, or one whose call knows output_attentions",
    )


def residue_tokens(batch: Batch) -> Int[Tensor, " r"]:
    """Give, for each residue of a batch of one record, the token that stands for it.

    Parameters
    ----------
    batch
        One sequence. A token of several residues stands for each of them.
    """
    tokens = torch.nonzero(batch.chain_index != NOT_A_RESIDUE).flatten()
    counts = (batch.residue_stop - batch.residue_start)[tokens].long()
    return torch.repeat_interleave(tokens, counts)


def apc(maps: Float[Tensor, "*h r r"]) -> Float[Tensor, "*h r r"]:
    """Take the average product correction off symmetric maps.

    Parameters
    ----------
    maps
        Of all residues of a record by all: a row's mean over the *whole* record says how much a residue is
        attended to by any, which is not about its partner.

    Notes
    -----
    ``F(i, j) - F(i, ·) F(·, j) / F(·, ·)`` with sums over all residues, the diagonal included as Rao et al.
    do; Dunn et al. leave it out. A map of zeros stays as it is.

    References
    ----------
    Dunn, Wahl & Gloor 2008, doi:10.1093/bioinformatics/btm604; Rao et al. 2021, ICLR, section 3.1.

    Examples
    --------
    >>> apc(torch.tensor([[1.0, 1.0], [1.0, 5.0]]))
    tensor([[ 0.5000, -0.5000],
            [-0.5000,  0.5000]])
    """
    rows = maps.sum(dim=-1, keepdim=True)
    columns = maps.sum(dim=-2, keepdim=True)
    total = rows.sum(dim=-2, keepdim=True)
    return maps - torch.where(total == 0, 0.0, rows * columns / torch.where(total == 0, 1.0, total))


def between(
    maps: Float[Tensor, "h l l"],
    tokens: Int[Tensor, " r"],
    first: Bool[Tensor, " r"],
    second: Bool[Tensor, " r"],
) -> Float[Tensor, "h a b"]:
    """Give the corrected attention between two sets of residues of one record.

    Special tokens are left out, both directions are added, the correction is taken over all residues, and
    then the block between the sets is cut out.

    Parameters
    ----------
    maps
        Of one layer.
    tokens
        From `residue_tokens`.
    first, second
        Which residues are rows and which are columns of the block.
    """
    over_residues = maps[:, tokens[:, None], tokens]
    corrected = apc(over_residues + over_residues.transpose(1, 2))
    return corrected[:, first][:, :, second]


def attention_between(
    model: LanguageModel, batch: Batch, is_first: Bool[Tensor, " r"]
) -> Float[Tensor, "layers h a b"]:
    """Run one record and give the corrected attention between some of its residues and all others.

    Parameters
    ----------
    model
        Any that gives maps.
    batch
        One sequence.
    is_first
        Which residues, in the order of the record, are rows; the others are columns.

    Returns
    -------
    Tensor
        float32, on the CPU.
    """
    if batch.num_sequences != 1:
        raise ValueError(f"attention_between takes one sequence, not {batch.num_sequences}")
    batch, is_first = batch.to(model.device), is_first.to(model.device)
    tokens = residue_tokens(batch)
    blocks: list[Tensor] = []
    read_attention(
        model, batch, lambda _, maps: blocks.append(between(maps[0], tokens, is_first, ~is_first).cpu())
    )
    return torch.stack(blocks)
