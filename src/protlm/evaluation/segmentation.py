"""What a tokenizer makes of proteins: how short, how often too long, how stable, how fast."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from protlm.data.chain_sample import chain_hash
from protlm.data.flat import FlatRecords
from protlm.data.hashing import combine, uniform
from protlm.data.layout import TokenLayout
from protlm.data.subwords import encode_chains
from protlm.errors import DataError
from protlm.statistics.bootstrap import bootstrap_mean
from protlm.types.alphabet import STANDARD

LIMITS = (512, 1000, 2048)
"""Tokens, special ones included, over which sequences are counted."""
_SITE, _LETTER = 1, 2
_TIMES = 3


@dataclass(frozen=True)
class Stability:
    """What one substitution in each chain changes, by chain."""

    num_gone: np.ndarray
    """Tokens whose span is gone, int64."""
    is_beside: np.ndarray
    """Whether one of them is beside the token that holds the residue, bool."""


def cut(records: FlatRecords, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray]:
    """Cut chains into tokens, without special ones.

    Parameters
    ----------
    records
        Flat residues.
    layout
        Of residues or sub-words.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Ids of all chains one behind the other, and tokens per chain.
    """
    if layout.is_residue_level:
        return layout.residue_ids[records.residues], records.chain_lengths
    return encode_chains(records, layout)


def measure(
    chains: Sequence[str], layout: TokenLayout, *, seed: int = 0, num_draws: int = 1000
) -> dict[str, float | int]:
    """Measure one tokenizer on chains.

    Parameters
    ----------
    chains
        Residues; at least one.
    layout
        The tokenizer's.
    seed
        Of the substitutions and of the bootstrap.
    num_draws
        Of the bootstrap over chains.

    Returns
    -------
    dict
        ``residues_per_token`` and ``compression`` (1 - tokens / residues, special tokens not counted),
        ``over_512``, ``over_1000``, ``over_2048`` (share of chains with more tokens, special ones counted),
        ``resegmented`` (share of chains in which one random substitution takes away the span of a token),
        ``resegmented_beside`` (share in which it does so beside the token that holds the residue),
        ``resegmented_tokens`` (tokens whose span is gone per chain, the mean), each with ``_low`` and
        ``_high`` at 95 % (Wilson for shares, bootstrap over chains otherwise); counts; and
        ``sequences_per_second`` of the fastest of three passes over all chains.

    Raises
    ------
    DataError
        If there is no chain.
    """
    if not chains:
        raise DataError("there is no chain to cut into tokens", hint="give at least one protein")
    records = _flat(chains)
    counts = cut(records, layout)[1]
    seconds = []
    for _ in range(_TIMES):
        begin = time.perf_counter()
        cut(records, layout)
        seconds.append(time.perf_counter() - begin)
    stability = substitute(chains, layout, seed=seed)
    lacking = np.frombuffer(layout.replaced_letters().encode(), dtype=np.uint8)
    facts: dict[str, float | int] = {
        "vocabulary": len(layout.tokens),
        "merges": len(layout.merges),
        "longest_token": int(layout.residues_per_token.max()),
        "n": len(chains),
        "n_residues": len(records.residues),
        "n_tokens": int(counts.sum()),
        "n_unknown": int(np.isin(records.residues, lacking).sum()),
        "n_substituted": len(stability.num_gone),
    }
    per_token = bootstrap_mean(records.chain_lengths, weights=counts, num_draws=num_draws, seed=seed)
    facts |= _columns("residues_per_token", per_token.value, per_token.low, per_token.high)
    facts |= _columns("compression", *(1 - 1 / facts[name] for name in list(facts)[-3:]))
    lengths = counts + layout.num_specials(1)
    for limit in LIMITS:
        facts |= _share(f"over_{limit}", np.greater(lengths, limit))
    facts |= _share("resegmented", stability.num_gone > 0)
    facts |= _share("resegmented_beside", stability.is_beside)
    if len(stability.num_gone):
        gone = bootstrap_mean(stability.num_gone, num_draws=num_draws, seed=seed)
        facts |= _columns("resegmented_tokens", gone.value, gone.low, gone.high)
    return facts | {"sequences_per_second": len(chains) / min(seconds)}


def substitute(chains: Sequence[str], layout: TokenLayout, *, seed: int = 0) -> Stability:
    """Substitute one residue in each chain and compare the spans of its tokens.

    Site and new letter are hashes of the seed and the chain: every residue of the twenty is equally likely,
    and so is each of the nineteen others. Chains without such a residue are left out.

    Parameters
    ----------
    chains
        Residues.
    layout
        Of residues or sub-words.
    seed
        Of the substitutions.

    Examples
    --------
    >>> from protlm.data.subword_training import train_subwords
    >>> layout = train_subwords(["LLA", "LLA", "LLA"], kind="bpe", num_merges=2).layout
    >>> layout.merges, substitute(["LLA"], layout).num_gone.tolist()
    (('L A', 'L LA'), [1])
    """
    is_one = [any(letter in STANDARD for letter in chain) for chain in chains]
    chains = [chain for chain, has_one in zip(chains, is_one, strict=True) if has_one]
    if not chains:
        return Stability(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
    before = _flat(chains)
    site, after = _mutated(before, chains, seed)
    starts, sizes, chain_of = _spans(before, layout)
    is_gone = ~np.isin(_codes(starts, sizes), _codes(*_spans(after, layout)[:2]))
    num_gone = np.bincount(chain_of[is_gone], minlength=len(chains))
    holder = np.searchsorted(starts, site, side="right") - 1
    return Stability(num_gone, num_gone > is_gone[holder])


def _mutated(records: FlatRecords, chains: Sequence[str], seed: int) -> tuple[np.ndarray, FlatRecords]:
    """Give the flat place of a substitution in each chain, and the chains with them."""
    twenty = np.frombuffer(STANDARD.encode(), dtype=np.uint8)
    places = np.flatnonzero(np.isin(records.residues, twenty))
    chain_of = np.repeat(np.arange(len(chains)), records.chain_lengths)
    counts = np.bincount(chain_of[places], minlength=len(chains))
    hashes = np.array([chain_hash(chain) for chain in chains], dtype=np.uint64)
    chosen = (uniform(combine(seed, hashes, _SITE)) * counts).astype(np.int64)
    site = places[np.cumsum(counts) - counts + chosen]
    steps = 1 + (uniform(combine(seed, hashes, _LETTER)) * (len(twenty) - 1)).astype(np.int64)
    residues = records.residues.copy()
    residues[site] = twenty[(np.searchsorted(twenty, residues[site]) + steps) % len(twenty)]
    return site, replace(records, residues=residues)


def _spans(records: FlatRecords, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give start and size in residues of each token, over all chains laid end to end, and its chain."""
    ids, counts = cut(records, layout)
    sizes = np.maximum(layout.residues_per_token[ids], 1)
    return np.cumsum(sizes) - sizes, sizes, np.repeat(np.arange(len(counts)), counts)


def _codes(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return starts << 16 | sizes


def _flat(chains: Sequence[str]) -> FlatRecords:
    size = len(chains)
    return FlatRecords(
        residues=np.frombuffer("".join(chains).encode(), dtype=np.uint8),
        chain_lengths=np.array([len(chain) for chain in chains], dtype=np.int64),
        chains_per_record=np.ones(size, dtype=np.int64),
        keys=np.zeros(size, dtype=np.uint64),
        tracks={},
        roles=np.zeros(size, dtype=np.int8),
    )


def _share(name: str, flags: np.ndarray) -> dict[str, float]:
    if not len(flags):
        return {}
    interval = binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    return _columns(name, float(flags.mean()), interval.low, interval.high)


def _columns(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}
