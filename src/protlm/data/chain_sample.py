"""A fair sample of the distinct chains of a supply, in bounded memory, whatever their order."""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ChainSample:
    """Distinct chains with the lowest hashes, and how much there was."""

    chains: tuple[str, ...]
    """Residues, in the order of their hashes."""
    num_seen: int
    """Chains that were looked at, repeats among them."""
    is_whole: bool
    """Whether every distinct chain is in it."""


def sample_chains(
    chains: Iterable[str], *, max_residues: int | None = None, max_chains: int | None = None
) -> ChainSample:
    """Keep the distinct chains with the lowest hashes of their residues, as many as a limit allows.

    The order and the number of repeats do not matter, and more input can only push chains out.

    Parameters
    ----------
    chains
        Residues, consumed once.
    max_residues
        Of all chains that are kept together.
    max_chains
        To keep.

    Examples
    --------
    >>> chains = ["MKT", "AAA", "MKT", "LLLL"]
    >>> sample_chains(chains).num_seen, len(sample_chains(chains).chains)
    (4, 3)
    >>> sample_chains(reversed(chains), max_residues=7) == sample_chains(chains, max_residues=7)
    True
    """
    heap: list[tuple[int, str]] = []  # the largest hash first, as its negative
    kept: set[int] = set()
    num_seen = num_residues = 0
    bound: int | None = None
    for chain in chains:
        num_seen += 1
        code = chain_hash(chain)
        if code in kept or (bound is not None and code >= bound):
            continue
        heapq.heappush(heap, (-code, chain))
        kept.add(code)
        num_residues += len(chain)
        while (max_residues is not None and num_residues > max_residues) or (
            max_chains is not None and len(heap) > max_chains
        ):
            largest, last = heapq.heappop(heap)
            bound = -largest
            kept.discard(bound)
            num_residues -= len(last)
    return ChainSample(tuple(chain for _, chain in sorted(heap, reverse=True)), num_seen, bound is None)


def chain_hash(chain: str) -> int:
    """Give the 64-bit hash of a chain that depends on its residues alone.

    Parameters
    ----------
    chain
        Residues.
    """
    return int.from_bytes(hashlib.blake2b(chain.encode(), digest_size=8).digest(), "little")
