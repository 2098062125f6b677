"""Flat records to a Batch: the only place that adds special tokens."""

from typing import NoReturn

import numpy as np
import torch

from protlm.data.flat import FlatRecords, expand_slices
from protlm.data.layout import TokenLayout
from protlm.data.subwords import encode_chains
from protlm.errors import DataError, ModelError
from protlm.types.batch import NOT_A_RESIDUE, Batch
from protlm.types.record import Role


def collate(records: FlatRecords, layout: TokenLayout) -> Batch:
    """Lay out records as tokens, with the map from each token to its residues.

    Nothing here loops over records or residues in Python, save that sub-words come as a list per chain. A
    batch of sub-words has the same records at residue level beside it, and the tracks are there.

    Parameters
    ----------
    records
        Flat residues and tracks.
    layout
        The model's.

    Raises
    ------
    DataError
        If a record is longer than the layout allows, or is a chain of which the layout must know whether
        it is heavy or light, and it is neither.
    ModelError
        If a record has several chains and the layout cannot part them.

    Notes
    -----
    DISCREPANCY: the published code of the binding-pairs models cuts a pair as one text, of which the end of
    the second protein is lost where it is too long; here each chain is cut into sub-words by itself, and
    what is too long is an error.

    Examples
    --------
    >>> from protlm.data.flat import flatten_records
    >>> from protlm.data.layout import esm_layout
    >>> from protlm.types.record import Chain, Record
    >>> pair = Record("ab", (Chain("QV"), Chain("D")))
    >>> batch = collate(flatten_records([pair]), esm_layout())
    >>> esm_layout().decode(batch.tokens.numpy())
    '<cls>QV<cls><cls>D<eos>'
    >>> batch.residue_start.tolist(), batch.chain_index.tolist()
    ([-1, 0, 1, -1, -1, 0, -1], [-1, 0, 0, -1, -1, 1, -1])
    """
    if layout.is_residue_level:
        _check_length(records, layout)
        return _by_residue(records, layout)
    return _by_subword(records, layout)


def _by_residue(records: FlatRecords, layout: TokenLayout) -> Batch:
    lengths, per_record = records.chain_lengths, records.chains_per_record
    num_chains = len(lengths)
    first = np.cumsum(per_record) - per_record
    is_first = np.zeros(num_chains, dtype=bool)
    is_first[first] = True
    is_last = np.zeros(num_chains, dtype=bool)
    is_last[first + per_record - 1] = True

    is_heavy_alone, is_light_alone = _kept_separators(records, layout)
    is_parted = ~is_first | is_light_alone
    width = len(layout.separator)
    before = len(layout.begin) * is_first + width * is_parted
    after = len(layout.end) * is_last + width * is_heavy_alone
    chain_stop = np.cumsum(before + lengths + after) - after
    chain_start = chain_stop - lengths
    offsets = np.concatenate([[0], (chain_stop + after)[is_last]])

    total = int(offsets[-1])
    where = expand_slices(chain_start, lengths)
    residue_index = expand_slices(np.zeros_like(lengths), lengths)
    chain_in_record = np.arange(num_chains) - np.repeat(first, per_record)

    tokens = np.empty(total, dtype=np.int64)
    tokens[where] = layout.residue_ids[records.residues]
    separators = np.where(is_heavy_alone, chain_stop, chain_start - width)[is_parted | is_heavy_alone]
    _place(tokens, layout, offsets, separators)
    chain_index = np.full(total, NOT_A_RESIDUE, dtype=np.int32)
    chain_index[where] = np.repeat(chain_in_record, lengths)
    residue_start = np.full(total, NOT_A_RESIDUE, dtype=np.int32)
    residue_start[where] = residue_index
    residue_stop = np.full(total, NOT_A_RESIDUE, dtype=np.int32)
    residue_stop[where] = residue_index + 1
    standard = np.zeros(total, dtype=bool)
    standard[where] = layout.is_standard[tokens[where]]
    sequence_index = np.repeat(np.arange(len(per_record)), np.diff(offsets))
    positions = np.arange(total) - offsets[sequence_index]
    if layout.position_gap:
        later = np.zeros(total, dtype=np.int64)
        later[chain_start[is_parted]] = layout.position_gap
        running = np.cumsum(later)
        positions += running - running[offsets[sequence_index]]
    if "column" in records.tracks:
        _place_by_column(positions, records.tracks["column"], where, residue_index, offsets, layout)
    return Batch(
        tokens=torch.from_numpy(tokens),
        offsets=torch.from_numpy(offsets),
        sequence_index=torch.from_numpy(sequence_index),
        chain_index=torch.from_numpy(chain_index),
        residue_start=torch.from_numpy(residue_start),
        residue_stop=torch.from_numpy(residue_stop),
        positions=torch.from_numpy(positions),
        record_keys=torch.from_numpy(records.keys.view(np.int64)),
        tracks={
            name: torch.from_numpy(_spread(values, where, total)) for name, values in records.tracks.items()
        },
        standard=torch.from_numpy(standard),
        roles=torch.from_numpy(_spread(np.repeat(records.roles, lengths), where, total)),
    )


def _by_subword(records: FlatRecords, layout: TokenLayout) -> Batch:
    """Join the tokens of a batch at residue level that are under one sub-word."""
    if "column" in records.tracks:
        raise DataError(
            "residues that are aligned to a wild type need a token each, and this model has sub-words",
            hint="prepare the homologues with --as sequences, or take a residue-level model",
        )
    fine = _by_residue(records, layout.of_residues)
    ids, counts = encode_chains(records, layout)
    sizes = np.maximum(layout.residues_per_token[ids], 1)  # a letter that the vocabulary lacks is one token
    if not np.array_equal(np.add.reduceat(sizes, np.cumsum(counts) - counts), records.chain_lengths):
        raise ModelError(
            "the sub-words of a chain do not add up to its residues", hint="check the tokenizer files"
        )
    fine_offsets, standard = fine.offsets.numpy(), fine.standard.numpy()  # type: ignore[union-attr]
    is_residue = fine.is_residue.numpy()
    begins = ~is_residue
    begins[np.flatnonzero(is_residue)[np.cumsum(sizes) - sizes]] = True
    starts, under = np.flatnonzero(begins), np.cumsum(begins) - 1
    offsets = np.append(under[fine_offsets[:-1]], len(starts))
    tokens, residue_stop = fine.tokens.numpy()[starts], fine.residue_start.numpy()[starts]
    tokens[is_residue[starts]] = ids
    residue_stop[is_residue[starts]] += sizes.astype(residue_stop.dtype)
    sequence_index = fine.sequence_index[starts]
    gaps = fine.positions.numpy() - np.arange(len(under)) + fine_offsets[fine.sequence_index.numpy()]
    positions = gaps[starts] + np.arange(len(starts)) - offsets[sequence_index.numpy()]
    _check_positions(positions, layout)
    return Batch(
        tokens=torch.from_numpy(tokens),
        offsets=torch.from_numpy(offsets),
        sequence_index=sequence_index,
        chain_index=fine.chain_index[starts],
        residue_start=fine.residue_start[starts],
        residue_stop=torch.from_numpy(residue_stop),
        positions=torch.from_numpy(positions),
        record_keys=fine.record_keys,
        standard=torch.from_numpy(np.logical_and.reduceat(standard, starts)),
        roles=None if fine.roles is None else fine.roles[starts],
        by_residue=fine,
        residue_tokens=torch.from_numpy(under),
    )


def _place_by_column(
    positions: np.ndarray,
    columns: np.ndarray,
    where: np.ndarray,
    residue_index: np.ndarray,
    offsets: np.ndarray,
    layout: TokenLayout,
) -> None:
    """Move residues to where the residue of the wild type that they are aligned to would be.

    The end tokens follow the last residue. Records without columns (0) stay as they are.
    """
    shift = np.zeros(len(positions), dtype=np.int64)
    shift[where] = np.where(columns > 0, columns.astype(np.int64) - 1 - residue_index, 0)
    for place in range(len(layout.end)):
        end = offsets[1:] - len(layout.end) + place
        shift[end] = shift[end - place - 1]
    positions += shift
    if layout.max_tokens is not None and positions.max(initial=0) >= layout.max_tokens:
        raise DataError(
            f"a residue is aligned to position {int(columns.max())} of the wild type, but this model takes "
            f"at most {layout.max_tokens} tokens (a single chain of {layout.max_residues} residues)",
            hint="use a model without a limit, or prepare the homologues with --as sequences",
        )


def _kept_separators(records: FlatRecords, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray]:
    """Tell, per chain, whether it is alone and keeps the separator behind it, or before it."""
    is_alone = np.repeat(records.chains_per_record == 1, records.chains_per_record)
    if layout.single_chain == "bare":
        nowhere = np.zeros_like(is_alone)
        return nowhere, nowhere
    is_heavy, is_light = is_alone & (records.roles == Role.HEAVY), is_alone & (records.roles == Role.LIGHT)
    if num_others := int((is_alone & ~is_heavy & ~is_light).sum()):
        raise DataError(
            f"this model writes a heavy chain alone as H{layout.separator_text} and a light one as "
            f"{layout.separator_text}L, but {num_others:,} of {len(records.keys):,} records are a single "
            "chain that is not known to be either",
            hint="name its column with --heavy or --light, or let protlm prepare number it",
        )
    return is_heavy, is_light


def _place(tokens: np.ndarray, layout: TokenLayout, offsets: np.ndarray, separators: np.ndarray) -> None:
    for place, token in enumerate(layout.begin):
        tokens[offsets[:-1] + place] = layout.ids[token]
    for place, token_id in enumerate(layout.separator_ids if len(separators) else ()):
        tokens[separators + place] = token_id
    for place, token in enumerate(layout.end):
        tokens[offsets[1:] - len(layout.end) + place] = layout.ids[token]


def _spread(values: np.ndarray, where: np.ndarray, total: int) -> np.ndarray:
    # torch has no arithmetic for uint16, so 16-bit tracks travel as int32
    spread = np.zeros(total, dtype=np.int32 if values.dtype == np.uint16 else values.dtype)
    spread[where] = values
    return spread


def _check_length(records: FlatRecords, layout: TokenLayout) -> None:
    if layout.max_tokens is None:
        return
    needed = layout.num_positions(records.record_lengths, records.chains_per_record)
    longest = int(needed.max(initial=0))
    if longest > layout.max_tokens:
        _refuse_length(longest, layout, f" (a single chain of {layout.max_residues} residues)")


def _check_positions(positions: np.ndarray, layout: TokenLayout) -> None:
    longest = int(positions.max(initial=-1)) + 1
    if layout.max_tokens is not None and longest > layout.max_tokens:
        _refuse_length(longest, layout, "")


def _refuse_length(longest: int, layout: TokenLayout, aside: str) -> NoReturn:
    raise DataError(
        f"a record needs {longest} tokens, but this model takes at most {layout.max_tokens}{aside}",
        hint="shorten or leave out longer records, or use a model without a limit",
    )
