"""Names of germline genes and alleles as they are found in files."""

import re

_WORD = re.compile(r"(?:IG|TR)[A-Z]{2}(?:\([IVX]+\))?[^\s,;()]*")
"""A gene's name with whatever a tool hung on it, such as the ``_S1234`` of a novel allele."""

_ALLELE = re.compile(
    r"((?:IG[HKL]|TR[ABGD])([VDJ])[A-Z0-9/-]*(?:\*[A-Z0-9]+(?:_[ACGT]\d+[ACGT])*)?)", re.IGNORECASE
)
"""A name by the rules of IMGT, or of one that is known by its differences."""

_FAMILY = re.compile(r"(?:IG|TR)[A-Z]V\d+")


def first_word(call: str) -> str:
    """Give the first word of a call that looks like a gene, as it is written; empty where there is none.

    What is in brackets behind it, such as a species, does not belong to it.

    Parameters
    ----------
    call
        As found in a file.

    Examples
    --------
    >>> first_word("Homsap IGHV3-23*01_S2 F, or IGHV3-23D*01"), first_word("IGHV3-66(Human)"), first_word("?")
    ('IGHV3-23*01_S2', 'IGHV3-66', '')
    """
    match = _WORD.search(call)
    return match[0] if match else ""


def call_name(call: str) -> str:
    """Give the first gene or allele name in a call; empty where there is none.

    Parameters
    ----------
    call
        As found in a file.

    Examples
    --------
    >>> call_name("Homsap IGHV3-23*01 F, or IGHV3-23D*01 F"), call_name("IGHD3/OR15-3a*01"), call_name("?")
    ('IGHV3-23*01', 'IGHD3/OR15-3a*01', '')
    """
    match = _ALLELE.search(call)
    return match[1] if match else ""


def kind_of(name: str) -> str:
    """Give V, D or J.

    Parameters
    ----------
    name
        What `call_name` gave.

    Examples
    --------
    >>> kind_of("IGHV3-23*01"), kind_of("TRBJ2-7")
    ('V', 'J')
    """
    match = _ALLELE.match(name)
    assert match is not None
    return match[2].upper()


def gene_of(call: str) -> str:
    """Give the gene of an allele: ``IGHV3-23*01`` is of ``IGHV3-23``.

    Parameters
    ----------
    call
        A gene or allele name.
    """
    return call.partition("*")[0]


def gene_family(call: str) -> str:
    """Give the family of a V gene or allele; empty where there is none in the call.

    Parameters
    ----------
    call
        Such as ``IGKV1D-39*01``.

    Examples
    --------
    >>> gene_family("IGKV1D-39*01"), gene_family("IGHV3-23"), gene_family("")
    ('IGKV1', 'IGHV3', '')
    """
    match = _FAMILY.search(call)
    return match[0] if match else ""
