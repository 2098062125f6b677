"""The group of a record where none is given: its clonotype, by V gene and CDR3."""

from collections.abc import Iterable, Iterator

import numpy as np

from protlm.data.gene_names import gene_of
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import Region

_CDR3 = bytes([Region.CDR3])


def default_group(record: Record) -> str:
    """Give V gene and CDR3 of the first chain that has both, such as ``IGHV3-66|SRWGGDGFYAMDY``.

    Heavy chains go before others. Without any V gene, as in a FASTA file that was not compared with germline
    genes, the locus stands for it, ``H|SRWGGDGFYAMDY``; without a CDR3 it is the empty string.

    Parameters
    ----------
    record
        A numbered record.
    """
    found = [(chain, cdr3) for chain in record.chains if (cdr3 := cdr3_of(chain))]
    found.sort(key=lambda each: each[0].role != Role.HEAVY)  # stable
    for chain, cdr3 in found:
        if chain.v_call:
            return f"{gene_of(chain.v_call)}|{cdr3}"
    return f"{found[0][0].locus}|{found[0][1]}" if found else ""


def with_default_groups(records: Iterable[Record]) -> Iterator[Record]:
    """Stream records of which those without a group have the one of `default_group`.

    Parameters
    ----------
    records
        Numbered, and with V genes where these are to count.
    """
    return map(with_default_group, records)


def with_default_group(record: Record) -> Record:
    """Give the record with the group of `default_group` if it has none.

    Parameters
    ----------
    record
        A numbered record.
    """
    if record.group:
        return record
    return Record(record.id, record.chains, record.labels, default_group(record))


def cdr3_of(chain: Chain) -> str:
    """Give the residues of the IMGT CDR3; empty where the chain is not numbered or has none.

    Parameters
    ----------
    chain
        A numbered chain.
    """
    regions = chain.tracks.get("region")
    if regions is None:
        return ""
    codes = regions.tobytes()
    start, stop = codes.find(_CDR3), codes.rfind(_CDR3) + 1
    if codes.count(_CDR3) == stop - start:
        return chain.residues[start:stop]
    return "".join(chain.residues[index] for index in np.flatnonzero(regions == Region.CDR3))
