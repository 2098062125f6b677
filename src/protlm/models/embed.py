"""Embeddings: mean or per residue, in batches of like length, in the order of the input."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.roles import with_roles
from protlm.data.sampling import budget_batches
from protlm.data.token_counts import record_lengths
from protlm.models.language_model import LanguageModel
from protlm.models.residue_level import require_residue_level
from protlm.types.batch import Batch
from protlm.types.record import Record


def embed_records(
    model: LanguageModel,
    records: Sequence[Record],
    *,
    per_residue: bool = False,
    max_tokens: int = 4096,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[np.ndarray]]:
    """Give the last hidden states of each chain of each record.

    Parameters
    ----------
    model
        Any language model.
    records
        At least one.
    per_residue
        States of each residue instead of their mean, which needs one residue per token. Begin, end and
        separator tokens never count; a sub-word counts in the mean as often as it has residues.
    max_tokens
        Token budget of a batch; bounds memory.
    on_batch
        Called with the number of records finished.

    Returns
    -------
    list of list of numpy.ndarray
        Per record and chain, float32 ``[d]``, or ``[r, d]`` per residue.

    Raises
    ------
    ModelError
        If states per residue are asked of a model of sub-words.
    """
    if per_residue:
        require_residue_level(model, "an embedding per residue")
    records = with_roles(records, model.layout)
    lengths = record_lengths(records, model.layout)
    results: list[list[np.ndarray]] = [[] for _ in records]
    for chosen in budget_batches(lengths, max_tokens):
        batch = collate(flatten_records([records[index] for index in chosen]), model.layout)
        with torch.inference_mode():
            hidden = model.hidden(batch).float()
            states = _per_residue(hidden, batch) if per_residue else _means(hidden, batch)
        for slot, index in enumerate(chosen):
            results[index] = states[slot]
        if on_batch is not None:
            on_batch(len(chosen))
    return results


def _means(hidden: torch.Tensor, batch: Batch) -> list[list[np.ndarray]]:
    group, num_chains = _chain_groups(batch)
    inside = batch.is_residue
    sizes = (batch.residue_stop - batch.residue_start)[inside]
    sums = torch.zeros(int(num_chains.sum()), hidden.shape[1]).to(hidden.device)
    weighted = hidden[inside.to(hidden.device)] * sizes.to(hidden)[:, None]
    sums.index_add_(0, group[inside].to(hidden.device), weighted)
    counts = torch.bincount(group[inside], weights=sizes, minlength=len(sums)).to(hidden)
    means = (sums / counts[:, None]).cpu().numpy()
    stops = np.cumsum(num_chains)
    return [list(means[stop - count : stop]) for stop, count in zip(stops, num_chains, strict=True)]


def _per_residue(hidden: torch.Tensor, batch: Batch) -> list[list[np.ndarray]]:
    group, num_chains = _chain_groups(batch)
    inside = batch.is_residue
    states = hidden[inside.to(hidden.device)].cpu().numpy()
    counts = torch.bincount(group[inside], minlength=int(num_chains.sum())).numpy()
    parts = iter(np.split(states, np.cumsum(counts)[:-1]))
    return [[next(parts) for _ in range(count)] for count in num_chains]


def _chain_groups(batch: Batch) -> tuple[torch.Tensor, np.ndarray]:
    """Number the chains of the batch one after another; give each token's chain and chains per sequence."""
    num_chains = torch.zeros(batch.num_sequences, dtype=torch.int64)
    num_chains.scatter_reduce_(0, batch.sequence_index.long(), batch.chain_index.long() + 1, reduce="amax")
    before = torch.cumsum(num_chains, 0) - num_chains
    return before[batch.sequence_index.long()] + batch.chain_index.long(), num_chains.numpy()
