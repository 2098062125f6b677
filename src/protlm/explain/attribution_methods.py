"""Ways to tell what each token adds to one output of a fine-tuned model.

Shapes: ``t`` tokens of a batch, ``n`` records, ``s`` sites of one record, ``o`` outputs, ``d`` width, ``k``
versions of one record.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protlm.errors import ModelError
from protlm.explain.attention import read_attention
from protlm.explain.attribution_sites import hide
from protlm.models.predictor import Predictor
from protlm.types.batch import Batch


def class_outputs(
    predictor: Predictor, outputs: Float[Tensor, "n o"], classes: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Take the output of one class of each record.

    Parameters
    ----------
    predictor
        For its target.
    outputs
        From `Predictor.outputs`.
    classes
        Numbers of classes. Of a `binary` target the one logit speaks for class 1, and its negative for class
        0. Of a `value` there is class 0 alone: the number in its own unit.
    """
    facts = predictor.head.facts
    if facts.target.kind == "value":
        return outputs[:, 0] * facts.sd + facts.mean
    if facts.target.kind == "binary":
        return torch.where(classes == 1, outputs[:, 0], -outputs[:, 0])
    return outputs.gather(1, classes[:, None])[:, 0]


def hidden_outputs(
    predictor: Predictor,
    batch: Batch,
    of_token: Int[np.ndarray, " t"],
    hidden: Bool[np.ndarray, "k s"],
    wanted: Int[Tensor, ""],
    max_tokens: int,
) -> Float[np.ndarray, " k"]:
    """Give the output of one record with mask tokens at some of its sites, in several ways.

    Parameters
    ----------
    predictor
        Any.
    batch
        All inputs of the record, on the CPU.
    of_token
        The site of each token, 0-based in the record.
    hidden
        Which sites are masked.
    wanted
        The class.
    max_tokens
        Token budget of a batch.
    """
    mask_id = predictor.encoder.layout.mask_id
    per_batch = max(1, max_tokens // len(batch.tokens))
    found = []
    for start in range(0, len(hidden), per_batch):
        some = hidden[start : start + per_batch]
        versions = _repeat(batch, len(some))
        tokens = hide(batch.tokens, of_token, some, mask_id).reshape(-1)
        with torch.inference_mode():
            outputs = predictor.outputs(replace(versions, tokens=tokens))
            found.append(class_outputs(predictor, outputs, wanted.expand(len(some))).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def occlude(
    predictor: Predictor,
    batch: Batch,
    of_token: Int[np.ndarray, " t"],
    wanted: Int[Tensor, ""],
    max_tokens: int,
) -> Float[np.ndarray, " s"]:
    """Give the output of one record less that with each of its sites masked.

    Parameters
    ----------
    predictor, batch, of_token, wanted, max_tokens
        As for `hidden_outputs`.
    """
    single = np.eye(of_token.max() + 1, dtype=bool)
    hidden = np.concatenate([np.zeros((1, len(single)), dtype=bool), single])
    outputs = hidden_outputs(predictor, batch, of_token, hidden, wanted, max_tokens)
    return outputs[0] - outputs[1:]


def gradient_times_input(
    predictor: Predictor, batch: Batch, wanted: Int[Tensor, " n"]
) -> Float[Tensor, " t"]:
    """Give word embedding times gradient, summed over the width.

    Parameters
    ----------
    predictor
        Any.
    batch
        From `Predictor.batch`; the records do not see each other, so that their gradients come together.
    wanted
        The class of each record.
    """
    with _leaf(predictor) as caught:
        total = class_outputs(predictor, predictor.outputs(batch), wanted).sum()
    (gradient,) = torch.autograd.grad(total, caught)
    return _flat(batch, (gradient * caught[0].detach()).sum(dim=-1))


def attcat(predictor: Predictor, batch: Batch, wanted: Int[Tensor, " n"]) -> Float[Tensor, " t"]:
    """Give Σ over layers of (state entering it · gradient) × attention received.

    Attention is averaged over heads and over all tokens of the sequence as queries.

    DISCREPANCY: the script of Ng & Briney 2025 masks all special tokens out of the attention in this step,
    although the head reads one and training saw them. Here the model is run as it was trained.

    Parameters
    ----------
    predictor, batch, wanted
        As for `gradient_times_input`.

    Raises
    ------
    ModelError
        If protlm does not run the layers of the model itself.

    References
    ----------
    Qiang et al. 2022, NeurIPS.
    """
    model = predictor.encoder
    if not model.is_flat:
        raise ModelError(
            f"attcat needs the states and attention of every layer, and model '{model.name}' "
            f"({type(model.module).__name__}) runs through its own call",
            hint="take integrated-gradients, grad-x-input or occlusion",
        )
    with _leaf(predictor), _entering(model.module) as states:
        total = class_outputs(predictor, predictor.outputs(batch), wanted).sum()
    gradients = torch.autograd.grad(total, states)
    received: list[Tensor] = []
    read_attention(
        model, batch, lambda _, maps: received.append(torch.cat([each.mean(dim=(0, 1)) for each in maps]))
    )
    summed = torch.zeros(len(batch.tokens), device=model.device)
    for state, gradient, attention in zip(states, gradients, received, strict=True):
        summed += (state.detach() * gradient).sum(dim=-1).float() * attention
    return summed


def integrate(
    predictor: Predictor, batch: Batch, wanted: Int[Tensor, ""], steps: int, max_tokens: int
) -> tuple[Float[Tensor, " t"], float]:
    """Integrate gradients on the way from mask tokens to one record; special tokens stay as they are.

    To a model with token dropout a mask is a zero, so that zero is the baseline there.

    Parameters
    ----------
    predictor
        Any.
    batch
        All inputs of the record, on the CPU.
    wanted
        The class.
    steps
        Points of the Gauss-Legendre sum.
    max_tokens
        Token budget of a batch.

    Returns
    -------
    Tensor
        On the CPU.
    float
        By how much the sum over tokens misses the output's difference to the baseline, as a share of it.

    References
    ----------
    Sundararajan et al. 2017, arXiv:1703.01365.
    """
    module, layout, device = predictor.encoder.module, predictor.encoder.layout, predictor.encoder.device
    words = module.get_input_embeddings()
    whole = words(batch.tokens.to(device)).detach()
    mask = words(torch.tensor(layout.mask_id, device=device)).detach()
    if getattr(module.config, "token_dropout", False):
        mask = torch.zeros_like(mask)
    baseline = torch.where(batch.is_residue.to(device)[:, None], mask, whole)

    def output(embedded: Float[Tensor, "k t d"]) -> Float[Tensor, " k"]:
        versions = _repeat(batch, len(embedded)).to(device)
        with _embedding(predictor, lambda own: _like(versions, embedded.flatten(0, 1), own)):
            return class_outputs(predictor, predictor.outputs(versions), wanted.expand(len(embedded)))

    found = IntegratedGradients(output).attribute(
        whole[None],
        baselines=baseline[None],
        n_steps=steps,
        internal_batch_size=max(1, max_tokens // len(batch.tokens)),
    )
    values = found[0].sum(dim=-1).detach().cpu()
    ends = output(torch.stack([whole, baseline])).detach()
    difference = float(ends[0] - ends[1])
    missed = abs(float(values.sum()) - difference)
    return values, missed / abs(difference) if difference else float("nan")


def _repeat(batch: Batch, times: int) -> Batch:
    return batch.select(np.tile(np.arange(batch.num_sequences), times))


@contextmanager
def _embedding(predictor: Predictor, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have what the word embeddings give replaced."""
    embeddings = predictor.encoder.module.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda *call: change(call[2]))  # module, inputs, output
    try:
        with torch.enable_grad():
            yield
    finally:
        hook.remove()


@contextmanager
def _leaf(predictor: Predictor) -> Iterator[list[Tensor]]:
    """Begin the graph at the word embeddings, and keep them."""
    caught: list[Tensor] = []

    def begin(output: Tensor) -> Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    with _embedding(predictor, begin):
        yield caught


@contextmanager
def _entering(module: Any) -> Iterator[list[Tensor]]:
    """Keep the state that enters each layer of a model that runs flat."""
    states: list[Tensor] = []
    hooks = []
    for layer in module.base_model.encoder.layer:
        # ESM has its norm before the attention, RoBERTa behind it
        first = getattr(layer.attention, "LayerNorm", layer.attention.self.query)
        hooks.append(first.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])))
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def _flat(batch: Batch, values: Tensor) -> Tensor:
    """Take what may be a padded rectangle back to flat tokens."""
    return batch.to(values.device).unpad(values) if values.ndim == 2 else values


def _like(batch: Batch, flat: Tensor, own: Tensor) -> Tensor:
    """Lay flat embeddings out as the model's own are."""
    if own.ndim == 2:
        return flat
    padded = batch.pad(flat, 0.0)
    return torch.nn.functional.pad(padded, (0, 0, 0, own.shape[1] - padded.shape[1]))
