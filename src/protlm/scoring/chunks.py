"""Cut many variants into chunks, each of which is planned, run and kept by itself."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from protlm.scoring.plans import Plan
from protlm.types.variant import Variant

MOST_READS = 1 << 17
"""Reads of a chunk; at 33 tokens they take 17 MB, and their contexts some ten times as much."""


def cut(
    plan: Plan, variants: Sequence[Variant], num_residues: int, *, most: int = MOST_READS
) -> list[np.ndarray]:
    """Put variants of the same sites together and cut where a chunk has enough reads.

    The cuts depend on the variants alone, so an interrupted job finds its chunks again. A plan whose contexts
    all variants share has one chunk; where those of the same sites share them, they stay together.

    Parameters
    ----------
    plan
        Says what a variant reads.
    variants
        In any order.
    num_residues
        Of the wild type, all chains.
    most
        Reads of a chunk.

    Returns
    -------
    list of numpy.ndarray
        Indices into `variants`, each once.
    """
    if not variants:
        return []
    if plan.sharing == "all":
        return [np.arange(len(variants))]
    sites = [tuple([mutation.index for mutation in variant.mutations]) for variant in variants]
    order = sorted(range(len(variants)), key=sites.__getitem__)
    reads = np.array([max(1, plan.num_reads(variants[number], num_residues)) for number in order])
    if plan.sharing == "same_sites":
        reads[1:][[sites[one] == sites[other] for one, other in pairwise(order)]] = 0
    chunk = (np.cumsum(reads) - 1) // most
    return np.split(np.array(order), np.flatnonzero(np.diff(chunk)) + 1)
