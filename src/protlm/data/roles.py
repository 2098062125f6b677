"""Roles of chains for models that write a heavy chain alone in another way than a light one."""

from collections.abc import Sequence
from dataclasses import replace

from protlm.data.layout import TokenLayout
from protlm.data.numbering import number_chains
from protlm.types.record import ROLE_OF_LOCUS, Chain, Record, Role


def with_roles(records: Sequence[Record], layout: TokenLayout) -> list[Record]:
    """Give the records with the role of each single chain, where the layout must know it and it is not said.

    A role that is given is kept. Where it is not, immunum numbers the chain, which tells heavy from light; a
    chain that it cannot number stays without a role, and `collate` refuses it.

    Parameters
    ----------
    records
        Any records.
    layout
        The model's.

    Examples
    --------
    >>> from protlm.data.layout import published_layout
    >>> with_roles([Record("a", (Chain("MKTAYIAK"),))], published_layout("currab"))[0].chains[0].role.name
    'OTHER'
    """
    records = list(records)
    if layout.single_chain == "bare":
        return records
    asked = [
        index
        for index, record in enumerate(records)
        if len(record.chains) == 1 and record.chains[0].role is Role.OTHER
    ]
    found = number_chains([records[index].chains[0] for index in asked]) if asked else []
    for index, numbered in zip(asked, found, strict=True):
        if isinstance(numbered, Chain) and numbered.locus in ROLE_OF_LOCUS:
            chain = replace(records[index].chains[0], role=ROLE_OF_LOCUS[numbered.locus])
            records[index] = replace(records[index], chains=(chain,))
    return records
