"""Variants that no file lists: all single substitutions, those of some sites, combinations of sites."""

import re
from collections.abc import Mapping, Sequence
from math import log10, prod

import numpy as np
import polars as pl

from protlm.data.numbering import number_chains
from protlm.errors import DataError
from protlm.scoring.inputs import VariantTable
from protlm.scoring.wild_type import WildType
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain
from protlm.types.regions import Region, decode_position
from protlm.types.variant import Mutation, Variant, all_single_substitutions

MOST_VARIANTS = 5_000_000
_PART = re.compile(r"(-?[0-9]{1,9})(?:-(-?[0-9]{1,9}))?(?::([A-Za-z]+))?")


def single_substitutions(wild_type: WildType, *, sites: str | None = None, offset: int = 0) -> VariantTable:
    """List all single substitutions; an antibody's rows also get IMGT position and region.

    Parameters
    ----------
    wild_type
        The reference.
    sites
        Only these positions, as in ``24-30,45`` or ``24:AVL``; see `parse_sites`.
    offset
        Added to the 1-based position to give the printed one.
    """
    wanted = None if sites is None else parse_sites(sites, wild_type.residues, offset=offset)
    names, variants = [], []
    for name, variant in all_single_substitutions(wild_type.residues, offset=offset):
        mutation = variant.mutations[0]
        if wanted is None or mutation.mutant in wanted.get(mutation.index, ""):
            names.append(name)
            variants.append(variant)
    if not names and wanted is not None:
        raise DataError(
            f"--sites {sites} names no other letter than the wild type has there",
            hint="name others, or none: all nineteen are then tried",
        )
    if not names:
        raise DataError(
            f"the wild type '{wild_type.record.id}' has no site that is one of the twenty amino acids",
            hint="is it the sequence you mean?",
        )
    frame = pl.DataFrame({"mutant": names})
    numbered = number_chains([wild_type.record.chains[wild_type.chain]])[0]
    if isinstance(numbered, Chain):
        index = np.array([variant.mutations[0].index for variant in variants])
        positions, regions = numbered.tracks["position"][index], numbered.tracks["region"][index]
        frame = frame.with_columns(
            imgt_position=pl.Series([decode_position(code) for code in positions]),
            region=pl.Series([Region(code).name if code else "" for code in regions]),
        )
    return VariantTable(frame, variants, [""] * len(variants))


def combinations(wild_type: WildType, sites: str, *, offset: int = 0) -> VariantTable:
    """List every combination of letters at some sites, the wild type among them.

    Parameters
    ----------
    wild_type
        The reference.
    sites
        As in ``39,40,41:AVL,54``; the wild-type letter is always among those of a site.
    offset
        Added to the 1-based position to give the printed one.

    Raises
    ------
    DataError
        If there are more than `MOST_VARIANTS`.
    """
    wanted = parse_sites(sites, wild_type.residues, offset=offset)
    count = prod(len(set(letters) | {wild_type.residues[index]}) for index, letters in wanted.items())
    if count > MOST_VARIANTS:
        shown = f"{count:,}" if count < 10**15 else f"over 10^{int((count.bit_length() - 1) * log10(2))}"
        raise DataError(
            f"--library {sites} is {shown} variants, over {MOST_VARIANTS:,}",
            hint="name the letters of a site, as in 39:AVL, or fewer sites",
        )
    combined = _combine(wanted, wild_type.residues, offset)
    variants: list[Variant | None] = [Variant(mutations) for mutations, _ in combined]
    names = [name or "WT" for _, name in combined]
    notes = ["" if mutations else "wild type" for mutations, _ in combined]
    return VariantTable(pl.DataFrame({"mutant": names}), variants, notes)


def _combine(wanted: Mapping[int, str], residues: str, offset: int) -> list[tuple[tuple[Mutation, ...], str]]:
    """Give the substitutions of each combination and their printed name; the last site changes fastest."""
    combined: list[tuple[tuple[Mutation, ...], str]] = [((), "")]
    for index, letters in sorted(wanted.items()):
        mutations = [Mutation(index, residues[index], each) for each in letters if each != residues[index]]
        choices = [((each,), Variant((each,)).label(offset=offset)) for each in mutations]
        combined = [
            longer
            for before, name in combined
            for longer in [(before, name), *_extended(before, name, choices)]
        ]
    return combined


def _extended(
    before: tuple[Mutation, ...], name: str, choices: Sequence[tuple[tuple[Mutation], str]]
) -> list[tuple[tuple[Mutation, ...], str]]:
    start = f"{name}:" if name else ""
    return [(before + own, start + text) for own, text in choices]


def parse_sites(text: str, residues: str, *, offset: int = 0) -> dict[int, str]:
    """Read positions with the letters to try there.

    Parameters
    ----------
    text
        Positions and ranges joined by commas, each with letters behind a colon if not all twenty are meant.
    residues
        The wild type.
    offset
        Subtracted from each printed position to give the 1-based one.

    Returns
    -------
    dict
        Letters by 0-based index.

    Raises
    ------
    DataError
        Naming the part that cannot be read, lies outside, or is named twice.

    Examples
    --------
    >>> parse_sites("24-25:AV,27", "HPET", offset=23)
    {0: 'AV', 1: 'AV', 3: 'ACDEFGHIKLMNPQRSTVWY'}
    """
    found: dict[int, str] = {}
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        letters = (match[3] or STANDARD).upper() if match else ""
        if match is None or set(letters) - set(STANDARD):
            raise DataError(
                f"cannot read {part!r} in the sites {text!r}",
                hint="expected positions and letters such as 24-30,45:AVL",
            )
        first, last = int(match[1]), int(match[2] or match[1])
        for printed in _span(part, first, last, len(residues), offset):
            index = printed - offset - 1
            if index in found:
                raise DataError(f"position {printed} is named twice in {text!r}", hint="name it once")
            if residues[index] not in STANDARD:
                raise DataError(
                    f"position {printed} is {residues[index]} in the wild type", hint="leave that site out"
                )
            found[index] = letters
    return found


def _span(part: str, first: int, last: int, length: int, offset: int) -> Sequence[int]:
    if not 1 + offset <= first <= last <= length + offset:
        raise DataError(
            f"{part!r} is not inside the positions of the wild type, {1 + offset} to {length + offset}",
            hint="--offset N is subtracted from each printed position",
        )
    return range(first, last + 1)
