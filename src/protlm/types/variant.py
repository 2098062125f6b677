"""Variants as substitutions on a wild type: parse, check, enumerate."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

_MUTATION = re.compile(r"([A-Za-z])(-?\d+)([A-Za-z*=])")


@dataclass(frozen=True, slots=True, order=True)
class Mutation:
    """One substitution."""

    index: int
    """0-based in the wild-type chain."""
    wild_type: str
    mutant: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of substitutions at different sites; none is the wild type itself."""

    mutations: tuple[Mutation, ...]

    def apply(self, wild_type: str) -> str:
        """Write the variant's sequence.

        Parameters
        ----------
        wild_type
            The sequence the variant was parsed against.

        Examples
        --------
        >>> parse_variant("M1L:T3S", "MKT").apply("MKT")
        'LKS'
        """
        residues = list(wild_type)
        for mutation in self.mutations:
            residues[mutation.index] = mutation.mutant
        return "".join(residues)


def parse_variant(text: str | None, wild_type: str, *, offset: int = 0) -> Variant:
    """Read a variant such as ``"A42G:K50R"`` and check it against the wild type.

    Parameters
    ----------
    text
        Substitutions joined by ``:``; empty, ``WT`` or `None` is the wild type.
    wild_type
        The reference sequence.
    offset
        Subtracted from each printed position to give the 1-based position in `wild_type`.

    Raises
    ------
    DataError
        If the text does not parse, a position is out of range, the wild-type letter differs, or
        a site is named twice. A wrong letter proposes the offset that fits.

    Examples
    --------
    >>> parse_variant("H24E", "HPET", offset=23).mutations
    (Mutation(index=0, wild_type='H', mutant='E'),)
    """
    text = (text or "").strip()
    if text in ("", "WT", "wt"):
        return Variant(())
    mutations: list[Mutation] = []
    for part in text.split(":"):
        match = _MUTATION.fullmatch(part.strip())
        if match is None:
            raise DataError(
                f"cannot read {part!r} in variant {text!r}",
                hint="expected wild-type letter, position, new letter, as in A42G; several joined by ':'",
            )
        wild, printed, mutant = match[1].upper(), int(match[2]), match[3].upper()
        mutant = wild if mutant == "=" else mutant
        index = _check_site(text, wild, printed, wild_type, offset)
        if mutant not in STANDARD:
            kind = "a stop" if mutant == "*" else "not one of the twenty amino acids"
            raise DataError(
                f"variant {text!r} changes position {printed} to {mutant!r}, which is {kind}",
                hint="substitution scores are defined for the twenty amino acids; pass --invalid drop to "
                "leave such rows without a score",
            )
        mutations.append(Mutation(index, wild, mutant))
    if len({mutation.index for mutation in mutations}) < len(mutations):
        raise DataError(f"variant {text!r} changes the same position twice", hint="name each position once")
    return Variant(tuple(sorted(mutations)))


def _check_site(text: str, wild: str, printed: int, wild_type: str, offset: int) -> int:
    index = printed - offset - 1
    if not 0 <= index < len(wild_type):
        first, last = 1 + offset, len(wild_type) + offset
        raise DataError(
            f"variant {text!r} names position {printed}, but positions run from {first} to {last} "
            f"(wild type of {len(wild_type)} residues, offset {offset})",
            hint=_offset_hint(text, wild_type, offset),
        )
    if wild_type[index] != wild:
        raise DataError(
            f"variant {text!r} says position {printed} is {wild}, but the wild type has {wild_type[index]} "
            f"there (1-based, offset {offset})",
            hint=_offset_hint(text, wild_type, offset),
        )
    return index


def _offset_hint(text: str, wild_type: str, offset: int) -> str:
    fits = fitting_offsets([text], wild_type)
    fits = [each for each in fits if each != offset]
    if 1 <= len(fits) <= 3:
        return "with --offset " + " or ".join(map(str, fits)) + " the letters of this variant agree"
    return "check that the variants belong to this wild type; --offset N is subtracted from each position"


def fitting_offsets(texts: list[str], wild_type: str) -> list[int]:
    """Find every offset under which all wild-type letters agree.

    Parameters
    ----------
    texts
        Variants as printed.
    wild_type
        The reference sequence.

    Returns
    -------
    list of int
        Offsets by distance from 0.

    Examples
    --------
    >>> fitting_offsets(["H24E", "P25A"], "HPET")
    [23]
    """
    sites = {
        (match[1].upper(), int(match[2]))
        for text in texts
        for match in map(_MUTATION.fullmatch, (text or "").split(":"))
        if match
    }
    if not sites:
        return []
    smallest = min(position for _, position in sites)
    largest = max(position for _, position in sites)
    candidates = range(largest - len(wild_type), smallest)
    fits = [
        offset
        for offset in candidates
        if all(wild_type[position - offset - 1] == wild for wild, position in sites)
    ]
    return sorted(fits, key=abs)


def all_single_substitutions(wild_type: str, *, offset: int = 0) -> Iterator[tuple[str, Variant]]:
    """Give every single substitution by position, then letter, with its printed name.

    Parameters
    ----------
    wild_type
        The reference sequence. Sites that are none of the twenty amino acids are left out.
    offset
        Added to the 1-based position to give the printed one.

    Examples
    --------
    >>> names = [name for name, _ in all_single_substitutions("MK", offset=10)]
    >>> len(names), names[0], names[-1]
    (38, 'M11A', 'K12Y')
    """
    for index, wild in enumerate(wild_type):
        if wild not in STANDARD:
            continue
        for mutant in STANDARD:
            if mutant != wild:
                name = f"{wild}{index + 1 + offset}{mutant}"
                yield name, Variant((Mutation(index, wild, mutant),))
