"""What a frozen model says of records and residues, computed once and kept on disk."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from protlm.data.collate import collate
from protlm.data.flat import expand_slices, flatten_records
from protlm.data.roles import with_roles
from protlm.data.sampling import budget_batches
from protlm.data.token_counts import record_lengths
from protlm.errors import DataError
from protlm.models.digest import model_digest
from protlm.models.embed import embed_records
from protlm.models.language_model import LanguageModel
from protlm.models.pooling import residue_states
from protlm.types.record import Record

Pooling = Literal["mean", "begin"]
POOLINGS: tuple[Pooling, ...] = ("mean", "begin")
_TENSOR = "features"


def feature_folder() -> Path:
    """Give where features are kept: in ``$PROTLM_CACHE``, else in ``protlm`` of the user's cache."""
    own = os.environ.get("PROTLM_CACHE")
    if own:
        return Path(own) / "features"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "protlm" / "features"


def record_features(
    model: LanguageModel,
    records: Sequence[Record],
    *,
    pooling: Pooling = "mean",
    max_tokens: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Give one vector per record from the last hidden states, the chains read together.

    Parameters
    ----------
    model
        Any language model.
    records
        At least one, all with the same number of chains.
    pooling
        ``"mean"``: the mean over the residues of each chain, chains one after another. ``"begin"``: the
        state of the begin token, as the published classifiers have it.
    max_tokens
        Token budget of a batch; by the device if not said.
    on_batch
        Called with the number of records finished.

    Returns
    -------
    numpy.ndarray
        float32 ``[n, chains × d]``, or ``[n, d]`` of the begin token.

    Raises
    ------
    DataError
        If the records differ in their number of chains, or the model has no begin token.
    """
    counts = sorted({len(record.chains) for record in records})
    if len(counts) != 1:
        raise DataError(
            f"records with {' and '.join(map(str, counts)) or 'no'} chains cannot have vectors of one length",
            hint="keep pairs and single chains apart",
        )
    budget = max_tokens or model.token_budget
    if pooling == "mean":
        states = embed_records(model, records, max_tokens=budget, on_batch=on_batch)
        return np.stack([np.concatenate(own) for own in states])
    if not model.layout.begin:
        raise DataError(f"model '{model.name}' has no begin token", hint="pool by the mean instead")
    lengths = record_lengths(records, model.layout)
    rows: list[np.ndarray] = [np.zeros(0)] * len(records)
    for chosen in budget_batches(lengths, budget):
        batch = collate(flatten_records([records[index] for index in chosen]), model.layout)
        with torch.inference_mode():
            first = model.hidden(batch).float()[batch.offsets[:-1].long().to(model.device)].cpu().numpy()
        for slot, index in enumerate(chosen):
            rows[index] = first[slot]
        if on_batch is not None:
            on_batch(len(chosen))
    return np.stack(rows)


def cached_features(
    model: LanguageModel,
    records: Sequence[Record],
    folder: Path,
    *,
    pooling: Pooling = "mean",
    max_tokens: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, bool]:
    """Give `record_features`, read from disk where the same model has seen the same chains before.

    A file's name is a hash of weights, layout, precision, pooling, and of the residues and roles of all
    chains in order, so a changed model or input never finds an old file.

    Parameters
    ----------
    model, records, pooling, max_tokens, on_batch
        As for `record_features`.
    folder
        Where the files are; made if it is not there.

    Returns
    -------
    numpy.ndarray
        The features.
    bool
        Whether they were there already.
    """
    path = folder / f"{_features_digest(model, records, pooling)}.safetensors"
    if path.exists():
        try:
            found = load_file(path)[_TENSOR]
            if len(found) == len(records):
                return found, True
        except (SafetensorError, KeyError, OSError):
            path.unlink()  # cut short; it is a copy of what can be computed
    features = record_features(model, records, pooling=pooling, max_tokens=max_tokens, on_batch=on_batch)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({_TENSOR: features}, part, metadata={"model": model.name, "pooling": pooling})
    part.replace(path)
    return features, False


def cached_residue_states(
    model: LanguageModel,
    records: Sequence[Record],
    folder: Path,
    *,
    max_tokens: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, bool]:
    """Give the last hidden state of each residue, mapped from disk; written there where it is not yet.

    Parameters
    ----------
    model
        Any language model; of sub-words, a residue has the state of the token that it is under.
    records, folder, max_tokens, on_batch
        As for `cached_features`.

    Returns
    -------
    numpy.ndarray
        float32 ``[r, d]``, read-only: residues of all chains of all records laid end to end.
    bool
        Whether they were there already.
    """
    path = folder / f"{_features_digest(model, records, 'residues')}.npy"
    size = (sum(len(record) for record in records), model.module.config.hidden_size)
    if path.exists():
        try:
            found = np.load(path, mmap_mode="r")
            if found.shape == size:
                return found, True
        except (ValueError, OSError):
            path.unlink()  # cut short; it is a copy of what can be computed
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    states = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=size)
    records = with_roles(records, model.layout)
    starts = np.concatenate([[0], np.cumsum([len(record) for record in records])])
    for chosen in budget_batches(record_lengths(records, model.layout), max_tokens or model.token_budget):
        batch = collate(flatten_records([records[index] for index in chosen]), model.layout)
        with torch.inference_mode():
            own = residue_states(model.hidden(batch).float().cpu(), batch)
        values = np.repeat(own.values.numpy(), own.sizes.long().numpy(), axis=0)
        states[expand_slices(starts[chosen], np.diff(starts)[chosen])] = values
        if on_batch is not None:
            on_batch(len(chosen))
    states.flush()
    del states
    part.replace(path)
    return np.load(path, mmap_mode="r"), False


def with_random_weights(model: LanguageModel, *, seed: int = 0) -> LanguageModel:
    """Give the same network with weights as it would start training with.

    Parameters
    ----------
    model
        Stays as it is.
    seed
        Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = type(model.module)(model.module.config)
    fresh = LanguageModel(
        module, model.layout, name=f"{model.name}, random weights", tokenizer=model.tokenizer
    )
    return fresh.eval().to(model.device).to(next(model.module.parameters()).dtype)


def _features_digest(model: LanguageModel, records: Sequence[Record], pooling: str) -> str:
    digest = hashlib.sha256(f"1 {model_digest(model)} {pooling};".encode())
    for record in records:
        for chain in record.chains:
            digest.update(f"{int(chain.role)} {chain.residues},".encode())
        digest.update(b";")
    return digest.hexdigest()[:40]
